// Command report writes what the compiler and the PTX interpreter say about the CUDA kernels into a document, between two
// marks: registers, spills, occupancy and tensor-core share for each target, bank conflicts and memory sectors as
// counted, and the roofline and a model of the steps of Stable Diffusion 1.5 and XL. Nothing in it was measured on a GPU, and it says so.
//
//	report -counts build/cuda/counts.json -blocks build/cuda/blocks.json -into docs/performance-gpu.md
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"darkroom/kernels/cuda"
)

const begin, end = "<!-- cuda-report: written by kernels/cuda/report.sh -->", "<!-- cuda-report: end -->"

func main() {
	log.SetFlags(0)
	work := flag.String("work", "build/cuda", "folder that build.sh left its results in")
	tools := flag.String("tools", "build/cuda", "folder that fetch.sh put the compiler's tools in")
	counts := flag.String("counts", "", "report of the PTX interpreter over the conformance suite (EMU_REPORT)")
	blocks := flag.String("blocks", "", "what blocks execute (COUNTS)")
	lab := flag.String("lab", "", "print the rows of this version for kernels/lab, nothing else")
	arch := flag.String("arch", "80", "target whose machine code these rows are of")
	into := flag.String("into", "", "document to write into; standard output if empty")
	darkroom := flag.String("darkroom", "", "instead: join bench.sh's measurements of darkroom …")
	torch := flag.String("torch", "", "… and of PyTorch …")
	jsonTo := flag.String("json", "", "… into this file …")
	tableTo := flag.String("table", "", "… and this table")
	flag.Parse()
	if *darkroom != "" {
		if err := writeBench(*darkroom, *torch, *jsonTo, *tableTo); err != nil {
			log.Fatal(err)
		}
		return
	}

	var b bytes.Buffer
	all, err := readCompiled(*work, *tools)
	if err != nil {
		log.Fatal(err)
	}
	var run []blockCount
	if *blocks != "" {
		if run, err = readBlocks(*blocks); err != nil {
			log.Fatal(err)
		}
	}
	if *lab != "" {
		writeLab(os.Stdout, *lab, *arch, all, run)
		return
	}
	fmt.Fprintf(&b, "**Nothing here was measured on a GPU.** The numbers come from the compiler's output, from executed instructions counted by an interpreter, and from a model that was checked only against what others published of their kernels.\n\n")
	writeCompiled(&b, all)
	if len(run) > 0 {
		writeBlocks(&b, all, run)
	}
	if *counts != "" {
		if err := writeCounts(&b, *counts); err != nil {
			log.Fatal(err)
		}
	}
	if len(run) > 0 {
		writeLaunches(&b)
		writePublished(&b)
		writeModel(&b, newModel(all, run))
	}
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
	loop                       loop
}

// flash is attention.go's flashTiles: the queries of a block and the keys of a tile.
func flash(d int) (queries, keys int) {
	switch {
	case d <= 48:
		return 128, 64
	case d <= 64:
		return 128, 32
	}
	return 64, 32
}

var (
	entry     = regexp.MustCompile(`Compiling entry function '(\w+)' for 'sm_(\w+)'`)
	spilled   = regexp.MustCompile(`(\d+) bytes spill stores, (\d+) bytes spill loads`)
	registers = regexp.MustCompile(`Used (\d+) registers`)
)

