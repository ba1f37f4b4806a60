// Package stepcache decides which calls of a denoiser are whole, and which take a part of the network's work from an
// earlier call: a U-Net's inner layers change slowly from one noise level to the next, and what cross-attention gives
// hardly changes in the later steps.
//
// A method is written NAME[:key=value,…], such as deepcache:every=3; see [Methods].
package stepcache

import (
	"math"

	"darkroom/option"
)

// Method is a parsed choice. The zero value leaves every call whole.
type Method struct{ option.Choice }

// Methods lists all methods.
func Methods() []option.Info {
	layers := option.Key{Name: "layers", Default: 2, Low: 1, High: 64, About: "outermost layers of the U-Net's way up that every call runs"}
	return []option.Info{
		{Name: "none", About: "every call of the U-Net is whole"},
		{Name: "deepcache", About: "one call of every few is whole, the others run the outermost layers alone", Paper: "Ma, Fang and Wang 2024, arXiv 2312.00858", Keys: []option.Key{
			{Name: "every", Default: 3, Low: 2, High: 1000, About: "one call of so many is whole"},
			{Name: "first", Default: 1, Low: 1, High: 1000, About: "so many calls at the beginning are whole"},
			{Name: "last", Default: 0, Low: 0, High: 1000, About: "so many steps at the end are whole"},
			layers}},
		{Name: "firstblock", About: "a call is whole where the first layer's result has changed by more than a threshold since the last whole one", Paper: "first-block caching, as ParaAttention has it for transformers; after Liu et al. 2024 (TeaCache), arXiv 2411.19108", Keys: []option.Key{
			{Name: "threshold", Default: 0.1, Low: 0, High: math.MaxFloat32, About: "relative change, mean of |now − then| ÷ mean of |then|"},
			{Name: "most", Default: 3, Low: 1, High: 1000, About: "so many calls in a row are not whole at the most"},
			layers}},
		{Name: "tgate", About: "from a step on, cross-attention gives what it gave in the step before, mean of prompt and negative prompt, and there is no guidance", Paper: "Zhang et al. 2024, arXiv 2404.02747v1", Keys: []option.Key{
			{Name: "gate", Default: 10, Low: 1, High: 1000, About: "so many steps at the beginning are whole"}}},
	}
}

// Parse reads NAME[:key=value,…]; keys that count take whole numbers.
func Parse(text string) (Method, error) {
	c, err := option.Parse("cache", text, Methods())
	if err != nil {
		return Method{}, err
	}
	m := Method{c}
	for _, key := range []string{"every", "first", "last", "most", "layers", "gate"} {
		if v, given := c.Get(key); given {
			m.Choice = m.Choice.With(key, math.Floor(v))
		}
	}
	return m, nil
}

// On says whether the method leaves anything out.
func (m Method) On() bool { return m.Name != "" && m.Name != "none" }

// Layers is how many of the outermost layers every call runs; 0 where all calls run all of them.
func (m Method) Layers() int {
	if !m.On() || m.Gate() > 0 {
		return 0
	}
	return int(m.Value(Methods(), "layers"))
}

// Probes says whether Next must be told of the first layer's result.
func (m Method) Probes() bool { return m.Name == "firstblock" }

// Gate is the number of whole steps of the method that leaves out cross-attention and guidance after them; 0 of others.
func (m Method) Gate() int {
	if m.Name != "tgate" {
		return 0
	}
	return int(m.Value(Methods(), "gate"))
}

// BySteps says whether the method must know how many steps there are.
func (m Method) BySteps() bool { last, _ := m.Get("last"); return m.Name == "deepcache" && last > 0 }

// Cache decides for one picture. Its zero value with a Method has seen no call.
type Cache struct {
	Method
	calls int       // so far
	reuse int       // calls in a row that were not whole
	rows  int       // of the latest whole call
	gated bool      // what cross-attention gave is kept
	first []float32 // of the latest whole call
	// Whole are the calls that were whole, counted from 0.
	Whole []int
}

// Next says whether the next call is whole. It has so many rows, and comes in step of steps, from 0; steps is −1 where only
// the run tells. first is the first layer's result, which is kept, where the method Probes; nil otherwise.
func (c *Cache) Next(rows, step, steps int, first []float32) bool {
	whole := c.rows < rows // nothing is kept of the others
	switch c.Name {
	case "deepcache":
		n := c.calls - (c.key("first") - 1)
		whole = whole || n <= 0 || n%c.key("every") == 0 || steps >= 0 && step >= steps-c.key("last")
	case "tgate":
		whole = !c.Gated(step)
		c.gated = c.gated || c.Keeps(step)
	case "firstblock":
		whole = whole || c.reuse >= c.key("most") || change(first, c.first) > c.Value(Methods(), "threshold")
	default:
		panic("stepcache: no method " + c.Name)
	}
	if whole {
		c.Whole = append(c.Whole, c.calls)
		c.reuse, c.rows, c.first = 0, rows, first
	} else {
		c.reuse++
	}
	c.calls++
	return whole
}

// Gated says whether a call in that step takes cross-attention's results from an earlier one, and needs no guidance.
func (c *Cache) Gated(step int) bool { return c.gated && step >= c.Gate() }

// Keeps says whether what cross-attention gives in a whole call of that step is for those after it. Of several calls in
// one step the last one counts.
func (c *Cache) Keeps(step int) bool { return c.Gate() > 0 && step >= c.Gate()-1 }

// Rows is how many rows the latest whole call had.
func (c *Cache) Rows() int { return c.rows }

// Calls counts them so far.
func (c *Cache) Calls() int { return c.calls }

func (c *Cache) key(name string) int { return int(c.Value(Methods(), name)) }

// change is mean |now − then| ÷ mean |then|, over as many values as both have; infinite where there were none.
func change(now, then []float32) float64 {
	var difference, size float64
	n := min(len(now), len(then))
	for i := range n {
		difference += math.Abs(float64(now[i]) - float64(then[i]))
		size += math.Abs(float64(then[i]))
	}
	if size == 0 {
		return math.Inf(1)
	}
	return difference / size
}
