package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"darkroom/kernels"
	"darkroom/kernels/conformance"
	"darkroom/kernels/cpu"
	"darkroom/kernels/cuda"
	"darkroom/kernels/ref"
	"darkroom/machine"
	"darkroom/pipeline"
	"darkroom/tensor"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"
)

// selftestOptions are the command line of selftest.
type selftestOptions struct {
	Backend string // auto: the CPU and every GPU that can be used
	DType   string // of GPUs; auto: all three
	Devices deviceList
	Threads int
	Full    bool
	JSON    bool
}

func selftestCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "selftest",
		Usage: "check that this machine computes correctly",
		Description: `Runs the conformance suite's quick part on the processor and on every GPU: each operation against the
reference, and the promises about determinism. If a GPU's fast kernels fail, slower ones are tested and
used from then on. The result replaces the previous one. Exit code 1: some results are wrong.

Examples:
   darkroom selftest
   darkroom selftest --backend cuda --device 1 --dtype fp16
   darkroom selftest --full --json`,
		Flags: append(settingFlags("backend", "dtype"), deviceFlag(), threadsFlag(),
			&cli.BoolFlag{Name: "full", Usage: "the whole suite: minutes"},
			jsonFlag("print one line of JSON per device and type"),
		),
		Action: func(c *cli.Context) error {
			if err := noWords(c); err != nil {
				return err
			}
			o := selftestOptions{Backend: c.String("backend"), DType: c.String("dtype"), Threads: c.Int("threads"), Full: c.Bool("full"), JSON: c.Bool("json")}
			var err error
			if o.Devices, err = readDevices(c); err != nil {
				return err
			}
			return selftest(c.Context, e, o)
		},
	}
}

// selftestResult is the result for one device in one type.
type selftestResult struct {
	Backend string       `json:"backend"` // "cpu", "cuda:0"
	Device  string       `json:"device"`
	DType   string       `json:"dtype"`
	Checks  []checkCount `json:"checks"`
	// Replaced are the operations that slower kernels compute from now on.
	Replaced []string `json:"replaced,omitempty"`
	Failed   []string `json:"failed,omitempty"` // what was wrong, check by check
	Error    string   `json:"error,omitempty"`  // why the device cannot be used; "" if it can
	Seconds  float64  `json:"seconds"`
	Verdict  string   `json:"verdict_file,omitempty"`
}

// checkCount sums up the checks of one operation.
type checkCount struct {
	Op     string  `json:"op"` // conv2d, …
	Passed int     `json:"passed"`
	Failed int     `json:"failed"`
	Worst  float64 `json:"worst"` // the largest error, as a share of what is allowed
}

func selftest(ctx context.Context, e *env, o selftestOptions) error {
	subjects, err := o.subjects()
	if err != nil {
		return err
	}
	var bad []string
	t := newTable(e.stdout)
	t.AppendHeader(table.Row{"device", "type", "operation", "passed", "failed", "largest error, % of the allowed", "verdict"})
	for _, s := range subjects {
		if err := ctx.Err(); err != nil {
			return err
		}
		e.status.set("testing %s in %s", s.name, s.dtype)
		begun := time.Now()
		r := s.run(o.Full)
		r.Seconds = time.Since(begun).Round(time.Millisecond).Seconds()
		if r.Error != "" {
			bad = append(bad, fmt.Sprintf("%s in %s: %s", r.Backend, r.DType, r.Error))
		}
		if o.JSON {
			if err := printJSON(e.stdout, r); err != nil {
				return err
			}
			continue
		}
		r.rows(t)
	}
	if !o.JSON {
		t.Render()
	}
	if len(bad) > 0 {
		return fmt.Errorf("the self-test failed: %s", strings.Join(bad, "; "))
	}
	return nil
}

// subject is one device in one type.
type subject struct {
	name, dtype string
	run         func(full bool) selftestResult
}

// subjects are what the flags ask for. A device that is named but missing is an error.
func (o *selftestOptions) subjects() ([]subject, error) {
	if !slices.Contains([]string{"", pipeline.Auto, pipeline.CPU, pipeline.CUDA, pipeline.Ref}, o.Backend) {
		return nil, usagef("--backend %q: choose auto, cpu, cuda or ref", o.Backend)
	}
	types, err := o.types()
	if err != nil {
		return nil, err
	}
	var all []subject
	auto := o.Backend == "" || o.Backend == pipeline.Auto
	if o.Backend == pipeline.Ref || auto && !cpu.Available {
		all = append(all, o.host(pipeline.Ref, "plain Go", func(n int) kernels.Backend { return ref.New(n) }))
	}
	if o.Backend == pipeline.CPU && !cpu.Available {
		_, err := cpu.New(cpu.Options{})
		return nil, err
	}
	if o.Backend == pipeline.CPU || auto && cpu.Available && !o.Devices.given {
		all = append(all, o.host(pipeline.CPU, machine.Processor(), func(n int) kernels.Backend {
			b, err := cpu.New(cpu.Options{Threads: n})
			if err != nil {
				panic(err) // the best instructions that the processor has
			}
			return b
		}))
	}
	if o.Backend != pipeline.CUDA && !auto {
		return all, nil
	}
	devices := o.Devices
	if !devices.given {
		devices.all = true
	}
	numbers, err := devices.resolve()
	if auto && !o.Devices.given && err != nil {
		return all, nil // why there is no GPU is for "darkroom devices" to tell
	}
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		for _, d := range types {
			all = append(all, cudaSubject(n, d))
		}
	}
	return all, nil
}

