package main

import (
	"fmt"
	"slices"

	"darkroom/compare"
	"darkroom/scheduler"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"
)

// The points and steps of --problem gmm, where none are given.
const gmmPoints = 256

var gmmSteps = []int{5, 10, 20, 40}

// problemFlags are the flags of compare that apply to a problem, which draws no pictures.
var problemFlags = []string{"problem", "schedulers", "scheduler", "steps", "sigmas", "seed", "json", "quiet", "q"}

// checkProblem refuses flags that would have no effect.
func checkProblem(c *cli.Context) error {
	for _, name := range c.LocalFlagNames() {
		if !slices.Contains(problemFlags, name) {
			name = longName(c.Command, name)
			return &usageError{"compare", fmt.Sprintf("--problem %s draws no pictures, so --%s has no effect: it takes --schedulers, --steps, --sigmas, --seed and --json", c.String("problem"), name)}
		}
	}
	return nil
}

// longName is what a flag is called that may be given by a letter.
func longName(cmd *cli.Command, name string) string {
	for _, f := range cmd.Flags {
		if slices.Contains(f.Names(), name) {
			return f.Names()[0]
		}
	}
	return name
}

// withSigmas are the schedulers with each of the spacings.
func withSigmas(names, sigmas []string) []string {
	if len(sigmas) == 0 {
		return names
	}
	var all []string
	for _, name := range names {
		for _, s := range sigmas {
			all = append(all, name+"-"+s)
		}
	}
	return all
}

// axis are an axis's values as what they are.
func axis[T any](g *compare.Grid, name string) (list []T) {
	for _, v := range g.Axes[name] {
		list = append(list, v.(T))
	}
	return list
}

// compareProblem ranks solvers on an exact problem.
func compareProblem(e *env, o compareOptions) error {
	names, steps := axis[string](&o.Grid, "scheduler"), axis[int](&o.Grid, "steps")
	if names == nil {
		for _, info := range scheduler.Names() {
			if info.Name != "flow-euler" && info.Name != "flow-heun" && info.Name != "lcm" && info.Name != "tcd" {
				names = append(names, info.Name)
			}
		}
	}
	if steps == nil {
		steps = gmmSteps
	}
	names = withSigmas(names, axis[string](&o.Grid, "sigmas"))
	results, err := compare.CompareGMM(names, steps, gmmPoints, o.Grid.FirstSeed)
	if err != nil {
		return err
	}
	results = compare.RankGMM(results)
	if o.JSON {
		for _, r := range results {
			if err := printJSON(e.stdout, r); err != nil {
				return err
			}
		}
		return nil
	}
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"steps", "scheduler", "calls", "error of end points", "order", "error of mean", "error of spread"})
	for _, r := range results {
		steps, rmse, order := fmt.Sprint(r.Steps), fmt.Sprintf("%.2e", r.RMSE), ""
		if r.Steps == 0 {
			steps = "its own"
		}
		if r.Stochastic {
			rmse = "draws noise"
		}
		if r.Order != nil {
			order = fmt.Sprintf("%.1f", *r.Order)
		}
		t.AppendRow(table.Row{steps, r.Scheduler, r.Calls, rmse, order, fmt.Sprintf("%.1e", r.MeanError), fmt.Sprintf("%.1f %%", 100*r.SpreadError)})
	}
	if err := println(e.stdout, t.Render()); err != nil {
		return err
	}
	return println(e.stdout, "A mixture of 6 Gaussians with its exact denoiser, "+fmt.Sprint(gmmPoints)+
		" points. Error: RMS distance of end points from the exact paths'; order: how fast it falls with model calls. For samplers that draw noise, only the cloud of points can be judged: with "+
		fmt.Sprint(gmmPoints)+" points its mean is known to 0.1 and its spread to 5 %.")
}
