package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"sort"
	"strings"

	"darkroom/kernels"
	"darkroom/kernels/bench"
	"darkroom/tensor"
)

// blockCount is a line of TestCounts: what a kernel executed for a shape of full blocks, counted per warp.
type blockCount struct {
	Case          string
	Kernel        string
	Blocks, Steps int
	Instructions  float64
	MMA           float64 `json:"mma"`
	LdMatrix      float64 `json:"ldmatrix"`
	Copies        float64 `json:"cp_async"`
	Shared        float64 `json:"shared_requests"`
	Conflicts     float64 `json:"shared_conflicts"`
	Sectors       float64 `json:"sectors"`
	Least         float64 `json:"sectors_least"`
}

func readBlocks(path string) (all []blockCount, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var c blockCount
		if err := json.Unmarshal(s.Bytes(), &c); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// find is the compiled kernel for a target.
func find(all []compiled, kernel, arch string) compiled {
	for _, c := range all {
		if c.kernel == kernel && c.arch == arch {
			return c
		}
	}
	return compiled{}
}

func writeLab(w io.Writer, version string, all []compiled, run []blockCount) {
	for _, c := range run {
		k := find(all, c.Kernel, "80")
		fmt.Fprintf(w, "| %s | %s | %s | %d / %d | %d of %d, %.0f %% | %.1f | %.0f |\n", version, strings.TrimPrefix(strings.TrimPrefix(c.Kernel, "gemm_mma_f16_"), "attention_mma_f16_"), c.Case,
			k.registers, k.spills, k.loop.tensor, k.loop.path, 100*float64(k.loop.tensor)/float64(max(1, k.loop.path)), c.Instructions/c.MMA, c.Conflicts)
	}
}

func writeBlocks(b *bytes.Buffer, all []compiled, run []blockCount) {
	fmt.Fprintf(b, "\n## What a block executes\n\nShapes of full blocks, on the PTX interpreter: instructions of PTX for each `mma` (16×8×16), prologue and epilogue included, and the main loop's in the machine code of sm_80. "+
		"Sectors are against the fewest that the bytes fit in.\n\n| kernel | shape | executed for each mma | main loop, sm_80 | mma for each ldmatrix | bank conflicts | sectors / least |\n|---|---|---|---|---|---|---|\n")
	for _, c := range run {
		k := find(all, c.Kernel, "80")
		fmt.Fprintf(b, "| %s | %s | %.1f | %d of %d | %.1f | %.0f | %.2f |\n", c.Kernel, c.Case, c.Instructions/c.MMA, k.loop.tensor, k.loop.path, c.MMA/c.LdMatrix, c.Conflicts, c.Sectors/c.Least)
	}
}

// gpu is a card's dense float16 peak with float32 sums, its memory's, and what the model needs of its processors.
// Peaks are the makers' data sheets'; cycles are what a processor takes for an mma at that peak. Hopper's peak is of its wgmma
// instruction; mma.sync reaches some 62 % of it (Luo et al. 2024, "Benchmarking and dissecting the Nvidia Hopper GPU").
type gpu struct {
	name             string
	flops, bandwidth float64
	arch             string
	processors       int
	clock            float64
	cycles           float64
}

var gpus = []gpu{
	{"A100 80 GB", 312e12, 2.04e12, "80", 108, 1.41e9, 2},
	{"RTX 4090", 165e12, 1.01e12, "89", 128, 2.52e9, 8},
	{"H100 SXM", 989e12, 3.35e12, "90a", 132, 1.83e9, 1 / 0.62},
	{"H200", 989e12, 4.8e12, "90a", 132, 1.83e9, 1 / 0.62},
}

// cost is what one block asks of its processor: warp instructions, mma, and cycles of shared memory; for each
// block, for each step of the main loop, and for each change of the filter's tap.
type cost struct{ issued, mma, shared float64 }

func (a cost) plus(b cost, times float64) cost {
	return cost{a.issued + times*b.issued, a.mma + times*b.mma, a.shared + times*b.shared}
}

type kernelCost struct {
	kernel           string
	fixed, step, tap cost
}

type model struct {
	compiled []compiled
	costs    map[string]kernelCost
}

const warps = 4 // of every tensor-core kernel's block but attention_wide's

// newModel separates what a block executes once from what it does in each step, by shapes of two depths. In a step the machine
// code's own count is taken, where it is known; the rest is PTX.
func newModel(all []compiled, run []blockCount) model {
	m := model{all, map[string]kernelCost{}}
	of := func(c blockCount) cost {
		n := float64(c.Blocks)
		return cost{c.Instructions / n, c.MMA / n, 4 * (c.LdMatrix + c.Copies) / n}
	}
	byKernel := map[string][]blockCount{}
	for _, c := range run {
		byKernel[c.Kernel] = append(byKernel[c.Kernel], c)
	}
	for k, c := range byKernel {
		if len(c) < 2 {
			continue
		}
		short, long := of(c[0]), of(c[1])
		n := float64(c[1].Steps - c[0].Steps)
		step := cost{}.plus(long, 1/n).plus(short, -1/n)
		fixed := short.plus(step, -float64(c[0].Steps))
		kc := kernelCost{kernel: k, fixed: fixed, step: step}
		if len(c) > 2 {
			kc.tap.issued = max(0, of(c[2]).plus(fixed, -1).plus(step, -float64(c[2].Steps)).issued/9)
		}
		if l := find(all, k, "80").loop; l.path > 0 {
			kc.step.issued = float64(warps * l.path)
		}
		m.costs[k] = kc
	}
	return m
}

// launchTime is what a kernel costs in a recorded graph beyond its work; assumed.
const launchTime = 1e-6

// time is of a kernel whose blocks cost c each: the slowest of tensor cores, issue slots (4 a cycle) and shared memory, on
// the processor that has the most blocks. Where few warps share a scheduler, they cannot hide each other's waiting:
// w of them are assumed to reach w/(w+½) of what they could.
func (m model) time(g gpu, kernel string, c cost, blocks int) float64 {
	k := find(m.compiled, kernel, g.arch)
	each := (blocks + g.processors - 1) / g.processors
	w := float64(min(each, k.blocks())) * warps / 4
	cycles := max(c.mma*g.cycles, c.issued/4, c.shared)
	return float64(each) * cycles / g.clock * (w + 0.5) / w
}

// layerTime is an operation's modelled time.
func (m model) layerTime(g gpu, o kernels.Op) float64 {
	memory := float64(traffic(o)) / g.bandwidth
	switch o := o.(type) {
	case *kernels.Conv2D:
		w, out := o.W.Shape, o.OutShape()
		return m.product(g, out[0]*out[1]*out[2], out[1]*out[2], w[0], w[1], w[2]*w[3], memory)
	case *kernels.Linear:
		in := o.In.Shape
		rows := in.Len() / in[len(in)-1]
		return m.product(g, rows, rows/in[0], o.W.Shape[0], in[len(in)-1], 1, memory)
	case *kernels.Attention:
		d := o.Q.Shape[2] / o.Heads
		for _, size := range []int{16, 32, 48, 64, 80, 128, 160} {
			if d <= size {
				k := m.costs[fmt.Sprint("attention_mma_f16_", size)]
				queries, keys := flash(size)
				blocks := ceil(o.Q.Shape[1], queries) * o.Heads * o.Q.Shape[0]
				return max(memory, m.time(g, k.kernel, k.fixed.plus(k.step, float64(ceil(o.K.Shape[1], keys))), blocks)) + launchTime
			}
		}
	case *kernels.GroupNorm:
		return 1.5*memory + 3*launchTime // its input is read twice
	}
	return memory + launchTime
}

// product is a GEMM's time on the best tile, splits as gemm.go's.
func (m model) product(g gpu, rows, image, n, channels, taps int, memory float64) float64 {
	steps := ceil(channels*taps, 32)
	splits := max(1, min(128/(ceil(image, 64)*ceil(n, 64)), steps/8, 16))
	best := math.Inf(1)
	for _, t := range []struct {
		name string
		m, n int
	}{{"128x128", 128, 128}, {"128x64", 128, 64}, {"64x64", 64, 64}} {
		k := m.costs["gemm_mma_f16_"+t.name]
		c := k.fixed.plus(k.step, float64(ceil(steps, splits)))
		if taps > 1 {
			c = c.plus(k.tap, float64(taps)/float64(splits))
		}
		best = min(best, m.time(g, k.kernel, c, ceil(rows, t.m)*ceil(n, t.n)*splits))
	}
	best = max(best, memory) + launchTime
	if splits > 1 { // written and read once more, in float32
		best += launchTime + float64(8*splits*rows*n)/g.bandwidth
	}
	return best
}

func ceil(a, b int) int { return (a + b - 1) / b }

// traffic is the bytes of a layer in float16, each operand read once.
func traffic(o kernels.Op) int {
	bytes := 2 * o.OutShape().Len()
	for _, t := range o.Inputs() {
		bytes += t.Bytes()
	}
	for _, w := range o.Weights() {
		bytes += 2 * w.Shape.Len()
	}
	return bytes
}

func (g gpu) roofline(o kernels.Op) (seconds float64, bound string) {
	compute, memory := o.FLOPs()/g.flops, float64(traffic(o))/g.bandwidth
	if memory > compute {
		return memory, "m"
	}
	return compute, "c"
}

func writeModel(b *bytes.Buffer, m model) {
	fmt.Fprintf(b, "\n## A step of the U-Net: roofline and model\n\nA batch of two (guidance) in float16, every operation of the published configurations. The roofline is the least time: for each layer the larger of its operations over the card's peak "+
		"and its bytes over the memory's, each operand read once. The model adds up instructions, shared memory's cycles and multiplications of the blocks on the fullest processor, its occupancy, launches of 1 µs, and reaches w/(w+½) of that with w warps a scheduler. "+
		"Milliseconds; **modelled, not measured**.\n\n| model | TFLOP | GB |")
	for _, g := range gpus {
		fmt.Fprintf(b, " %s: roofline | model | share |", g.name)
	}
	fmt.Fprintf(b, "\n|---|---|---|%s\n", strings.Repeat("---|---|---|", len(gpus)))
	units := []bench.UNet{bench.SD15, bench.SDXL}
	for _, u := range units {
		layers := u.Step(2)
		var flops, bytes float64
		for _, l := range layers {
			o := l.Build(kernels.NewGraph(tensor.F16))
			flops += float64(l.Count) * o.FLOPs()
			bytes += float64(l.Count) * float64(traffic(o))
		}
		fmt.Fprintf(b, "| %s | %.2f | %.1f |", u.Name, flops/1e12, bytes/1e9)
		for _, g := range gpus {
			var least, modelled float64
			for _, l := range layers {
				o := l.Build(kernels.NewGraph(tensor.F16))
				t, _ := g.roofline(o)
				least += float64(l.Count) * t
				modelled += float64(l.Count) * m.layerTime(g, o)
			}
			fmt.Fprintf(b, " %.2f | %.2f | %.0f %% |", 1e3*least, 1e3*modelled, 100*least/modelled)
		}
		b.WriteByte('\n')
	}
	for _, u := range units {
		writeLayers(b, m, u)
	}
}

func writeLayers(b *bytes.Buffer, m model, u bench.UNet) {
	fmt.Fprintf(b, "\n### Layers of %s, %d×%d\n\nOne of each, in microseconds: roofline (c: bound by compute, m: by memory) / the share of it that the model gives. The largest by their modelled time on the A100; the last row is all others together.\n\n| layer | times | GFLOP | MB |", u.Name, 8*u.Latent, 8*u.Latent)
	for _, g := range gpus {
		fmt.Fprintf(b, " %s |", g.name)
	}
	fmt.Fprintf(b, "\n|---|---|---|---|%s\n", strings.Repeat("---|", len(gpus)))
	type row struct {
		l    bench.Layer
		o    kernels.Op
		time float64
	}
	var rows []row
	var total float64
	for _, l := range u.Step(2) {
		o := l.Build(kernels.NewGraph(tensor.F16))
		t := float64(l.Count) * m.layerTime(gpus[0], o)
		rows = append(rows, row{l, o, t})
		total += t
	}
	sort.SliceStable(rows, func(i, j int) bool { return rows[i].time > rows[j].time })
	n := 0
	for n < len(rows) && n < 40 && rows[n].time > 0.004*total {
		n++
	}
	for _, r := range rows[:n] {
		bias := ""
		if r.l.Kind == "linear" && len(r.o.Weights()) == 1 {
			bias = " no bias"
		}
		fmt.Fprintf(b, "| %s %s%s | %d | %.2f | %.1f |", r.l.Kind, r.l.Shape, bias, r.l.Count, r.o.FLOPs()/1e9, float64(traffic(r.o))/1e6)
		for _, g := range gpus {
			t, bound := g.roofline(r.o)
			fmt.Fprintf(b, " %.1f %s / %.0f %% |", 1e6*t, bound, 100*t/m.layerTime(g, r.o))
		}
		b.WriteByte('\n')
	}
	var count int
	var flops, bytes float64
	least, modelled := make([]float64, len(gpus)), make([]float64, len(gpus))
	for _, r := range rows[n:] {
		k := float64(r.l.Count)
		count += r.l.Count
		flops += k * r.o.FLOPs()
		bytes += k * float64(traffic(r.o))
		for i, g := range gpus {
			t, _ := g.roofline(r.o)
			least[i] += k * t
			modelled[i] += k * m.layerTime(g, r.o)
		}
	}
	fmt.Fprintf(b, "| %d others, together | %d | %.2f | %.1f |", len(rows)-n, count, flops/1e9, bytes/1e6)
	for i := range gpus {
		fmt.Fprintf(b, " %.1f / %.0f %% |", 1e6*least[i], 100*least[i]/max(modelled[i], 1e-12))
	}
	b.WriteByte('\n')
}
