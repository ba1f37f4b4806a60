// Command report writes what the compiler and the PTX interpreter say about the CUDA kernels into a document, between two
// marks: registers, spills, occupancy and tensor-core share for each target, bank conflicts and memory sectors as
// counted, and the roofline of Stable Diffusion 1.5's layers. Nothing in it was measured on a GPU, and it says so.
//
//	report -counts build/cuda/counts.json -into docs/cuda.md
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"darkroom/kernels"
	"darkroom/kernels/bench"
	"darkroom/tensor"
)

const begin, end = "<!-- cuda-report: written by kernels/cuda/report.sh -->", "<!-- cuda-report: end -->"

func main() {
	log.SetFlags(0)
	work := flag.String("work", "build/cuda", "folder that build.sh left its results in")
	counts := flag.String("counts", "", "report of the PTX interpreter (EMU_REPORT)")
	into := flag.String("into", "", "document to write into; standard output if empty")
	flag.Parse()

	var b bytes.Buffer
	compiled, err := readCompiled(*work)
	if err != nil {
		log.Fatal(err)
	}
	writeCompiled(&b, compiled)
	if *counts != "" {
		if err := writeCounts(&b, *counts); err != nil {
			log.Fatal(err)
		}
	}
	writeRoofline(&b)
	if *into == "" {
		_, _ = os.Stdout.Write(b.Bytes())
		return
	}
	if err := replace(*into, b.String()); err != nil {
		log.Fatal(err)
	}
}

// replace puts the text between the marks of a document.
func replace(path, text string) error {
	body, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(body), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s does not hold the marks %q and %q", path, begin, end)
	}
	return os.WriteFile(path, []byte(before+begin+"\n\n"+text+"\n"+end+after), 0o644)
}

// compiled is what ptxas and the machine code say of one kernel for one target.
type compiled struct {
	kernel, arch               string
	registers, spills, threads int
	shared                     int // bytes a block
	loop, tensor               int // instructions of the inner loop, and those on tensor cores
}

var (
	entry     = regexp.MustCompile(`Compiling entry function '(\w+)' for 'sm_(\w+)'`)
	spilled   = regexp.MustCompile(`(\d+) bytes spill stores, (\d+) bytes spill loads`)
	registers = regexp.MustCompile(`Used (\d+) registers`)
)

func readCompiled(work string) (all []compiled, err error) {
	logs, err := filepath.Glob(filepath.Join(work, "cubin/*.cubin.log"))
	if err != nil || len(logs) == 0 {
		return nil, fmt.Errorf("%s holds no compiled kernels: run kernels/cuda/build.sh", work)
	}
	for _, path := range logs {
		body, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		loops, err := innerLoops(work, strings.TrimSuffix(path, ".log"))
		if err != nil {
			return nil, err
		}
		var c compiled
		for _, line := range strings.Split(string(body), "\n") {
			if m := entry.FindStringSubmatch(line); m != nil {
				c = compiled{kernel: m[1], arch: m[2]}
				c.threads, c.shared = launch(c.kernel)
			} else if m := spilled.FindStringSubmatch(line); m != nil {
				c.spills = number(m[1]) + number(m[2])
			} else if m := registers.FindStringSubmatch(line); m != nil {
				c.registers = number(m[1])
				c.loop, c.tensor = loops[c.kernel][0], loops[c.kernel][1]
				all = append(all, c)
			}
		}
	}
	return all, nil
}

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// launch is how gemm.go and norm.go launch a kernel: threads and bytes of shared memory a block.
func launch(kernel string) (threads, shared int) {
	if m := regexp.MustCompile(`^gemm_mma_\w+?_(\d+)x(\d+)`).FindStringSubmatch(kernel); m != nil {
		rows, columns := number(m[1]), number(m[2])
		threads := 128
		if rows*columns == 128*128 {
			threads = 256
		}
		return threads, 4 * (rows + columns) * 32 * 2
	}
	if m := regexp.MustCompile(`^attention_mma_\w+_(\d+)$`).FindStringSubmatch(kernel); m != nil {
		d, keys := number(m[1]), 64
		if d > 80 {
			keys = 32
		}
		return 128, (64 + 4*keys) * d * 2
	}
	switch {
	case strings.HasPrefix(kernel, "attention_wide"):
		return 256, (32*512+32*512+32*40)*2 + 32*40*4 + 2*32*4
	case strings.HasPrefix(kernel, "attention_simple"):
		return 128, 4 * 64 * 4
	case strings.HasPrefix(kernel, "gemm_simple"):
		return 256, 2 * 16 * 68 * 4
	case strings.HasPrefix(kernel, "groupnorm_chunks"):
		return 256, 4 * (2*256*8 + 32)
	}
	return 256, 0
}

