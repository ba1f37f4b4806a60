package noise

import (
	"encoding/binary"
	"fmt"
	"math"
)

// CUDADevice says which GPU TorchCUDA imitates: PyTorch lays a tensor's numbers out by the number of threads
// that run at once, SMs · ThreadsPerSM. Tensors up to that size are the same on all GPUs: 40,960
// elements on a T4, 125,952 on an RTX 3090, 196,608 on a 4090, 270,336 on an H100. A 512×512 picture of
// Stable Diffusion has 16,384, one of 1024×1024 has 65,536.
//
// The zero value is a GPU that runs any number of threads at once: right for all GPUs up to those sizes, and what
// other programs' imitations of CUDA noise ("NV") assume for every size.
type CUDADevice struct {
	SMs          int // multiprocessors
	ThreadsPerSM int // most resident threads of each: 2048 on sm_80 and sm_90, 1536 on sm_86, sm_89 and sm_120, 1024 on sm_75
}

// TorchCUDA is torch.Generator("cuda"): Philox-4x32-10, of which every element of a tensor has a stream of
// its own (the key is the seed, the counter holds the element's thread and the generator's offset).
//
// What is exact: the integers, which element gets which, the offset after each call, and the uniforms made of
// them; logarithm and root as CUDA's logf and sqrtf compute them. What is not: the GPU takes sine and cosine from
// its special function unit, whose table is not published. Here they are those of the unit's own argument
// (v/2π, truncated to 24 bits), correctly rounded; so a normal number may differ from the GPU's by about 2⁻²¹
// of its radius (at most 6.7).
type TorchCUDA struct {
	seed   uint64
	offset uint64 // 32-bit numbers that each thread has used, a multiple of 4
	device CUDADevice
}

// NewTorchCUDA is torch.Generator("cuda").manual_seed(seed) on the device. All 64 bits of the seed matter.
func NewTorchCUDA(seed uint64, device CUDADevice) *TorchCUDA {
	if device.SMs < 0 || device.ThreadsPerSM < 0 || (device.SMs == 0) != (device.ThreadsPerSM == 0) {
		panic(fmt.Sprintf("noise: a CUDA device of %d multiprocessors and %d threads each", device.SMs, device.ThreadsPerSM))
	}
	return &TorchCUDA{seed: seed, device: device}
}

// Seed is what NewTorchCUDA was given.
func (g *TorchCUDA) Seed() uint64 { return g.seed }

// Normal fills dst as torch.randn(len(dst), device="cuda") does: T threads in blocks of 256 stride over the
// tensor; in round j thread i draws four normals, for the elements i + T·(4j + k), k = 0 … 3.
func (g *TorchCUDA) Normal(dst []float32) {
	n := len(dst)
	if n == 0 {
		return
	}
	threads := g.threads(n)
	rounds := (n-1)/(4*threads) + 1
	key := [2]uint32{uint32(g.seed), uint32(g.seed >> 32)}
	for j := range rounds {
		at := g.offset/4 + uint64(j)
		base := 4 * j * threads
		for i := 0; i < threads && base+i < n; i++ {
			r := philox4x32([4]uint32{uint32(at), uint32(at >> 32), uint32(i), uint32(uint64(i) >> 32)}, key)
			k := base + i
			var second float32
			dst[k], second = curandBoxMuller(r[0], r[1])
			if k += threads; k >= n {
				continue
			}
			dst[k] = second
			if k += threads; k >= n {
				continue
			}
			dst[k], second = curandBoxMuller(r[2], r[3])
			if k += threads; k < n {
				dst[k] = second
			}
		}
	}
	g.offset += uint64(rounds) * 4
}

// threads is the number of threads that PyTorch starts for n elements.
func (g *TorchCUDA) threads(n int) int {
	blocks := (n + 255) / 256
	if g.device.SMs > 0 {
		blocks = min(blocks, g.device.SMs*(g.device.ThreadsPerSM/256))
	}
	return 256 * blocks
}

