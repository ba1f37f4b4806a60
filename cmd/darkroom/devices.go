package main

import (
	"fmt"
	"strings"

	"darkroom/kernels/devices"
	"darkroom/machine"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"
)

func devicesCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "devices",
		Usage: "list what this machine can compute on",
		Description: `Shows the processor and the kernels used on it, and the GPUs, or why none can be used.

Examples:
   darkroom devices
   darkroom generate "a red apple" --backend cpu --threads 4`,
		Flags: []cli.Flag{jsonFlag("print one JSON object")},
		Action: func(c *cli.Context) error {
			if err := noWords(c); err != nil {
				return err
			}
			return listDevices(e, c.Bool("json"))
		},
	}
}

// aboutGPU is a line on a GPU.
func aboutGPU(g devices.GPU) string {
	if g.Unusable != "" {
		return "cannot be used: " + g.Unusable
	}
	text := fmt.Sprintf("compute capability %s, %s of memory, driver for CUDA %s; ", g.Capability, bytesText(g.Memory), g.Driver)
	var good []string
	for _, v := range g.Tested {
		switch {
		case v.Wrong != "":
			text += fmt.Sprintf("computes wrong results in %s and is not used: %s; ", v.DType, v.Wrong)
		case len(v.Replaced) > 0:
			text += fmt.Sprintf("slower kernels for %s in %s, because the fast ones compute wrong results; ", strings.Join(v.Replaced, ", "), v.DType)
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

func listDevices(e *env, asJSON bool) error {
	d := devices.List(machine.HashFolder())
	if asJSON {
		return printJSON(e.stdout, d)
	}
	t := newTable(e.stdout)
	t.AppendHeader(table.Row{"backend", "device", "about"})
	if len(d.Kernels) > 0 {
		about := fmt.Sprintf("%d threads, kernels:", d.Threads)
		for i, k := range d.ByType {
			about += fmt.Sprintf("%s %s in %s", []string{"", ","}[min(i, 1)], k.Kernels, k.DType)
		}
		if d.MemoryTotal > 0 {
			about += fmt.Sprintf(", %s of memory, %s free", bytesText(d.MemoryTotal), bytesText(d.MemoryFree))
		}
		t.AppendRow(table.Row{"cpu", d.Processor, about})
	} else {
		t.AppendRow(table.Row{"cpu", "none", "this program was built without cgo or for a platform without kernels: ref runs instead"})
	}
	t.AppendRow(table.Row{"ref", d.Processor, "plain Go, the specification: slow"})
	for _, g := range d.CUDA {
		t.AppendRow(table.Row{fmt.Sprintf("cuda:%d", g.Index), g.Name, aboutGPU(g)})
	}
	if d.CUDAMissing != "" {
		t.AppendRow(table.Row{"cuda", "none", d.CUDAMissing})
	}
	t.Render()
	return nil
}
