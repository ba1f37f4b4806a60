package ref

import (
	"math"

	"darkroom/kernels"
)

// Winograd holds the matrices of a minimal filtering algorithm for 3×3 taps (Lavin & Gray 2016, section 4): a tile of m×m
// results is Aᵀ·[Σ over channels of (G g Gᵀ) ⊙ (Bᵀ d B)]·A, for n×n pixels d with n = m + 2.
type Winograd struct {
	A [][]float64 // Aᵀ, m×n
	B [][]float64 // Bᵀ, n×n
	G [][]float64 // n×3
}

// F4 is F(4×4, 3×3) for the points 0, ±a, ±b and ∞. A row of G is [1, p, p²] divided by the product of p's distances to
// the other points, and that of B holds the coefficients of the polynomial whose roots are the other points.
func F4(a, b float64) Winograd {
	a2, b2 := a*a, b*b
	fa, fb := 2*a2*(a2-b2), 2*b2*(b2-a2)
	return Winograd{
		A: [][]float64{
			{1, 1, 1, 1, 1, 0},
			{0, a, -a, b, -b, 0},
			{0, a2, a2, b2, b2, 0},
			{0, a * a2, -a * a2, b * b2, -b * b2, 1},
		},
		B: [][]float64{
			{a2 * b2, 0, -a2 - b2, 0, 1, 0},
			{0, -a * b2, -b2, a, 1, 0},
			{0, a * b2, -b2, -a, 1, 0},
			{0, -b * a2, -a2, b, 1, 0},
			{0, b * a2, -a2, -b, 1, 0},
			{0, a2 * b2, 0, -a2 - b2, 0, 1},
		},
		G: [][]float64{
			{1 / (a2 * b2), 0, 0},
			{1 / fa, a / fa, a2 / fa},
			{1 / fa, -a / fa, a2 / fa},
			{1 / fb, b / fb, b2 / fb},
			{1 / fb, -b / fb, b2 / fb},
			{0, 0, 1},
		},
	}
}

// Abs has the absolute values of all entries. With operands that are not negative it gives the sum of the sizes of all
// terms, which bounds what rounding can do.
func (w Winograd) Abs() Winograd {
	abs := func(m [][]float64) (out [][]float64) {
		for _, row := range m {
			r := make([]float64, len(row))
			for i, v := range row {
				r[i] = math.Abs(v)
			}
			out = append(out, r)
		}
		return out
	}
	return Winograd{abs(w.A), abs(w.B), abs(w.G)}
}

// around is m·x·mᵀ.
func around(m, x [][]float64) [][]float64 {
	half := make([][]float64, len(m)) // m·x
	for i := range half {
		half[i] = make([]float64, len(x[0]))
		for j := range half[i] {
			for k, v := range m[i] {
				half[i][j] += v * x[k][j]
			}
		}
	}
	out := make([][]float64, len(m))
	for i := range out {
		out[i] = make([]float64, len(m))
		for j := range out[i] {
			for k, v := range m[j] {
				out[i][j] += half[i][k] * v
			}
		}
	}
	return out
}

func square(n int) [][]float64 {
	m := make([][]float64, n)
	for i := range m {
		m[i] = make([]float64, n)
	}
	return m
}

// Winograd is Conv2D in that form, for 3×3 taps and stride 1: slow, with sums in float64. It is there to say what a fast
// backend computes, and how large the terms are that it rounds.
func (b *Backend) Winograd(dst *kernels.Tensor, op *kernels.Conv2D, w Winograd) {
	m, n := len(w.A), len(w.B)
	out, channels := dst.Shape, op.W.Shape[1]
	h, wd := op.InSize()
	filter := b.WeightFloats(op.W)
	src := []source{newSource(op.In, 0)}
	if op.In2 != nil {
		src = append(src, newSource(op.In2, src[0].c))
	}
	// pixel is a value of the inputs side by side, 0 outside.
	pixel := func(image, y, x, c int) float64 {
		if y < 0 || y >= h || x < 0 || x >= wd {
			return 0
		}
		s := src[0]
		if c >= s.c {
			s = src[1]
		}
		return float64(s.pixel(image, y*s.h/h, x*s.w/wd)[c-s.first])
	}
	bias, perChannel, residual, result := b.WeightFloats(op.Bias), kernels.Floats(op.PerChannel), kernels.Floats(op.Residual), kernels.Floats(dst)
	outs := out[3]
	filters := make([][][]float64, outs*channels) // G g Gᵀ
	b.parallel(outs, func(o int) {
		for c := range channels {
			g := square(3)
			for i := range 3 {
				for j := range 3 {
					g[i][j] = float64(filter[((o*3+i)*3+j)*channels+c])
				}
			}
			filters[o*channels+c] = around(w.G, g)
		}
	})
	down, across := (out[1]+m-1)/m, (out[2]+m-1)/m
	b.parallel(out[0]*down*across, func(tile int) {
		image, y0, x0 := tile/(down*across), tile%(down*across)/across*m, tile%across*m
		pixels := make([][][]float64, channels) // Bᵀ d B
		for c := range channels {
			d := square(n)
			for i := range n {
				for j := range n {
					d[i][j] = pixel(image, y0+i-op.Pad[0], x0+j-op.Pad[0], c)
				}
			}
			pixels[c] = around(w.B, d)
		}
		for o := range outs {
			sum := square(n)
			for c := range channels {
				for i := range n {
					for j := range n {
						sum[i][j] += filters[o*channels+c][i][j] * pixels[c][i][j]
					}
				}
			}
			y := around(w.A, sum)
			for i := range min(m, out[1]-y0) {
				for j := range min(m, out[2]-x0) {
					v := y[i][j]
					if bias != nil {
						v += float64(bias[o])
					}
					if perChannel != nil {
						v += float64(perChannel[image*op.PerChannel.Row()+o])
					}
					at := ((image*out[1]+y0+i)*out[2]+x0+j)*outs + o
					r := float32(activate(v, op.Act))
					if residual != nil {
						r += residual[at]
					}
					result[at] = r
				}
			}
		}
	})
}
