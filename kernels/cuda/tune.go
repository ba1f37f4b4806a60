//go:build cuda && linux && amd64

package cuda

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"darkroom/atomicfile"

	"gorgonia.org/cu"
)

// tuner chooses gemm_mma's tile for each shape by time measured on the device at the shape's first use, and keeps
// the choices in a file. All tiles give the same bits (TestTiles), so that a choice, however it falls, changes no picture.
// Where nothing could be measured, chooseTile's model decides.
type tuner struct {
	path   string            // of the file; "" keeps nothing
	chosen map[string]string // tile names by shape
	left   time.Duration     // that may still be spent on measuring
	dirty  bool
}

// measuringTime is what a process spends on measuring at most; the rest is measured by the next one. A GPU needs some
// milliseconds for all shapes of a model, the emulated device would take hours.
const measuringTime = time.Second

// choices is the tuner's file.
type choices struct {
	Device, Driver, Build string
	Tiles                 map[string]string
}

// newTuner reads what was measured earlier. A file that is damaged, not a file, or too large is passed over: then
// shapes are measured again.
func newTuner(path string) *tuner {
	t := &tuner{path: path, chosen: map[string]string{}, left: measuringTime}
	for shape, name := range readChoices(path) {
		if tileByName(name) != nil {
			t.chosen[shape] = name
		}
	}
	return t
}

func readChoices(path string) map[string]string {
	const most = 1 << 20
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > most {
		return nil
	}
	body, err := os.ReadFile(path)
	var c choices
	if err != nil || len(body) > most || json.Unmarshal(body, &c) != nil {
		return nil
	}
	return c.Tiles
}

func tileByName(name string) *tile {
	for i := range tiles {
		if tiles[i].name == name {
			return &tiles[i]
		}
	}
	return nil
}

// save writes the choices beside what another process has put there meanwhile.
func (t *tuner) save(d Device) {
	if t == nil || !t.dirty || t.path == "" {
		return
	}
	t.dirty = false
	all := readChoices(t.path)
	if all == nil {
		all = map[string]string{}
	}
	for shape, name := range t.chosen {
		all[shape] = name
	}
	body, err := json.MarshalIndent(choices{d.Name, d.Driver, buildID(), all}, "", "\t")
	if err == nil {
		_ = atomicfile.WriteData(t.path, body) // a cache: without it, the next run measures again
	}
}

// shape names what the time of a product depends on.
func (b *Backend) shape(g gemm) string {
	return fmt.Sprintf("%s %dx%dx%d/%d %dx%d/%d of %d+%d at %dx%d act %d", b.tensorCores(), g.m, g.n, g.k, g.splits, g.kh, g.kw, g.stride, g.c1, g.c2, g.upH, g.upW, g.act)
}

// tileFor is the tile for a product: as measured, or as modelled.
func (b *Backend) tileFor(g gemm) tile {
	modelled := chooseTile(int(g.m), int(g.n), int(g.splits), b.device.Processors)
	if b.onlyTile != nil {
		return *b.onlyTile
	}
	if b.tuner == nil {
		return modelled
	}
	shape := b.shape(g)
	if t := tileByName(b.tuner.chosen[shape]); t != nil {
		return *t
	}
	if b.recording || b.err != nil || b.tuner.left <= 0 {
		return modelled
	}
	start := time.Now()
	t := b.fastest(g, modelled)
	b.tuner.left -= time.Since(start)
	b.tuner.chosen[shape], b.tuner.dirty = t.name, true
	return t
}

// fastest times the product with each tile. The results go to memory of their own, because the real ones may lie where
// an operand does.
func (b *Backend) fastest(g gemm, modelled tile) tile {
	result, err := b.alloc(int(g.m) * int(g.n) * b.dtype.Size())
	if err != nil {
		return modelled
	}
	defer func() { _ = cu.MemFree(result.at) }()
	g.d = result.at
	var events [2]cu.Event
	for i := range events {
		if events[i], err = cu.MakeEvent(cu.DefaultEvent); err != nil {
			return modelled
		}
		defer func() { _ = cu.DestroyEvent(&events[i]) }()
	}
	const runs = 3
	best, least := modelled, 0.0
	for _, t := range tiles {
		if t.shared() > b.sharedMost {
			continue
		}
		b.product(g, t, "") // loads the kernel and warms the caches
		if events[0].Record(b.stream) != nil {
			return modelled
		}
		for range runs {
			b.product(g, t, "")
		}
		if events[1].Record(b.stream) != nil || events[1].Synchronize() != nil || b.err != nil {
			return modelled
		}
		ms, err := events[0].Elapsed(events[1])
		if err != nil {
			return modelled
		}
		if least == 0 || ms < least {
			best, least = t, ms
		}
	}
	return best
}
