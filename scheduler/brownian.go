package scheduler

import (
	"fmt"
	"math"
	"strconv"
)

// BrownianTree is a Brownian path over noise levels that can be asked for the increment between any two of them, in any order
// and any number of times, and always tells the same path: samplers then see the same noise however many steps
// they take. It is torchsde's BrownianInterval on a halfway tree, which k-diffusion and diffusers use, and with
// torch's normal numbers gives the same values.
//
// The interval is halved again and again (points rounded to 10⁻⁶). The increment over the left half of an interval of
// length h and increment W is W·a/h + √(a·b/h)·z, a and b the lengths of the halves (Lévy's construction), with z
// from a generator whose seed is a hash of the tree's seed and the interval's place in the tree.
type BrownianTree struct {
	seed       uint64
	start, end float64
	randn      func(seed uint64, dst []float32)
	top        []float32 // W over the whole interval
}

// NewBrownianTree makes the path of n values over σ from low to high. randn fills dst with the first unit normals of a
// generator with the seed: torch.Generator().manual_seed's, for torchsde's values.
func NewBrownianTree(seed uint64, low, high float64, n int, randn func(seed uint64, dst []float32)) (*BrownianTree, error) {
	t := &BrownianTree{seed: seed, start: rounded6(low), end: rounded6(high), randn: randn, top: make([]float32, n)}
	if !(t.end > t.start) || math.IsInf(t.end, 0) {
		return nil, fmt.Errorf("scheduler: a Brownian path needs two levels, not %v and %v", low, high)
	}
	randn(uint64(seedSequence(seed, nil, 1)[0]), t.top)
	scale := float32(math.Sqrt(high - low))
	for i := range t.top {
		t.top[i] *= scale
	}
	return t, nil
}

// BrownianPath makes the path for runs of s on x of n values, from the lowest level above 0 to the highest.
func (s *Schedule) BrownianPath(seed uint64, n int, randn func(seed uint64, dst []float32)) (*BrownianTree, error) {
	low, high := math.Inf(1), 0.0
	for _, l := range s.Levels() {
		if l.Sigma > 0 {
			low, high = min(low, pathTime(l)), max(high, pathTime(l))
		}
	}
	return NewBrownianTree(seed, min(low, high/2), high, n, randn) // half: of a single step, any path will do
}

// pathTime is σ/α, the time of the path; at α = 0 that of the least α which other samplers have.
func pathTime(l Level) float64 {
	if l.Alpha == 0 {
		return math.Sqrt(1/zeroSNR - 1)
	}
	return l.Ratio()
}

// Noise fills dst, of n values, with the increment from σ to σNext over √|σNext − σ|: unit normals. It fits
// Run.Brownian. Levels outside the tree's are an error.
func (t *BrownianTree) Noise(dst []float32, σ, σNext float64) error {
	low, high, sign := σNext, σ, float32(-1)
	if σ < σNext {
		low, high, sign = σ, σNext, 1
	}
	a, b := rounded6(low), rounded6(high)
	if !(a >= t.start && b <= t.end) {
		return fmt.Errorf("σ from %v to %v is outside the Brownian path from %v to %v", high, low, t.end, t.start)
	}
	clear(dst)
	if a == b {
		return nil
	}
	t.add(dst, node{start: t.start, end: t.end, w: t.top}, a, b)
	scale := sqrt32(float32(high) - float32(low))
	for i := range dst {
		dst[i] = dst[i] * sign / scale
	}
	return nil
}

// node is an interval of the tree: depth halvings down, at place from the left.
type node struct {
	start, end float64
	w          []float32
	place      []uint32 // a number of any size, least word first
	depth      uint32
}

// add adds the increments of the intervals that make up a to b, from left to right.
func (t *BrownianTree) add(dst []float32, n node, a, b float64) {
	if a == n.start && b == n.end {
		for i, w := range n.w {
			dst[i] += w
		}
		return
	}
	left, right := t.halves(n)
	if a < left.end {
		t.add(dst, left, a, min(b, left.end))
	}
	if b > right.start {
		t.add(dst, right, max(a, right.start), b)
	}
}

func (t *BrownianTree) halves(n node) (left, right node) {
	mid := rounded6(0.5 * (n.end + n.start))
	z := make([]float32, len(n.w))
	t.randn(uint64(seedSequence(t.seed, append(words(n.place), n.depth), 1)[0]), z)
	a, b, reciprocal := mid-n.start, n.end-mid, 1/(n.end-n.start)
	deviation := float32(math.Sqrt(a * b * reciprocal))
	l, r := z, make([]float32, len(n.w)) // z is not needed again
	for i, w := range n.w {
		l[i] = float32(float32(float32(a)*w)*float32(reciprocal)) + float32(deviation*z[i])
		r[i] = w - l[i]
	}
	return node{n.start, mid, l, doubled(n.place, 0), n.depth + 1}, node{mid, n.end, r, doubled(n.place, 1), n.depth + 1}
}

// rounded6 is Python's round(v, 6): to the nearest decimal, exactly.
func rounded6(v float64) float64 {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'f', 6, 64), 64)
	return r
}

// doubled is 2·place + bit.
func doubled(place []uint32, bit uint32) []uint32 {
	out := make([]uint32, 0, len(place)+1)
	for _, w := range place {
		out = append(out, w<<1|bit)
		bit = w >> 31
	}
	if bit != 0 {
		out = append(out, bit)
	}
	return out
}

// words is the number as numpy splits it: 0 is one word.
func words(place []uint32) []uint32 {
	if len(place) == 0 {
		return []uint32{0}
	}
	return append([]uint32(nil), place...)
}

// seedSequence is numpy.random.SeedSequence(entropy, spawn_key=key, pool_size=24).generate_state(n): O'Neill's
// seed_seq_fe, which mixes entropy and key into a pool of 24 words and hashes them out again.
func seedSequence(entropy uint64, key []uint32, n int) []uint32 {
	const size = 24
	in := []uint32{uint32(entropy)}
	if entropy>>32 != 0 {
		in = append(in, uint32(entropy>>32))
	}
	if key != nil {
		in = append(append(in, make([]uint32, size-len(in))...), key...)
	}
	var pool [size]uint32
	h := hasher{0x43b0d7e5, 0x931e8875}
	for i := range pool {
		var v uint32
		if i < len(in) {
			v = in[i]
		}
		pool[i] = h.hash(v)
	}
	for s := range pool {
		for d := range pool {
			if s != d {
				pool[d] = mixed(pool[d], h.hash(pool[s]))
			}
		}
	}
	for s := size; s < len(in); s++ {
		for d := range pool {
			pool[d] = mixed(pool[d], h.hash(in[s]))
		}
	}
	out := make([]uint32, n)
	h = hasher{0x8b51f9dd, 0x58f38ded}
	for i := range out {
		out[i] = h.hash(pool[i%size])
	}
	return out
}

// hasher is a multiplicative hash whose constant moves on with each word.
type hasher struct{ constant, multiplier uint32 }

func (h *hasher) hash(v uint32) uint32 {
	v ^= h.constant
	h.constant *= h.multiplier
	v *= h.constant
	return v ^ v>>16
}

func mixed(x, y uint32) uint32 {
	r := 0xca01f9dd*x - 0x4973f715*y
	return r ^ r>>16
}
