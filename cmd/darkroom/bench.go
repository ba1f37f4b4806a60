package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"darkroom/family"
	"darkroom/kernels"
	"darkroom/kernels/bench"
	"darkroom/machine"
	"darkroom/models/library"
	"darkroom/nn"
	"darkroom/pipeline"
	"darkroom/recipe"
	"darkroom/similar"
	"darkroom/stage"
	"darkroom/tensor"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"
)

type benchOptions struct {
	Engine        pipeline.Options
	What          []string // of benchParts; empty: all
	SD15          bool     // a U-Net and a decoder of Stable Diffusion 1.5's size with random weights, in place of a model
	SDXL          bool     // the same of Stable Diffusion XL's size
	Width, Height *int
	Runs          int
	Convolution   string // recipe.Convolutions
	JSON          bool
}

// benchParts are what can be measured, in this order.
var benchParts = []string{"kernels", "unet", "vae", "image"}

func benchCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "bench",
		Usage:     "measure kernels, a step of the U-Net, the decoder and a whole picture",
		ArgsUsage: "[" + strings.Join(benchParts, "|") + "]…",
		Description: `Times are medians. Shares are of the multiply-add peak of the same type (FMA of float32, BF16 or int8 dot products), measured
on the same threads just before. Convolutions that multiply less are counted as if they did not: they can exceed it.

Examples:
   darkroom bench
   darkroom bench unet --sd15 --threads 1
   darkroom bench unet --sdxl --dtype bf16
   darkroom bench vae --sd15 --width 1024 --height 1024
   darkroom bench kernels --json > kernels.json`,
		Flags: append(engineFlags(),
			&cli.BoolFlag{Name: "sd15", Usage: "a U-Net and a decoder of Stable Diffusion 1.5's size at 512×512, with random weights, instead of a model"},
			&cli.BoolFlag{Name: "sdxl", Usage: "the same of Stable Diffusion XL's size, at 1024×1024"},
			&cli.IntFlag{Name: "width", Usage: "pixels", DefaultText: "the model's"},
			&cli.IntFlag{Name: "height", Usage: "pixels", DefaultText: "the model's"},
			&cli.IntFlag{Name: "runs", Usage: "how many measurements to take the median of", Value: 5},
			&cli.StringFlag{Name: "convolution", Usage: strings.Join(recipe.Convolutions(), " or "), Value: recipe.Winograd},
			jsonFlag("print one JSON object"),
		),
		Action: func(c *cli.Context) error {
			engine, err := readEngineFlags(c)
			if err != nil {
				return err
			}
			return runBench(c.Context, e, benchOptions{
				Engine: engine, What: c.Args().Slice(), SD15: c.Bool("sd15"), SDXL: c.Bool("sdxl"),
				Width: given(c, "width", c.Int), Height: given(c, "height", c.Int), Runs: c.Int("runs"), Convolution: c.String("convolution"), JSON: c.Bool("json"),
			})
		},
	}
}

// benchReport is what was measured.
type benchReport struct {
	Version string         `json:"version"`
	Device  string         `json:"device"`
	Backend string         `json:"backend"`
	Kernels string         `json:"kernels,omitempty"` // set of kernels in use
	Threads int            `json:"threads,omitempty"`
	DType   string         `json:"dtype"`
	Peak    float64        `json:"peak_gflops"` // measured multiply-add peak; 0 if unknown
	Rows    []bench.Row    `json:"kernel_rows,omitempty"`
	Whole   []benchProgram `json:"programs,omitempty"`
	Memory  uint64         `json:"peak_memory"` // bytes, of the process; 0 if unknown
}

// benchProgram is a program measured from start to end.
type benchProgram struct {
	Name   string      `json:"name"`
	Shape  string      `json:"shape"`
	Millis float64     `json:"ms"`
	GFLOPS float64     `json:"gflops,omitempty"`
	Share  float64     `json:"share,omitempty"` // of Peak
	Steps  []bench.Row `json:"steps,omitempty"` // by operation, the slowest first
}

