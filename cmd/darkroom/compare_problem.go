package main

import (
	"fmt"

	"darkroom/compare"
	"darkroom/scheduler"

	"github.com/jedib0t/go-pretty/v6/table"
)

// The points and steps of --problem gmm, where none are given.
const gmmPoints = 256

var gmmSteps = []int{5, 10, 20, 40}

// compareProblem ranks solvers on an exact problem.
func compareProblem(e *env, o compareOptions) error {
	if o.PromptFile != "" || len(o.Grid.Prompts) > 0 || len(o.Grid.Models) > 0 || o.Out != "" {
		return &usageError{"compare", "--problem gmm takes --schedulers, --steps and --seed: it draws no pictures, so prompts, models and -o mean nothing to it"}
	}
	names, steps := o.Grid.Schedulers, o.Grid.Steps
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
		rmse, order := fmt.Sprintf("%.2e", r.RMSE), ""
		if r.Stochastic {
			rmse = "draws noise"
		}
		if r.Order != nil {
			order = fmt.Sprintf("%.1f", *r.Order)
		}
		t.AppendRow(table.Row{r.Steps, r.Scheduler, r.Calls, rmse, order, fmt.Sprintf("%.1e", r.MeanError), fmt.Sprintf("%.1f %%", 100*r.SpreadError)})
	}
	if err := println(e.stdout, t.Render()); err != nil {
		return err
	}
	return println(e.stdout, "A mixture of 8 Gaussians with its exact denoiser, "+fmt.Sprint(gmmPoints)+
		" points. Error: RMS distance of end points from the exact paths'; order: how fast it falls with model calls. Of samplers that draw noise, only the cloud of points can be judged: with "+
		fmt.Sprint(gmmPoints)+" points its mean is known to 0.1 and its spread to 5 %.")
}
