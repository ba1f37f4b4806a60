package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"darkroom/checkpoint"
	"darkroom/kernels"
	"darkroom/kernels/bench"
	"darkroom/machine"
	"darkroom/nn"
	"darkroom/pipeline"
	"darkroom/tensor"
	"darkroom/unet"
	"darkroom/vae"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"
)

type benchOptions struct {
	Engine        pipeline.Options
	What          []string // of benchParts; empty: all
	SD15          bool     // a U-Net and a decoder of Stable Diffusion 1.5's size with random weights, in place of a model
	Width, Height *int
	Runs          int
	JSON          bool
}

// benchParts are what can be measured, in this order.
var benchParts = []string{"kernels", "unet", "vae", "image"}

func benchCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "bench",
		Usage:     "measure kernels, a step of the U-Net, the decoder and a whole picture",
		ArgsUsage: "[" + strings.Join(benchParts, "|") + "]…",
		Description: `Times are medians. The share is of the multiply-add peak that the same threads reached just before.

Examples:
   darkroom bench
   darkroom bench unet --sd15 --threads 1
   darkroom bench kernels --json > kernels.json`,
		Flags: append(engineFlags(),
			&cli.BoolFlag{Name: "sd15", Usage: "a U-Net and a decoder of Stable Diffusion 1.5's size at 512×512, with random weights, instead of a model"},
			&cli.IntFlag{Name: "width", Usage: "pixels", DefaultText: "the model's"},
			&cli.IntFlag{Name: "height", Usage: "pixels", DefaultText: "the model's"},
			&cli.IntFlag{Name: "runs", Usage: "measurements that the median is of", Value: 5},
			jsonFlag("print one JSON object"),
		),
		Action: func(c *cli.Context) error {
			engine, err := readEngineFlags(c)
			if err != nil {
				return err
			}
			return runBench(c.Context, e, benchOptions{
				Engine: engine, What: c.Args().Slice(), SD15: c.Bool("sd15"),
				Width: given(c, "width", c.Int), Height: given(c, "height", c.Int), Runs: c.Int("runs"), JSON: c.Bool("json"),
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
	r := &benchReport{Version: pipeline.Version(), Device: machine.Processor(), Backend: info.Name, Kernels: info.Kernels, Threads: info.Threads}
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
		return usagef("--runs %d: at least 1 is needed", o.Runs)
	}
	for _, w := range o.What {
		known := false
		for _, p := range benchParts {
			known = known || w == p
		}
		if !known {
			return usagef("bench %q: choose %s, or leave it out for all%s", w, strings.Join(benchParts, ", "), nearest(w, append([]string(nil), benchParts...)))
		}
		if w == "image" && o.SD15 {
			return usagef("bench image --sd15: random weights make no picture: leave one out")
		}
	}
	if o.SD15 && o.Engine.Model != "" {
		return usagef("--sd15 and --model contradict each other")
	}
	return nil
}

func (o *benchOptions) wants(what string) bool {
	if len(o.What) == 0 {
		return what != "image" || !o.SD15
	}
	for _, w := range o.What {
		if w == what {
			return true
		}
	}
	return false
}

func (o *benchOptions) measure(ctx context.Context, b kernels.Backend, r *benchReport, what string) error {
	options := bench.Options{Runs: o.Runs, Peak: r.Peak * 1e9}
	switch what {
	case "kernels":
		rows, err := bench.Kernels(ctx, b, bench.StableDiffusion15(), options)
		r.Rows = rows
		return err
	case "image":
		return o.measureImage(ctx, r)
	}
	parts, err := o.openParts()
	if err != nil {
		return err
	}
	defer parts.close()
	g, shape := parts.unetGraph(b)
	if what == "vae" {
		g, shape = parts.vaeGraph(b)
	}
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

// measureImage times whole pictures, after one that is not counted: it loads the weights.
func (o *benchOptions) measureImage(ctx context.Context, r *benchReport) error {
	p, err := openPipeline(o.Engine)
	if err != nil {
		return err
	}
	defer release(p)
	q := p.NewRequest("a red apple")
	override(&q.Width, o.Width)
	override(&q.Height, o.Height)
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

// benchModel is a U-Net and a decoder with a size to run them at.
type benchModel struct {
	unet          *unet.Model
	decoder       *vae.Decoder
	tokens        int
	width, height int // pixels
	sets          []*checkpoint.Set
}

func (m *benchModel) close() {
	for _, s := range m.sets {
		release(s)
	}
}

// unetGraph is one step with guidance: a batch of two.
func (m *benchModel) unetGraph(b kernels.Backend) (*kernels.Graph, string) {
	f := m.decoder.Config.Factor()
	h, w := m.height/f, m.width/f
	g := nn.Graph(m.unet, b.Info().DTypes[0], nn.Sizes{Rows: 2, H: h, W: w, Tokens: m.tokens})
	return g, fmt.Sprintf("2×%d×%d×%d, %d tokens", h, w, m.unet.Config.InChannels, m.tokens)
}

func (m *benchModel) vaeGraph(b kernels.Backend) (*kernels.Graph, string) {
	f := m.decoder.Config.Factor()
	g := nn.Graph(m.decoder, b.Info().DTypes[0], nn.Sizes{Rows: 1, H: m.height / f, W: m.width / f})
	return g, fmt.Sprintf("%d×%d pixels", m.width, m.height)
}

func (o *benchOptions) openParts() (*benchModel, error) {
	m := &benchModel{tokens: 77}
	err := m.open(o)
	if err != nil {
		m.close()
		return nil, err
	}
	override(&m.width, o.Width)
	override(&m.height, o.Height)
	if f := m.decoder.Config.Factor(); m.width < f || m.height < f || m.width%f != 0 || m.height%f != 0 {
		m.close()
		return nil, usagef("%d×%d pixels: width and height must be multiples of %d", m.width, m.height, f)
	}
	return m, nil
}

func (m *benchModel) open(o *benchOptions) error {
	var unetConfig, vaeConfig *checkpoint.Config
	// Stored as float16, as such models are.
	var unetSource, vaeSource nn.Source = nn.Random{DType: tensor.F16}, nn.Random{DType: tensor.F16}
	if o.SD15 {
		var err error
		if unetConfig, err = checkpoint.ParseConfig([]byte(sd15UNet), "unet"); err != nil {
			return err
		}
		if vaeConfig, err = checkpoint.ParseConfig([]byte(sd15VAE), "vae"); err != nil {
			return err
		}
	} else {
		path, err := findModel(o.Engine.Model)
		if err != nil {
			return err
		}
		folder, err := pipeline.OpenFolder(pipeline.Options{Model: path})
		if err != nil {
			return err
		}
		if unetConfig, unetSource, err = m.part(folder, "unet"); err != nil {
			return err
		}
		if vaeConfig, vaeSource, err = m.part(folder, "vae"); err != nil {
			return err
		}
	}
	uc, err := unet.ReadConfig(unetConfig)
	if err != nil {
		return err
	}
	vc, err := vae.ReadConfig(vaeConfig)
	if err != nil {
		return err
	}
	if m.unet, err = unet.New(uc, nn.NewLoader("unet", unetSource)); err != nil {
		return err
	}
	if m.decoder, err = vae.NewDecoder(vc, nn.NewLoader("vae", vaeSource)); err != nil {
		return err
	}
	side := uc.SampleSize
	if side == 0 {
		side = 64
	}
	m.width, m.height = side*vc.Factor(), side*vc.Factor()
	return nil
}

func (m *benchModel) part(folder *checkpoint.Folder, name string) (*checkpoint.Config, nn.Source, error) {
	config, err := folder.Config(name)
	if err != nil {
		return nil, nil, err
	}
	set, err := folder.Weights(name)
	if err != nil {
		return nil, nil, err
	}
	m.sets = append(m.sets, set)
	return config, set, nil
}

// The sizes of Stable Diffusion 1.5, as its unet/config.json and vae/config.json have them.
const (
	sd15UNet = `{"sample_size": 64, "in_channels": 4, "out_channels": 4, "block_out_channels": [320, 640, 1280, 1280],
		"down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
		"up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
		"layers_per_block": 2, "attention_head_dim": 8, "cross_attention_dim": 768}`
	sd15VAE = `{"in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": [128, 256, 512, 512],
		"down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
		"up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
		"layers_per_block": 2, "norm_num_groups": 32, "sample_size": 512, "scaling_factor": 0.18215}`
)

func (r *benchReport) print(e *env) {
	head := fmt.Sprintf("%s on %s", r.Backend, r.Device)
	if r.Kernels != "" {
		head += fmt.Sprintf(", %s kernels, %d threads, multiply-add peak %.1f GFLOP/s", r.Kernels, r.Threads, r.Peak)
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

// peakMemory is the most memory that this process ever held, in bytes; 0 where the system does not tell.
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
