package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"darkroom/compare"
	"darkroom/guidance"
	defaultmodel "darkroom/models/default"
	"darkroom/models/library"
	"darkroom/recipe"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"
)

// compareOptions are the command line of compare.
type compareOptions struct {
	compare.Options
	PromptFile string // "": Grid.Prompts is complete
	Problem    string // "": pictures
	DryRun     bool
	Quiet      bool
	JSON       bool
}

func compareCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "compare",
		Usage: "measure which scheduler gives the best pictures for the time",
		Description: `Renders every combination of the given values over the same prompts and seeds, from the same noise, and
measures time and quality of each. The report says for each number of steps which setting is the best, which
is the fastest that is as good, and whether it matters. The folder gets index.html, results.csv, pictures.csv,
results.json, plots, sheets and all pictures. You can stop it at any time: the same command continues where it stopped.

Examples:
   darkroom compare --schedulers ddim,euler,dpm++2m,unipc --steps 5,10,20 \
       --prompts samples/compare-prompts.txt -o report/
   darkroom compare --schedulers dpm++2m-karras --steps 20 --cfg 3,5,7 --prompt "a red apple" -o report/
   darkroom compare --schedulers ddim,unipc,heun --budget 2s --prompts prompts.txt -o report/
   darkroom compare --problem gmm --schedulers ddim,euler,heun,dpm++2m --steps 5,10,20,40`,
		Flags: append(append(axisFlags(), settingFlags("backend")...),
			&cli.StringFlag{Name: "budget", Usage: "instead of --steps: time per picture, such as 2s; each scheduler gets as many steps as fit", DefaultText: "none"},
			&cli.StringFlag{Name: "prompts", Usage: "`FILE` with one prompt per line; empty lines and lines that begin with # are skipped", DefaultText: "none"},
			&cli.StringFlag{Name: "prompt", Usage: "one prompt, instead of a file", DefaultText: "none"},
			&cli.IntFlag{Name: "seeds", Usage: "pictures per prompt", DefaultText: "1"},
			&cli.Uint64Flag{Name: "seed", Usage: "the first seed; the others follow it", DefaultText: "0"},
			&cli.IntFlag{Name: "reference-steps", Usage: "steps of the converged reference picture that others are measured against; 0: none", DefaultText: "100"},
			&cli.StringFlag{Name: "judge", Usage: "`FOLDER` of a CLIP model that judges what pictures show, or none", DefaultText: "the embedded one, if this build has it"},
			&cli.StringFlag{Name: "rank-by", Usage: "the measure that decides: agreement, preference, ssim, msssim, psnr or rmse", DefaultText: "agreement with a judge, else ssim"},
			&cli.Float64Flag{Name: "noticeable", Usage: "a loss in the --rank-by measure that is too small to notice", DefaultText: "1 of agreement, 0.02 of ssim, …"},
			&cli.Float64Flag{Name: "price-per-hour", Usage: "the machine's price per hour, to show what pictures cost", DefaultText: "none"},
			&cli.StringFlag{Name: "problem", Usage: "gmm: rank solvers on a mixture of Gaussians, whose exact solution is known; needs no model and takes seconds", DefaultText: "pictures"},
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "the report's `FOLDER`", DefaultText: "none"},
			&cli.BoolFlag{Name: "new-grid", Usage: "use a folder that holds another comparison: set its report aside and reuse the pictures that fit"},
			&cli.BoolFlag{Name: "dry-run", Usage: "say how many pictures it would make and how long that would take; make none"},
			deviceFlag(),
			&cli.IntFlag{Name: "threads", Usage: "processors to use", DefaultText: "all"},
			quietFlag(),
			jsonFlag("print the settings as JSON, one per line"),
		),
		Action: func(c *cli.Context) error {
			if err := noWords(c); err != nil {
				return err
			}
			o, err := readCompareFlags(c)
			if err != nil {
				return err
			}
			if o.Problem != "" {
				return compareProblem(e, o)
			}
			return comparePictures(c.Context, e, o)
		},
	}
}