// NormalAs fills dst as torch.randn(len(dst), device="cuda", dtype=t) does: the float32 draws, rounded.
func (g *TorchCUDA) NormalAs(dst []float32, t Type) {
	g.Normal(dst)
	for i, v := range dst {
		dst[i] = t.round(v)
	}
}

// curandBoxMuller turns two words into two normals as cuRAND does on the device: u = (x+½)/2³², v = 2π(y+½)/2³²,
// s = √(-2 ln u), (s sin v, s cos v).
func curandBoxMuller(x, y uint32) (float32, float32) {
	const c = float32(2.3283064e-10)               // 2⁻³²
	const c2π = float32(2.3283064e-10 * 6.2831855) // 2π·2⁻³²
	u := fma32(float32(x), c, c/2)
	v := fma32(float32(y), c2π, c2π/2)
	s := sqrt32(-2 * cudaLog(u))
	sin, cos := cudaSincos(v)
	return positiveZero(sin * s), positiveZero(cos * s)
}

// cudaLog is CUDA's logf for normal x > 0: x = m·2ᵉ, ⅔ ≤ m < 4/3.
func cudaLog(x float32) float32 {
	bits := int32(math.Float32bits(x))
	e := (bits - 0x3f2aaaab) &^ 0x7fffff
	f := math.Float32frombits(uint32(bits-e)) - 1
	b := math.Float32frombits
	r := horner32(f, b(0xbe055027), b(0x3e1039f6), b(0xbdf8cdcc), b(0x3e0f2955), b(0xbe2ad8b9), b(0x3e4ced0b),
		b(0xbe7fff22), b(0x3eaaaa78), b(0xbf000000))
	r = fma32(float32(f*r), f, f)
	return fma32(float32(float32(e)*0x1p-23), b(0x3f317218), r)
}

// cudaSincos is the special function unit's sine and cosine of v in [0, 2π], as far as is known: it gets v in turns,
// the product with 1/2π rounded toward zero.
func cudaSincos(v float32) (sin, cos float32) {
	const perTurn = float32(0.15915494)
	turns := float64(v) * float64(perTurn) // exact
	turns = math.Float64frombits(math.Float64bits(turns) &^ (1<<29 - 1))
	s, c := sincos64(float64(2 * math.Pi * turns))
	return float32(s), float32(c)
}

const (
	cudaMagic     = "phx1"
	cudaStateSize = len(cudaMagic) + 4*8
)

// State is little-endian: magic, seed, offset, and the device's two numbers.
func (g *TorchCUDA) State() []byte {
	le := binary.LittleEndian
	b := append(make([]byte, 0, cudaStateSize), cudaMagic...)
	b = le.AppendUint64(b, g.seed)
	b = le.AppendUint64(b, g.offset)
	b = le.AppendUint64(b, uint64(g.device.SMs))
	return le.AppendUint64(b, uint64(g.device.ThreadsPerSM))
}

// Restore takes back what State gave, the device included.
func (g *TorchCUDA) Restore(state []byte) error {
	le := binary.LittleEndian
	if len(state) != cudaStateSize || string(state[:4]) != cudaMagic {
		return fmt.Errorf("not a state of %s noise: want %d bytes that begin with %q, have %d",
			KindTorchCUDA, cudaStateSize, cudaMagic, len(state))
	}
	offset, sms, threads := le.Uint64(state[12:]), le.Uint64(state[20:]), le.Uint64(state[28:])
	if offset%4 != 0 || sms > 1<<20 || threads > 1<<20 || (sms == 0) != (threads == 0) {
		return fmt.Errorf("damaged state of %s noise: offset %d, %d multiprocessors, %d threads each",
			KindTorchCUDA, offset, sms, threads)
	}
	*g = TorchCUDA{le.Uint64(state[4:]), offset, CUDADevice{int(sms), int(threads)}}
	return nil
}
