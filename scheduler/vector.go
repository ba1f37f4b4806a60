package scheduler

// term is one summand of a linear combination, C·V.
type term struct {
	C float64
	V []float32
}

// combine writes Σ Cₖ·Vₖ into dst, which may be any of the Vₖ. Each product and each sum is rounded
// to float32, left to right: the conversions keep the compiler from fusing them where it could.
func combine(dst []float32, ts ...term) {
	switch len(ts) {
	case 1:
		a, u := float32(ts[0].C), ts[0].V[:len(dst)]
		for i := range dst {
			dst[i] = a * u[i]
		}
	case 2:
		a, u, b, v := float32(ts[0].C), ts[0].V[:len(dst)], float32(ts[1].C), ts[1].V[:len(dst)]
		for i := range dst {
			dst[i] = float32(a*u[i]) + float32(b*v[i])
		}
	default:
		for i := range dst {
			sum := float32(float32(ts[0].C) * ts[0].V[i])
			for _, t := range ts[1:] {
				sum += float32(float32(t.C) * t.V[i])
			}
			dst[i] = sum
		}
	}
}

// combined is combine into a new slice.
func combined(ts ...term) []float32 {
	dst := make([]float32, len(ts[0].V))
	combine(dst, ts...)
	return dst
}

// add does dst += c·v.
func add(dst []float32, c float64, v []float32) { combine(dst, term{1, dst}, term{c, v}) }

func clone(v []float32) []float32 { return append([]float32(nil), v...) }