// readCompareFlags reads all but files.
func readCompareFlags(c *cli.Context) (o compareOptions, err error) {
	g := &o.Grid
	if err := readAxes(c, g); err != nil {
		return o, err
	}
	g.Seeds, g.ReferenceSteps = 1, 100
	override(&g.Seeds, given(c, "seeds", c.Int))
	override(&g.ReferenceSteps, given(c, "reference-steps", c.Int))
	g.FirstSeed = c.Uint64("seed")
	if g.Budget, err = readBudget(c); err != nil {
		return o, err
	}
	if o.PromptFile = c.String("prompts"); c.IsSet("prompt") {
		if o.PromptFile != "" {
			return o, &usageError{"compare", "--prompt and --prompts: give one"}
		}
		if !utf8.ValidString(c.String("prompt")) {
			return o, &usageError{"compare", "--prompt is not UTF-8 text"}
		}
		g.Prompts = []string{c.String("prompt")}
	}
	if o.Engine, err = readEngineFlags(c); err != nil {
		return o, err
	}
	o.Engine.Model, o.Engine.DType = "", ""
	o.Out, o.NewGrid, o.Judge, o.RankBy, o.Problem = c.String("out"), c.Bool("new-grid"), c.String("judge"), c.String("rank-by"), c.String("problem")
	o.Noticeable, o.PricePerHour = c.Float64("noticeable"), c.Float64("price-per-hour")
	o.Quiet, o.JSON, o.DryRun = c.Bool("quiet"), c.Bool("json"), c.Bool("dry-run")
	switch {
	case o.Noticeable < 0 || o.Noticeable != o.Noticeable:
		return o, &usageError{"compare", fmt.Sprintf("--noticeable %v: it must not be negative", o.Noticeable)}
	case o.PricePerHour < 0 || o.PricePerHour != o.PricePerHour:
		return o, &usageError{"compare", fmt.Sprintf("--price-per-hour %v: it must not be negative", o.PricePerHour)}
	case o.Problem != "" && o.Problem != "gmm":
		return o, &usageError{"compare", fmt.Sprintf("--problem %q: there is gmm", o.Problem)}
	case o.Problem != "":
		return o, checkProblem(c)
	}
	return o, nil
}

// axisFlags are the settings that can be compared, each with several values.
func axisFlags() (flags []cli.Flag) {
	all := recipe.All()
	for i := range all {
		s := &all[i]
		if !compare.IsAxis(s) {
			continue
		}
		f := &cli.StringFlag{Name: s.Name, Usage: s.About + "; several with commas between", DefaultText: cmp.Or(s.Default, "false"), Category: s.Group.String()}
		if s.OneText() {
			f.Usage = s.About
		}
		if s.Name == "scheduler" {
			f.Name, f.Aliases = "schedulers", []string{"scheduler"}
		}
		flags = append(flags, f)
	}
	return flags
}

// readAxes reads the values of each setting.
func readAxes(c *cli.Context, g *compare.Grid) error {
	all := recipe.All()
	for i := range all {
		s := &all[i]
		name := s.Name
		if name == "scheduler" {
			name = "schedulers"
		}
		if !compare.IsAxis(s) || !c.IsSet(name) {
			continue
		}
		var values []any
		for _, w := range s.List(c.String(name)) {
			if w == "" && !s.Zero {
				return &usageError{"compare", fmt.Sprintf("--%s %q: a value between the commas is empty", name, c.String(name))}
			}
			v, err := s.Parse(w)
			if err != nil {
				what := map[recipe.Kind]string{recipe.WholeKind: "whole numbers", recipe.NumberKind: "numbers", recipe.SwitchKind: "words true and false"}[s.Kind]
				return &usageError{"compare", fmt.Sprintf("--%s: %q is not one of the %s that are wanted, with commas between", name, w, what)}
			}
			if err := axisValue(s, &v); err != nil {
				return &usageError{"compare", fmt.Sprintf("--%s: %v", name, err)}
			}
			values = append(values, v)
		}
		g.SetAxis(s.Name, values...)
	}
	return nil
}

// axisValue brings names of the default into the form that requests have.
func axisValue(s *recipe.Setting, v *any) error {
	switch s.Name {
	case "model":
		if *v == defaultmodel.Name {
			*v = ""
		}
	case "guidance":
		m, err := guidance.Parse((*v).(string))
		if err != nil {
			return err
		}
		if *v = m.String(); m.Plain() {
			*v = ""
		}
	}
	return nil
}

// readBudget reads "2s", "500ms" or a plain number of seconds.
func readBudget(c *cli.Context) (float64, error) {
	if !c.IsSet("budget") {
		return 0, nil
	}
	text := c.String("budget")
	if v, err := strconv.ParseFloat(text, 64); err == nil && v > 0 {
		return v, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, &usageError{"compare", fmt.Sprintf("--budget %q: it must be a time above 0, such as 2s or 500ms", text)}
	}
	return d.Seconds(), nil
}

