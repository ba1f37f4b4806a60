package tensor

// Rows is rows [from, to) of an array's first axis.
func Rows(a Array, from, to int) Array { return rowsOf{a, from, to} }

type rowsOf struct {
	Array
	from, to int
}

func (r rowsOf) row() int { return r.Array.Shape().Len() / max(r.Array.Shape()[0], 1) }

func (r rowsOf) Shape() Shape {
	return append(Shape{r.to - r.from}, r.Array.Shape()[1:]...)
}

func (r rowsOf) Bytes() int { return r.Array.Bytes() / max(r.Array.Shape()[0], 1) * (r.to - r.from) }

func (r rowsOf) Decode(dst []float32, start int) error {
	return r.Array.Decode(dst, start+r.from*r.row())
}

func (r rowsOf) Plain() (Tensor, bool) {
	t, ok := r.Array.Plain()
	if !ok {
		return t, false
	}
	size := r.row() * t.DType.Size()
	return Tensor{DType: t.DType, Shape: r.Shape(), Data: t.Data[r.from*size : r.to*size : r.to*size]}, true
}