func runBench(ctx context.Context, e *env, o benchOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	b, err := pipeline.NewBackend(o.Engine)
	if err != nil {
		return err
	}
	defer release(b)
	info := b.Info()
	r := &benchReport{Version: pipeline.Version(), Device: machine.Processor(), Backend: info.Name, Kernels: info.Kernels, Threads: info.Threads, DType: info.DTypes[0].Name()}
	if info.Int8 {
		r.DType = "int8"
	}
	if info.Peak != nil {
		for range 5 { // best of 5: least disturbed
			r.Peak = max(r.Peak, info.Peak(2e9)/1e9)
		}
	}
	for _, what := range benchParts {
		if !o.wants(what) {
			continue
		}
		e.status.set("measuring %s", what)
		fmt.Fprintf(e.stderr, "measuring %s\n", what)
		if err := o.measure(ctx, b, r, what); err != nil {
			return fmt.Errorf("measuring %s: %w", what, err)
		}
	}
	r.Memory = peakMemory()
	if o.JSON {
		return printJSON(e.stdout, r)
	}
	r.print(e)
	return nil
}

func (o *benchOptions) check() error {
	if o.Runs < 1 {
		return usagef("--runs %d: it must be at least 1", o.Runs)
	}
	if !slices.Contains(recipe.Convolutions(), o.Convolution) {
		return usagef("--convolution %q: choose %s", o.Convolution, strings.Join(recipe.Convolutions(), " or "))
	}
	for _, w := range o.What {
		known := false
		for _, p := range benchParts {
			known = known || w == p
		}
		if !known {
			return usagef("bench %q: choose %s, or leave it out for all%s", w, strings.Join(benchParts, ", "), similar.Hint(w, append([]string(nil), benchParts...)))
		}
		if w == "image" && o.random() {
			return usagef("bench image --sd15 or --sdxl: random weights cannot draw a picture: leave out image or the flag")
		}
	}
	switch {
	case o.SD15 && o.SDXL:
		return usagef("--sd15 and --sdxl contradict each other")
	case o.random() && o.Engine.Model != "":
		return usagef("--sd15 and --sdxl contradict --model")
	}
	return nil
}

// random says whether weights are random, in place of a model's.
func (o *benchOptions) random() bool { return o.SD15 || o.SDXL }

func (o *benchOptions) wants(what string) bool {
	if len(o.What) == 0 {
		return what != "image" || !o.random()
	}
	for _, w := range o.What {
		if w == what {
			return true
		}
	}
	return false
}

func (o *benchOptions) measure(ctx context.Context, b kernels.Backend, r *benchReport, what string) error {
	options := bench.Options{Runs: o.Runs, Peak: r.Peak * 1e9, Winograd: o.Convolution == recipe.Winograd}
	switch what {
	case "kernels":
		rows, err := bench.Kernels(ctx, b, bench.StableDiffusion15(), options)
		r.Rows = rows
		return err
	case "image":
		return o.measureImage(ctx, r)
	}
	m, err := o.openModel(b)
	if err != nil {
		return err
	}
	defer release(m)
	width, height := m.Latent.Side*m.Latent.Factor, m.Latent.Side*m.Latent.Factor
	override(&width, o.Width)
	override(&height, o.Height)
	if f := m.Latent.Step(); width < f || height < f || width%f != 0 || height%f != 0 {
		return usagef("%d×%d pixels: width and height must be multiples of %d", width, height, f)
	}
	part, shape := m.Part("vae"), fmt.Sprintf("%d×%d pixels", width, height)
	if what == "unet" {
		part = m.Denoiser.Part()
	}
	sizes := part.Sizes(width, height, 2, false) // a step with guidance is a batch of two
	if what == "unet" {
		shape = fmt.Sprintf("2×%d×%d×%d, %d tokens", sizes.H, sizes.W, m.Latent.Channels, sizes.Tokens)
	}
	sizes.Winograd = options.Winograd && b.Info().Winograd
	g := part.Graph(sizes)
	program, err := g.Compile(b)
	defer func() {
		for _, w := range g.Weights() {
			b.Unload(w)
		}
	}()
	if err != nil {
		return err
	}
	defer program.Close()
	took, err := bench.Whole(ctx, program, options)
	if err != nil {
		return err
	}
	steps, err := bench.Steps(ctx, program, options)
	if err != nil {
		return err
	}
	row := benchProgram{Name: what, Shape: shape, Millis: took.Seconds() * 1e3, GFLOPS: g.FLOPs() / took.Seconds() / 1e9, Steps: steps}
	if r.Peak > 0 {
		row.Share = row.GFLOPS / r.Peak
	}
	r.Whole = append(r.Whole, row)
	return nil
}

