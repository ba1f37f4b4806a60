package compare

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// made is a setting whose pictures were never rendered.
type made struct {
	scheduler string
	steps     int
	ssim      func(item int) float64
	seconds   float64 // 0: a tenth of a second a step
	agreement float64
}

// evaluationOf is what evaluate has when everything is measured, of settings that are made up: some prompts, one seed.
func evaluationOf(prompts int, settings ...made) *evaluation {
	rng := rand.New(rand.NewPCG(7, 7))
	g := Grid{Seeds: 1}
	for i := range prompts {
		g.Prompts = append(g.Prompts, fmt.Sprintf("prompt %d", i))
	}
	e := &evaluation{session: &session{Options: Options{Grid: g}}, items: g.Items(), values: map[string][][]float64{}, report: &Report{Grid: g}}
	for _, m := range settings {
		var set Setting
		set.Set("scheduler", m.scheduler)
		set.Set("steps", m.steps)
		e.settings = append(e.settings, set)
	}
	for _, m := range measures() {
		e.values[m.Key] = table(len(settings), prompts)
	}
	for i, m := range settings {
		set := e.settings[i]
		row := SettingResult{ID: set.ID(), Name: set.Name(none), Group: set.Group().ID(), GroupName: m.scheduler, Setting: set, Comparable: m.ssim != nil, Calls: float64(m.steps), Values: map[string]Estimate{}}
		var seconds []float64
		for n := range prompts {
			if m.ssim != nil {
				e.values["ssim"][i][n] = m.ssim(n)
			}
			if m.agreement != 0 {
				e.values["agreement"][i][n] = m.agreement
			}
			took := m.seconds
			if took == 0 {
				took = 0.1 * float64(m.steps)
			}
			seconds = append(seconds, took*math.Exp(0.05*rng.NormFloat64()))
		}
		row.Seconds = Spread{Median: slices.Sorted(slices.Values(seconds))[prompts/2]}
		e.seconds = append(e.seconds, seconds)
		e.report.Settings = append(e.report.Settings, row)
	}
	e.rank()
	e.answer()
	return e
}

// distances gives an SSIM whose distance from 1 varies by item, as prompts do, by a factor of its own besides.
func distances(typical, spread float64, seed uint64) func(int) float64 {
	return func(item int) float64 {
		common := rand.New(rand.NewPCG(uint64(item), 1)).NormFloat64()
		own := rand.New(rand.NewPCG(uint64(item), seed)).NormFloat64()
		return 1 - typical*math.Exp(0.5*common+spread*own)
	}
}