// types are those that GPUs are tested in.
func (o *selftestOptions) types() ([]string, error) {
	switch o.DType {
	case "", "auto":
		return []string{"fp16", "bf16", "fp32"}, nil // what auto or a decode that overflows may ask for
	case "fp16", "bf16", "fp32", "tf32", "int8":
		return []string{o.DType}, nil
	}
	return nil, usagef("--dtype %q: choose auto, fp32, tf32, bf16, fp16 or int8", o.DType)
}

// host is a backend on the processor, on --threads threads and, against that, on other numbers of them.
func (o *selftestOptions) host(name, device string, open func(threads int) kernels.Backend) subject {
	return subject{name, "fp32", func(full bool) selftestResult {
		var others []kernels.Backend
		b := open(o.Threads)
		options := conformance.Options{WithThreads: func(n int) kernels.Backend {
			others = append(others, open(n))
			return others[len(others)-1]
		}}
		if !full {
			options.Match = conformance.Quick
		}
		r := selftestResult{Backend: name, Device: device, DType: "fp32"}
		r.count(conformance.Check(b, options))
		for _, other := range append(others, b) {
			_ = other.Close()
		}
		if len(r.Failed) > 0 {
			r.Error = "wrong results: " + r.Failed[0]
		}
		return r
	}}
}

// cudaSubject is a GPU. Its verdict is kept for the next start of the program.
func cudaSubject(n int, dtype string) subject {
	t := map[string]tensor.DType{"fp16": tensor.F16, "bf16": tensor.BF16, "fp32": tensor.F32, "tf32": tensor.F32, "int8": tensor.F16}[dtype]
	name := fmt.Sprintf("cuda:%d", n)
	return subject{name, dtype, func(full bool) selftestResult {
		r := selftestResult{Backend: name, DType: dtype}
		report, err := cuda.SelfTest(cuda.Options{Device: n, DType: t, TF32: dtype == "tf32", Int8: dtype == "int8"}, machine.HashFolder(), full)
		if err != nil {
			r.Error = err.Error()
			return r
		}
		r.Device, r.Verdict, r.Replaced = report.Device.Name, report.Path, report.Verdict.Replaced()
		r.count(report.Checks)
		switch {
		case report.Broken != nil:
			r.Error = report.Broken.Error()
		case report.Verdict.Wrong != "":
			r.Error = "wrong results, with the slower kernels too: " + report.Verdict.Wrong
		}
		return r
	}}
}

// count sums up verdicts by operation.
func (r *selftestResult) count(verdicts []conformance.Verdict) {
	for _, v := range verdicts {
		op, _, _ := strings.Cut(v.Case, "/")
		i := slices.IndexFunc(r.Checks, func(c checkCount) bool { return c.Op == op })
		if i < 0 {
			i = len(r.Checks)
			r.Checks = append(r.Checks, checkCount{Op: op})
		}
		c := &r.Checks[i]
		if v.Err != nil {
			c.Failed++
			r.Failed = append(r.Failed, fmt.Sprintf("%s (%s): %v", v.Case, v.Check, v.Err))
			continue
		}
		c.Passed++
		c.Worst = max(c.Worst, v.Worst)
	}
}

func (r *selftestResult) rows(t table.Writer) {
	for _, c := range r.Checks {
		verdict := "good"
		switch {
		case c.Failed > 0 && r.Error != "":
			verdict = "WRONG"
		case c.Failed > 0:
			verdict = "WRONG: slower kernels are used"
		case slices.Contains(r.Replaced, c.Op):
			verdict = "slower kernels are used, as for its family"
		}
		t.AppendRow(table.Row{r.Backend, r.DType, c.Op, c.Passed, c.Failed, fmt.Sprintf("%.0f", 100*c.Worst), verdict})
	}
	if len(r.Checks) == 0 {
		t.AppendRow(table.Row{r.Backend, r.DType, "", "", "", "", r.Error})
	}
	for _, f := range r.Failed[:min(len(r.Failed), 3)] {
		t.AppendRow(table.Row{r.Backend, r.DType, "", "", "", "", f})
	}
}
