package compare

import (
	"cmp"
	"fmt"
	"slices"
)

// OpeningRow is a line of the table that a report begins with: for so many steps, or so much time, which setting is the best, which
// is the fastest that is as good, and whether the choice matters.
type OpeningRow struct {
	Label    string   `json:"label"` // "10 steps", "within 2 s"
	Problem  string   `json:"problem,omitempty"`
	Best     string   `json:"best"`    // a setting's ID: the best mean
	Fastest  string   `json:"fastest"` // the cheapest that is shown to be as good; the best itself where none is
	Settings int      `json:"settings"`
	Matters  Matters  `json:"matters"`
	Why      string   `json:"why"`
	Answer   []string `json:"-"` // the row's cells as texts: label, best, fastest, matters
}

// Matters is the answer to "does the choice matter".
type Matters string

const (
	MattersYes  Matters = "yes"
	MattersNo   Matters = "no"
	MattersOpen Matters = "undecided"
)

// opening makes the rows for the settings of one problem.
func (e *evaluation) opening(m Measure, problem string, rows []int, even [][]float64) (out []OpeningRow) {
	for _, part := range e.parts(rows) {
		v := e.judgeRows(m, part.rows, even)
		if v.best < 0 {
			continue
		}
		row := OpeningRow{Label: part.label, Problem: problem}
		best, fast := v.of[v.best], v.of[v.worth(e.slower)]
		row.Best, row.Fastest = e.report.Settings[best].ID, e.report.Settings[fast].ID
		row.Matters, row.Why = v.matters(func(i int) string { return e.report.Settings[i].short() })
		for _, verdict := range v.verdict {
			if verdict != "" {
				row.Settings++
			}
		}
		if !e.report.Apart {
			row.Problem = ""
		}
		row.Answer = []string{part.label, e.cell(m, best), e.cell(m, fast), row.Why}
		if best == fast {
			row.Answer[2] = "the same"
		}
		out = append(out, row)
	}
	return out
}

// cell names a setting with what it gives and costs.
func (e *evaluation) cell(m Measure, i int) string {
	s := e.report.Settings[i]
	return fmt.Sprintf("%s (%s %.3g, %s)", s.short(), m.Title, s.Values[m.Key].Mean, seconds(s.Seconds.Median))
}

// short is the name without its steps, which the row's label says.
func (s SettingResult) short() string { return s.GroupName }

type part struct {
	label string
	rows  []int
}

// parts divides the rows by their numbers of steps; with a budget by time, for there each scheduler has steps of its own.
func (e *evaluation) parts(rows []int) (parts []part) {
	if budget := e.Grid.Budget; budget > 0 {
		for _, share := range []float64{0.5, 0.7, 1} {
			p := part{label: "within " + seconds(share*budget)}
			for _, i := range rows {
				if e.report.Settings[i].Seconds.Median <= share*budget*1.05 { // the steps were chosen to fit
					p.rows = append(p.rows, i)
				}
			}
			if len(p.rows) > 0 {
				parts = append(parts, p)
			}
		}
		return parts
	}
	by := map[int][]int{}
	for _, i := range rows {
		n := e.report.Settings[i].Setting.Steps
		by[n] = append(by[n], i)
	}
	for n, of := range by {
		label := fmt.Sprintf("%d step%s", n, plural(n))
		if n == 0 {
			label = "its own steps"
		}
		parts = append(parts, part{label, of})
	}
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Compare(e.report.Settings[a.rows[0]].Setting.Steps, e.report.Settings[b.rows[0]].Setting.Steps)
	})
	return parts
}

// matters says whether the choice among the settings makes a difference that one notices.
func (v verdicts) matters(name func(row int) string) (Matters, string) {
	n, good, more := 0, 0, 0
	worst, lost := -1, 0.0
	for k, verdict := range v.verdict {
		if verdict == "" {
			continue
		}
		n++
		more = max(more, v.more[k])
		if verdict == AsGood {
			good++
		}
		if loss := v.loss(v.ranking.Loss[k].Mean); verdict == Worse && loss > lost {
			worst, lost = k, loss
		}
	}
	limit := amount(v.measure, v.noticed)
	switch {
	case n == 1:
		return MattersOpen, "one setting only"
	case good == n:
		return MattersNo, fmt.Sprintf("no: all %d are within %s", n, limit)
	case worst >= 0 && lost > v.noticed:
		return MattersYes, fmt.Sprintf("yes: %s loses %s", name(v.of[worst]), amount(v.measure, lost))
	case more > 0:
		return MattersOpen, fmt.Sprintf("undecided: %d more prompt%s would tell", more, plural(more))
	case slices.Contains(v.verdict, Undecided):
		return MattersOpen, "undecided: more prompts would tell"
	}
	return MattersNo, fmt.Sprintf("hardly: %s loses most, %s", name(v.of[worst]), amount(v.measure, lost))
}
