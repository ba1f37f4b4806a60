package tensor

import (
	"math"
	"testing"
)

// Every one of the 65,536 half values must survive the way to float32 and back.
func TestHalfRoundTrip(t *testing.T) {
	for h := 0; h < 1<<16; h++ {
		f := HalfToFloat(uint16(h))
		if f != f {
			if g := FloatToHalf(f); g&0x7c00 != 0x7c00 || g&0x3ff == 0 {
				t.Fatalf("%#04x: NaN became %#04x", h, g)
			}
			continue
		}
		if g := FloatToHalf(f); g != uint16(h) {
			t.Fatalf("%#04x → %g → %#04x", h, f, g)
		}
	}
}

// The value of a half by its definition, (-1)^s · 2^(e-15) · (1 + f/1024), not by our bit tricks.
func TestHalfValues(t *testing.T) {
	for h := 0; h < 0x7c00; h++ {
		e, f := h>>10, float64(h&0x3ff)
		want := math.Ldexp(1+f/1024, e-15)
		if e == 0 {
			want = math.Ldexp(f/1024, -14)
		}
		if got := HalfToFloat(uint16(h)); float64(got) != want {
			t.Fatalf("%#04x = %g, want %g", h, got, want)
		}
	}
}

// Rounding to half must give the nearest of the two neighbours, the even one on a tie.
func TestHalfRounding(t *testing.T) {
	for h := uint16(0); h < 0x7bff; h++ {
		lo, hi := float64(HalfToFloat(h)), float64(HalfToFloat(h+1))
		mid := (lo + hi) / 2
		even := h + h&1
		for _, c := range []struct {
			v    float64
			want uint16
		}{{mid, even}, {math.Nextafter(mid, 0), h}, {lo + (hi-lo)*0.51, h + 1}, {lo + (hi-lo)*0.49, h}} {
			v := float32(c.v)
			if float64(v) == mid {
				c.want = even
			}
			if got := FloatToHalf(v); got != c.want {
				t.Fatalf("FloatToHalf(%g) = %#04x, want %#04x", v, got, c.want)
			}
		}
	}
	if got := FloatToHalf(65520); got != 0x7c00 {
		t.Errorf("65520 rounds to %#04x, want infinity", got)
	}
	if got := FloatToHalf(65519); got != 0x7bff {
		t.Errorf("65519 rounds to %#04x, want the largest half", got)
	}
}

func TestBFloat(t *testing.T) {
	for _, c := range []struct {
		in   uint32
		want uint16
	}{{0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81}, {0x7f7fffff, 0x7f80}, {0x7f800001, 0x7fc0}} {
		if got := FloatToBFloat(math.Float32frombits(c.in)); got != c.want {
			t.Errorf("%#08x → %#04x, want %#04x", c.in, got, c.want)
		}
	}
}

func TestDecode(t *testing.T) {
	src := []float32{0, 1, -2.5, 65504, float32(math.Inf(-1))}
	for _, d := range []DType{F32, F16, BF16} {
		b := make([]byte, len(src)*d.Size())
		Encode(b, d, src)
		got := make([]float32, len(src))
		Tensor{d, Shape{5}, b}.Float32(got)
		for i, v := range src {
			if d == BF16 && v == 65504 {
				v = 65536 // 8 bits of precision
			}
			if got[i] != v {
				t.Errorf("%v: %g became %g", d, v, got[i])
			}
		}
	}
	f64 := Tensor{F64, Shape{1}, []byte{0, 0, 0, 0, 0, 0, 4, 64}}
	got := make([]float32, 1)
	if f64.Float32(got); got[0] != 2.5 {
		t.Errorf("float64 2.5 decoded to %g", got[0])
	}
}
