package jobs

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"darkroom/recipe"
)

// expander turns the jobs of a file into images.
type expander struct {
	*reporter
	templates *templates
	checker   *checker
	table     []spec
	defaults  []field
	options   Options
	name      string // template for all jobs that have none of their own
	limit     int
	out       []Image
	names     map[string]nameTemplate
	files     map[string]string // name → hash of the request that has it
	seen      map[string]bool   // hashes
	sums      map[string]string // of pictures' files
	draws     map[string]int    // how often a seed was drawn for a request, by the hash of what else it says
	twice     int
	asked     int // pictures asked for so far, those that are there twice too
	maxTexts  int
	bytes     int // of the prompts and names that were made for them
	work      budget
}

// ask counts pictures before they are made.
func (x *expander) ask(line, n int) bool {
	if n > x.limit-x.asked {
		x.errorf(line, "the file asks for more than %d pictures, counting duplicates", x.limit)
		return false
	}
	x.asked += n
	return true
}

// axis is a field that takes several values.
type axis struct {
	spec   spec
	values []any
	line   int
}

// job expands one job: an object of fields, over the defaults.
func (x *expander) job(n node, number int) {
	fields, sweep, ok := x.merged(n)
	if !ok {
		return
	}
	fields = slices.DeleteFunc(fields, x.replaced)
	var axes []axis
	for _, f := range fields {
		s, ok := specOf(x.reporter, x.table, f)
		if !ok {
			continue
		}
		if vs, ok := s.values(x.reporter, f.value); ok {
			axes = append(axes, axis{s, vs, f.line})
		}
	}
	if len(axes) < len(fields) {
		return // reported
	}
	axes, ok = x.gather(axes)
	if !ok {
		return // reported
	}
	combinations, err := combine(axes, sweep)
	if err != nil {
		x.errorf(n.line, "%v", err)
		return
	}
	if !x.ask(n.line, counted(axes, combinations)) {
		return
	}
	for at := range combinations.n {
		d := draft{Request: x.options.Base, name: x.name, count: 1, priority: Normal, expand: expandEach}
		for i, a := range axes {
			a.spec.set(&d, a.values[combinations.pick(at, i)])
		}
		d.Given = x.options.Over.Over(d.Given)
		if q := x.options.Base.Quality; q != 0 && q == d.Quality && (d.Format == "" || d.Format == "png") {
			d.Drop("quality") // one that stands for all jobs is for those that have any
		}
		if d.random = d.random && !x.options.Over.Has("seed") || x.options.RandomSeeds; d.random {
			d.Seed = x.draw(d.Request)
		}
		if !x.images(n, number, d) || x.full() {
			return
		}
	}
}

// replaced reports whether a field's values do not count.
func (x *expander) replaced(f field) bool {
	s, ok := recipe.Lookup(f.name)
	return ok && (x.options.Over.Has(s.Name) || s.Name == "seed" && x.options.RandomSeeds)
}

// draw draws a seed for a request: a number of 32 bits, all that most other programs take. The same Draw gives the same
// request the same seed; asked once more for it, another.
func (x *expander) draw(q Request) uint64 {
	q.Seed = 0
	hash := q.Hash()
	sum := sha256.Sum256(fmt.Appendf(nil, "darkroom seed %d %s %d", x.options.Draw, hash, x.draws[hash]))
	x.draws[hash]++
	return uint64(binary.LittleEndian.Uint32(sum[:]))
}

// merged are a job's fields with the defaults that it does not override, which stand first.
func (x *expander) merged(n node) (fields []field, sweep string, ok bool) {
	sweep, ok = sweepProduct, true
	own := map[string]bool{}
	for _, f := range n.fields {
		if own[normal(f.name)] {
			x.errorf(f.line, "field %q appears twice", cut(f.name))
			ok = false
		}
		own[normal(f.name)] = true
	}
	for _, f := range x.defaults {
		if !own[normal(f.name)] {
			fields = append(fields, f)
		}
	}
	fields = append(fields, n.fields...)
	return slices.DeleteFunc(fields, func(f field) bool {
		if normal(f.name) != "sweep" {
			return false
		}
		sweep = f.value.text
		if sweep != sweepProduct && sweep != sweepZip {
			x.errorf(f.line, "sweep: %q: choose product (every value with every other) or zip (first with first, second with second)", cut(sweep))
			ok = false
		}
		return true
	}), sweep, ok
}

