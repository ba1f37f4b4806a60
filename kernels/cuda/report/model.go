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
	"darkroom/kernels/cuda"
	"darkroom/tensor"
)

// blockCount is a line of TestCounts: what a kernel executed for a shape of full blocks, counted per warp.
type blockCount struct {
	Case          string
	Kernel        string
	Blocks, Steps int
	Instructions  float64
	MMA           float64 `json:"mma"`
	WGMMA         float64 `json:"wgmma"` // by warps
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

func writeLab(w io.Writer, version, arch string, all []compiled, run []blockCount) {
	tile := strings.NewReplacer("gemm_mma_f16_", "", "gemm_mma_e4m3_f16_", "e4m3 ", "attention_mma_f16_", "",
		"gemm_wgmma_f16_", "wgmma ", "gemm_wgmma_e4m3_f16_", "wgmma e4m3 ", "gemm_wgmma_e4m3_unpromoted_f16_", "wgmma e4m3, unpromoted, ")
	for _, c := range run {
		k := find(all, c.Kernel, arch)
		executed := fmt.Sprintf("%.1f", c.Instructions/c.MMA)
		if c.WGMMA > 0 { // such a kernel polls its barriers, which takes as many instructions as it takes time
			executed = fmt.Sprintf("%.0f wgmma", c.WGMMA/4)
		}
		fmt.Fprintf(w, "| %s | %s | %s | %d / %d | %d of %d, %.0f %% | %s | %.0f |\n", version, tile.Replace(c.Kernel), c.Case,
			k.registers, k.spills, k.loop.tensor, k.loop.path, 100*float64(k.loop.tensor)/float64(max(1, k.loop.path)), executed, c.Conflicts)
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

// model is our own kernels as the interpreter and the compiler counted them, by name.
type model struct {
	compiled []compiled
	kernels  map[string]kernel
}

// warpsOf is those of a tensor-core kernel's block.
func warpsOf(kernel string) int {
	if strings.HasSuffix(kernel, "_8w") {
		return 8
	}
	return 4 // but for attention_wide's, which no model here uses
}

// newModel separates what a block executes once from what it does in each step, by shapes of two depths. In a step the machine
// code's own count is taken, where it is known; the rest is PTX.
func newModel(all []compiled, run []blockCount) model {
	m := model{all, map[string]kernel{}}
	of := func(c blockCount) cost {
		n := float64(c.Blocks)
		return cost{issued: c.Instructions / n, mma: c.MMA / n, shared: 4 * (c.LdMatrix + c.Copies) / n}
	}
	byKernel := map[string][]blockCount{}
	for _, c := range run {
		byKernel[c.Kernel] = append(byKernel[c.Kernel], c)
	}
	for name, c := range byKernel {
		if len(c) < 2 {
			continue
		}
		short, long := of(c[0]), of(c[1])
		n := float64(c[1].Steps - c[0].Steps)
		step := cost{}.plus(long, 1/n).plus(short, -1/n)
		fixed := short.plus(step, -float64(c[0].Steps))
		k := kernel{name: name, warps: warpsOf(name), fixed: fixed, step: step}
		var size int
		if _, err := fmt.Sscanf(name, "gemm_mma_f16_%dx%d", &k.m, &k.n); err != nil {
			_, _ = fmt.Sscanf(name, "attention_mma_f16_%d", &size)
			k.m, k.n = flash(size)
			k.step.exp = float64(k.m*k.n) / 32
			k.step.mma = float64(k.m*k.n*size) * 2 / 2048 // heads of 40 have some of half the depth
		}
		if len(c) > 2 {
			k.tap.issued = max(0, of(c[2]).plus(fixed, -1).plus(step, -float64(c[2].Steps)).issued/9)
		}
		if l := find(all, name, "80").loop; l.path > 0 {
			k.step.issued = float64(k.warps * l.path)
		}
		m.kernels[name] = k
	}
	return m
}

// on is a kernel as a card holds it.
func (m model) on(g gpu, name string) kernel {
	k := m.kernels[name]
	k.resident = find(m.compiled, name, g.arch).blocks()
	return k
}

// hopperFlash is attention_sm90.cuh's kernel for a tile, for heads of a size. Both warpgroups read their own queries, and all
// keys and values, from shared memory, the latter as wide as the tile's heads; a product is 16 columns of K deep.
func (m model) hopperFlash(t cuda.HopperHeads, size int) kernel {
	const queries, groups = 128, 2
	k := flashAttention(queries, t.Keys, t.Size, 4*groups, 1, true)
	deep := 16 * ceil(size, 16)
	k.step.mma = float64(queries*t.Keys*(deep+t.Size)) / 2048
	k.step.shared = float64(2*deep*(queries+groups*t.Keys)+2*groups*t.Keys*t.Size) / 128
	if l := find(m.compiled, fmt.Sprint("attention_wgmma_f16_", t.Size), "90a").loop; l.path > 0 {
		k.step.issued = float64(4 * groups * l.path)
	}
	return k
}

// momentsIssued is what a warp issues for the moments of 128 values of the product before: 6 shuffles, and arithmetic. Joining
// them, and normalising the products, is less, and in the shade of the first loads.
const momentsIssued = 36

// layerTime is an operation's modelled time.
func (m model) layerTime(g gpu, o kernels.Op) float64 {
	memory := float64(traffic(o)) / g.bandwidth / memoryShare
	switch o := o.(type) {
	case *kernels.Conv2D:
		w, out := o.W.Shape, o.OutShape()
		var larger float64
		if o.Upsample != [2]int{} && g.arch == "90a" { // a kernel before it reads the input and writes it larger
			h, wide := o.InSize()
			larger = launchTime + float64(o.In.Bytes()+2*out[0]*h*wide*w[1])/g.bandwidth/memoryShare
		}
		return larger + m.product(g, out[0]*out[1]*out[2], out[1]*out[2], w[0], w[1], w[2]*w[3], w[1]%8 == 0, memory)
	case *kernels.Linear:
		in := o.In.Shape
		rows := in.Len() / in[len(in)-1]
		t := m.product(g, rows, rows/in[0], o.W.Shape[0], in[len(in)-1], 1, true, memory)
		if o.W.Norm != nil {
			t += float64(rows*in[len(in)-1]) / 128 * momentsIssued / float64(4*g.processors) / g.clock
		}
		return t
	case *kernels.Attention:
		d := o.Q.Shape[2] / o.Heads
		if t, ok := cuda.HopperHeadsOf(d); ok && g.arch == "90a" && o.Bias == nil {
			k := m.hopperFlash(t, d)
			blocks := ceil(o.Q.Shape[1], k.m) * o.Heads * o.Q.Shape[0]
			return k.time(g, k.fixed.plus(k.step, float64(ceil(o.K.Shape[1], k.n))), blocks, memory) + launchTime
		}
		for _, size := range []int{16, 32, 40, 48, 64, 80, 128, 160} {
			if d <= size {
				k := m.on(g, fmt.Sprint("attention_mma_f16_", size))
				blocks := ceil(o.Q.Shape[1], k.m) * o.Heads * o.Q.Shape[0]
				return k.time(g, k.fixed.plus(k.step, float64(ceil(o.K.Shape[1], k.n))), blocks, memory) + launchTime
			}
		}
	case *kernels.GroupNorm:
		n := cuda.Launches(o, tensor.F16)
		return (0.5+0.5*float64(n))*memory + float64(n)*launchTime // with two, its input is read twice
	}
	return memory + launchTime
}

// product is a GEMM's time on the best tile, splits as gemm.go's.
func (m model) product(g gpu, rows, image, n, channels, taps int, copied bool, memory float64) float64 {
	steps := ceil(channels*taps, 32)
	hopper := g.arch == "90a" && copied
	splits := cuda.Splits(image, n, channels*taps, hopper)
	best := math.Inf(1)
	if hopper { // by TMA, for Hopper's own kernels, whose costs are worked out from their tiles
		for _, t := range cuda.HopperTiles {
			k := wgmmaTiled(128, t.Columns)
			deep := ceil(taps*ceil(channels, 64), splits)
			best = min(best, k.time(g, k.fixed.plus(k.step, float64(deep)), ceil(rows, k.m)*ceil(n, k.n)*splits, memory))
		}
	} else {
		for _, tile := range []string{"128x128", "128x64", "64x64", "128x128_8w", "128x64_8w"} {
			k := m.on(g, "gemm_mma_f16_"+tile)
			c := k.fixed.plus(k.step, float64(ceil(steps, splits)))
			if taps > 1 {
				c = c.plus(k.tap, float64(taps)/float64(splits))
			}
			best = min(best, k.time(g, c, ceil(rows, k.m)*ceil(n, k.n)*splits, memory))
		}
	}
	best += launchTime
	if splits > 1 { // written and read once more, in float32
		best += float64(8*splits*rows*n) / g.bandwidth / memoryShare
	}
	return best
}

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
	fmt.Fprintf(b, "\n## A step of the denoiser: roofline and model\n\nA batch of two (guidance) of the U-Nets and of one of the transformers in float16, every operation of the published configurations. The roofline is the least time: for each layer the larger of its operations over the card's peak "+
		"and its bytes over the memory's, each operand read once. The model takes the blocks on the fullest processor. Their instructions, multiplications, exponentials, cycles of shared memory and bytes are the demands on a closed network of queues; "+
		"the warps that the processor holds are its customers. A block waits %d cycles for its start and its first operands, and a launch costs 1 µs. Hopper's products and attention are those by wgmma where they fit, with costs worked out from their tiles; of attention's main loop the instructions are counted in the machine code. "+
		"Milliseconds; **modelled, not measured**. \"Libraries\" is what the same model says of every layer on the fastest of the tiles that cuBLAS, cuDNN, TensorRT and FlashAttention 2 are known to use, as in the published figures' steps above.\n\n| model | TFLOP | GB |", blockLatency)
	for _, g := range gpus {
		fmt.Fprintf(b, " %s: roofline | model | share | libraries |", g.name)
	}
	fmt.Fprintf(b, "\n|---|---|---|%s\n", strings.Repeat("---|---|---|---|", len(gpus)))
	for _, u := range workloads() {
		layers := u.layers
		var flops, bytes float64
		for _, l := range layers {
			o := l.Build(kernels.NewGraph(tensor.F16))
			flops += float64(l.Count) * o.FLOPs()
			bytes += float64(l.Count) * float64(traffic(o))
		}
		fmt.Fprintf(b, "| %s | %.2f | %.1f |", u.name, flops/1e12, bytes/1e9)
		for _, g := range gpus {
			var least, modelled, known float64
			others := libraryOf(g, false)
			for _, l := range layers {
				o := l.Build(kernels.NewGraph(tensor.F16))
				t, _ := g.roofline(o)
				least += float64(l.Count) * t
				modelled += float64(l.Count) * m.layerTime(g, o)
				known += float64(l.Count) * others.layerTime(g, o)
			}
			fmt.Fprintf(b, " %.2f | %.2f | %.0f %% | %.0f %% |", 1e3*least, 1e3*modelled, 100*least/modelled, 100*least/known)
		}
		b.WriteByte('\n')
	}
	for _, u := range workloads() {
		writeLayers(b, m, u)
	}
}

// workload is a step of a denoiser.
type workload struct {
	name, size string
	layers     []bench.Layer
}

// workloads are the steps of the report: of U-Nets with guidance, of transformers without.
func workloads() (all []workload) {
	for _, u := range []bench.UNet{bench.SD15, bench.SDXL} {
		all = append(all, workload{u.Name, fmt.Sprintf("%d×%d", 8*u.Latent, 8*u.Latent), u.Step(2)})
	}
	for _, t := range []bench.Transformer{bench.ZImage, bench.Klein} {
		all = append(all, workload{t.Name, "1024×1024", t.Step(1)})
	}
	return all
}

func writeLayers(b *bytes.Buffer, m model, u workload) {
	fmt.Fprintf(b, "\n### Layers of %s, %s\n\nOne of each, in microseconds: roofline (c: bound by compute, m: by memory) / the share of it that the model gives. The largest by their modelled time on the A100; the last row is all others together.\n\n| layer | times | GFLOP | MB |", u.name, u.size)
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
	for _, l := range u.layers {
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
