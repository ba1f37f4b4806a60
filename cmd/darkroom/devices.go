package main

import (
	"fmt"
	"runtime"
	"strings"

	"darkroom/kernels/cpu"
	"darkroom/kernels/cuda"
	"darkroom/machine"
	"darkroom/tensor"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"
)

func devicesCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "devices",
		Usage: "list what this machine can compute on",
		Description: `Shows the processor with the kernels that are used on it, and the GPUs, or why there are none.

Examples:
   darkroom devices
   darkroom generate "a red apple" --backend cpu --threads 4`,
		Flags: []cli.Flag{jsonFlag("print one JSON object")},
		Action: func(c *cli.Context) error {
			if err := noWords(c); err != nil {
				return err
			}
			return devices(e, c.Bool("json"))
		},
	}
}

// deviceInfo is what devices tells.
type deviceInfo struct {
	Processor   string   `json:"processor"`
	Kernels     []string `json:"kernels"`      // sets of kernels that it can run, the one in use first; empty without cgo
	Threads     int      `json:"threads"`      // used where --threads does not say otherwise
	MemoryTotal uint64   `json:"memory_total"` // bytes; 0 where it is not known
	MemoryFree  uint64   `json:"memory_free"`
	CUDA        []gpu    `json:"cuda"`
	CUDAMissing string   `json:"cuda_missing,omitempty"` // why there is none
}

type gpu struct {
	Index      int    `json:"index"` // for --device
	Name       string `json:"name"`
	Capability string `json:"capability"` // compute capability, "8.9"
	Memory     uint64 `json:"memory"`     // bytes
	Driver     string `json:"driver"`     // the newest CUDA version that it supports
	Unusable   string `json:"unusable,omitempty"`
	// Tested are the verdicts of the self-tests so far, by type.
	Tested []gpuVerdict `json:"tested,omitempty"`
}

// gpuVerdict is what a self-test found.
type gpuVerdict struct {
	DType    string   `json:"dtype"`
	Replaced []string `json:"replaced,omitempty"` // operations that slower kernels compute, because the fast ones failed
	Failed   []string `json:"failed,omitempty"`
	Wrong    string   `json:"wrong,omitempty"` // the slower ones fail too: the type cannot be used
}

// gpus lists the GPUs, or says why there is none to use.
func gpus() ([]gpu, error) {
	all, err := cuda.Devices()
	if err != nil {
		return nil, err
	}
	var out []gpu
	for _, d := range all {
		g := gpu{Index: d.Index, Name: d.Name, Capability: fmt.Sprintf("%d.%d", d.Capability[0], d.Capability[1]),
			Memory: uint64(d.Memory), Driver: d.Driver, Unusable: d.Unusable}
		for _, v := range cuda.Verdicts(d, hashCache()) {
			g.Tested = append(g.Tested, gpuVerdict{v.DType, v.Replaced(), v.Failed, v.Wrong})
		}
		out = append(out, g)
	}
	return out, nil
}

func (g gpu) about() string {
	if g.Unusable != "" {
		return "cannot be used: " + g.Unusable
	}
	text := fmt.Sprintf("compute capability %s, %s of memory, driver for CUDA %s; ", g.Capability, bytesText(g.Memory), g.Driver)
	var good []string
	for _, v := range g.Tested {
		switch {
		case v.Wrong != "":
			text += fmt.Sprintf("computes wrongly in %s and is not used: %s; ", v.DType, v.Wrong)
		case len(v.Replaced) > 0:
			text += fmt.Sprintf("slower kernels for %s in %s, because the fast ones compute wrongly; ", strings.Join(v.Replaced, ", "), v.DType)
		default:
			good = append(good, v.DType)
		}
	}
	if len(g.Tested) == 0 {
		return text + "not tested yet (darkroom selftest)"
	}
	if len(good) > 0 {
		text += "tested in " + strings.Join(good, ", ")
	}
	return strings.TrimSuffix(text, "; ")
}

func devices(e *env, asJSON bool) error {
	d := deviceInfo{Processor: machine.Processor(), Kernels: []string{}, Threads: runtime.GOMAXPROCS(0), CUDA: []gpu{}}
	if cpu.Available {
		d.Kernels = append(cpu.Instructions(tensor.F32), cpu.Instructions(tensor.BF16)...)
	}
	d.MemoryTotal, _ = machine.Memory()
	d.MemoryFree, _ = machine.FreeMemory()
	gpus, err := gpus()
	if err != nil {
		d.CUDAMissing = err.Error()
	}
	d.CUDA = append(d.CUDA, gpus...)
	if asJSON {
		return printJSON(e.stdout, d)
	}
	t := newTable(e.stdout)
	t.AppendHeader(table.Row{"backend", "device", "about"})
	if len(d.Kernels) > 0 {
		about := fmt.Sprintf("%d threads, %s kernels", d.Threads, d.Kernels[0])
		if d.MemoryTotal > 0 {
			about += fmt.Sprintf(", %s of memory, %s free", bytesText(d.MemoryTotal), bytesText(d.MemoryFree))
		}
		t.AppendRow(table.Row{"cpu", d.Processor, about})
	} else {
		t.AppendRow(table.Row{"cpu", "none", "this program was built without cgo or for a platform without kernels: ref runs instead"})
	}
	t.AppendRow(table.Row{"ref", d.Processor, "plain Go, the specification: slow"})
	for _, g := range d.CUDA {
		t.AppendRow(table.Row{fmt.Sprintf("cuda:%d", g.Index), g.Name, g.about()})
	}
	if d.CUDAMissing != "" {
		t.AppendRow(table.Row{"cuda", "none", d.CUDAMissing})
	}
	t.Render()
	return nil
}