const (
	sweepProduct = "product"
	sweepZip     = "zip"

	expandEach = "each" // an image's seed chooses among {a|b}
	expandAll  = "all"  // every alternative is a picture
	expandNone = "none" // braces are text
)

// combinations numbers the combinations of the axes' values.
type combinations struct {
	n       int
	strides []int // of each axis
	lengths []int
}

// pick is which value of axis i combination n has. With product, the last axis changes fastest.
func (c combinations) pick(n, i int) int { return n / c.strides[i] % c.lengths[i] }

func combine(axes []axis, sweep string) (combinations, error) {
	c := combinations{n: 1, strides: make([]int, len(axes)), lengths: make([]int, len(axes))}
	if sweep == sweepZip {
		first := -1
		for i, a := range axes {
			c.strides[i], c.lengths[i] = 1, len(a.values)
			if len(a.values) == 1 {
				continue
			}
			if first >= 0 && len(a.values) != len(axes[first].values) {
				return c, fmt.Errorf("sweep: zip pairs values one by one, and %s has %d, %s %d", axes[first].spec.name, len(axes[first].values), a.spec.name, len(a.values))
			}
			first, c.n = i, len(a.values)
		}
		return c, nil
	}
	for i, a := range slices.Backward(axes) {
		c.strides[i], c.lengths[i] = c.n, len(a.values)
		if c.n > MaxImages/len(a.values) {
			return c, fmt.Errorf("the sweep makes more than %d pictures", MaxImages)
		}
		c.n *= len(a.values)
	}
	return c, nil
}

// counted is how many pictures the combinations ask for: each as many as its count says. It ends at the most that an int
// of 32 bits holds.
func counted(axes []axis, c combinations) int {
	i := slices.IndexFunc(axes, func(a axis) bool { return a.spec.name == "count" })
	if i < 0 {
		return c.n
	}
	sum := 0
	for at := range c.n {
		var d draft
		axes[i].spec.set(&d, axes[i].values[c.pick(at, i)])
		if sum += max(d.count, 0); sum > math.MaxInt32 || d.count > math.MaxInt32 {
			return math.MaxInt32
		}
	}
	return sum
}

// images makes the images of one combination: count seeds, and with expand: all every prompt of the template.
func (x *expander) images(n node, number int, d draft) bool {
	if err := x.checkDraft(&d); err != nil {
		x.errorf(n.line, "%v", err)
		return true
	}
	prompts, err := x.prompts(&d)
	if err != nil {
		x.errorf(n.line, "prompt: %v", err)
		return x.work >= 0
	}
	if more := len(prompts) - 1; more > 0 && (d.count > x.limit/more || !x.ask(n.line, more*d.count)) {
		if d.count > x.limit/more {
			x.ask(n.line, x.limit+1)
		}
		return false
	}
	for _, prompt := range prompts {
		for i := range d.count {
			q := d.Request
			q.Seed += uint64(i)
			if q.Prompt, err = prompt(q.Seed); err != nil {
				x.errorf(n.line, "prompt: %v", err)
				return x.work >= 0
			}
			if q.Negative, err = x.negative(&d, q.Seed); err != nil {
				x.errorf(n.line, "negative: %v", err)
				return x.work >= 0
			}
			if err := x.checker.request(&q); err != nil {
				x.errorf(n.line, "%v", err)
				return true
			}
			if err := x.sum(&q); err != nil {
				x.errorf(n.line, "%v", err)
				return true
			}
			if !x.add(n, number, d, q) {
				return false
			}
		}
	}
	return true
}

