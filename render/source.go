package render

import "slices"

// Count is a Source of the numbers from 0 to n−1, which are pictures of one kind. It takes no memory for those that are
// not in work.
func Count(n int) Source[int] { return &count{n: n} }

type count struct {
	next, n int
	back    []int
}

func (c *count) Take(_ int, skip func(int) bool) (int, bool) {
	for i, item := range c.back {
		if !skip(item) {
			c.back = slices.Delete(c.back, i, i+1)
			return item, true
		}
	}
	if c.next == c.n || skip(c.next) {
		return 0, false
	}
	c.next++
	return c.next - 1, true
}

func (c *count) Like(_, _, n int) []int {
	k := min(n, len(c.back))
	some := slices.Clone(c.back[:k])
	c.back = slices.Delete(c.back, 0, k)
	for len(some) < n && c.next < c.n {
		some = append(some, c.next)
		c.next++
	}
	return some
}

func (c *count) Return(items []int) { c.back = slices.Concat(items, c.back) }

func (c *count) Left() int { return len(c.back) + c.n - c.next }