// readPrompts reads one prompt per line.
func readPrompts(path string) ([]string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &usageError{"compare", fmt.Sprintf("--prompts %s: there is no such file", path)}
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, &usageError{"compare", fmt.Sprintf("--prompts %s: it is a folder: name a file with one prompt per line", path)}
	}
	const most = 1 << 20
	s := bufio.NewScanner(io.LimitReader(f, 64<<20))
	s.Buffer(nil, most)
	var prompts []string
	for n := 1; s.Scan(); n++ {
		text := strings.TrimSpace(strings.TrimPrefix(s.Text(), "\ufeff"))
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		if !utf8.ValidString(text) {
			return nil, &usageError{"compare", fmt.Sprintf("--prompts %s, line %d: it is not UTF-8 text", path, n)}
		}
		prompts = append(prompts, text)
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("--prompts %s: %w", path, err)
	}
	if len(prompts) == 0 {
		return nil, &usageError{"compare", fmt.Sprintf("--prompts %s: the file has no prompts: write one per line", path)}
	}
	return prompts, nil
}

// comparePictures renders and measures, then prints the answer and where the report is.
func comparePictures(ctx context.Context, e *env, o compareOptions) error {
	if o.Out == "" && !o.DryRun {
		return &usageError{"compare", "-o is missing: name a folder for the report"}
	}
	if o.PromptFile != "" {
		var err error
		if o.Grid.Prompts, err = readPrompts(o.PromptFile); err != nil {
			return err
		}
	}
	for i, model := range o.Grid.Axes["model"] {
		path, err := library.Find(model.(string))
		if err != nil {
			return err
		}
		if path != defaultmodel.Name {
			o.Grid.Axes["model"][i] = path
		}
	}
	show := newGridProgress(e.stderr, o.Quiet)
	defer show.end()
	o.Progress = func(p compare.Progress) {
		e.status.set("%s, picture %d of %d", p.Doing, min(p.Done+1, p.Total), p.Total)
		show.update(p)
	}
	o.Warn = func(m string) { show.note("warning: " + m) }
	if o.DryRun {
		return compareDryRun(ctx, e, o)
	}
	o.Begin = func(p compare.Planned) {
		if !o.Quiet {
			show.note(p.String() + ".")
		}
	}
	r, err := compare.Run(ctx, o.Options)
	show.end()
	if err != nil {
		return err
	}
	if o.JSON {
		for _, s := range r.Settings {
			if err := printJSON(e.stdout, s); err != nil {
				return err
			}
		}
		return nil
	}
	var texts []string
	if len(r.Opening) > 0 {
		texts = append(texts, openingTable(r))
	}
	texts = append(append(append(texts, r.Answer...), r.Buys...), settingsTable(r), filepath.Join(o.Out, "index.html"))
	for _, text := range texts {
		if err := println(e.stdout, text); err != nil {
			return err
		}
	}
	return nil
}

// compareDryRun reports what the comparison would make.
func compareDryRun(ctx context.Context, e *env, o compareOptions) error {
	p, err := compare.Plan(ctx, o.Options)
	switch {
	case err != nil:
		return err
	case o.JSON:
		return printJSON(e.stdout, p)
	}
	for _, name := range p.Names {
		if err := println(e.stdout, name); err != nil {
			return err
		}
	}
	return println(e.stdout, p.String()+".")
}

// openingTable is the answer in short: for so many steps, the best setting and the fastest that is as good.
func openingTable(r *compare.Report) string {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"", "best", "the fastest that is as good", "does it matter?"})
	for _, row := range r.Opening {
		cells := table.Row{}
		for i, text := range row.Answer {
			if i == 0 && row.Problem != "" {
				text += ", " + row.Problem
			}
			cells = append(cells, text)
		}
		t.AppendRow(cells)
	}
	return t.Render()
}

// settingsTable shows the settings, the best mean first, with the measure that decided.
func settingsTable(r *compare.Report) string {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	title := "—"
	for _, m := range r.Measures {
		if m.Key == r.RankBy {
			title = m.Title
		}
	}
	t.AppendHeader(table.Row{"setting", "calls", "s/picture", title, "loss (95 %)", "against the best", "front"})
	for _, s := range r.Sorted() {
		mean, loss, front := "–", "", ""
		if v, ok := s.Values[r.RankBy]; ok {
			mean = fmt.Sprintf("%.4g", v.Mean)
		}
		if l := s.Loss; l != nil && l.Low != nil && l.High != nil {
			loss = fmt.Sprintf("%.2g (%.2g … %.2g)", l.Mean, *l.Low, *l.High)
		}
		if s.Pareto {
			front = "●"
		}
		t.AppendRow(table.Row{s.Name, s.Calls, fmt.Sprintf("%.3g", s.Seconds.Median), mean, loss, s.Said(), front})
	}
	return t.Render()
}