var (
	function    = regexp.MustCompile(`Function : (\w+)`)
	instruction = regexp.MustCompile(`^\s*/\*([0-9a-f]+)\*/\s+(?:@!?U?P\d+ )?([A-Z][A-Z0-9_.]*)(.*)`)
	jump        = regexp.MustCompile(`0x([0-9a-f]+)`)
)

// innerLoops finds in a cubin's machine code, for each kernel, the loop with the most tensor-core
// instructions: how many instructions it has, and how many of them are on tensor cores.
func innerLoops(work, cubin string) (map[string][2]int, error) {
	tools, err := filepath.Glob(filepath.Join(work, "venv/lib/python3*/site-packages/nvidia/cu13/bin/cuobjdump"))
	if err != nil || len(tools) == 0 {
		return nil, fmt.Errorf("no cuobjdump in %s", work)
	}
	sass, err := exec.Command(tools[0], "-sass", cubin).Output()
	if err != nil {
		return nil, fmt.Errorf("cuobjdump %s: %w", cubin, err)
	}
	loops := map[string][2]int{}
	var kernel string
	var address []int64
	var tensor []bool
	for s := bufio.NewScanner(bytes.NewReader(sass)); s.Scan(); {
		line := s.Text()
		if m := function.FindStringSubmatch(line); m != nil {
			kernel, address, tensor = m[1], nil, nil
			continue
		}
		m := instruction.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		at, _ := strconv.ParseInt(m[1], 16, 64)
		address, tensor = append(address, at), append(tensor, strings.HasPrefix(m[2], "HMMA"))
		if m[2] != "BRA" {
			continue
		}
		to := jump.FindStringSubmatch(m[3])
		if to == nil {
			continue
		}
		target, _ := strconv.ParseInt(to[1], 16, 64)
		from, found := slices.BinarySearch(address, target)
		if !found || target > at {
			continue
		}
		n := 0
		for _, t := range tensor[from:] {
			if t {
				n++
			}
		}
		if best := loops[kernel]; n > best[1] {
			loops[kernel] = [2]int{len(address) - from, n}
		}
	}
	return loops, nil
}

// processor is what a streaming multiprocessor holds at once (CUDA C++ programming guide, compute capabilities).
type processor struct{ threads, blocks, shared int }

var processors = map[string]processor{
	"75": {1024, 16, 64 << 10}, "80": {2048, 32, 164 << 10}, "86": {1536, 16, 100 << 10}, "89": {1536, 24, 100 << 10},
	"90a": {2048, 32, 228 << 10}, "100": {2048, 32, 228 << 10}, "120": {1536, 24, 100 << 10},
}

// occupancy is how many of the processor's warps a kernel keeps there, in per cent.
func (c compiled) occupancy() int {
	p := processors[c.arch]
	perWarp := (c.registers*32 + 255) / 256 * 256
	blocks := min(p.blocks, p.threads/c.threads, 65536/(perWarp*c.threads/32))
	if c.shared > 0 {
		blocks = min(blocks, p.shared/(c.shared+1024)) // the system keeps 1 KiB a block
	}
	return 100 * blocks * c.threads / p.threads
}

func writeCompiled(b *bytes.Buffer, all []compiled) {
	fmt.Fprintf(b, "### What the compiler made\n\nFor each target: registers a thread / occupancy in per cent / share of tensor-core instructions in the inner loop.\n"+
		"Shared memory is what a block is launched with. The loop is counted as it stands in the machine code, with branches that are rarely taken. bfloat16 kernels differ from float16 ones by no more than a register or two and are left out.\n\n")
	targets := []string{"75", "80", "86", "89", "90a", "100", "120"}
	fmt.Fprintf(b, "| kernel | threads | shared, KiB |")
	for _, t := range targets {
		fmt.Fprintf(b, " sm_%s |", t)
	}
	fmt.Fprintf(b, "\n|---|---|---|%s\n", strings.Repeat("---|", len(targets)))
	byKernel := map[string]map[string]compiled{}
	var spilling []string
	for _, c := range all {
		if c.spills > 0 {
			spilling = append(spilling, fmt.Sprintf("%s on sm_%s (%d bytes)", c.kernel, c.arch, c.spills))
		}
		if byKernel[c.kernel] == nil {
			byKernel[c.kernel] = map[string]compiled{}
		}
		byKernel[c.kernel][c.arch] = c
	}
	var names []string
	for k := range byKernel {
		if !strings.Contains(k, "bf16") {
			names = append(names, k)
		}
	}
	sort.Strings(names)
	for _, k := range names {
		any := byKernel[k]["80"]
		fmt.Fprintf(b, "| %s | %d | %.1f |", k, any.threads, float64(any.shared)/1024)
		for _, t := range targets {
			c := byKernel[k][t]
			cell := fmt.Sprintf("%d / %d", c.registers, c.occupancy())
			if c.tensor > 0 {
				cell += fmt.Sprintf(" / %d", 100*c.tensor/c.loop)
			}
			fmt.Fprintf(b, " %s |", cell)
		}
		b.WriteByte('\n')
	}
	if len(spilling) == 0 {
		fmt.Fprintf(b, "\nNo kernel spills registers on any target.\n")
	} else {
		fmt.Fprintf(b, "\nRegisters are spilled by: %s.\n", strings.Join(spilling, "; "))
	}
}

