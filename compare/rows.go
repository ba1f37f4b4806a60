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
		var seconds, processor, joules, calls []float64 // item by item
		for _, item := range e.items {
			j, err := e.renderer.job(&e.Grid, set, item, "")
			if err != nil {
				return err
			}
			r := e.folder.pictures[j.key]
			seconds = append(seconds, r.Seconds)
			if r.Processor > 0 {
				processor = append(processor, r.Processor)
			}
			if r.Joules > 0 {
				joules = append(joules, r.Joules)
			}
			calls = append(calls, float64(r.Calls))
			row.Stochastic = r.Stochastic
			row.Comparable = !r.Stochastic && !strings.HasSuffix(r.Scheduler, "cfg++") && len(e.refs) > 0
		}
		e.seconds = append(e.seconds, seconds)
		q := stats.Quantiles(seconds, 0.25, 0.5, 0.75)
		row.Seconds = Spread{Q1: q[0], Median: q[1], Q3: q[2]}
		row.Processor = finite(stats.Quantiles(processor, 0.5)[0])
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

// rank puts means and intervals into the table, and decides by the deciding measure.
func (e *evaluation) rank() {
	r := e.report
	if r.RankBy == "" {
		r.RankBy = e.decider()
	}
	for _, m := range measures() {
		if m.OfSet {
			continue
		}
		even := e.even(m)
		for i, in := range stats.Means(stats.Table{Values: even, Groups: e.groups()}, stats.Options{}) {
			in.Mean, in.Low, in.High = m.back(in.Mean), m.back(in.Low), m.back(in.High)
			if in.Low > in.High {
				in.Low, in.High = in.High, in.Low
			}
			if v, ok := estimate(in); ok {
				r.Settings[i].Values[m.Key] = v
			}
		}
		if m.Better != 0 {
			e.pair(m, even)
		}
		if m.Key == r.RankBy {
			e.decide(m)
		}
	}
}

// pair writes the intervals of a measure's differences from the best, problem by problem.
func (e *evaluation) pair(m Measure, even [][]float64) {
	members := map[string][]int{}
	for i := range e.report.Settings {
		members[e.report.Settings[i].Problem] = append(members[e.report.Settings[i].Problem], i)
	}
	for _, of := range members {
		v := e.judgeRows(m, of, even)
		for k, i := range of {
			l := v.ranking.Loss[k]
			if v.best < 0 || k == v.best || !(l.High > l.Low) {
				continue
			}
			top := v.ranking.Mean[v.best].Mean
			w := Range{m.back(top - l.High), m.back(top - l.Low)}
			if w.Low > w.High {
				w = Range{w.High, w.Low}
			}
			if e.report.Settings[i].Paired == nil {
				e.report.Settings[i].Paired = map[string]Range{}
			}
			e.report.Settings[i].Paired[m.Key] = w
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

// decider is the measure that decides where the user named none: what the judge says of the prompt, if it knows enough of the prompts
// and does not prefer fewer steps; else closeness to the converged solution, for which pictures must be as large as SSIM's window.
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
		if _, _, fewer := e.judgePrefersFewer(); key == "agreement" && fewer {
			continue
		}
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
