package compare

import (
	"cmp"
	"math"
	"slices"

	"darkroom/compare/stats"
)

// Report is all that a comparison found: results.json holds it.
type Report struct {
	Version  string       `json:"version"`
	Numerics string       `json:"numerics"`
	Device   string       `json:"device"`
	Judge    string       `json:"judge,omitempty"` // "" is none
	Grid     Grid         `json:"grid"`
	Answer   []string     `json:"answer"`          // in plain words, the most important first
	Opening  []OpeningRow `json:"opening"`         // for so many steps, or so much time: the best, the fastest that is as good
	Picks    []string     `json:"picks"`           // the settings that the answer names: one, or one for each problem
	Buys     []string     `json:"buys"`            // what more time buys, along the front
	Notes    []string     `json:"notes"`           // what limits the answer
	RankBy   string       `json:"rankBy"`          // a measure's key; "" where nothing could decide
	Apart    bool         `json:"apart,omitempty"` // ranks, losses and fronts are among settings of one problem: closeness decides
	Measures []Measure    `json:"measures"`
	Price    float64      `json:"pricePerHour,omitempty"`

	Settings   []SettingResult   `json:"settings"`
	Pictures   []PictureResult   `json:"pictures"`
	References []ReferenceResult `json:"references"`

	verdicts []verdicts // of each problem
}

// Values are measures by key. A measure that could not be taken is not there: it is never 0 instead.
type Values map[string]float64

// SettingResult is a row of the table.
type SettingResult struct {
	ID         string  `json:"id"`
	Name       string  `json:"name"`
	Group      string  `json:"group"` // settings that differ in steps alone have one: they make a curve
	GroupName  string  `json:"groupName"`
	Setting    Setting `json:"setting"`
	Stochastic bool    `json:"stochastic"` // draws noise on the way
	Comparable bool    `json:"comparable"` // has the converged solution as its limit
	Calls      float64 `json:"calls"`      // of the model for a picture, median

	Seconds Spread `json:"seconds"`
	// Processor is the seconds of all of the processor's threads together, median; nil of a GPU.
	Processor *float64 `json:"processorSeconds,omitempty"`
	Joules    *float64 `json:"joules,omitempty"` // of the GPU, median
	Cost      *float64 `json:"cost,omitempty"`   // of a thousand pictures

	Values map[string]Estimate `json:"values"`
	// Paired are intervals of values as far as they differ from the best's, which has none: what prompts have in common is not in
	// them.
	Paired map[string]Range `json:"paired,omitempty"`
	// Problem is what the setting solves, where settings solve several: those with one cfg, guidance, type and model have one
	// converged solution.
	Problem string `json:"problem,omitempty"`
	// Verdict is what is shown of it, by the deciding measure; "": not ranked. MorePrompts would decide it, if it is undecided.
	Verdict     Verdict   `json:"verdict,omitempty"`
	MorePrompts int       `json:"morePrompts,omitempty"`
	Rank        int       `json:"rank"`           // the place by its mean, which may be chance; 0: not ranked
	Loss        *Estimate `json:"loss,omitempty"` // against the best mean, paired; its interval holds for all settings at once
	Pareto      bool      `json:"pareto"`
	OverBudget  bool      `json:"overBudget,omitempty"`
	Flags       []string  `json:"flags,omitempty"` // "washed out", "burnt", …
}

// Estimate is a mean with its confidence interval, where there is one.
type Estimate struct {
	Mean float64  `json:"mean"`
	Low  *float64 `json:"low,omitempty"`
	High *float64 `json:"high,omitempty"`
}

func estimate(i stats.Interval) (Estimate, bool) {
	return Estimate{i.Mean, finite(i.Low), finite(i.High)}, !math.IsNaN(i.Mean) && !math.IsInf(i.Mean, 0)
}

// Range is an interval.
type Range struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Spread is a median with its quartiles.
type Spread struct {
	Median float64 `json:"median"`
	Q1     float64 `json:"q1"`
	Q3     float64 `json:"q3"`
}

// PictureResult is a picture with what was measured of it.
type PictureResult struct {
	File       string  `json:"file"` // from the report's folder
	Setting    string  `json:"setting"`
	Prompt     int     `json:"prompt"`
	PromptText string  `json:"promptText"`
	Seed       uint64  `json:"seed"`
	Seconds    float64 `json:"seconds"`
	Processor  float64 `json:"processorSeconds,omitempty"`
	Joules     float64 `json:"joules,omitempty"`
	Calls      int     `json:"calls"`
	Values     Values  `json:"values"`
	Command    string  `json:"command"`
}

// ReferenceResult is a converged solution, and how far it is converged.
type ReferenceResult struct {
	Name     string            `json:"name"`
	Of       string            `json:"of,omitempty"` // the settings' problem, where there are several
	Problem  Setting           `json:"problem"`
	Files    map[string]string `json:"files"` // by item: "prompt/seed"
	Checked  int               `json:"checked"`
	Relative *float64          `json:"relative"` // latent RMSE to half the steps over the latents' own RMS; median
	RMSE     *float64          `json:"rmse"`
	SSIM     *float64          `json:"ssim"`
}

// Sorted are the settings, the best mean first; those that are not ranked come last. Where problems are ranked apart, each has its
// turn.
func (r *Report) Sorted() []SettingResult {
	out := slices.Clone(r.Settings)
	turn := map[string]int{}
	for i, s := range r.Settings {
		if _, ok := turn[s.Problem]; !ok && r.Apart {
			turn[s.Problem] = i
		}
	}
	slices.SortStableFunc(out, func(a, b SettingResult) int {
		if c := cmp.Compare(turn[a.Problem], turn[b.Problem]); c != 0 {
			return c
		}
		if (a.Rank == 0) != (b.Rank == 0) {
			return cmp.Compare(b.Rank, a.Rank)
		}
		return cmp.Or(cmp.Compare(a.Rank, b.Rank), cmp.Compare(a.Calls, b.Calls), cmp.Compare(a.Seconds.Median, b.Seconds.Median))
	})
	return out
}
