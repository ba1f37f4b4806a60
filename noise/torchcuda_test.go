package noise

import (
	"math"
	"testing"
)

// The known answers of the Random123 library (tests/kat_vectors, philox4x32 10).
func TestPhilox(t *testing.T) {
	for _, c := range []struct {
		ctr  [4]uint32
		key  [2]uint32
		want [4]uint32
	}{
		{want: [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{
			[4]uint32{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, [2]uint32{0xffffffff, 0xffffffff},
			[4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
		},
		{
			[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
		},
	} {
		if got := philox4x32(c.ctr, c.key); got != c.want {
			t.Errorf("philox(%08x, %08x) = %08x, want %08x", c.ctr, c.key, got, c.want)
		}
	}
}

// Values that torch printed on GPUs after manual_seed, from randn(…, device="cuda"): for seed 0 sixteen in full, then 80
// of a first call and 10 of a second to four places; and 16 for seed 42.
var (
	cudaSeed0Full = []float32{
		-0.9246624, -0.42534423, -2.6438458, 0.14518386, -0.1208664, -0.57972574, -0.622851, -0.3283869,
		-1.0745419, -0.36314395, -1.6710504, 2.2655048, 0.3116848, -0.1841891, 1.2866427, 1.1819527,
	}
	cudaSeed0 = []float32{
		-0.9247, -0.4253, -2.6438, 0.1452, -0.1209, -0.5797, -0.6229, -0.3284,
		-1.0745, -0.3631, -1.6711, 2.2655, 0.3117, -0.1842, 1.2866, 1.1820,
		-0.1271, 1.2169, 1.4353, 1.0605, -0.4941, -1.4244, -0.7244, -1.2973,
		0.0697, -0.0074, 1.8969, 0.6878, -0.0779, -0.8373, 1.3506, -0.2879,
		-0.5965, -0.3283, -0.9086, -0.8059, -0.7407, -0.0504, 0.5435, 1.5150,
		0.0141, 0.4532, 1.6349, 0.7124, -0.1806, 1.0252, -1.4622, -0.7554,
		-0.1836, 0.3824, 0.3918, -0.0830, 0.8971, -1.1123, 0.1116, 0.4863,
		-0.5499, -0.3231, -0.5469, 0.9049, 0.2837, 0.1210, 0.4730, -1.0823,
		-0.0334, -0.9734, 0.9559, -1.1795, -1.0064, 0.1160, 0.6852, -0.4124,
		-0.6738, -0.5404, 0.6898, -1.5517, 0.3805, -0.0436, 0.3597, -0.5043,
	}
	cudaSeed0Second = []float32{0.1808, -0.5523, 0.9238, -0.7350, 1.3800, 0.8676, 0.1297, -0.9406, 0.8109, 0.8821}
	cudaSeed42      = []float32{
		0.1940, 2.1614, -0.1721, 0.8491, -1.9244, 0.6530, -0.6494, -0.8175,
		0.5280, -1.2753, -1.6621, -0.3033, -0.0926, 0.1992, -1.1204, 1.8577,
	}
)

func TestTorchCUDA(t *testing.T) {
	check := func(name string, g *TorchCUDA, want []float32, tolerance float64) {
		t.Helper()
		got := make([]float32, len(want))
		g.Normal(got)
		for i := range want {
			if d := math.Abs(float64(got[i]) - float64(want[i])); d > tolerance {
				t.Errorf("%s: [%d] = %v, the GPU gave %v", name, i, got[i], want[i])
			}
		}
	}
	// NVIDIA states 2⁻²⁰·⁹ for the sine unit, times a radius that is below 2.8 in these.
	const unit = 0x1p-20 * 0.54 * 2.8
	check("seed 0, all digits", NewTorchCUDA(0, CUDADevice{}), cudaSeed0Full, unit)
	// Half of the last printed place, and that error.
	g := NewTorchCUDA(0, CUDADevice{})
	check("seed 0", g, cudaSeed0, 0.5e-4+unit)
	check("seed 0, second call", g, cudaSeed0Second, 0.5e-4+unit)
	check("seed 42", NewTorchCUDA(42, CUDADevice{}), cudaSeed42, 0.5e-4+unit)
}

// simulate is the grid-stride kernel of PyTorch, thread by thread, as its source states it.
func simulate(seed, offset uint64, n, sms, threadsPerSM int) (out []float32, counterOffset uint64) {
	const block, unroll = 256, 4
	grid := min(sms*(threadsPerSM/block), (n+block-1)/block)
	out = make([]float32, n)
	stride := block * grid * unroll
	rounded := ((n-1)/stride + 1) * stride
	for b := range grid {
		for thread := range block {
			idx := b*block + thread
			counter := offset / 4
			for linear := idx; linear < rounded; linear += stride {
				r := philox4x32([4]uint32{uint32(counter), uint32(counter >> 32), uint32(idx), 0}, [2]uint32{uint32(seed), uint32(seed >> 32)})
				counter++
				var four [4]float32
				four[0], four[1] = curandBoxMuller(r[0], r[1])
				four[2], four[3] = curandBoxMuller(r[2], r[3])
				for ii := range unroll {
					if li := linear + block*grid*ii; li < n {
						out[li] = four[ii]
					}
				}
			}
		}
	}
	return out, uint64((n-1)/stride+1) * 4
}

// The layout must be that of the kernel, for GPUs smaller than the tensor too, and successive calls must use
// successive offsets.
func TestTorchCUDALayout(t *testing.T) {
	const seed = 0x0123456789abcdef
	for _, d := range []CUDADevice{{1, 256}, {1, 1024}, {3, 768}, {2, 1536}, {132, 2048}} {
		g := NewTorchCUDA(seed, d)
		offset := uint64(1<<34 - 8) // carries into the counter's second word on the way
		g.offset = offset
		for _, n := range []int{1, 255, 256, 257, 1000, 1024, 1025, 5000, 20000} {
			want, used := simulate(seed, offset, n, d.SMs, d.ThreadsPerSM)
			got := make([]float32, n)
			g.Normal(got)
			for i := range got {
				if got[i] != want[i] {
					t.Fatalf("%+v, %d elements at offset %d: [%d] = %v, want %v", d, n, offset, i, got[i], want[i])
				}
			}
			offset += used
			if g.offset != offset {
				t.Fatalf("%+v after %d elements: offset %d, want %d", d, n, g.offset, offset)
			}
		}
	}
}

// A tensor that fits the GPU's threads is the same on every GPU.
func TestTorchCUDADevices(t *testing.T) {
	const n = 4 * 64 * 64
	want := make([]float32, n)
	NewTorchCUDA(9, CUDADevice{}).Normal(want)
	for _, d := range []CUDADevice{{40, 1024}, {82, 1536}, {128, 1536}, {108, 2048}, {132, 2048}} {
		got := make([]float32, n)
		NewTorchCUDA(9, d).Normal(got)
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%+v: [%d] differs", d, i)
			}
		}
	}
	small, large := make([]float32, 2000), make([]float32, 2000)
	NewTorchCUDA(9, CUDADevice{1, 1024}).Normal(small)
	NewTorchCUDA(9, CUDADevice{}).Normal(large)
	if small[1023] != large[1023] || small[1024] == large[1024] {
		t.Error("1,024 threads: the first 1,024 elements agree, the next must not")
	}
}

func TestTorchCUDAState(t *testing.T) {
	d := CUDADevice{SMs: 1, ThreadsPerSM: 256}
	g, h := NewTorchCUDA(11, d), NewTorchCUDA(0, CUDADevice{})
	g.Normal(make([]float32, 3000))
	if err := h.Restore(g.State()); err != nil {
		t.Fatal(err)
	}
	if h.Seed() != 11 {
		t.Errorf("restored seed %d, want 11", h.Seed())
	}
	a, b := make([]float32, 700), make([]float32, 700)
	g.Normal(a)
	h.Normal(b)
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("[%d]: %v, restored %v", i, a[i], b[i])
		}
	}
}

// Halves are the float32 draws, rounded, from the same offsets.
func TestTorchCUDAHalf(t *testing.T) {
	for _, k := range []Type{Float16, BFloat16} {
		g, h := NewTorchCUDA(4, CUDADevice{}), NewTorchCUDA(4, CUDADevice{})
		for range 2 {
			full, half := make([]float32, 100), make([]float32, 100)
			g.Normal(full)
			h.NormalAs(half, k)
			for i := range full {
				if half[i] != k.round(full[i]) {
					t.Fatalf("[%d] = %v, want %v rounded", i, half[i], full[i])
				}
			}
		}
	}
}

// Mean, variance and kurtosis of 2²⁰ draws lie within 5 standard errors of a normal distribution's.
func TestTorchCUDAMoments(t *testing.T) {
	const n = 1 << 20
	x := make([]float32, n)
	NewTorchCUDA(1<<63+17, CUDADevice{SMs: 16, ThreadsPerSM: 2048}).Normal(x)
	var m1, m2, m4 float64
	for _, v := range x {
		f := float64(v)
		m1 += f
		m2 += f * f
		m4 += f * f * f * f
	}
	m1, m2, m4 = m1/n, m2/n, m4/n
	se := 5 / math.Sqrt(n)
	if math.Abs(m1) > se || math.Abs(m2-1) > se*math.Sqrt2 || math.Abs(m4-3) > se*math.Sqrt(96) {
		t.Errorf("moments %v, %v, %v", m1, m2, m4)
	}
}
