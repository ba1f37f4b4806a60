package tensor

import "testing"

func TestStoredDecodesRanges(t *testing.T) {
	raw := make([]byte, 8)
	Encode(raw, F16, []float32{1, -2, 0.5, 3})
	a := Stored(Tensor{F16, Shape{2, 2}, raw})
	got := make([]float32, 2)
	if err := a.Decode(got, 1); err != nil || got[0] != -2 || got[1] != 0.5 {
		t.Errorf("elements 1 and 2 are %v, %v", got, err)
	}
	if a.Type() != "F16" || a.Bytes() != 8 || !a.Shape().Equal(Shape{2, 2}) {
		t.Errorf("%s, %d bytes, %v", a.Type(), a.Bytes(), a.Shape())
	}
	if p, ok := a.Plain(); !ok || &p.Data[0] != &raw[0] {
		t.Error("the stored bytes are not given as they are")
	}
	if err := Stored(Tensor{I32, Shape{1}, make([]byte, 4)}).Decode(got[:1], 0); err == nil {
		t.Error("integers were decoded as weights")
	}
}
