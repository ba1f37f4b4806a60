package compare

import (
	"math"
	"slices"
	"strings"

	"darkroom/compare/stats"
)

// settingRows fills in what is known of each setting without looking at a picture: names, times, calls.
func (e *evaluation) settingRows() error {
	varies, problems := varying(e.settings), problemNames(e.settings)
	for _, set := range e.settings {
		row := SettingResult{
			ID: set.ID(), Name: set.Name(varies), Group: set.Group().ID(), GroupName: set.Group().Name(varies),
			Setting: set, Problem: problems[set.problemID()], Values: map[string]Estimate{},
		}
		var seconds, joules, calls []float64
		for _, item := range e.items {
			j, err := e.renderer.job(&e.Grid, set, item, "")
			if err != nil {
				return err
			}
			r := e.folder.pictures[j.key]
			seconds = append(seconds, r.Seconds)
			if r.Joules > 0 {
				joules = append(joules, r.Joules)
			}
			calls = append(calls, float64(r.Calls))
			row.Stochastic = r.Stochastic
			row.Comparable = !r.Stochastic && !strings.HasSuffix(r.Scheduler, "cfg++") && len(e.refs) > 0
		}
		q := stats.Quantiles(seconds, 0.25, 0.5, 0.75)
		row.Seconds = Spread{Q1: q[0], Median: q[1], Q3: q[2]}
		row.Joules = finite(stats.Quantiles(joules, 0.5)[0])
		row.Calls = stats.Quantiles(calls, 0.5)[0]
		if e.PricePerHour > 0 {
			row.Cost = finite(1000 * row.Seconds.Median / 3600 * e.PricePerHour)
		}
		row.OverBudget = e.Grid.Budget > 0 && row.Seconds.Median > e.Grid.Budget
		e.report.Settings = append(e.report.Settings, row)
	}
	return nil
}

// varying says of an axis whether settings differ in it.
func varying(settings []Setting) func(axis string) bool {
	seen := map[string]map[any]bool{}
	for _, s := range settings {
		for _, row := range settingOrder() {
			if seen[row.Name] == nil {
				seen[row.Name] = map[any]bool{}
			}
			seen[row.Name][row.Get(&s.Settings)] = true
		}
	}
	return func(axis string) bool { return len(seen[axis]) > 1 }
}

// groups is the prompt of each item.
func (e *evaluation) groups() []int {
	var g []int
	for _, item := range e.items {
		g = append(g, item.Prompt)
	}
	return g
}

// rank puts intervals into the table and ranks by the deciding measure.
func (e *evaluation) rank() {
	r := e.report
	if r.RankBy == "" {
		r.RankBy = e.decider()
	}
	for _, m := range measures() {
		if m.OfSet {
			continue
		}
		oriented := table(len(e.settings), len(e.items))
		sign := 1.0
		if m.Better < 0 {
			sign = -1
		}
		for i, row := range e.values[m.Key] {
			for n, v := range row {
				oriented[i][n] = sign * v
			}
		}
		ranking := stats.Rank(stats.Table{Values: oriented, Groups: e.groups()}, stats.Options{})
		for i := range r.Settings {
			in := ranking.Mean[i]
			in.Mean *= sign
			if sign < 0 {
				in.Low, in.High = -in.High, -in.Low
			}
			if v, ok := estimate(in); ok {
				r.Settings[i].Values[m.Key] = v
			}
		}
		if m.Key == r.RankBy {
			e.decide(m, oriented)
		}
	}
}

