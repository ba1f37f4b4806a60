package batch

import (
	"cmp"
	"slices"

	"darkroom/batch/engine"
	"darkroom/batch/jobs"
)

// groups hands out images so that models are swapped, programs compiled and prompts encoded as seldom as possible:
// urgent ones first, then all of one model, of one size and sampler, of one prompt. Images do not depend on the order.
//
// It is a render.Source.
type groups struct {
	list []*group
	of   map[*jobs.Image]*group
	last map[int]*group // that a lane took from
}

// group is the images of one priority and one model.
type group struct {
	images []*jobs.Image
	rank   int // of its priority
	users  int // lanes at work on it
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
	g := &groups{of: map[*jobs.Image]*group{}, last: map[int]*group{}}
	for _, k := range order {
		slices.SortStableFunc(byKey[k].images, func(a, b *jobs.Image) int {
			p, q := &a.Request, &b.Request
			return cmp.Or(cmp.Compare(firstWith[settingsOf(a)], firstWith[settingsOf(b)]), cmp.Compare(p.ClipSkip, q.ClipSkip),
				cmp.Compare(firstOf[p.Prompt], firstOf[q.Prompt]), cmp.Compare(a.Index, b.Index))
		})
		g.list = append(g.list, byKey[k])
		for _, m := range byKey[k].images {
			g.of[m] = byKey[k]
		}
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

// Take is the next image for a lane.
func (g *groups) Take(lane int, skip func(*jobs.Image) bool) (*jobs.Image, bool) {
	m, at := g.next(g.last[lane], skip)
	g.last[lane] = at
	return m, m != nil
}

// Return takes images back, to be the next ones of their groups.
func (g *groups) Return(images []*jobs.Image) {
	for _, m := range slices.Backward(images) {
		to := g.of[m]
		to.images = slices.Insert(to.images, 0, m)
	}
}

// Left is how many images nobody has taken.
func (g *groups) Left() (n int) {
	for _, c := range g.list {
		n += len(c.images)
	}
	return n
}

// next is another image that skip (nil: none) does not refuse, of the lane's last group as long as there is one; else of
// a group that no other lane is at work on, else of any. nil: there is none.
func (g *groups) next(last *group, skip func(*jobs.Image) bool) (*jobs.Image, *group) {
	first := func(c *group) int {
		return slices.IndexFunc(c.images, func(m *jobs.Image) bool { return skip == nil || !skip(m) })
	}
	pick, at := last, -1
	if pick != nil {
		at = first(pick)
	}
	if at < 0 {
		if pick != nil {
			pick.users--
		}
		pick = nil
		for _, c := range g.list {
			if pick != nil && (c.rank != pick.rank || c.users >= pick.users) {
				continue
			}
			if i := first(c); i >= 0 {
				pick, at = c, i
			}
		}
		if pick == nil {
			return nil, nil
		}
		pick.users++
	}
	m := pick.images[at]
	if at == 0 {
		pick.images = pick.images[1:] // without moving the rest
	} else {
		pick.images = slices.Delete(pick.images, at, at+1)
	}
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

// Like is up to n more images that can be rendered at once with m, which the lane took last.
func (g *groups) Like(lane int, m *jobs.Image, n int) []*jobs.Image {
	of := g.last[lane]
	n = min(n, len(of.images))
	for i, other := range of.images[:n] {
		if settingsOf(other) != settingsOf(m) {
			n = i
			break
		}
	}
	some := slices.Clone(of.images[:n])
	of.images = of.images[n:]
	return some
}
