package noise

const (
	mtN = 624
	mtM = 397
)

// mt19937 is the Mersenne Twister of Matsumoto and Nishimura (1998), seeded as at::mt19937.
type mt19937 struct {
	state [mtN]uint32
	next  int // index of the next word to hand out; mtN when all are used
}

// seed starts from the low 32 bits; torch drops the others too.
func (m *mt19937) seed(s uint64) {
	m.state[0] = uint32(s)
	for j := 1; j < mtN; j++ {
		p := m.state[j-1]
		m.state[j] = 1812433253*(p^p>>30) + uint32(j)
	}
	m.next = mtN
}

func (m *mt19937) uint32() uint32 {
	if m.next == mtN {
		m.twist()
	}
	y := m.state[m.next]
	m.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// twist computes the next 624 words of the recurrence.
func (m *mt19937) twist() {
	s := &m.state
	for i := range s {
		y := s[i]&0x80000000 | s[(i+1)%mtN]&0x7fffffff
		s[i] = s[(i+mtM)%mtN] ^ y>>1 ^ (-(y & 1) & 0x9908b0df)
	}
	m.next = 0
}

// float32 is uniform on [0,1): a multiple of 2⁻²⁴.
func (m *mt19937) float32() float32 { return float32(m.uint32()&(1<<24-1)) * (1.0 / (1 << 24)) }

// float64 is uniform on [0,1): a multiple of 2⁻⁵³, from two words, the high one first.
func (m *mt19937) float64() float64 {
	hi := uint64(m.uint32())
	return float64((hi<<32|uint64(m.uint32()))&(1<<53-1)) * (1.0 / (1 << 53))
}
