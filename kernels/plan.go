package kernels

import "slices"

// arenaAlign is the alignment of every tensor in the arena: a cache line's multiple, and what
// vector loads and GPU copies like.
const arenaAlign = 256

// placement is where a value lies in the arena and from which step to which it must stay there.
type placement struct {
	value       *Tensor
	first, last int
	offset      int
	size        int
}

// order is the graph's steps with those in front that depend on steady inputs alone, and how many those are.
func (g *Graph) order() (steps []step, steady int) {
	known := map[*Tensor]bool{}
	for t := range g.steady {
		known[t] = true
	}
	var rest []step
	for _, s := range g.steps {
		if slices.ContainsFunc(s.op.Inputs(), func(t *Tensor) bool { return !known[root(t)] }) {
			rest = append(rest, s)
			continue
		}
		known[root(s.out)] = true
		steps = append(steps, s)
	}
	return append(steps, rest...), len(steps)
}

// plan gives each value of the graph a place in one arena such that values that live at the same
// time do not overlap. Inputs and outputs live from start to end, so that a program can be run again;
// what the first, steady steps leave for the others lives to the end, so that those can be run again alone.
//
// Largest first, each at the lowest offset that is free for its whole life: the greedy-by-size
// strategy of Pisarchyk & Lee 2020, within a few per cent of the lower bound on U-Nets.
func (g *Graph) plan(steps []step, steady int) (places []placement, bytes int) {
	byValue := map[*Tensor]*placement{}
	touch := func(t *Tensor, at int) {
		r := root(t)
		p := byValue[r]
		if p == nil {
			p = &placement{value: r, first: at, size: align(r.Bytes())}
			byValue[r] = p
		}
		p.last = max(p.last, at)
	}
	for _, in := range g.inputs {
		touch(in.t, 0)
		touch(in.t, len(steps))
	}
	for i, s := range steps {
		touch(s.out, i)
		for _, t := range s.op.Inputs() {
			touch(t, i)
			if p := byValue[root(t)]; i >= steady && p.first < steady {
				p.last = len(steps)
			}
		}
	}
	for _, out := range g.outputs {
		byValue[root(out.t)].first = 0
		touch(out.t, len(steps))
	}

	order := make([]*placement, 0, len(byValue))
	for _, p := range byValue {
		order = append(order, p)
	}
	slices.SortFunc(order, func(a, b *placement) int {
		if a.size != b.size {
			return b.size - a.size
		}
		return a.value.id - b.value.id
	})
	var placed []*placement // sorted by offset
	for _, p := range order {
		offset := 0
		for _, q := range placed {
			if q.first > p.last || q.last < p.first {
				continue
			}
			if offset+p.size <= q.offset {
				break
			}
			offset = max(offset, q.offset+q.size)
		}
		p.offset = offset
		bytes = max(bytes, offset+p.size)
		i, _ := slices.BinarySearchFunc(placed, p, func(a, b *placement) int { return a.offset - b.offset })
		placed = slices.Insert(placed, i, p)
	}
	for _, p := range placed {
		places = append(places, *p)
	}
	return places, bytes
}

func align(n int) int { return (n + arenaAlign - 1) &^ (arenaAlign - 1) }

// ArenaBytes is the memory that the graph's activations need at their fullest, of a program whose weights stay or are
// streamed.
func (g *Graph) ArenaBytes(streamed bool) int {
	steps, steady := g.steps, 0
	if !streamed {
		steps, steady = g.order()
	}
	_, n := g.plan(steps, steady)
	return n
}