// measureImage times whole pictures, after a first one that loads the weights and is not counted.
func (o *benchOptions) measureImage(ctx context.Context, r *benchReport) error {
	p, err := openPipeline(o.Engine)
	if err != nil {
		return err
	}
	defer release(p)
	q := p.NewRequest("a red apple")
	override(&q.Width, o.Width)
	override(&q.Height, o.Height)
	q.Convolution = o.Convolution
	var first time.Duration
	best := time.Duration(1<<63 - 1)
	for i := range o.Runs + 1 {
		begun := time.Now()
		if _, err := p.Render(ctx, q, pipeline.Events{}); err != nil {
			return err
		}
		took := time.Since(begun)
		if i == 0 {
			first = took
		} else {
			best = min(best, took)
		}
	}
	shape := fmt.Sprintf("%d×%d, %d steps", q.Width, q.Height, q.Steps)
	r.Whole = append(r.Whole,
		benchProgram{Name: "image, first", Shape: shape, Millis: first.Seconds() * 1e3},
		benchProgram{Name: "image, best after", Shape: shape, Millis: best.Seconds() * 1e3})
	return nil
}

// openModel opens the model whose parts are timed.
func (o *benchOptions) openModel(b kernels.Backend) (*family.Model, error) {
	d := &stage.Device{Backend: b, DType: b.Info().DTypes[0]}
	if o.SDXL {
		return family.StableDiffusionXL(d, nn.Random{DType: tensor.F16})
	}
	if o.SD15 {
		return family.StableDiffusion15(d, nn.Random{DType: tensor.F16}) // stored as float16, as such models are
	}
	path, err := library.Find(o.Engine.Model)
	if err != nil {
		return nil, err
	}
	folder, err := pipeline.OpenFolder(pipeline.Options{Model: path})
	if err != nil {
		return nil, err
	}
	return family.Open(folder, family.Options{}, d)
}

func (r *benchReport) print(e *env) {
	head := fmt.Sprintf("%s on %s", r.Backend, r.Device)
	if r.Kernels != "" {
		head += fmt.Sprintf(", %s kernels, %d threads, %s multiply-add peak %.1f GFLOP/s", r.Kernels, r.Threads, r.DType, r.Peak)
	}
	fmt.Fprintln(e.stdout, head)
	if len(r.Rows) > 0 {
		fmt.Fprintln(e.stdout)
		printRows(e, r.Rows)
	}
	for _, p := range r.Whole {
		if p.Steps != nil {
			fmt.Fprintf(e.stdout, "\n%s, %s, by operation\n", p.Name, p.Shape)
			printRows(e, p.Steps)
		}
	}
	if len(r.Whole) > 0 {
		fmt.Fprintln(e.stdout)
		t := newTable(e.stdout)
		t.AppendHeader(table.Row{"program", "shape", "ms", "GFLOP/s", "of peak"})
		for _, p := range r.Whole {
			t.AppendRow(table.Row{p.Name, p.Shape, fmt.Sprintf("%.1f", p.Millis), nonzero("%.1f", p.GFLOPS), nonzero("%.0f %%", 100*p.Share)})
		}
		t.Render()
	}
	if r.Memory > 0 {
		fmt.Fprintf(e.stdout, "\npeak memory %s\n", bytesText(r.Memory))
	}
}

func printRows(e *env, rows []bench.Row) {
	t := newTable(e.stdout)
	t.AppendHeader(table.Row{"operation", "shape", "count", "ms", "GFLOP/s", "of peak"})
	for _, r := range rows {
		t.AppendRow(table.Row{r.Op, r.Shape, r.Count, fmt.Sprintf("%.3f", r.Millis), nonzero("%.1f", r.GFLOPS), nonzero("%.0f %%", 100*r.Share)})
	}
	t.Render()
}

func nonzero(format string, v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf(format, v)
}

// peakMemory is the most memory that this process ever held, in bytes; 0 if the system does not report it.
func peakMemory() uint64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "VmHWM:"); ok {
			kib, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}
