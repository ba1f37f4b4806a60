package ref

import "darkroom/kernels"

// Conv2D is the contract's loop; one goroutine a row of the result.
func (b *Backend) Conv2D(dst *kernels.Tensor, op *kernels.Conv2D) {
	out, w := dst.Shape, op.W.Shape
	h, wd := op.InSize()
	src := []source{newSource(op.In, 0)}
	if op.In2 != nil {
		src = append(src, newSource(op.In2, src[0].c))
	}
	filter, bias := b.WeightFloats(op.W), b.WeightFloats(op.Bias)
	perChannel, residual, result := kernels.Floats(op.PerChannel), kernels.Floats(op.Residual), kernels.Floats(dst)
	kh, kw, channels, outs := w[2], w[3], w[1], w[0]

	b.parallel(out[0]*out[1], func(row int) {
		n, y := row/out[1], row%out[1]
		for x := range out[2] {
			for o := range outs {
				var acc float64
				if bias != nil {
					acc += float64(bias[o])
				}
				if perChannel != nil {
					acc += float64(perChannel[n*op.PerChannel.Row()+o])
				}
				for i := range kh {
					for j := range kw {
						iy, ix := y*op.Step()+i-op.Pad[0], x*op.Step()+j-op.Pad[0]
						if iy < 0 || iy >= h || ix < 0 || ix >= wd {
							continue
						}
						tap := filter[((o*kh+i)*kw+j)*channels:][:channels]
						for _, s := range src {
							acc += dot(s.pixel(n, iy*s.h/h, ix*s.w/wd), tap[s.first:])
						}
					}
				}
				at := ((n*out[1]+y)*out[2]+x)*outs + o
				v := float32(activate(acc, op.Act))
				if residual != nil {
					v += residual[at]
				}
				result[at] = v
			}
		}
	})
}

// source is one of the inputs that lie side by side in the channels.
type source struct {
	data    []float32
	h, w, c int
	first   int // its first channel among all
}

func newSource(t *kernels.Tensor, first int) source {
	return source{kernels.Floats(t), t.Shape[1], t.Shape[2], t.Shape[3], first}
}

func (s source) pixel(n, y, x int) []float32 { return s.data[((n*s.h+y)*s.w+x)*s.c:][:s.c] }
