// Package ref is the reference backend: the loops of the operations' contracts, in plain Go with
// float64 sums. It is the specification that the other backends are tested against, and what runs
// where neither cgo nor a GPU is to be had.
package ref

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"darkroom/kernels"
	"darkroom/tensor"
)

// Backend implements kernels.Backend. Its weights are decoded to float32 and laid out as the loops
// read them: filters as [O, kH, kW, I], everything else as in the checkpoint.
type Backend struct {
	kernels.HostMemory
	kernels.Loaded
	threads int
	err     error // the first since the last Sync
}

var _ kernels.Streamer = (*Backend)(nil)

// New returns a reference backend that runs on so many goroutines; 0 means one a processor.
func New(threads int) *Backend {
	if threads < 1 {
		threads = runtime.GOMAXPROCS(0)
	}
	return &Backend{threads: threads}
}

func (b *Backend) Close() error { return nil }

// Info says that this is the reference.
func (b *Backend) Info() kernels.Info {
	return kernels.Info{Kind: "ref", Name: "ref", Device: runtime.GOOS + "/" + runtime.GOARCH, DTypes: []tensor.DType{tensor.F32}, FullAt: kernels.HostFullAt}
}

// Sync returns what went wrong with Fetch; operations do not fail.
func (b *Backend) Sync() error {
	err := b.err
	b.err = nil
	return err
}

func (b *Backend) PackedBytes(w *kernels.Weight) int { return 4 * w.Shape.Len() }

func (b *Backend) Load(w *kernels.Weight) error {
	host, err := pack(w)
	if err != nil {
		return err
	}
	b.Place(w, kernels.HostMem(tensor.Bytes(host)))
	return nil
}

// Fetch packs the weight into dst. It implements kernels.Streamer.
func (b *Backend) Fetch(dst kernels.Mem, w *kernels.Weight) {
	host, err := pack(w)
	if err != nil && b.err == nil {
		b.err = err
	}
	copy(dst.(kernels.HostMem), tensor.Bytes(host))
	w.Host.Release()
}

func pack(w *kernels.Weight) ([]float32, error) {
	host := make([]float32, w.Shape.Len())
	if err := w.Decode(host, 0); err != nil {
		return nil, err
	}
	if w.Role == kernels.Filter {
		host = channelsLast(host, w.Shape)
	}
	return host, nil
}

func (b *Backend) Unload(w *kernels.Weight) { b.Place(w, nil) }

// channelsLast turns [O, I, kH, kW] into [O, kH, kW, I].
func channelsLast(w []float32, s tensor.Shape) []float32 {
	out := make([]float32, len(w))
	k := s[2] * s[3]
	for o := range s[0] {
		for c := range s[1] {
			for ij := range k {
				out[(o*k+ij)*s[1]+c] = w[(o*s[1]+c)*k+ij]
			}
		}
	}
	return out
}

// parallel calls f(i) for every i below n. Each i is computed by one goroutine alone, so the results
// do not depend on how many there are.
func (b *Backend) parallel(n int, f func(i int)) {
	var next atomic.Int64
	var wait sync.WaitGroup
	for range min(b.threads, n) {
		wait.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				f(i)
			}
		})
	}
	wait.Wait()
}

func activate(x float64, a kernels.Activation) float64 {
	switch a {
	case kernels.SiLU:
		return x / (1 + math.Exp(-x))
	case kernels.GELU:
		return gelu(x)
	case kernels.QuickGELU:
		return x / (1 + math.Exp(-1.702*x))
	case kernels.TanhGELU:
		return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	}
	return x
}

func gelu(x float64) float64 { return 0.5 * x * math.Erfc(-x/math.Sqrt2) }

func dot(a, b []float32) float64 {
	b = b[:len(a)]
	var sum float64
	for i, v := range a {
		sum += float64(v) * float64(b[i])
	}
	return sum
}
