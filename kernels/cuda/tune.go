//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"darkroom/atomicfile"

	"gorgonia.org/cu"
)

// tuner chooses a shape's family by time measured on the device at the shape's first use, and keeps the choices in a
// file. It chooses among families that give the same bits, so a choice, however it falls, changes no picture.
// Where nothing could be measured, a model decides.
type tuner struct {
	path   string            // of the file; "" keeps nothing
	chosen map[string]string // families' names by shape
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
	known := map[string]bool{}
	for _, f := range families {
		known[f.name] = true
	}
	for shape, name := range readChoices(path) {
		if known[name] {
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
	normed := ""
	if g.moments != 0 {
		normed = " normed"
	}
	return fmt.Sprintf("%s %dx%dx%d/%d %dx%d/%d of %d+%d at %dx%d act %d%s", b.tensorCores(), g.m, g.n, g.k, g.splits, g.kh, g.kw, g.stride, g.c1, g.c2, g.upH, g.upW, g.act, normed)
}

// choose is the candidate that was measured as the fastest, now or earlier.
func (t *tuner) choose(b *Backend, g gemm, candidates []*family) *family {
	shape := b.shape(g)
	if f := named(candidates, t.chosen[shape]); f != nil {
		return f
	}
	modelled := b.modelled(g, candidates)
	if b.recording || b.err != nil || t.left <= 0 {
		return modelled
	}
	start := time.Now()
	f := b.fastest(g, candidates, modelled)
	t.left -= time.Since(start)
	t.chosen[shape], t.dirty = f.name, true
	return f
}

// fastest times the product by each candidate. The results go to memory of their own, because the real ones may lie where
// an operand does.
func (b *Backend) fastest(g gemm, candidates []*family, modelled *family) *family {
	result, err := b.alloc(int(g.m) * int(g.n) * b.dtype.Size())
	if err != nil {
		return modelled
	}
	defer func() { _ = cu.MemFree(result.at) }()
	g.d = result.at
	best, least := modelled, 0.0
	for _, f := range candidates {
		ms, ok := b.measure(g, f)
		if !ok {
			return modelled
		}
		if least == 0 || ms < least {
			best, least = f, ms
		}
	}
	return best
}

// measure is the time of a product by a family.
func (b *Backend) measure(g gemm, f *family) (ms float64, ok bool) {
	return b.timed(func() { b.product(g, f) })
}

// timed is the time of what run queues, in ms, and whether it could be measured.
func (b *Backend) timed(run func()) (ms float64, ok bool) {
	var events [2]cu.Event
	for i := range events {
		var err error
		if events[i], err = cu.MakeEvent(cu.DefaultEvent); err != nil {
			return 0, false
		}
		defer func() { _ = cu.DestroyEvent(&events[i]) }()
	}
	const runs = 3
	run() // loads the kernel and warms the caches
	if events[0].Record(b.stream) != nil {
		return 0, false
	}
	for range runs {
		run()
	}
	if events[1].Record(b.stream) != nil || events[1].Synchronize() != nil || b.err != nil {
		return 0, false
	}
	ms, err := events[0].Elapsed(events[1])
	return ms / runs, err == nil
}
