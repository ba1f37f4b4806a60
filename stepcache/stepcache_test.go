package stepcache

import (
	"slices"
	"strings"
	"testing"
)

// whole is which calls of a run are whole, at one call a step.
func whole(t *testing.T, text string, steps int, first func(call int) []float32) []int {
	t.Helper()
	m, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	c := &Cache{Method: m}
	for step := range steps {
		var f []float32
		if m.Probes() {
			f = first(step)
		}
		c.Next(2, step, steps, f)
	}
	if c.Calls() != steps || c.Rows() != 2 {
		t.Errorf("%s: %d calls of %d rows", text, c.Calls(), c.Rows())
	}
	return c.Whole
}

func TestDeepCache(t *testing.T) {
	for text, want := range map[string][]int{
		"deepcache":                        {0, 3, 6, 9},
		"deepcache:every=4":                {0, 4, 8},
		"deepcache:every=4,first=3":        {0, 1, 2, 6},
		"deepcache:every=4,last=2":         {0, 4, 8, 9},
		"deepcache:every=1000,last=1":      {0, 9},
		"deepcache:every=5,first=2,last=0": {0, 1, 6},
	} {
		if got := whole(t, text, 10, nil); !slices.Equal(got, want) {
			t.Errorf("%s: calls %v are whole, want %v", text, got, want)
		}
	}
}

func TestFirstBlock(t *testing.T) {
	grows := func(call int) []float32 { return []float32{1 + 0.06*float32(call), -1} }
	for text, want := range map[string][]int{
		"firstblock:threshold=0":           {0, 1, 2, 3, 4, 5, 6, 7},
		"firstblock:threshold=0.05":        {0, 2, 4, 6},
		"firstblock:threshold=9,most=2":    {0, 3, 6},
		"firstblock:threshold=0.08,most=9": {0, 3, 6},
	} {
		if got := whole(t, text, 8, grows); !slices.Equal(got, want) {
			t.Errorf("%s: calls %v are whole, want %v", text, got, want)
		}
	}
}

// From the gate on calls are not whole, but for the first one of a network that has not seen an earlier step.
func TestGate(t *testing.T) {
	for text, want := range map[string][]int{
		"tgate": {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, "tgate:gate=1": {0}, "tgate:gate=3.7": {0, 1, 2}, "tgate:gate=50": {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11},
	} {
		if got := whole(t, text, 12, nil); !slices.Equal(got, want) {
			t.Errorf("%s: calls %v are whole, want %v", text, got, want)
		}
	}
	m, err := Parse("tgate:gate=4")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cache{Method: m}
	for step := 6; step < 9; step++ {
		if gated := c.Gated(step); gated != (step > 6) {
			t.Errorf("step %d of a network that begins with step 6: gated %v", step, gated)
		}
		c.Next(1, step, 9, nil)
	}
	// Two calls a step: both of the last whole step are kept.
	c = &Cache{Method: m}
	for call, want := range []bool{true, true, true, true, true, true, true, true, false, false} {
		if got := c.Next(2, call/2, 9, nil); got != want {
			t.Errorf("call %d: whole %v", call, got)
		}
	}
}

// More rows than the latest whole call had make the next call whole; fewer do not.
func TestRowsThatAreNotKept(t *testing.T) {
	m, err := Parse("deepcache:every=100")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cache{Method: m}
	for step, rows := range []int{1, 1, 2, 1, 2} {
		c.Next(rows, step, 5, nil)
	}
	if want := []int{0, 2}; !slices.Equal(c.Whole, want) {
		t.Errorf("calls %v are whole, want %v", c.Whole, want)
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"": "none", "none": "none", " DeepCache:every=2.9": "deepcache:every=2", "firstblock": "firstblock",
	} {
		if m, err := Parse(text); err != nil || m.String() != want || m.On() == (want == "none") {
			t.Errorf("%q: %v %v, want %s", text, m, err, want)
		}
	}
	for text, want := range map[string]string{
		"none:layers=1": "it has none", "deepcache:every=1": "from 2 to 1000", "teacache": "there are none, deepcache, firstblock, tgate",
		"deepcache=2": "keys follow the name",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", text, err, want)
		}
	}
	if (Method{}).On() || (Method{}).Layers() != 0 {
		t.Error("the zero value leaves something out")
	}
}
