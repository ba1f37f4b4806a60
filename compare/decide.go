package compare

import (
	"fmt"
	"math"
	"slices"

	"darkroom/compare/stats"
)

// Verdict says what is shown of a setting against the best one, the one with the best mean; "": it is not ranked.
type Verdict string

const (
	AsGood    Verdict = "as good as the best" // its loss is shown to be too small to notice
	Worse     Verdict = "worse"               // shown
	Undecided Verdict = "undecided"           // neither is shown
)

// verdicts are of settings that are compared with one another. All is in their order.
type verdicts struct {
	of        []int // rows of the report
	ranking   stats.Ranking
	within    float64   // what is noticeable, on the measure's even scale
	verdict   []Verdict // of each
	more      []int     // more prompts that would decide an undecided one; 0: not known
	best      int       // index into of; -1: nothing was measured
	noticed   float64
	measure   Measure
	perPrompt float64 // units of a prompt
}

// judgeRows compares the rows by a measure, of which even has the values on its even scale: [row][item].
func (e *evaluation) judgeRows(m Measure, rows []int, even [][]float64) verdicts {
	v := verdicts{of: rows, measure: m, noticed: e.noticeable(m), perPrompt: float64(e.Grid.Seeds)}
	var values [][]float64
	for _, i := range rows {
		values = append(values, even[i])
	}
	v.ranking = stats.Rank(stats.Table{Values: values, Groups: e.groups()}, stats.Options{})
	if v.ranking.ByPrompts {
		v.perPrompt = 1
	}
	v.best = v.ranking.Best
	v.verdict, v.more = make([]Verdict, len(rows)), make([]int, len(rows))
	if v.best < 0 {
		return v
	}
	top := v.ranking.Mean[v.best].Mean
	v.within = top - m.even(m.back(top)-m.sign()*v.noticed)
	for k := range rows {
		loss := v.ranking.Loss[k]
		switch {
		case math.IsNaN(v.ranking.Mean[k].Mean):
		case v.ranking.Units > 1 && (k == v.best || loss.High <= v.within):
			v.verdict[k] = AsGood
		case loss.Low > 0:
			v.verdict[k] = Worse
		default:
			v.verdict[k] = Undecided
			if units := v.ranking.Decide(k, v.within); units > 0 {
				v.more[k] = max(1, int(math.Ceil(float64(units-v.ranking.Units)/v.perPrompt)))
			}
		}
	}
	return v
}

// Said is the verdict for people, with what would decide an undecided one.
func (s SettingResult) Said() string {
	switch {
	case s.Verdict == "":
		return "–"
	case s.MorePrompts > 0:
		return fmt.Sprintf("%s: %d more prompt%s", s.Verdict, s.MorePrompts, plural(s.MorePrompts))
	}
	return string(s.Verdict)
}

func (e *evaluation) noticeable(m Measure) float64 {
	if e.Noticeable > 0 {
		return e.Noticeable
	}
	return m.Noticeable
}

// loss is a loss on the measure's even scale as what it is of the measure itself, against the best one's value.
func (v verdicts) loss(even float64) float64 {
	top := v.ranking.Mean[v.best].Mean
	return v.measure.sign() * (v.measure.back(top) - v.measure.back(top-even))
}

// worth is the cheapest of those that are as good as the best; among those that cost the same, the one with the best mean. It is
// the best itself where no other one is shown to be as good.
func (v verdicts) worth(slower func(a, b int) bool) int {
	pick := v.best
	for k := range v.of {
		if v.verdict[k] != AsGood {
			continue
		}
		a, b := v.of[k], v.of[pick]
		cheaper := slower(b, a)
		better := v.ranking.Mean[k].Mean > v.ranking.Mean[pick].Mean
		if cheaper || !slower(a, b) && better {
			pick = k
		}
	}
	return pick
}