func (e *evaluation) row(t *testing.T, name string) SettingResult {
	t.Helper()
	for _, s := range e.report.Settings {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no setting %q", name)
	return SettingResult{}
}

// Three words, and none of them contradicts the column beside it: what few pictures leave open is not called as good as the best.
func TestVerdicts(t *testing.T) {
	e := evaluationOf(8,
		made{scheduler: "heun", steps: 20, ssim: distances(0.002, 0.05, 2)},
		made{scheduler: "euler", steps: 20, ssim: distances(0.003, 0.05, 3)},
		made{scheduler: "ddim", steps: 5, ssim: distances(0.15, 0.05, 4)},
		made{scheduler: "lms", steps: 8, ssim: distances(0.02, 2, 5)})
	for name, want := range map[string]Verdict{"heun, 20 steps": AsGood, "euler, 20 steps": AsGood, "ddim, 5 steps": Worse, "lms, 8 steps": Undecided} {
		s := e.row(t, name)
		if s.Verdict != want || (s.MorePrompts > 0) != (want == Undecided) {
			t.Errorf("%s: %q, %d more prompts; loss %+v of %v; want %q", name, s.Verdict, s.MorePrompts, s.Loss, s.Values["ssim"], want)
		}
	}
	order, last := e.report.Sorted(), math.Inf(1)
	for i, s := range order {
		if v := s.Values["ssim"].Mean; v > last || s.Rank != i+1 {
			t.Errorf("%s with SSIM %v, place %d, stands at %d after %v", s.Name, v, s.Rank, i+1, last)
		} else {
			last = v
		}
	}
	if text := strings.Join(e.report.Answer, " "); !strings.Contains(text, "2 are as good as the best, 1 is worse, 1 is undecided: about") {
		t.Errorf("answer %q", text)
	}
	// The table's interval is the paired one: it is narrower than the setting's own, which has the prompts in it.
	s := e.row(t, "euler, 20 steps")
	if own, paired := s.Values["ssim"], s.Paired["ssim"]; !(paired.High > paired.Low && paired.High-paired.Low < *own.High-*own.Low) {
		t.Errorf("interval %v to %v, against the best %+v", *own.Low, *own.High, paired)
	}
}

// SSIM is compared as a ratio of distances: a setting that is half as near is told apart at 0.998 as it is at 0.8.
func TestEvenScale(t *testing.T) {
	for _, typical := range []float64{0.002, 0.2} {
		e := evaluationOf(12,
			made{scheduler: "heun", steps: 20, ssim: distances(typical, 0.1, 2)},
			made{scheduler: "euler", steps: 20, ssim: distances(2*typical, 0.1, 3)})
		loss := e.row(t, "euler, 20 steps").Loss
		if !(*loss.Low > 0) || loss.Mean < 0.7*typical || loss.Mean > 1.5*typical {
			t.Errorf("distance %v: loss %v (%v to %v)", typical, loss.Mean, *loss.Low, *loss.High)
		}
	}
	for _, m := range measures() {
		for _, v := range []float64{0.1, 0.9, 0.99} {
			if back := m.back(m.even(v)); math.Abs(back-v) > 1e-12 {
				t.Errorf("%s: %v comes back as %v", m.Key, v, back)
			}
		}
	}
}

// The table that answers: for so many steps, the best, the fastest that is as good, and whether it matters.
func TestOpening(t *testing.T) {
	e := evaluationOf(8,
		made{scheduler: "heun", steps: 5, ssim: distances(0.05, 0.05, 2), seconds: 1},
		made{scheduler: "euler", steps: 5, ssim: distances(0.3, 0.05, 3), seconds: 0.5},
		made{scheduler: "heun", steps: 20, ssim: distances(0.002, 0.05, 4), seconds: 4},
		made{scheduler: "euler", steps: 20, ssim: distances(0.004, 0.05, 5), seconds: 2},
		made{scheduler: "euler-a", steps: 20})
	if len(e.report.Opening) != 2 {
		t.Fatalf("%+v", e.report.Opening)
	}
	name := func(id string) string {
		i := slices.IndexFunc(e.report.Settings, func(s SettingResult) bool { return s.ID == id })
		return e.report.Settings[i].Name
	}
	few, many := e.report.Opening[0], e.report.Opening[1]
	if few.Label != "5 steps" || name(few.Best) != "heun, 5 steps" || few.Fastest != few.Best || few.Matters != MattersYes || !strings.Contains(few.Why, "euler loses 0.2") {
		t.Errorf("few steps: %+v", few)
	}
	if many.Label != "20 steps" || name(many.Best) != "heun, 20 steps" || name(many.Fastest) != "euler, 20 steps" || many.Matters != MattersNo || many.Settings != 2 {
		t.Errorf("many steps: %+v", many)
	}
	// With a budget, a row is a time.
	e.Grid.Budget = 4
	rows := e.opening(measures()[2], "", []int{0, 1, 2, 3}, e.even(measures()[2]))
	if len(rows) != 3 || rows[0].Label != "within 2.00 s" || name(rows[0].Best) != "euler, 20 steps" || name(rows[2].Best) != "heun, 20 steps" {
		t.Errorf("with a budget: %+v", rows)
	}
}

// Settings with as many calls, whose times differ by chance, are one time: only the best of them is on the front.
func TestFrontByTime(t *testing.T) {
	e := evaluationOf(8,
		made{scheduler: "ddim", steps: 10, ssim: distances(0.02, 0.05, 2), seconds: 1.001},
		made{scheduler: "euler", steps: 10, ssim: distances(0.03, 0.05, 3), seconds: 1},
		made{scheduler: "lms", steps: 10, ssim: distances(0.04, 0.05, 4), seconds: 0.5}, // half as long: not by chance
		made{scheduler: "heun", steps: 20, ssim: distances(0.001, 0.05, 5), seconds: 0.9})
	var front []string
	for _, s := range e.report.Settings {
		if s.Pareto {
			front = append(front, s.Setting.Scheduler)
		}
	}
	if want := []string{"ddim", "lms", "heun"}; !slices.Equal(front, want) {
		t.Errorf("front %v, want %v", front, want)
	}
}

// A judge that likes fewer steps better is asked for nothing; the report says so.
func TestJudgeOfSteps(t *testing.T) {
	settings := func(few, many float64) []made {
		return []made{{scheduler: "heun", steps: 4, ssim: distances(0.1, 0.05, 2), agreement: few}, {scheduler: "heun", steps: 20, ssim: distances(0.002, 0.05, 3), agreement: many}}
	}
	e := evaluationOf(8, settings(84.5, 82.5)...)
	notes := strings.Join(e.report.Notes, " ")
	if e.report.RankBy != "ssim" || !strings.Contains(notes, "the judge finds more of the prompt in pictures of the fewest steps (84.5) than in those of the most (82.5)") || !strings.Contains(notes, "nothing is ranked by it") {
		t.Errorf("ranked by %s; notes %s", e.report.RankBy, notes)
	}
	// One solver that makes mush of few steps does not speak for the others.
	mush := append(settings(84.5, 82.5), made{scheduler: "lms", steps: 4, ssim: distances(0.1, 0.05, 4), agreement: 20}, made{scheduler: "lms", steps: 20, ssim: distances(0.01, 0.05, 5), agreement: 82},
		made{scheduler: "ddim", steps: 4, ssim: distances(0.1, 0.05, 6), agreement: 83}, made{scheduler: "ddim", steps: 20, ssim: distances(0.01, 0.05, 7), agreement: 82})
	if e := evaluationOf(8, mush...); e.report.RankBy != "ssim" {
		t.Errorf("with one solver that fails: ranked by %s", e.report.RankBy)
	}
	if e := evaluationOf(8, settings(70, 82.5)...); e.report.RankBy != "agreement" || strings.Contains(strings.Join(e.report.Notes, " "), "fewest steps") {
		t.Errorf("a judge that likes more steps: ranked by %s, %s", e.report.RankBy, e.report.Notes)
	}
}

// Plan counts what Run makes, and touches nothing.
func TestPlan(t *testing.T) {
	t.Parallel()
	o := tinyOptions(t)
	p, err := Plan(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if p.Settings != 6 || p.Pictures != tinyPictures || p.Left != tinyPictures || !(p.Seconds > 0) || len(p.Names) != 6 || p.References != 8 {
		t.Errorf("%+v", p)
	}
	if _, err := os.Stat(o.Out); err == nil {
		t.Error("a folder was made")
	}
	var begun Planned
	o.Begin = func(p Planned) { begun = p }
	if _, err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	if begun.Pictures != tinyPictures {
		t.Errorf("before it began: %+v", begun)
	}
	onceEach(t, o.Out, tinyPictures)
	if p, err = Plan(context.Background(), o); err != nil || p.Left != 0 || !strings.Contains(p.String(), "32 are there already") {
		t.Errorf("after it: %+v, %v", p, err)
	}
	o.Grid.SetAxis("steps", 0)
	if _, err := Plan(context.Background(), o); err == nil {
		t.Error("steps of 0 are planned")
	}
}
