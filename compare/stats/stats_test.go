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
		if slices.Max(r.Rank) > 1 {
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
	if want := []int{2, 2, 2, 1, 2}; !slices.Equal(r.Rank, want) {
		t.Errorf("ranks %v, want %v", r.Rank, want)
	}
	if r.Best != 3 || !r.ByPrompts || r.Units != 40 {
		t.Errorf("best %d of %d units, by prompts: %v", r.Best, r.Units, r.ByPrompts)
	}
	if b := r.BehindBest[0]; !(b.Low > 1 && b.High < 3 && b.Low < b.Mean && b.Mean < b.High) {
		t.Errorf("setting 0 is behind by %+v, want an interval around 2", b)
	}
	if m := r.Mean[0]; !(m.High-m.Low > 4*(r.BehindBest[0].High-r.BehindBest[0].Low)) {
		t.Errorf("the mean's interval %+v should be much wider than the difference's %+v", m, r.BehindBest[0])
	}
}

// The seeds of a prompt are no independent units where there are enough prompts.
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
	if r.Best != -1 || len(r.Rank) != 0 {
		t.Errorf("an empty table gives %+v", r)
	}
	r = Rank(Table{Values: [][]float64{{5}, {1}}}, Options{})
	if !slices.Equal(r.Rank, []int{1, 1}) || r.Best != 0 {
		t.Errorf("one item shows nothing, but the ranks are %v", r.Rank)
	}
	nan := math.NaN()
	r = Rank(Table{Values: [][]float64{{nan, nan, nan}, {1, 1, 1}, {2, 2, 2}, {2, 2, 2}}}, Options{})
	if !slices.Equal(r.Rank, []int{0, 3, 1, 1}) {
		t.Errorf("ranks %v, want 0 for what is missing, and a tie of the equal ones", r.Rank)
	}
}

func TestPareto(t *testing.T) {
	seconds := []float64{3, 1, 2, 2, 4, math.NaN(), 1}
	quality := []float64{5, 1, 3, 4, 5, 9, 0}
	if got := Pareto(seconds, quality); !slices.Equal(got, []int{1, 3, 0}) {
		t.Errorf("front %v, want [1 3 0]", got)
	}
}

func TestQuantiles(t *testing.T) {
	got := Quantiles([]float64{4, 1, 3, 2}, 0.25, 0.5, 0.75) // numpy.quantile([1,2,3,4], …)
	if !slices.Equal(got, []float64{1.75, 2.5, 3.25}) {
		t.Errorf("quartiles %v", got)
	}
}
