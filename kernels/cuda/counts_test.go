//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"darkroom/kernels"
	"darkroom/kernels/conformance"
	"darkroom/kernels/conformance/suite"
	"darkroom/tensor"
)

// countCase is a shape that one kernel runs in a few blocks, all of them full: from its counts follow those of any layer.
type countCase struct {
	Name   string
	Kernel string // whose counts are wanted
	Blocks int
	Steps  int // of the main loop of a block
	build  func(g *kernels.Graph) kernels.Op
	family *family
}

// tiles are the families that multiply channels in whole chunks. The earlier versions in kernels/lab have the first three.
func tiles() []family {
	if os.Getenv("LAB") != "" {
		return families[:3]
	}
	return families[:5]
}

func countCases() (all []countCase) {
	weight := func(role kernels.Role, s ...int) *kernels.Weight {
		return kernels.NewWeight("w", role, tensor.Tensor{DType: tensor.F16, Shape: s, Data: make([]byte, 2*tensor.Shape(s).Len())})
	}
	const columns = 1280 // with 640 rows: too many blocks for their sums to be split
	if Splits(640, columns, 9*320, false) != 1 {
		panic("the blocks that are counted must have whole sums")
	}
	for i := range tiles() {
		f := &families[i]
		c := countCase{Kernel: "gemm_mma_f16_" + f.name, Blocks: 640 * columns / f.m / f.n, family: f}
		for _, k := range []int{320, 1280} {
			c.Name, c.Steps = fmt.Sprint("linear ", k), k/32
			c.build = func(g *kernels.Graph) kernels.Op {
				return &kernels.Linear{In: g.Input("in", g.DType, 1, 640, k), W: weight(kernels.Matrix, columns, k), Bias: weight(kernels.Vector, columns)}
			}
			all = append(all, c)
		}
		c.Name, c.Steps = "conv 320", 90
		c.build = func(g *kernels.Graph) kernels.Op {
			return &kernels.Conv2D{In: g.Input("in", g.DType, 1, 20, 32, 320), W: weight(kernels.Filter, columns, 320, 3, 3), Bias: weight(kernels.Vector, columns), Pad: [2]int{1, 1}}
		}
		all = append(all, c)
	}
	for _, t := range flashTiles {
		for _, keys := range []int{256, 768} {
			all = append(all, countCase{Name: fmt.Sprint("attention ", keys), Kernel: fmt.Sprint("attention_mma_f16_", t.size), Blocks: 256 / t.queries, Steps: keys / t.keys,
				build: func(g *kernels.Graph) kernels.Op {
					return &kernels.Attention{Q: g.Input("q", g.DType, 1, 256, t.size), K: g.Input("k", g.DType, 1, keys, t.size), V: g.Input("v", g.DType, 1, keys, t.size), Heads: 1}
				}})
		}
	}
	return all
}

// TestCounts counts what the kernels' blocks execute, on the PTX interpreter, and writes it to the file COUNTS names, for
// report and for kernels/lab. Each case has a process of its own: the interpreter reports at its end.
func TestCounts(t *testing.T) {
	path := os.Getenv("COUNTS")
	if path == "" {
		t.Skip("run by report.sh and lab.sh")
	}
	labTiles(t)
	var lines []string
	for i, c := range countCases() {
		if only := os.Getenv("LAB"); only != "" && !strings.HasPrefix(c.Kernel, strings.TrimRight(only, "0123456789")) {
			continue
		}
		report := filepath.Join(t.TempDir(), "report")
		if out, err := child("^TestCountSubject$", fmt.Sprint("COUNT=", i), "EMU_REPORT="+report); err != nil {
			t.Fatalf("%s %s: %v\n%s", c.Kernel, c.Name, err, out)
		}
		body, err := os.ReadFile(report)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(body), "\n") {
			if strings.Contains(line, `"`+c.Kernel+`"`) {
				lines = append(lines, strings.Replace(line, "{", fmt.Sprintf(`{"case":%q,"blocks":%d,"steps":%d,`, c.Name, c.Blocks, c.Steps), 1))
			}
		}
	}
	if len(lines) == 0 {
		t.Fatal("nothing was counted")
	}
	write(t, path, strings.Join(lines, "\n")+"\n")
}

func TestCountSubject(t *testing.T) {
	var i int
	if n, _ := fmt.Sscan(os.Getenv("COUNT"), &i); n == 0 {
		t.Skip("run by TestCounts")
	}
	labTiles(t)
	c := countCases()[i]
	b := open(t, Options{DType: tensor.F16})
	b.only = c.family
	g := kernels.NewGraph(tensor.F16)
	op := c.build(g)
	g.Output("out", g.Add("", op))
	p, err := g.Compile(b)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, w := range g.Weights() {
		defer b.Unload(w)
	}
	for _, in := range op.Inputs() { // zeros: what memory holds otherwise is NaN, for which attention makes its scores twice
		if err := p.Write(in, make([]float32, in.Shape.Len())); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// labVersions set what is launched otherwise of the versions in kernels/lab than of the present kernels.
var labVersions = map[string]func(){
	"gemm1": func() {
		families[0].threads, families[0].shared = 256, 4*(128+128)*64
	},
	"attention1": func() {
		flashTiles = slices.DeleteFunc(flashTiles, func(t flashTile) bool { return t.size == 40 }) // came later
		for i := range flashTiles {
			flashTiles[i].queries = 64
			if flashTiles[i].size <= 80 {
				flashTiles[i].keys = 64
			}
		}
	},
}

// labTiles launches kernels as the version that LAB names wants.
func labTiles(t *testing.T) {
	if set := labVersions[os.Getenv("LAB")]; set != nil {
		familiesNow, flashNow := append([]family{}, families...), append([]flashTile{}, flashTiles...)
		set()
		t.Cleanup(func() { families, flashTiles = familiesNow, flashNow })
	}
}

// TestLab runs the conformance suite on one of kernels/lab's versions: lab.sh builds the devices.
func TestLab(t *testing.T) {
	version := os.Getenv("LAB")
	if version == "" {
		t.Skip("run by kernels/lab/lab.sh")
	}
	labTiles(t)
	gemm := strings.HasPrefix(version, "gemm")
	for i := range families[:3] {
		b := open(t, Options{DType: tensor.F16})
		b.only = &families[i]
		suite.Run(t, b, conformance.Options{Short: true, Match: func(name string) bool {
			if gemm {
				return strings.HasPrefix(name, "conv2d") || strings.HasPrefix(name, "linear") && !strings.Contains(name, " normed") // which came later
			}
			if i > 0 || !strings.HasPrefix(name, "attention") {
				return false
			}
			// Head sizes that are not multiples of 8 need the plain kernel, which the lab leaves out.
			_, size, _ := strings.Cut(strings.Fields(strings.Split(name, ", ")[2])[0], "×")
			n, err := strconv.Atoi(size)
			return err == nil && n%8 == 0
		}})
	}
}
