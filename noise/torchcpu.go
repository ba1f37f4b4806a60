package noise

import (
	"encoding/binary"
	"fmt"
	"math"
)

// TorchCPU is torch.Generator("cpu"). It has two ways to fill a tensor: from 16 elements on, in blocks of 16,
// in float32 with the polynomials of PyTorch's AVX2 kernel; below, one by one in float64.
//
// "As torch" means PyTorch 2.15 on x86-64 with AVX2 (AVX-512 machines run the same kernel), whose float32 has not
// changed since 1.x. Two limits: elsewhere, as on ARM, PyTorch computes the blocks with the C library's logf, sinf and
// cosf, which gives other last bits in four values of ten (by 2·10⁻⁶ at most); and older releases drew float16 and
// bfloat16 tensors of 16 and more elements in half precision throughout, which is other noise altogether.
type TorchCPU struct {
	seed   uint64
	mt     mt19937
	cached float64 // second value of the last scalar Box-Muller pair
	full   bool    // whether cached holds one
}

// NewTorchCPU is torch.Generator("cpu").manual_seed(seed). A negative seed s of torch is 2⁶⁴+s here: uint64(s).
// Only the low 32 bits matter.
func NewTorchCPU(seed uint64) *TorchCPU {
	g := &TorchCPU{seed: seed}
	g.mt.seed(seed)
	return g
}

// Seed is what NewTorchCPU was given.
func (g *TorchCPU) Seed() uint64 { return g.seed }

// Uniform fills dst as torch.rand(len(dst)) does: on [0,1), in steps of 2⁻²⁴.
func (g *TorchCPU) Uniform(dst []float32) {
	for i := range dst {
		dst[i] = g.mt.float32()
	}
}

// Normal fills dst as torch.randn(len(dst)) does.
func (g *TorchCPU) Normal(dst []float32) {
	if len(dst) < 16 {
		g.scalar(dst)
		return
	}
	g.Uniform(dst)
	for i := 0; i+16 <= len(dst); i += 16 {
		boxMuller16(dst[i:])
	}
	if len(dst)%16 != 0 { // the last 16 are drawn again, over what was there
		tail := dst[len(dst)-16:]
		g.Uniform(tail)
		boxMuller16(tail)
	}
}

// NormalAs fills dst as torch.randn(len(dst), dtype=t) does. Halves are float32 draws, rounded; but where the
// size is not a multiple of 16, a half tensor leaves out the draws that the last 16 overwrite.
func (g *TorchCPU) NormalAs(dst []float32, t Type) {
	if t == Float32 || len(dst) < 16 {
		g.Normal(dst)
	} else {
		whole := len(dst) &^ 15
		g.Normal(dst[:whole])
		if whole < len(dst) {
			g.Normal(dst[len(dst)-16:])
		}
	}
	for i, v := range dst {
		dst[i] = t.round(v)
	}
}

// scalar draws one value at a time by Box-Muller in float64. A pair's second value waits for the next
// element, in this call or a later one; block draws in between do not touch it.
func (g *TorchCPU) scalar(dst []float32) {
	for i := range dst {
		if g.full {
			dst[i], g.full = float32(g.cached), false
			continue
		}
		u1, u2 := g.mt.float64(), g.mt.float64()
		r := math.Sqrt(-2 * log64(1-u2)) // 1-u2 is exact
		sin, cos := sincos64(float64(2 * math.Pi * u1))
		g.cached, g.full = r*sin, true
		dst[i] = float32(r * cos)
	}
}

// boxMuller16 turns 16 uniform numbers into normal ones, in place: x[j] and x[j+8] make a pair,
//
//	r = √(-2 ln(1-x[j])),  θ = 2π x[j+8],  x[j] ← r cos θ,  x[j+8] ← r sin θ.
func boxMuller16(x []float32) {
	const τ = float32(2 * math.Pi)
	for j := range 8 {
		r := sqrt32(-2 * log32(1-x[j]))
		sin, cos := sincos32(float32(τ * x[j+8]))
		x[j], x[j+8] = positiveZero(r*cos), positiveZero(r*sin)
	}
}

// positiveZero is v + 0, which torch's "· std + mean" comes to: it turns -0 into 0.
func positiveZero(v float32) float32 {
	if v == 0 {
		return 0
	}
	return v
}

const (
	cpuMagic     = "mt1\n"
	cpuStateSize = len(cpuMagic) + 8 + 4 + 1 + 8 + 4*mtN
)

// State is little-endian: magic, seed, index of the next word, whether a value waits, that value, the words.
func (g *TorchCPU) State() []byte {
	le := binary.LittleEndian
	b := make([]byte, 0, cpuStateSize)
	b = append(b, cpuMagic...)
	b = le.AppendUint64(b, g.seed)
	b = le.AppendUint32(b, uint32(g.mt.next))
	waits := byte(0)
	if g.full {
		waits = 1
	}
	b = append(b, waits)
	b = le.AppendUint64(b, math.Float64bits(g.cached))
	for _, w := range g.mt.state {
		b = le.AppendUint32(b, w)
	}
	return b
}

// Restore takes back what State gave.
func (g *TorchCPU) Restore(state []byte) error {
	le := binary.LittleEndian
	if len(state) != cpuStateSize || string(state[:4]) != cpuMagic {
		return fmt.Errorf("not a state of %s noise: want %d bytes that begin with %q, have %d",
			KindTorchCPU, cpuStateSize, cpuMagic, len(state))
	}
	n := TorchCPU{seed: le.Uint64(state[4:]), full: state[16] == 1, cached: math.Float64frombits(le.Uint64(state[17:]))}
	n.mt.next = int(le.Uint32(state[12:]))
	if n.mt.next > mtN || state[16] > 1 {
		return fmt.Errorf("damaged state of %s noise: next word %d of %d", KindTorchCPU, n.mt.next, mtN)
	}
	for i := range n.mt.state {
		n.mt.state[i] = le.Uint32(state[25+4*i:])
	}
	*g = n
	return nil
}
