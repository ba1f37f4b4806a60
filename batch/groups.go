package batch

import (
	"cmp"
	"slices"
	"sync"

	"darkroom/batch/engine"
	"darkroom/batch/jobs"
)

// groups hands out images so that models are swapped, programs compiled and prompts encoded as seldom as possible:
// urgent ones first, then all of one model, of one size, of one prompt. Images do not depend on the order.
type groups struct {
	mu   sync.Mutex
	list []*group
}

// group is the images of one priority and one model.
type group struct {
	images []*jobs.Image
	rank   int // of its priority
	users  int // renderers at work on it
}

func newGroups(images []*jobs.Image) *groups {
	type key struct {
		rank  int
		model string
	}
	byKey := map[key]*group{}
	order := []key{}
	firstOf := map[string]int{} // prompt → its first image
	for _, m := range images {
		k := key{jobs.Rank(m.Priority), engine.Group(&m.Request)}
		if byKey[k] == nil {
			byKey[k] = &group{rank: k.rank}
			order = append(order, k)
		}
		byKey[k].images = append(byKey[k].images, m)
		if _, ok := firstOf[m.Request.Prompt]; !ok {
			firstOf[m.Request.Prompt] = m.Index
		}
	}
	slices.SortStableFunc(order, func(a, b key) int { return a.rank - b.rank })
	g := &groups{}
	for _, k := range order {
		slices.SortStableFunc(byKey[k].images, func(a, b *jobs.Image) int {
			p, q := &a.Request, &b.Request
			return cmp.Or(cmp.Compare(p.Width, q.Width), cmp.Compare(p.Height, q.Height), cmp.Compare(p.ClipSkip, q.ClipSkip),
				cmp.Compare(firstOf[p.Prompt], firstOf[q.Prompt]), cmp.Compare(a.Index, b.Index))
		})
		g.list = append(g.list, byKey[k])
	}
	return g
}

// next is another image, of the renderer's last group as long as there is one; else of a group that no other renderer
// is at work on, else of any. nil: there is none left.
func (g *groups) next(last *group) (*jobs.Image, *group) {
	g.mu.Lock()
	defer g.mu.Unlock()
	pick := last
	if pick == nil || len(pick.images) == 0 {
		if pick != nil {
			pick.users--
		}
		pick = nil
		for _, c := range g.list {
			if len(c.images) > 0 && (pick == nil || c.rank == pick.rank && c.users < pick.users) {
				pick = c
			}
		}
		if pick == nil {
			return nil, nil
		}
		pick.users++
	}
	m := pick.images[0]
	pick.images = pick.images[1:]
	return m, pick
}
