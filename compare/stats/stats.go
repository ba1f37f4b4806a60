// Package stats decides what a table of measurements shows: which setting is better than which, which differences are
// chance, and what time buys. A table is settings × items; an item is a (prompt, seed), measured for each setting with
// the same noise, so that differences are taken pair by pair.
package stats

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// Table holds a value for each setting and item, higher is better. NaN is a missing one.
type Table struct {
	Values [][]float64 // [setting][item]
	Groups []int       // the prompt of each item; nil: each item is a group of its own
}

// Options of an analysis. The zero value has the defaults.
type Options struct {
	Resamples  int     // of the bootstrap; 0: 2000
	Confidence float64 // 0: 0.95
	Seed       uint64
}

// Interval is an estimate with its confidence interval.
type Interval struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Ranking is what a table shows.
type Ranking struct {
	Mean []Interval // of each setting, by itself
	Best int        // the setting with the highest mean, -1 if there is none
	// Loss is what each setting loses against the best one, pair by pair. These intervals hold for all settings at once.
	Loss []Interval
	// Units is how many independent units were resampled: prompts where there are at least minGroups, otherwise items. Below 2,
	// nothing can be shown, and intervals are NaN.
	Units     int
	ByPrompts bool
	// Better says whether setting a is shown to be better than setting b.
	Better func(a, b int) bool
}

// minGroups is from how many prompts on these are resampled as wholes. With fewer, the spread of a handful of prompts says little,
// and items are resampled; what is shown then holds for these prompts only.
const minGroups = 6

// Rank compares settings with the best one by the paired bootstrap. A setting differs from it if the difference, in units of its own
// standard error, exceeds what the largest such difference of all pairs reaches by chance with the given confidence (max-T: Romano and
// Wolf 2005): any of them may have become the best by luck. So a table of a hundred settings does not make a winner out of noise.
func Rank(t Table, o Options) Ranking { return rank(t, o, true) }

func rank(t Table, o Options, compare bool) Ranking {
	if o.Resamples == 0 {
		o.Resamples = 2000
	}
	if o.Confidence == 0 {
		o.Confidence = 0.95
	}
	n := len(t.Values)
	r := Ranking{Mean: make([]Interval, n), Loss: make([]Interval, n), Best: -1}
	units := t.units()
	r.Units, r.ByPrompts = len(units), t.byGroups()
	draws := t.resample(units, o)
	small := student(len(units))
	wide := small.confidence(o.Confidence)

	for s := range n {
		r.Mean[s] = interval(t.mean(s), draws[s], wide)
		if m := r.Mean[s].Mean; !math.IsNaN(m) && (r.Best < 0 || m > r.Mean[r.Best].Mean) {
			r.Best = s
		}
	}
	r.Better = func(a, b int) bool { return false }
	if r.Best < 0 || !compare {
		return r
	}
	margin := func(a, b int) float64 { return math.NaN() }
	if len(units) > 1 {
		margin = margins(r.Mean, draws, o, small)
		r.Better = func(a, b int) bool {
			gain := r.Mean[a].Mean - r.Mean[b].Mean
			return a != b && gain > margin(a, b) && gain > 1e-12*math.Abs(r.Mean[a].Mean)
		}
	}
	for s := range n {
		loss := r.Mean[r.Best].Mean - r.Mean[s].Mean
		r.Loss[s] = Interval{loss, loss - margin(r.Best, s), loss + margin(r.Best, s)}
	}
	return r
}

// Means are the settings' means alone, each with its own interval.
func Means(t Table, o Options) []Interval { return rank(t, o, false).Mean }

// Decide is from how many units on a setting would be shown to be as good as the best, within the given loss, or to be worse, if its
// loss and the spread stay what they are; 0 where that is shown already, or nothing can be said.
func (r Ranking) Decide(s int, within float64) int {
	l := r.Loss[s]
	half := l.High - l.Mean
	if r.Units < 2 || !(half > 0) || l.High <= within || l.Low > 0 {
		return 0
	}
	allowed := max(within-l.Mean, l.Mean) // the half width that would do
	return max(int(math.Ceil(float64(r.Units)*(half/allowed)*(half/allowed))), r.Units+1)
}

// margins returns what the difference of two settings must exceed.
func margins(means []Interval, draws [][]float64, o Options, small student) func(a, b int) float64 {
	n := len(draws)
	spread := make([][]float64, n) // standard error of the difference
	largest := make([]float64, o.Resamples)
	for a := range n {
		spread[a] = make([]float64, n)
		for b := range a {
			d := differences(draws[a], draws[b])
			mean, se := moments(d)
			if !(se > 1e-12*(math.Abs(means[a].Mean)+math.Abs(means[b].Mean))) {
				spread[a][b] = se * 0 // equal up to rounding; NaN where one is missing
				continue
			}
			spread[a][b] = se
			for i, v := range d {
				largest[i] = max(largest[i], math.Abs(v-mean)/se)
			}
		}
	}
	slices.Sort(largest)
	critical := small.widen(quantile(largest, o.Confidence))
	return func(a, b int) float64 { return critical * spread[max(a, b)][min(a, b)] }
}

// student corrects for a small number of units n, where a bootstrap's intervals are too narrow: its spread lacks a factor √(n/(n−1)), and
// its tails are the normal's where they should be Student's with n−1 degrees of freedom (Hesterberg 2015, sec. 5.3).
type student int

