package pipeline

import (
	"fmt"
	"slices"

	"darkroom/kernels"
	"darkroom/kernels/cpu"
	"darkroom/kernels/ref"
	"darkroom/tensor"
)

// The names that --backend takes.
const (
	Auto = "auto"
	CPU  = "cpu"
	CUDA = "cuda"
	Ref  = "ref"
)

// newBackend makes the backend that o asks for and chooses the activations' type.
func newBackend(o Options) (kernels.Backend, tensor.DType, error) {
	if o.Threads < 0 {
		return nil, 0, usagef("--threads %d: it must not be negative", o.Threads)
	}
	b, err := openBackend(o)
	if err != nil {
		return nil, 0, err
	}
	dtype, err := chooseDType(b, o.DType)
	if err != nil {
		b.Close()
		return nil, 0, err
	}
	return b, dtype, nil
}

func openBackend(o Options) (kernels.Backend, error) {
	switch o.Backend {
	case Ref:
		return ref.New(o.Threads), nil
	case CPU:
		return cpu.New(cpu.Options{Threads: o.Threads})
	case Auto, "":
		if !cpu.Available {
			return ref.New(o.Threads), nil
		}
		return cpu.New(cpu.Options{Threads: o.Threads})
	}
	return nil, usagef("--backend %q: choose %s, %s, %s or %s", o.Backend, Auto, CPU, CUDA, Ref)
}

// dtypeNames are the names on the command line.
var dtypeNames = map[tensor.DType]string{tensor.F32: "fp32", tensor.BF16: "bf16", tensor.F16: "fp16"}

func chooseDType(b kernels.Backend, name string) (tensor.DType, error) {
	supported := b.DTypes()
	if name == Auto || name == "" {
		return supported[0], nil
	}
	var names []string
	for d, n := range dtypeNames {
		if n == name {
			if slices.Contains(supported, d) {
				return d, nil
			}
			for _, s := range supported {
				names = append(names, dtypeNames[s])
			}
			return 0, usagef("--dtype %s: the %s backend computes in %v only", name, b.Name(), fmt.Sprint(names))
		}
	}
	return 0, usagef("--dtype %q: choose auto, fp32, bf16 or fp16", name)
}
