package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// noise is a table of settings that do not differ, with a common part for each item.
func noise(settings, items int, rng *rand.Rand) Table {
	t := Table{Values: make([][]float64, settings)}
	common := make([]float64, items)
	for i := range common {
		common[i] = 10 * rng.NormFloat64()
		t.Groups = append(t.Groups, i)
	}
	for s := range t.Values {
		for i := range items {
			t.Values[s] = append(t.Values[s], common[i]+rng.NormFloat64())
		}
	}
	return t
}

// Where nothing differs, a winner must be rare: 5 of 100 tables at 95 %. More than 15 of 100 happens by chance once in 20,000 times; the
// bootstrap of 20 items is a little too sure of itself, which that leaves room for.
func TestNoDifferenceShown(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	winners := 0
	for range 100 {
		r := Rank(noise(12, 20, rng), Options{Resamples: 400})
		if slices.ContainsFunc(r.Loss, func(l Interval) bool { return l.Low > 0 }) {
			winners++
		}
	}
	if winners > 15 {
		t.Errorf("%d of 100 tables of pure noise have a ranking, want about 5", winners)
	}
}

// A difference a tenth of the spread between items is found, because the items are paired.
func TestPairedDifference(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	table := noise(5, 40, rng)
	for i := range table.Values[3] {
		table.Values[3][i] += 2
	}
	r := Rank(table, Options{})
	if want := []bool{true, true, true, false, true}; !slices.Equal(worse(r), want) {
		t.Errorf("worse: %v, want %v", worse(r), want)
	}
	if r.Best != 3 || !r.ByPrompts || r.Units != 40 {
		t.Errorf("best %d of %d units, by prompts: %v", r.Best, r.Units, r.ByPrompts)
	}
	if b := r.Loss[0]; !(b.Low > 1 && b.High < 3 && b.Low < b.Mean && b.Mean < b.High) {
		t.Errorf("setting 0 loses %+v, want an interval around 2", b)
	}
	if m := r.Mean[0]; !(m.High-m.Low > 4*(r.Loss[0].High-r.Loss[0].Low)) {
		t.Errorf("the mean's interval %+v should be much wider than the difference's %+v", m, r.Loss[0])
	}
}

// If there are enough prompts, the seeds of one prompt do not count as independent units.
func TestPromptsAreUnits(t *testing.T) {
	table := Table{Values: [][]float64{make([]float64, 80), make([]float64, 80)}}
	rng := rand.New(rand.NewPCG(3, 3))
	for prompt := range 8 {
		effect := rng.NormFloat64()
		for range 10 {
			i := len(table.Groups)
			table.Values[0][i] = effect + 0.01*rng.NormFloat64()
			table.Groups = append(table.Groups, prompt)
		}
	}
	wide := Rank(table, Options{})
	table.Groups = nil
	narrow := Rank(table, Options{})
	if wide.Units != 8 || narrow.Units != 80 {
		t.Errorf("%d and %d units, want 8 and 80", wide.Units, narrow.Units)
	}
	// √10 for ten seeds that all say the same.
	if ratio := (wide.Mean[0].High - wide.Mean[0].Low) / (narrow.Mean[0].High - narrow.Mean[0].Low); ratio < 2 || ratio > 5 {
		t.Errorf("the interval over prompts is %.2f times that over pictures, want about 3", ratio)
	}
}

func TestDegenerate(t *testing.T) {
	r := Rank(Table{}, Options{})
	if r.Best != -1 || len(r.Loss) != 0 {
		t.Errorf("an empty table gives %+v", r)
	}
	r = Rank(Table{Values: [][]float64{{5}, {1}}}, Options{})
	if slices.Contains(worse(r), true) || r.Best != 0 || !math.IsNaN(r.Loss[1].High) {
		t.Errorf("one item shows nothing, but the losses are %v", r.Loss)
	}
	nan := math.NaN()
	r = Rank(Table{Values: [][]float64{{nan, nan, nan}, {1, 1, 1}, {2, 2, 2}, {2, 2, 2}}}, Options{})
	if want := []bool{false, true, false, false}; !slices.Equal(worse(r), want) || !math.IsNaN(r.Loss[0].Mean) || r.Loss[3] != (Interval{}) {
		t.Errorf("losses %v, want none for what is missing, and nothing between the equal ones", r.Loss)
	}
}

func worse(r Ranking) (list []bool) {
	for _, l := range r.Loss {
		list = append(list, l.Low > 0)
	}
	return list
}

// As many prompts as Decide names do decide, of a setting that is truly as good and of one that is truly worse.
func TestDecide(t *testing.T) {
	for name, c := range map[string]struct{ loss, within float64 }{"as good": {0, 0.5}, "worse": {1, 0.1}} {
		decided, small := 0, 0
		for seed := range uint64(40) {
			draw := func(n int) Ranking {
				table := noise(2, n, rand.New(rand.NewPCG(seed, 9)))
				for i := range table.Values[1] {
					table.Values[1][i] -= c.loss
				}
				return Rank(table, Options{Resamples: 400})
			}
			r := draw(10)
			s := 1 - r.Best
			n := r.Decide(s, c.within)
			if n == 0 {
				continue // decided, or the wrong way round
			}
			if small++; n <= 10 {
				t.Fatalf("%s: %d units of 10 would decide", name, n)
			}
			if n > 2000 {
				continue
			}
			more := draw(n)
			if l := more.Loss[1-more.Best]; l.High <= c.within || l.Low > 0 {
				decided++
			}
		}
		if small < 10 || 3*decided < small { // the spread of 10 units is known to a third
			t.Errorf("%s: %d of %d undecided ones were decided by as many units as was said", name, decided, small)
		}
	}
}

func TestPareto(t *testing.T) {
	seconds := []float64{3, 1, 2, 2, 4, math.NaN(), 1}
	quality := []float64{5, 1, 3, 4, 5, math.NaN(), 0}
	slower := func(a, b int) bool { return seconds[a] > seconds[b] }
	if got := Pareto(quality, slower); !slices.Equal(got, []int{1, 3, 0}) {
		t.Errorf("front %v, want [1 3 0]", got)
	}
	// Times that cannot be told apart are one time: only the best of them is on the front.
	if got := Pareto(quality, func(a, b int) bool { return seconds[a] > seconds[b]+1.5 }); !slices.Equal(got, []int{0}) {
		t.Errorf("front %v, want [0]", got)
	}
}

// Pairs: a machine that is ten times slower for some items hides no difference of 10 %, and noise alone makes none.
func TestSlower(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	var a, b, c []float64
	for i := range 16 {
		load := 1 + 9*float64(i%2)
		a = append(a, 1.1*load*math.Exp(0.02*rng.NormFloat64()))
		b = append(b, load*math.Exp(0.02*rng.NormFloat64()))
		c = append(c, load*math.Exp(0.02*rng.NormFloat64()))
	}
	if !Slower(a, b, 0.95, 20) || Slower(b, a, 0.95, 20) || Slower(b, c, 0.95, 20) || Slower(c, b, 0.95, 20) || Slower(a[:1], b[:1], 0.95, 1) {
		t.Error("wrong of times that differ by 10 %, by nothing, or are one")
	}
}

func TestQuantiles(t *testing.T) {
	got := Quantiles([]float64{4, 1, 3, 2}, 0.25, 0.5, 0.75) // numpy.quantile([1,2,3,4], …)
	if !slices.Equal(got, []float64{1.75, 2.5, 3.25}) {
		t.Errorf("quartiles %v", got)
	}
}
