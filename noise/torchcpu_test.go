package noise

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"strconv"
	"testing"
)

type goldenCall struct {
	Op     string
	N      int
	DType  string
	First  []uint32 // bits of the first values
	SHA256 string
}

type goldenCase struct {
	Name   string
	Seed   string
	Repeat int // the one call's values come from that many calls of equal size
	Calls  []goldenCall
}

func goldens(t testing.TB) []goldenCase {
	t.Helper()
	f, err := os.Open("testdata/torch_cpu.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		Torch string
		Cases []goldenCase
	}
	if err := json.NewDecoder(z).Decode(&all); err != nil {
		t.Fatal(err)
	}
	if len(all.Cases) < 60 {
		t.Fatalf("%d golden cases", len(all.Cases))
	}
	return all.Cases
}

// seed is torch's rule: a negative seed is 2⁶⁴ more.
func seed(t testing.TB, s string) uint64 {
	t.Helper()
	if u, err := strconv.ParseUint(s, 10, 64); err == nil {
		return u
	}
	i, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return uint64(i)
}

var types = map[string]Type{"float32": Float32, "float16": Float16, "bfloat16": BFloat16}

func (c goldenCall) check(t *testing.T, got []float32) {
	t.Helper()
	raw := make([]byte, 0, 4*len(got))
	for _, v := range got {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	for i, want := range c.First {
		if bits := math.Float32bits(got[i]); bits != want {
			t.Errorf("%s %d %s: [%d] = %v (%08x), torch gives %v (%08x)", c.Op, c.N, c.DType, i, got[i], bits,
				math.Float32frombits(want), want)
		}
	}
	sum := sha256.Sum256(raw)
	if hex.EncodeToString(sum[:]) != c.SHA256 {
		t.Errorf("%s %d %s: the bits differ from torch's", c.Op, c.N, c.DType)
	}
}

func (c goldenCall) draw(g *TorchCPU) []float32 {
	x := make([]float32, c.N)
	switch {
	case c.Op == "rand":
		g.Uniform(x)
	case c.DType == "float32":
		g.Normal(x)
	default:
		g.NormalAs(x, types[c.DType])
	}
	return x
}

// Every bit must be torch's.
func TestTorchCPU(t *testing.T) {
	for _, c := range goldens(t) {
		t.Run(c.Name, func(t *testing.T) {
			g := NewTorchCPU(seed(t, c.Seed))
			if c.Repeat > 0 {
				var all []float32
				for range c.Repeat {
					x := make([]float32, c.Calls[0].N/c.Repeat)
					g.Normal(x)
					all = append(all, x...)
				}
				c.Calls[0].check(t, all)
				return
			}
			for _, call := range c.Calls {
				call.check(t, call.draw(g))
			}
		})
	}
}

// A source restored from its state must go on as the first would have, at every point of a sequence, the ones with a
// waiting value included.
func TestTorchCPUState(t *testing.T) {
	for _, c := range goldens(t) {
		if c.Name != "the waiting value" {
			continue
		}
		g := NewTorchCPU(seed(t, c.Seed))
		for _, call := range c.Calls {
			h := NewTorchCPU(0)
			if err := h.Restore(g.State()); err != nil {
				t.Fatal(err)
			}
			if h.Seed() != g.Seed() {
				t.Errorf("restored seed %d, want %d", h.Seed(), g.Seed())
			}
			g = h
			call.check(t, call.draw(g))
		}
		return
	}
	t.Fatal("no such golden case")
}

func TestRestoreRefuses(t *testing.T) {
	cpu, cuda := NewTorchCPU(1), NewTorchCUDA(1, CUDADevice{SMs: 2, ThreadsPerSM: 512})
	late := cpu.State()
	binary.LittleEndian.PutUint32(late[12:], 625)
	odd := cuda.State()
	odd[12] = 1
	half := cuda.State()
	half[20] = 0
	for _, c := range []struct {
		g     Source
		state []byte
		want  string
	}{
		{cpu, nil, `not a state of torch-cpu noise: want 2521 bytes that begin with "mt1\n", have 0`},
		{cpu, cuda.State(), `not a state of torch-cpu noise: want 2521 bytes that begin with "mt1\n", have 36`},
		{cpu, late, "damaged state of torch-cpu noise: next word 625 of 624"},
		{cuda, cpu.State(), `not a state of torch-cuda noise: want 36 bytes that begin with "phx1", have 2521`},
		{cuda, odd, "damaged state of torch-cuda noise: offset 1, 2 multiprocessors, 512 threads each"},
		{cuda, half, "damaged state of torch-cuda noise: offset 0, 0 multiprocessors, 512 threads each"},
	} {
		before := c.g.State()
		err := c.g.Restore(c.state)
		if err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
		if !bytes.Equal(c.g.State(), before) {
			t.Errorf("%s: a refused state changed the source", c.want)
		}
	}
}

func TestNew(t *testing.T) {
	for kind, want := range map[string]Source{
		"":           NewTorchCPU(5),
		"torch-cpu":  NewTorchCPU(5),
		"torch-cuda": NewTorchCUDA(5, CUDADevice{}),
	} {
		g, err := New(kind, 5)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(g.State(), want.State()) {
			t.Errorf("New(%q) made another source", kind)
		}
	}
	_, err := New("xorwow", 5)
	if err == nil || err.Error() != `unknown noise "xorwow": choose torch-cpu or torch-cuda` {
		t.Errorf("New(xorwow): %v", err)
	}
}

// The seed's low 32 bits 5489 are those of the reference implementation, whose 10,000th word the C++ standard states
// ([rand.predef]).
func TestMT19937(t *testing.T) {
	var m mt19937
	m.seed(5489)
	var last uint32
	for range 10_000 {
		last = m.uint32()
	}
	if last != 4123659995 {
		t.Errorf("word 10,000 is %d, want 4123659995", last)
	}
}

func BenchmarkTorchCPU(b *testing.B) {
	x := make([]float32, 4*64*64)
	g := NewTorchCPU(0)
	b.SetBytes(int64(4 * len(x)))
	for b.Loop() {
		g.Normal(x)
	}
}
