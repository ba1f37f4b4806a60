package batch

import (
	"cmp"
	"slices"
	"sync"

	"darkroom/batch/engine"
	"darkroom/batch/jobs"
)

// groups hands out images so that models are swapped, programs compiled and prompts encoded as seldom as possible:
// urgent ones first, then all of one model, of one size and sampler, of one prompt. Images do not depend on the order.
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
	firstWith := map[settings]int{}
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
		if _, ok := firstWith[settingsOf(m)]; !ok {
			firstWith[settingsOf(m)] = m.Index
		}
	}
	slices.SortStableFunc(order, func(a, b key) int { return a.rank - b.rank })
	g := &groups{}
	for _, k := range order {
		slices.SortStableFunc(byKey[k].images, func(a, b *jobs.Image) int {
			p, q := &a.Request, &b.Request
			return cmp.Or(cmp.Compare(firstWith[settingsOf(a)], firstWith[settingsOf(b)]), cmp.Compare(p.ClipSkip, q.ClipSkip),
				cmp.Compare(firstOf[p.Prompt], firstOf[q.Prompt]), cmp.Compare(a.Index, b.Index))
		})
		g.list = append(g.list, byKey[k])
	}
	return g
}

// Ordered is the order in which images are best rendered by whoever takes them one by one: urgent ones first, then all of
// one model, of one size and sampler, of one prompt.
func Ordered(images []*jobs.Image) []*jobs.Image {
	all := make([]*jobs.Image, 0, len(images))
	for _, g := range newGroups(images).list {
		all = append(all, g.images...)
	}
	return all
}

// putBack gives images of a group back, to be the next ones.
func (g *groups) putBack(images []*jobs.Image, to *group) {
	if len(images) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	to.images = slices.Concat(images, to.images)
}

// left says whether there are images that nobody has taken.
func (g *groups) left() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.list, func(c *group) bool { return len(c.images) > 0 })
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

// settings are what requests of one model share that are rendered at once: the size, without which they cannot be, and
// what decides how often the model is asked, without which some would wait for others.
type settings struct {
	width, height, steps int
	scheduler, sigmas    string
}

func settingsOf(m *jobs.Image) settings {
	q := &m.Request
	return settings{q.Width, q.Height, q.Steps, q.Scheduler, q.Sigmas}
}

// like is up to n more images of the group that can be rendered at once with m, the image that was handed out last. So many
// are left that the other lanes of the devices have something to do too.
func (g *groups) like(m *jobs.Image, of *group, n, lanes int) []*jobs.Image {
	g.mu.Lock()
	defer g.mu.Unlock()
	left := 1 // m
	for _, c := range g.list {
		left += len(c.images)
	}
	n = min(n, (left+lanes-1)/lanes-1, len(of.images))
	for i, other := range of.images[:n] {
		if settingsOf(other) != settingsOf(m) {
			n = i
			break
		}
	}
	some := of.images[:n]
	of.images = of.images[n:]
	return some
}