// decide gives verdicts, losses and the front by the deciding measure: for all settings, or, where it is closeness to a converged
// solution, for those that have one solution between them. How near a picture of cfg 3 is to its solution says nothing about one of
// cfg 7.
func (e *evaluation) decide(m Measure) {
	r := e.report
	even := e.even(m)
	for i := range even {
		if r.Settings[i].OverBudget { // it cannot be the answer, so it must not be the measure of others
			even[i] = table(1, len(e.items))[0]
		}
	}
	members, order := map[string][]int{}, []string{}
	for i := range r.Settings {
		together := ""
		if m.needs == needsReference {
			together = r.Settings[i].Problem
		}
		if members[together] == nil {
			order = append(order, together)
		}
		members[together] = append(members[together], i)
	}
	r.Apart = len(order) > 1
	r.verdicts, r.Opening = nil, nil
	for _, problem := range order {
		v := e.judgeRows(m, members[problem], even)
		if v.best < 0 {
			continue
		}
		r.verdicts = append(r.verdicts, v)
		e.writeVerdicts(v)
		r.Opening = append(r.Opening, e.opening(m, problem, members[problem], even)...)
	}
}

// writeVerdicts puts what was found into the rows.
func (e *evaluation) writeVerdicts(v verdicts) {
	rows := e.report.Settings
	var quality []float64
	for k, i := range v.of {
		mean := v.ranking.Mean[k].Mean
		quality = append(quality, mean)
		rows[i].Verdict, rows[i].MorePrompts = v.verdict[k], v.more[k]
		if math.IsNaN(mean) {
			continue
		}
		rows[i].Rank = 1
		for _, other := range v.ranking.Mean {
			if other.Mean > mean {
				rows[i].Rank++
			}
		}
		l := v.ranking.Loss[k]
		loss := Estimate{Mean: v.loss(l.Mean)}
		if k != v.best {
			loss.Low, loss.High = finite(v.loss(l.Low)), finite(v.loss(l.High))
		}
		rows[i].Loss = &loss
	}
	for _, k := range stats.Pareto(quality, func(a, b int) bool { return e.slower(v.of[a], v.of[b]) }) {
		rows[v.of[k]].Pareto = true
	}
}

// slower says whether row a is known to take longer than row b: by their calls of the model, where both solve the same problem and so
// a call costs the same; with as many calls, or another problem, by the seconds of the same items.
func (e *evaluation) slower(a, b int) bool {
	x, y := e.report.Settings[a], e.report.Settings[b]
	if x.Setting.problemID() == y.Setting.problemID() && x.Calls != y.Calls {
		return x.Calls > y.Calls
	}
	return stats.Slower(e.seconds[a], e.seconds[b], 0.95, len(e.settings))
}

// even has a measure's values on its even scale, more is better: [setting][item].
func (e *evaluation) even(m Measure) [][]float64 {
	out := table(len(e.settings), len(e.items))
	for i, row := range e.values[m.Key] {
		for n, v := range row {
			out[i][n] = m.even(v)
		}
	}
	return out
}

// judgePrefersFewer says whether the judge likes pictures of fewer steps better than those of more, with most solvers: such a judge
// knows nothing of how well a picture is solved. few and many are the agreements' means over those solvers.
func (e *evaluation) judgePrefersFewer() (few, many float64, prefers bool) {
	var curves, fewer float64
	for _, of := range e.curves() {
		least, most := of[0], of[len(of)-1]
		if e.report.Settings[least].Calls == e.report.Settings[most].Calls {
			continue
		}
		a, b := mean(e.values["agreement"][least]), mean(e.values["agreement"][most])
		if math.IsNaN(a) || math.IsNaN(b) {
			continue
		}
		if curves++; a > b {
			few, many, fewer = few+a, many+b, fewer+1
		}
	}
	return few / fewer, many / fewer, fewer > curves/2
}

// curves are the rows of each group, those with the fewest calls first.
func (e *evaluation) curves() (list [][]int) {
	at := map[string]int{}
	for i, s := range e.report.Settings {
		n, ok := at[s.Group]
		if !ok {
			n, list = len(list), append(list, nil)
			at[s.Group] = n
		}
		list[n] = append(list[n], i)
	}
	for _, of := range list {
		slices.SortStableFunc(of, func(a, b int) int {
			return int(math.Copysign(1, e.report.Settings[a].Calls-e.report.Settings[b].Calls))
		})
	}
	return list
}

func mean(values []float64) float64 {
	var sum, n float64
	for _, v := range values {
		if !math.IsNaN(v) {
			sum, n = sum+v, n+1
		}
	}
	return sum / n
}