func readCompiled(work, tools string) (all []compiled, err error) {
	logs, err := filepath.Glob(filepath.Join(work, "cubin/*.cubin.log"))
	if err != nil || len(logs) == 0 {
		return nil, fmt.Errorf("%s holds no compiled kernels: run kernels/cuda/build.sh", work)
	}
	for _, path := range logs {
		body, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		loops, err := mainLoops(tools, strings.TrimSuffix(path, ".log"))
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
				c.loop = loops[c.kernel]
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
		rows, columns, stages := number(m[1]), number(m[2]), 4
		if rows*columns == 128*128 {
			stages = 3
		}
		return 32 * warpsOf(kernel), stages * (rows + columns) * 64
	}
	if m := regexp.MustCompile(`^attention_mma_\w+_(\d+)$`).FindStringSubmatch(kernel); m != nil {
		d := number(m[1])
		queries, keys := flash(d)
		return 128, (queries + 4*keys) * d * 2
	}
	if m := regexp.MustCompile(`^gemm_wgmma_\w+_128x(\d+)$`).FindStringSubmatch(kernel); m != nil {
		for _, t := range cuda.HopperTiles {
			if t.Columns == number(m[1]) {
				return 384, t.Shared()
			}
		}
	}
	if m := regexp.MustCompile(`^attention_wgmma_\w+_(\d+)$`).FindStringSubmatch(kernel); m != nil {
		t, _ := cuda.HopperHeadsOf(number(m[1]))
		return 384, t.Shared()
	}
	switch {
	case strings.HasPrefix(kernel, "attention_wide"):
		return 256, (32*512+32*512+32*40)*2 + 32*40*4 + 2*32*4
	case strings.HasPrefix(kernel, "attention_simple"):
		return 128, 4 * 64 * 4
	case strings.HasPrefix(kernel, "gemm_simple"):
		return 256, 2 * 16 * 68 * 4
	case strings.HasPrefix(kernel, "groupnorm_chunks"), strings.HasPrefix(kernel, "groupnorm_whole"):
		return 256, 4 * (2*256*8 + 2*32)
	}
	return 256, 0
}

// processor is what a streaming multiprocessor holds at once (CUDA C++ programming guide, compute capabilities).
type processor struct{ threads, blocks, shared int }

var processors = map[string]processor{
	"75": {1024, 16, 64 << 10}, "80": {2048, 32, 164 << 10}, "86": {1536, 16, 100 << 10}, "89": {1536, 24, 100 << 10},
	"90a": {2048, 32, 228 << 10}, "100": {2048, 32, 228 << 10}, "120": {1536, 24, 100 << 10},
}

// blocks is how many of a kernel a processor holds at once.
func (c compiled) blocks() int {
	p := processors[c.arch]
	perWarp := (c.registers*32 + 255) / 256 * 256
	n := min(p.blocks, p.threads/c.threads, 65536/(perWarp*c.threads/32))
	if c.shared > 0 {
		n = min(n, p.shared/(c.shared+1024)) // the system keeps 1 KiB a block
	}
	return n
}

// occupancy is how many of the processor's warps a kernel keeps there, in per cent.
func (c compiled) occupancy() int {
	return 100 * c.blocks() * c.threads / processors[c.arch].threads
}

func writeCompiled(b *bytes.Buffer, all []compiled) {
	fmt.Fprintf(b, "## What the compiler made\n\nFor each target: registers a thread / occupancy in per cent / share of tensor-core instructions in a round of the main loop.\n"+
		"Shared memory is what a block is launched with. A round is counted in the machine code, along the path on which no rare branch is taken. bfloat16 kernels differ from float16 ones by no more than a register or two and are left out.\n\n")
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
		any, ok := byKernel[k]["80"]
		if !ok {
			any = byKernel[k]["90a"]
		}
		fmt.Fprintf(b, "| %s | %d | %.1f |", k, any.threads, float64(any.shared)/1024)
		for _, t := range targets {
			c, ok := byKernel[k][t]
			if !ok { // TF32 on sm_75
				fmt.Fprint(b, " – |")
				continue
			}
			cell := fmt.Sprintf("%d / %d", c.registers, c.occupancy())
			if c.loop.tensor > 0 {
				cell += fmt.Sprintf(" / %d", 100*c.loop.tensor/c.loop.path)
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
	fmt.Fprintf(b, "\n## What execution counted\n\nThe PTX interpreter ran the conformance suite's shapes (small and odd ones, so that edges weigh more than they do in a model) and counted per warp: "+
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