// widen turns a number of standard errors.
func (n student) widen(z float64) float64 {
	if n < 2 || z == 0 {
		return z
	}
	units := float64(n)
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: units - 1}
	return t.Quantile(min(distuv.UnitNormal.CDF(z), 1-1e-12)) * math.Sqrt(units/(units-1))
}

// confidence is that of the percentiles which have the given confidence after the correction; NaN for a single unit, from
// which nothing can be said of any other.
func (n student) confidence(c float64) float64 {
	if n < 2 {
		return math.NaN()
	}
	return 2*distuv.UnitNormal.CDF(n.widen(distuv.UnitNormal.Quantile((1+c)/2))) - 1
}

func (t Table) byGroups() bool {
	seen := map[int]bool{}
	for _, g := range t.Groups {
		seen[g] = true
	}
	return len(seen) >= minGroups
}

// units are the items that are drawn together.
func (t Table) units() [][]int {
	if len(t.Values) == 0 {
		return nil
	}
	var units [][]int
	if !t.byGroups() {
		for i := range t.Values[0] {
			units = append(units, []int{i})
		}
		return units
	}
	at := map[int]int{}
	for i, g := range t.Groups {
		if _, ok := at[g]; !ok {
			at[g] = len(units)
			units = append(units, nil)
		}
		units[at[g]] = append(units[at[g]], i)
	}
	return units
}

// resample returns the mean of each setting in each resample: [setting][resample]. All settings see the same
// draws, which is what makes differences paired.
func (t Table) resample(units [][]int, o Options) [][]float64 {
	draws := make([][]float64, len(t.Values))
	for s := range draws {
		draws[s] = make([]float64, o.Resamples)
	}
	if len(units) == 0 {
		return draws
	}
	rng := rand.New(rand.NewPCG(o.Seed, 20040731))
	count := make([]float64, len(t.Values[0]))
	for b := range o.Resamples {
		clear(count)
		for range units {
			for _, item := range units[rng.IntN(len(units))] {
				count[item]++
			}
		}
		for s, values := range t.Values {
			var sum, weight float64
			for i, v := range values {
				if count[i] > 0 && !math.IsNaN(v) {
					sum, weight = sum+count[i]*v, weight+count[i]
				}
			}
			draws[s][b] = sum / weight // NaN where nothing was drawn
		}
	}
	return draws
}

func (t Table) mean(s int) float64 {
	var sum, n float64
	for _, v := range t.Values[s] {
		if !math.IsNaN(v) {
			sum, n = sum+v, n+1
		}
	}
	return sum / n
}

func differences(a, b []float64) []float64 {
	d := make([]float64, len(a))
	for i := range a {
		d[i] = a[i] - b[i]
	}
	return d
}

// interval is the percentile interval of the draws. confidence is NaN where one unit alone was drawn: there is no interval.
func interval(mean float64, draws []float64, confidence float64) Interval {
	if math.IsNaN(confidence) {
		return Interval{mean, math.NaN(), math.NaN()}
	}
	sorted := slices.DeleteFunc(slices.Clone(draws), math.IsNaN)
	if len(sorted) == 0 {
		return Interval{mean, math.NaN(), math.NaN()}
	}
	slices.Sort(sorted)
	return Interval{mean, quantile(sorted, (1-confidence)/2), quantile(sorted, (1+confidence)/2)}
}

// Quantiles are the q-quantiles of v, between neighbours linearly (NumPy's default); NaN where v is empty.
func Quantiles(v []float64, qs ...float64) []float64 {
	sorted := slices.Clone(v)
	slices.Sort(sorted)
	out := make([]float64, len(qs))
	for i, q := range qs {
		out[i] = quantile(sorted, q)
	}
	return out
}

func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

func moments(v []float64) (mean, deviation float64) {
	var n float64
	for _, x := range v {
		if !math.IsNaN(x) {
			mean, n = mean+x, n+1
		}
	}
	mean /= n
	for _, x := range v {
		if !math.IsNaN(x) {
			deviation += (x - mean) * (x - mean)
		}
	}
	return mean, math.Sqrt(deviation / (n - 1))
}

// Pareto lists the settings that no other beats: each other one is worse, or is slower. slower(a, b) says whether a is known to be
// slower than b; of settings whose times cannot be told apart, the best is on the front.
func Pareto(quality []float64, slower func(a, b int) bool) []int {
	var front []int
	for i, q := range quality {
		if math.IsNaN(q) {
			continue
		}
		beaten := false
		for j, other := range quality {
			if j == i || math.IsNaN(other) || slower(j, i) {
				continue
			}
			beaten = beaten || other > q || other == q && (slower(i, j) || j < i)
		}
		if !beaten {
			front = append(front, i)
		}
	}
	slices.SortStableFunc(front, func(a, b int) int {
		switch {
		case slower(a, b):
			return 1
		case slower(b, a):
			return -1
		}
		return cmp.Compare(quality[a], quality[b])
	})
	return front
}

// Slower says whether times a are longer than b, taken in pairs: whether the mean of log(a/b) lies above 0 by more than its
// interval. With many comparisons, each must be surer: confidence is of all of them.
func Slower(a, b []float64, confidence float64, comparisons int) bool {
	var d []float64
	for i := range a {
		if a[i] > 0 && b[i] > 0 {
			d = append(d, math.Log(a[i]/b[i]))
		}
	}
	if len(d) < 2 {
		return false
	}
	mean, deviation := moments(d)
	n := float64(len(d))
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: n - 1}
	return mean > t.Quantile(1-(1-confidence)/2/float64(max(comparisons, 1)))*deviation/math.Sqrt(n)
}
