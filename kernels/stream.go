package kernels

import "fmt"

// Streamer is a Backend that can bring a weight to its device again and again, so that a program runs with little
// more memory than its largest operation needs. Copies have a queue of their own beside that of the operations.
type Streamer interface {
	Backend
	// Stage readies a weight for Fetch, once. Where the device has memory of its own, the packed weight is kept on the host;
	// Unload frees it. It fails on NaN and infinity.
	Stage(w *Weight) error
	// Place remembers where a fetched weight lies, as Load does of what it packed; nil forgets it.
	Place(w *Weight, m Mem)
	// Fetch queues the copy of a weight into dst, PackedBytes long. Errors come with the next Sync.
	Fetch(dst Mem, w *Weight)
	// FetchesWaitForOps: later fetches begin when the operations that were queued before are done.
	FetchesWaitForOps()
	// OpsWaitForFetches: later operations begin when the fetches that were queued before are done.
	OpsWaitForFetches()
}

// streaming is how the weights of a program come and go: block by block, into two places in turn, so that one block's
// weights are on their way while the one before it computes.
type streaming struct {
	blocks []block
	slots  [2]Mem
}

// block is a run of steps with the weights that they read.
type block struct {
	first, end int // steps [first, end)
	weights    []*Weight
	offsets    []int // of the weights in the slot
}

// resident says whether a weight stays on the device in a program that streams: vectors do, which are a thousandth
// of a model and half of its weights by number.
func resident(w *Weight) bool { return w.Role == Vector }

// blocks cuts the graph into runs of steps whose weights fit together into a slot. A slot holds what the step with the
// largest weights needs.
func (g *Graph) blocks(b Backend) (all []block, slot int) {
	size := func(w *Weight) int { return align(b.PackedBytes(w)) }
	for _, s := range g.steps {
		n := 0
		for _, w := range s.op.Weights() {
			if !resident(w) {
				n += size(w)
			}
		}
		slot = max(slot, n)
	}
	var now block
	used := 0
	in := map[*Weight]bool{}
	for i, s := range g.steps {
		var fresh []*Weight
		n := 0
		for _, w := range s.op.Weights() {
			if !resident(w) && !in[w] {
				fresh = append(fresh, w)
				n += size(w)
			}
		}
		if used+n > slot {
			all = append(all, now)
			now, used = block{first: i}, 0
			clear(in)
			fresh, n = nil, 0
			for _, w := range s.op.Weights() { // some may have been in the block before
				if !resident(w) {
					fresh = append(fresh, w)
				}
			}
		}
		for _, w := range fresh {
			if in[w] {
				continue // twice in one step
			}
			now.weights, now.offsets = append(now.weights, w), append(now.offsets, used)
			used += size(w)
			in[w] = true
		}
		now.end = i + 1
	}
	return append(all, now), slot
}

// StreamedBytes is the memory for weights that CompileStreamed takes on a backend, in bytes: two slots, and the
// weights that stay.
func (g *Graph) StreamedBytes(b Backend) int {
	_, slot := g.blocks(b)
	n := 2 * slot
	for _, w := range g.Weights() {
		if resident(w) {
			n += align(b.PackedBytes(w))
		}
	}
	return n
}

// CompileStreamed is Compile with weights that come to the device block by block each time that the program runs. The
// results are the same bits. Until the program is closed no other may use its weights.
func (g *Graph) CompileStreamed(b Streamer) (*Program, error) {
	for _, w := range g.Weights() {
		if resident(w) {
			continue
		}
		if b.Packed(w) != nil {
			b.Unload(w)
		}
		if err := b.Stage(w); err != nil {
			return nil, fmt.Errorf("loading %s: %w", w.Name, err)
		}
	}
	if err := load(b, g.Weights(), resident); err != nil {
		return nil, err
	}
	p, err := g.place(b, g.steps, 0)
	if err != nil {
		return nil, err
	}
	blocks, slot := g.blocks(b)
	p.stream = &streaming{blocks: blocks}
	for i := range p.stream.slots {
		if p.stream.slots[i], err = b.Alloc(slot); err != nil {
			p.Close()
			return nil, fmt.Errorf("allocating %d MiB for weights: %w", slot>>20, err)
		}
	}
	return p, nil
}

// fetch queues the copies of a block's weights.
func (s *streaming) fetch(b Streamer, i int) {
	for j, w := range s.blocks[i].weights {
		b.Fetch(s.place(b, i, j), w)
	}
}

func (s *streaming) place(b Streamer, i, j int) Mem {
	w := s.blocks[i].weights[j]
	return b.Slice(s.slots[i%2], s.blocks[i].offsets[j], b.PackedBytes(w))
}

// each calls f for every step, with its weights in place or on their way.
func (s *streaming) each(b Streamer, steps []step, f func(step) error) error {
	b.FetchesWaitForOps() // of the run before
	s.fetch(b, 0)
	for i, now := range s.blocks {
		b.OpsWaitForFetches() // of this block
		if i+1 < len(s.blocks) {
			b.FetchesWaitForOps() // of the block before, whose slot is filled now
			s.fetch(b, i+1)
		}
		for j, w := range now.weights {
			b.Place(w, s.place(b, i, j))
		}
		for _, st := range steps[now.first:now.end] {
			if err := f(st); err != nil {
				return err
			}
		}
	}
	return nil
}

// close frees the slots, after what is on its way to them. The weights are on no device any more.
func (s *streaming) close(b Streamer) {
	b.OpsWaitForFetches()
	_ = b.Sync() // nobody waits for these results
	for _, now := range s.blocks {
		for _, w := range now.weights {
			b.Place(w, nil)
		}
	}
	for _, m := range s.slots {
		if m != nil {
			b.Free(m)
		}
	}
}
