package checkpoint

import (
	"encoding/binary"
	"math"
	"os"
	"strings"
	"testing"
)

// Every type decodes to the bits that the gguf package gives.
func TestGGUF(t *testing.T) {
	want := readExpected(t, "testdata/gguf/expected.json")["types.gguf"]
	s, err := OpenSource("testdata/gguf/types.gguf")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if len(s.Names()) != len(want) || len(want) < 23 {
		t.Errorf("%d names, want %d", len(s.Names()), len(want))
	}
	for name, w := range want {
		a, ok := s.Array(name)
		if !ok {
			t.Errorf("%s is missing", name)
			continue
		}
		compareArray(t, name, a, w)
		if a.Type() != w.Type {
			t.Errorf("%s: type %s", name, a.Type())
		}
		if _, plain := a.Plain(); plain != w.Contiguous {
			t.Errorf("%s: plain is %v", name, plain)
		}
		a.Release()
		compareArray(t, name, a, w)
	}
	for k, v := range map[string]string{
		"general.architecture": "sdxl", "general.name": "made up", "a.float": "0.5", "a.bool": "true", "an.int8": "-3", "general.quantization_version": "2",
	} {
		if s.Metadata()[k] != v {
			t.Errorf("%s is %q, want %q", k, s.Metadata()[k], v)
		}
	}
}

// Q8_K and the exponents of MXFP4 at both ends, which the gguf package does not write: by their formulas.
func TestGGUFByFormula(t *testing.T) {
	b := make([]byte, 292)
	binary.LittleEndian.PutUint32(b, math.Float32bits(0.25))
	for i := range 256 {
		b[4+i] = byte(i - 128)
	}
	var got [256]float32
	decodeQ8K(got[:], b)
	for i, v := range got {
		if want := 0.25 * float32(int8(byte(i-128))); v != want {
			t.Fatalf("Q8_K[%d] = %v, want %v", i, v, want)
		}
	}
	for _, e := range []int{0, 1, 2, 127, 128, 254} {
		b := make([]byte, 17)
		b[0], b[1] = byte(e), 0x71 // 1 and 12
		decodeMXFP4(got[:32], b)
		if want := float32(math.Ldexp(1, e-128)); got[0] != want || got[16] != 12*want && !math.IsInf(float64(12*want), 1) {
			t.Errorf("MXFP4 exponent %d: %v and %v, want %v times 1 and 12", e, got[0], got[16], want)
		}
	}
}

func TestGGUFRefuses(t *testing.T) {
	good, err := os.ReadFile("testdata/gguf/types.gguf")
	if err != nil {
		t.Fatal(err)
	}
	u32, u64 := binary.LittleEndian.AppendUint32, binary.LittleEndian.AppendUint64
	head := func(tensors, facts uint64) []byte { return u64(u64(u32([]byte("GGUF"), 3), tensors), facts) }
	text := func(b []byte, s string) []byte { return append(u64(b, uint64(len(s))), s...) }
	info := func(b []byte, kind uint32, offset uint64, axes ...uint64) []byte {
		b = u32(text(b, "w"), uint32(len(axes)))
		for _, a := range axes {
			b = u64(b, a)
		}
		return u64(u32(b, kind), offset)
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"version":         {u32([]byte("GGUF"), 1), "version 1"},
		"big-endian":      {[]byte("GGUF\x00\x00\x00\x03"), "big-endian"},
		"tensors":         {head(1<<60, 0), "do not fit"},
		"facts":           {head(0, 1<<60), "do not fit"},
		"list":            {u64(u32(u32(text(head(0, 1), "k"), 9), 4), 1<<61), "do not fit"},
		"nested lists":    {append(u32(text(head(0, 1), "k"), 9), []byte(strings.Repeat("\x09\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00", 10))...), "value type 9"},
		"text":            {u64(head(0, 1), 1<<62), "cut off"},
		"value type":      {append(u32(text(head(0, 1), "k"), 77), make([]byte, 9)...), "value type 77"},
		"alignment":       {u32(u32(text(head(0, 1), "general.alignment"), 4), 3), "power of two"},
		"type":            {info(head(1, 0), 17, 0, 256), "ggml type 17 (IQ2_XS)"},
		"block":           {info(head(1, 0), 8, 0, 33), "do not divide"},
		"axes":            {info(head(1, 0), 0, 0, make([]uint64, 9)...), "9 axes"},
		"product":         {info(head(1, 0), 0, 0, 1<<40, 1<<40), "too large"},
		"offset":          {append(info(head(1, 0), 0, math.MaxUint64-7, 4), make([]byte, 64)...), "cut off"},
		"cut off":         {good[:len(good)-32], "cut off"},
		"twice":           {append(info(info(head(2, 0), 0, 0, 4), 0, 0, 4), make([]byte, 64)...), "twice"},
		"original shape":  {append(info(u64(u32(u32(text(head(1, 1), "comfy.gguf.orig_shape.w"), 9), 5), 0), 0, 0, 4), make([]byte, 64)...), "does not fit its tensor"},
		"shape of nobody": {u32(u64(u32(u32(text(head(0, 1), "comfy.gguf.orig_shape.v"), 9), 5), 1), 4), "does not fit its tensor"},
	} {
		if _, err := ParseSource(c.data, name); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for n := range len(good) - 32 { // the last tensor is padded to 32
		if _, err := ParseSource(good[:n], "prefix"); err == nil {
			t.Fatalf("a prefix of %d bytes is taken for a whole file", n)
		}
	}
}

func FuzzGGUF(f *testing.F) {
	good, err := os.ReadFile("testdata/gguf/types.gguf")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:600])
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseSource(append([]byte("GGUF"), b[min(4, len(b)):]...), "fuzz"); err == nil {
			readAll(t, s)
		}
	})
}

func BenchmarkDecodeGGUF(b *testing.B) {
	for _, kind := range []uint32{2, 8, 12, 14} {
		b.Run(ggmlTypes[kind].name, func(b *testing.B) {
			k := ggmlTypes[kind]
			const n = 1 << 20
			a := &blocks{shape: []int{n}, kind: k, data: make([]byte, n/k.block*k.bytes)}
			dst := make([]float32, n)
			b.SetBytes(4 * n)
			for b.Loop() {
				if err := a.Decode(dst, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
