package main

import (
	"math"
	"testing"
)

// TestPublished holds the model to what others measured.
func TestPublished(t *testing.T) {
	for _, f := range figures() {
		p := f.predict(f.card)
		if e := f.error(p); math.Abs(e) > believed || math.IsNaN(e) {
			t.Errorf("%s on %s: published %.1f %s, modelled %.1f (%+.0f %%)", f.what, f.card.name, f.value, f.unit, p, 100*e)
		}
	}
}

// TestQueues: a warp alone waits for one resource after the other, many for the busiest alone.
func TestQueues(t *testing.T) {
	g := gpu{name: "test", processors: 1, clock: 1, sustained: 1, cycles: 2}
	c := cost{issued: 4e6, mma: 2e6, shared: 1e6, exp: 0.5e6} // 1, 4, 1 and 1 million cycles
	k := kernel{warps: 4, resident: 1}
	if got, want := k.time(g, c, 1, 0), 7e6+blockLatency; math.Abs(got-want) > 1 {
		t.Errorf("a block alone takes %.0f cycles, not the sum of %.0f", got, want)
	}
	if got, want := k.time(g, c, 1, 3e6), 10e6+blockLatency; math.Abs(got-want) > 1 {
		t.Errorf("a block alone takes %.0f cycles with its memory, not the sum of %.0f", got, want)
	}
	k.resident = 64
	if got, want := k.time(g, c, 64, 0)/64, 4e6; got < 0.999*want || got > 1.03*want {
		t.Errorf("a block of many takes %.0f cycles, not about the %.0f of the busiest resource", got, want)
	}
	k.resident = 2
	two := k.time(g, c, 2, 0) / 2
	if two <= 4e6 || two >= 7e6 {
		t.Errorf("a block of two takes %.0f cycles, which is not between the busiest resource and the sum", two)
	}
	if k.wgmma = true; k.time(g, c, 2, 0)/2 >= two {
		t.Error("wgmma is no faster than mma.sync")
	}
}
