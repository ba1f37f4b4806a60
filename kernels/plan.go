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

// plan gives each value of the graph a place in one arena such that values that live at the same
// time do not overlap. Inputs and outputs live from start to end, so that a program can be run again.
//
// Largest first, each at the lowest offset that is free for its whole life: the greedy-by-size
// strategy of Pisarchyk & Lee 2020, within a few per cent of the lower bound on U-Nets.
func (g *Graph) plan() (places []placement, bytes int) {
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
		touch(in.t, len(g.steps))
	}
	for i, s := range g.steps {
		touch(s.out, i)
		for _, t := range s.op.Inputs() {
			touch(t, i)
		}
	}
	for _, out := range g.outputs {
		byValue[root(out.t)].first = 0
		touch(out.t, len(g.steps))
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

// ArenaBytes is the memory that the graph's activations need at their fullest.
func (g *Graph) ArenaBytes() int {
	_, n := g.plan()
	return n
}
