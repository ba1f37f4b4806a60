// Package dit holds denoisers that are transformers over patches of latents and tokens of text (Peebles & Xie 2023): Z-Image's,
// with one stream for both, those of FLUX.1 and FLUX.2, with two streams that become one, and that of Stable Diffusion 3, with two
// streams. Each is written with the names of diffusers' class.
package dit

import (
	"fmt"
	"math"

	"darkroom/checkpoint"
)

// most bounds what a hostile file can ask for.
const most = 1 << 20

// sinusoid is the embedding of a number (Vaswani et al. 2017, sec. 3.5), cosines first: cos(t·ω_i), sin(t·ω_i) with
// ω_i = 10000^(-i/half), in float32 as the references have it.
func sinusoid(t float32, width int) []float32 {
	half := width / 2
	out := make([]float32, width)
	for i := range half {
		ω := float32(math.Exp(float64(float32(-math.Log(10000)) * float32(i) / float32(half))))
		sin, cos := math.Sincos(float64(t * ω))
		out[i], out[half+i] = float32(cos), float32(sin)
	}
	return out
}

// rotations are the frequencies of rotary positions on several axes: Axes[a]/2 of them for coordinate a.
type rotations struct {
	axes  []int
	theta float64
	round bool // angles are rounded to float32
}

// width is that of a head.
func (r rotations) width() (sum int) {
	for _, d := range r.axes {
		sum += d
	}
	return sum
}

// checkAxes says what is wrong with the axes that a configuration has under a key, of heads of that width.
func (r rotations) checkAxes(c *checkpoint.Config, key string, head int) {
	if r.width() != head {
		c.Fail(key, fmt.Sprintf("they must add up to the width of a head, %d", head))
	}
	for _, d := range r.axes {
		if d < 2 || d%2 != 0 {
			c.Fail(key, "they must be even")
			break
		}
	}
}

// put writes the cosines and sines of a position into out, which has width() elements.
func (r rotations) put(out []float32, position []int) {
	i, half := 0, r.width()/2
	for a, d := range r.axes {
		for k := 0; k < d; k += 2 {
			angle := float64(position[a]) / math.Pow(r.theta, float64(k)/float64(d))
			if r.round {
				angle = float64(float32(angle))
			}
			sin, cos := math.Sincos(angle)
			out[i], out[half+i] = float32(cos), float32(sin)
			i++
		}
	}
}

// conditions are the angles of so many words and then of pictures' tokens, at the positions that word and token give: "angles",
// and its parts "text_angles" and "picture_angles".
func (r rotations) conditions(text int, pictures []Grid, word func(i int) []int, token func(picture, y, x int) []int) map[string][]float32 {
	d := r.width()
	var out []float32
	put := func(position []int) {
		out = append(out, make([]float32, d)...)
		r.put(out[len(out)-d:], position)
	}
	for i := range text {
		put(word(i))
	}
	for i, p := range pictures {
		for y := range p.H {
			for x := range p.W {
				put(token(i, y, x))
			}
		}
	}
	return map[string][]float32{"angles": out, "text_angles": out[:text*d], "picture_angles": out[text*d:]}
}
