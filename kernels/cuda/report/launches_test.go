package main

import (
	"testing"

	"darkroom/kernels/bench"
)

// A step's kernels are at most half of what they were once. family counts those of the network itself.
func TestLaunches(t *testing.T) {
	for _, c := range []struct {
		unet        bench.UNet
		former, now int
	}{{bench.SD15, 629, 309}, {bench.SDXL, 1442, 714}} {
		all := func(count map[string]int) (n int) {
			for _, k := range count {
				n += k
			}
			return n
		}
		former, now := stepLaunches(c.unet)
		if all(former) != c.former || all(now) != c.now {
			t.Errorf("%s: %d launches, formerly %d; want %d and %d", c.unet.Name, all(now), all(former), c.now, c.former)
		}
	}
}