// decide writes ranks and the Pareto front of the deciding measure: for all settings, or, where it is closeness to a converged
// solution, for those that have one solution between them. How near a picture of cfg 3 is to its solution says nothing
// about one of cfg 7.
func (e *evaluation) decide(m Measure, oriented [][]float64) {
	rows := e.report.Settings
	for i := range oriented {
		if rows[i].OverBudget { // it cannot be the answer, so it must not be the measure of others
			oriented[i] = table(1, len(e.items))[0]
		}
	}
	members := map[string][]int{}
	for i := range rows {
		together := ""
		if m.needs == needsReference {
			together = rows[i].Problem
		}
		members[together] = append(members[together], i)
	}
	e.report.Apart, e.report.better = len(members) > 1, map[[2]string]bool{}
	for _, of := range members {
		var values [][]float64
		var seconds, quality []float64
		for _, i := range of {
			values = append(values, oriented[i])
		}
		ranking := stats.Rank(stats.Table{Values: values, Groups: e.groups()}, stats.Options{})
		for k, i := range of {
			rows[i].Rank = ranking.Rank[k]
			for l, j := range of {
				e.report.better[[2]string{rows[i].ID, rows[j].ID}] = ranking.Better(k, l)
			}
			if v, ok := estimate(ranking.BehindBest[k]); ok {
				rows[i].Behind = &v
			}
			seconds, quality = append(seconds, rows[i].Seconds.Median), append(quality, ranking.Mean[k].Mean)
		}
		for _, k := range stats.Pareto(seconds, quality) {
			rows[of[k]].Pareto = true
		}
	}
}

// problemNames names the problems that settings solve, by what they differ in; "" if there is one.
func problemNames(settings []Setting) map[string]string {
	var problems []Setting
	for _, set := range settings {
		problems = append(problems, set.problem())
	}
	varies, names := varying(problems), map[string]string{}
	for _, p := range problems {
		names[p.ID()] = strings.Join(p.problemParts(varies), ", ")
	}
	return names
}

// decider is the measure that decides where the user named none: what the judge says of the prompt, if it knows enough of
// the prompts; else closeness to the converged solution, for which pictures must be as large as SSIM's window.
func (e *evaluation) decider() string {
	has := func(key string, share float64) bool {
		n, all := 0, 0
		for i, row := range e.values[key] {
			if !e.report.Settings[i].Comparable && key != "agreement" {
				continue
			}
			for _, v := range row {
				all++
				if !math.IsNaN(v) {
					n++
				}
			}
		}
		return all > 0 && float64(n) >= share*float64(all)
	}
	for _, key := range []string{"agreement", "ssim", "psnr"} {
		if has(key, 0.5) {
			return key
		}
	}
	return ""
}

// keepMeasures lists the measures of which there is any value.
func (e *evaluation) keepMeasures() {
	e.report.Measures = slices.DeleteFunc(measures(), func(m Measure) bool {
		return !slices.ContainsFunc(e.report.Settings, func(s SettingResult) bool { _, ok := s.Values[m.Key]; return ok })
	})
}

// flags marks settings whose pictures look unlike the converged ones, or, where there are none of those, unlike the
// median setting's.
func (e *evaluation) flags() {
	for i := range e.report.Settings {
		row := &e.report.Settings[i]
		usual := e.looks[row.Setting.problemID()]
		if usual == nil {
			usual = e.medianLook()
		}
		v := func(key string) float64 { return row.Values[key].Mean }
		for _, f := range []struct {
			name string
			is   bool
		}{
			{"washed out", v("contrast") < 0.75*usual["contrast"]},
			{"pale", v("saturation") < 0.7*usual["saturation"]},
			{"burnt", v("burnt") > usual["burnt"]+0.02 && v("burnt") > 1.5*usual["burnt"]},
			{"blurred", v("sharpness") < 0.5*usual["sharpness"]},
			{"noisy", v("sharpness") > 2*usual["sharpness"]},
		} {
			if f.is {
				row.Flags = append(row.Flags, f.name)
			}
		}
	}
}

func (e *evaluation) medianLook() map[string]float64 {
	look := map[string]float64{}
	for _, key := range []string{"contrast", "saturation", "burnt", "sharpness"} {
		var v []float64
		for _, s := range e.report.Settings {
			v = append(v, s.Values[key].Mean)
		}
		look[key] = stats.Quantiles(v, 0.5)[0]
	}
	return look
}