func (x *expander) checkDraft(d *draft) error {
	switch {
	case d.count < 1 || d.count > maxCount:
		return fmt.Errorf("count: %d: it must be from 1 to %d", d.count, maxCount)
	case d.Seed > math.MaxUint64-uint64(d.count-1):
		return fmt.Errorf("seed %d with count %d: the last seed would exceed 18446744073709551615", d.Seed, d.count)
	case Rank(d.priority) < 0:
		return fmt.Errorf("priority: %q: choose %s%s", cut(d.priority), strings.Join(Priorities, ", "), nearest(d.priority, Priorities))
	}
	if all := []string{expandEach, expandAll, expandNone}; !slices.Contains(all, d.expand) {
		return fmt.Errorf("expand: %q: choose each (the seed chooses), all (every alternative) or none (braces are text)%s", cut(d.expand), nearest(d.expand, all))
	}
	return nil
}

// prompts are the draft's prompts, as functions of the seed.
func (x *expander) prompts(d *draft) ([]func(uint64) (string, error), error) {
	fixed := func(text string) func(uint64) (string, error) {
		return func(uint64) (string, error) { return text, nil }
	}
	if d.expand == expandNone {
		return []func(uint64) (string, error){fixed(d.Prompt)}, nil
	}
	t, err := x.templates.parse(d.Prompt)
	if err != nil {
		return nil, err
	}
	if d.expand == expandEach && !t.plain() {
		text := d.Prompt
		return []func(uint64) (string, error){func(seed uint64) (string, error) { return t.forSeed(text, seed, &x.work) }}, nil
	}
	texts, err := t.all(&x.work)
	if err != nil {
		return nil, err
	}
	prompts := make([]func(uint64) (string, error), len(texts))
	for i, text := range texts {
		prompts[i] = fixed(text)
	}
	return prompts, nil
}

// negative fills in the negative prompt: the seed chooses, also with expand: all.
func (x *expander) negative(d *draft, seed uint64) (string, error) {
	if d.expand == expandNone {
		return d.Negative, nil
	}
	t, err := x.templates.parse(d.Negative)
	if err != nil {
		return "", err
	}
	if t.plain() && len(t) == 1 && t[0].text == d.Negative {
		return d.Negative, nil // one string for all images
	}
	return t.forSeed(d.Negative, seed, &x.work)
}

// add names an image and puts it into the list, unless the same request is there already.
func (x *expander) add(n node, number int, d draft, q Request) bool {
	t, ok := x.names[d.name]
	if !ok {
		var err error
		if t, err = parseName(d.name); err != nil {
			x.errorf(n.line, "%v", err)
			return false
		}
		x.names[d.name] = t
	}
	m := Image{Index: len(x.out), Job: number, Line: n.line, Priority: d.priority, Request: q}
	m.Hash = q.Hash()
	if x.seen[m.Hash] {
		x.twice++
		return true
	}
	x.seen[m.Hash] = true
	m.File = t.of(&m, x.options)
	if x.bytes += len(m.File); q.Prompt != d.Prompt {
		x.bytes += len(q.Prompt)
	}
	if q.Negative != d.Negative {
		x.bytes += len(q.Negative)
	}
	if x.bytes > x.maxTexts {
		x.errorf(n.line, "the prompts and names that the file's templates make take more than %d MiB", x.maxTexts>>20)
		return false
	}
	if err := checkName(m.File); err != nil {
		x.errorf(n.line, "name %q: %v", cut(m.File), err)
		return false
	}
	if key := strings.ToLower(m.File); x.files[key] != "" { // two pictures, one name
		ext := m.Request.Extension()
		m.File = strings.TrimSuffix(m.File, ext) + "-" + m.Hash[:10] + ext
		x.files[strings.ToLower(m.File)] = m.Hash
	} else {
		x.files[key] = m.Hash
	}
	x.out = append(x.out, m)
	return true
}