func writeCounts(b *bytes.Buffer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprintf(b, "\n### What execution counted\n\nThe PTX interpreter ran the conformance suite's shapes (small and odd ones, so that edges weigh more than they do in a model) and counted per warp: "+
		"cycles that bank conflicts add to ldmatrix and to all requests to shared memory, and 32-byte sectors of global memory against the fewest that the bytes fit in.\n\n")
	fmt.Fprintf(b, "| kernel | mma | ldmatrix | conflicts | shared requests | conflicts | global requests | sectors / least |\n|---|---|---|---|---|---|---|---|\n")
	for s := bufio.NewScanner(f); s.Scan(); {
		var c struct {
			Kernel            string
			MMA               int     `json:"mma"`
			LdMatrix          int     `json:"ldmatrix"`
			LdMatrixConflicts int     `json:"ldmatrix_conflicts"`
			Shared            int     `json:"shared_requests"`
			Conflicts         int     `json:"shared_conflicts"`
			Global            int     `json:"global_requests"`
			Sectors           float64 `json:"sectors"`
			Least             float64 `json:"sectors_least"`
		}
		if err := json.Unmarshal(s.Bytes(), &c); err != nil {
			return err
		}
		if strings.Contains(c.Kernel, "bf16") {
			continue
		}
		fmt.Fprintf(b, "| %s | %d | %d | %d | %d | %d | %d | %.2f |\n", c.Kernel, c.MMA, c.LdMatrix, c.LdMatrixConflicts, c.Shared, c.Conflicts, c.Global, c.Sectors/max(1, c.Least))
	}
	return nil
}

// gpu is a card's dense float16 peak with float32 sums, and its memory's, from the makers' data sheets.
type gpu struct {
	name             string
	flops, bandwidth float64
}

var gpus = []gpu{{"A100 80 GB", 312e12, 2.04e12}, {"RTX 4090", 165e12, 1.01e12}, {"H100 SXM", 989e12, 3.35e12}, {"H200", 989e12, 4.8e12}}

func writeRoofline(b *bytes.Buffer) {
	fmt.Fprintf(b, "\n### Roofline\n\nThe least time that a layer of Stable Diffusion 1.5 (512×512, batch of 2) can take in float16: the larger of its operations over the card's peak "+
		"and its bytes over the memory's, each operand read once. In microseconds; the bound that holds is marked c (compute) or m (memory). No layer was timed on a GPU.\n\n")
	fmt.Fprintf(b, "| layer | GFLOP | MB |")
	for _, g := range gpus {
		fmt.Fprintf(b, " %s |", g.name)
	}
	fmt.Fprintf(b, "\n|---|---|---|%s\n", strings.Repeat("---|", len(gpus)))
	for _, c := range bench.StableDiffusion15() {
		graph := kernels.NewGraph(tensor.F16)
		op := c.Build(graph)
		bytes := 2 * op.OutShape().Len()
		for _, t := range op.Inputs() {
			bytes += t.Bytes()
		}
		for _, w := range op.Weights() {
			bytes += 2 * w.Host.Shape.Len()
		}
		fmt.Fprintf(b, "| %s %s | %.2f | %.1f |", c.Kind, c.Shape, op.FLOPs()/1e9, float64(bytes)/1e6)
		for _, g := range gpus {
			compute, memory, which := op.FLOPs()/g.flops, float64(bytes)/g.bandwidth, "c"
			if memory > compute {
				which = "m"
			}
			fmt.Fprintf(b, " %.1f %s |", 1e6*max(compute, memory), which)
		}
		b.WriteByte('\n')
	}
}
