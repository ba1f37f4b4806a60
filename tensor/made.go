package tensor

// Arrays made of others: the values are those of the arrays that they are made of, when Decode asks for them.

// Stack lays arrays one below the other along the first axis; their other axes agree.
func Stack(arrays ...Array) Array { return stack(arrays) }

type stack []Array

func (s stack) Shape() Shape {
	shape := append(Shape{}, s[0].Shape()...)
	for _, a := range s[1:] {
		shape[0] += a.Shape()[0]
	}
	return shape
}

func (s stack) Type() string { return s[0].Type() }

func (s stack) Bytes() (n int) {
	for _, a := range s {
		n += a.Bytes()
	}
	return n
}

func (s stack) Decode(dst []float32, start int) error {
	for _, a := range s {
		n := a.Shape().Len()
		if start >= n {
			start -= n
			continue
		}
		part := dst[:min(len(dst), n-start)]
		if err := a.Decode(part, start); err != nil {
			return err
		}
		if dst = dst[len(part):]; len(dst) == 0 {
			return nil
		}
		start = 0
	}
	return nil
}

func (stack) Plain() (Tensor, bool) { return Tensor{}, false }

func (s stack) Release() {
	for _, a := range s {
		a.Release()
	}
}

// Gather is an array of shape whose row r has the values Factor·a[rows[r]][columns[k]], for k in order. A row is all that
// lies along the axes after the first. nil rows or columns are all, in their order.
func Gather(a Array, shape Shape, rows, columns []int, factor float32) Array {
	return gathered{a, shape, rows, columns, factor}
}

type gathered struct {
	Array
	shape         Shape
	rows, columns []int
	factor        float32
}

func (g gathered) Shape() Shape          { return g.shape }
func (g gathered) Plain() (Tensor, bool) { return Tensor{}, false }

func (g gathered) Decode(dst []float32, start int) error {
	width := g.shape.Len() / g.shape[0]
	row := make([]float32, g.Array.Shape().Len()/g.Array.Shape()[0])
	for len(dst) > 0 {
		r, first := start/width, start%width
		from := r
		if g.rows != nil {
			from = g.rows[r]
		}
		if err := g.Array.Decode(row, from*len(row)); err != nil {
			return err
		}
		n := min(width-first, len(dst))
		for i := range n {
			c := first + i
			if g.columns != nil {
				c = g.columns[c]
			}
			dst[i] = g.factor * row[c]
		}
		dst, start = dst[n:], start+n
	}
	return nil
}

// Reshape views an array with other axes of the same total length.
func Reshape(a Array, shape ...int) Array { return reshaped{a, shape} }

type reshaped struct {
	Array
	shape Shape
}

func (r reshaped) Shape() Shape { return r.shape }

func (r reshaped) Plain() (Tensor, bool) {
	t, ok := r.Array.Plain()
	t.Shape = r.shape
	return t, ok
}
