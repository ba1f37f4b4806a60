// Package devices lists what a machine can compute on.
package devices

import (
	"fmt"
	"runtime"
	"slices"

	"darkroom/kernels/cpu"
	"darkroom/kernels/cuda"
	"darkroom/machine"
	"darkroom/tensor"
)

// Info is the machine, as JSON shows it.
type Info struct {
	Processor   string   `json:"processor"`
	Kernels     []string `json:"kernels"`         // sets of kernels that it can run, the one in use first; empty without cgo
	ByType      []Set    `json:"kernels_by_type"` // the set in use for each type; those that are not float32 have passed their test
	Threads     int      `json:"threads"`         // used where nothing else is asked for
	MemoryTotal uint64   `json:"memory_total"`    // bytes; 0 where it is not known
	MemoryFree  uint64   `json:"memory_free"`
	CUDA        []GPU    `json:"cuda"`
	CUDAMissing string   `json:"cuda_missing,omitempty"` // why there is none
}

// Set is the set of kernels in use for a type: fp32, bf16 or int8.
type Set struct {
	DType   string `json:"dtype"`
	Kernels string `json:"kernels"`
}

// GPU is a device for the backend cuda.
type GPU struct {
	Index      int    `json:"index"` // for --device
	Name       string `json:"name"`
	Capability string `json:"capability"` // compute capability, "8.9"
	Memory     uint64 `json:"memory"`     // bytes
	Driver     string `json:"driver"`     // the newest CUDA version that it supports
	Unusable   string `json:"unusable,omitempty"`
	// Tested are the verdicts of the self-tests so far, by type.
	Tested []Verdict `json:"tested,omitempty"`
}

// Verdict is what a self-test found.
type Verdict struct {
	DType    string   `json:"dtype"`
	Replaced []string `json:"replaced,omitempty"` // operations that slower kernels compute, because the fast ones failed
	Failed   []string `json:"failed,omitempty"`
	Wrong    string   `json:"wrong,omitempty"` // the slower ones fail too: the type cannot be used
}

// List looks at the machine. cache is where verdicts of self-tests are kept; "" is nowhere.
func List(cache string) Info {
	d := Info{Processor: machine.Processor(), Kernels: []string{}, ByType: []Set{}, Threads: runtime.GOMAXPROCS(0), CUDA: []GPU{}}
	if cpu.Available {
		d.Kernels = append(cpu.Instructions(tensor.F32), cpu.Instructions(tensor.BF16)...)
		for _, name := range cpu.Int8Instructions() {
			if !slices.Contains(d.Kernels, name) {
				d.Kernels = append(d.Kernels, name)
			}
		}
	}
	for _, t := range []struct {
		name string
		cpu.Options
	}{{"fp32", cpu.Options{DType: tensor.F32}}, {"bf16", cpu.Options{DType: tensor.BF16}}, {"int8", cpu.Options{DType: tensor.BF16, Int8: true}}} {
		t.Threads = 1
		if b, err := cpu.New(t.Options); err == nil {
			d.ByType = append(d.ByType, Set{t.name, b.Instructions()})
			b.Close()
		}
	}
	d.MemoryTotal, _ = machine.Memory()
	d.MemoryFree, _ = machine.FreeMemory()
	all, err := cuda.Devices()
	if err != nil {
		d.CUDAMissing = err.Error()
		return d
	}
	for _, c := range all {
		g := GPU{Index: c.Index, Name: c.Name, Capability: fmt.Sprintf("%d.%d", c.Capability[0], c.Capability[1]),
			Memory: uint64(c.Memory), Driver: c.Driver, Unusable: c.Unusable}
		for _, v := range cuda.Verdicts(c, cache) {
			g.Tested = append(g.Tested, Verdict{v.DType, v.Replaced(), v.Failed, v.Wrong})
		}
		d.CUDA = append(d.CUDA, g)
	}
	return d
}
