package judge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"math"
	"strings"

	"darkroom/checkpoint"

	"github.com/disintegration/imaging"
)

// Classifier is a small convolutional network that knows a list of nouns. Its config.json says how to run it:
//
//	input   side of the picture, which is scaled to it by averaging
//	range   the values of black and white
//	layers  {in, out, kernel, stride, padding} each, followed by a ReLU
//	pool    "mean", "max": over all positions, put one after the other: the features
//	heads   lists of labels by name; each head is one linear layer on the features; "noun" decides about prompts
//
// and model.safetensors holds layers.K.{weight,bias} and heads.NAME.{weight,bias}.
type Classifier struct {
	config classifierConfig
	id     string
	label  string
	layers []layer
	nouns  linear
}

type classifierConfig struct {
	Input  int
	Range  [2]float64
	Layers []struct {
		In, Out, Kernel, Stride, Padding int
	}
	Pool  []string
	Heads map[string][]string
}

// layer is a convolution over [H,W,C] with a ReLU after it. Weights are [out][kernel][kernel][in].
type layer struct {
	in, out, kernel, stride, padding int
	weight, bias                     []float32
}

// linear is y = W·x + b.
type linear struct {
	in, out      int
	weight, bias []float32
}

func openClassifier(s Source, text []byte) (*Classifier, error) {
	c := &Classifier{label: s.Label}
	if err := json.Unmarshal(text, &c.config); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	if err := c.config.check(); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	set, err := s.weights()
	if err != nil {
		return nil, err
	}
	defer set.Close()
	if c.id, err = set.Hash(); err != nil {
		return nil, err
	}
	for k, l := range c.config.Layers {
		w, err := loadLayer(set, fmt.Sprintf("layers.%d", k), layer{in: l.In, out: l.Out, kernel: l.Kernel, stride: l.Stride, padding: l.Padding})
		if err != nil {
			return nil, err
		}
		c.layers = append(c.layers, w)
	}
	width := c.config.Layers[len(c.config.Layers)-1].Out * len(c.config.Pool)
	c.nouns, err = loadLinear(set, "heads.noun", width, len(c.config.Heads["noun"]))
	return c, err
}

func (c classifierConfig) check() error {
	const most = 4096
	if c.Input < 1 || c.Input > most || len(c.Layers) == 0 || len(c.Layers) > 64 {
		return fmt.Errorf("input %d and %d layers: a side up to %d and 1 to 64 layers are supported", c.Input, len(c.Layers), most)
	}
	in, side := 3, c.Input
	for k, l := range c.Layers {
		if l.In != in || l.Out < 1 || l.Out > most || l.Kernel < 1 || l.Kernel > 31 || l.Stride < 1 || l.Padding < 0 || l.Padding > l.Kernel {
			return fmt.Errorf("layer %d is %+v after %d channels: the layers do not fit each other", k, l, in)
		}
		if in, side = l.Out, (side+2*l.Padding-l.Kernel)/l.Stride+1; side < 1 {
			return fmt.Errorf("layer %d leaves no picture", k)
		}
	}
	for _, p := range c.Pool {
		if p != "mean" && p != "max" {
			return fmt.Errorf("pool %q: mean and max are supported", p)
		}
	}
	if len(c.Pool) == 0 {
		return errors.New("pool is missing")
	}
	if len(c.Heads["noun"]) == 0 {
		return errors.New(`heads has no "noun": the labels are missing`)
	}
	return nil
}

func loadLayer(set *checkpoint.Set, name string, l layer) (layer, error) {
	w, err := floats(set, name+".weight", l.out, l.in, l.kernel, l.kernel)
	if err != nil {
		return l, err
	}
	l.bias, err = floats(set, name+".bias", l.out)
	// [out][in][kernel][kernel] to channels last, so that the innermost loop runs over memory in a row.
	l.weight = make([]float32, len(w))
	area := l.kernel * l.kernel
	for o := range l.out {
		for i := range l.in {
			for k := range area {
				l.weight[(o*area+k)*l.in+i] = w[(o*l.in+i)*area+k]
			}
		}
	}
	return l, err
}

func loadLinear(set *checkpoint.Set, name string, in, out int) (linear, error) {
	l := linear{in: in, out: out}
	var err error
	if l.weight, err = floats(set, name+".weight", out, in); err != nil {
		return l, err
	}
	l.bias, err = floats(set, name+".bias", out)
	return l, err
}

func (c *Classifier) Name() string { return fmt.Sprintf("the classifier %s", c.label) }
func (c *Classifier) ID() string   { return c.id[:16] }
func (c *Classifier) Close() error { return nil }

// Preference is none: a classifier has no taste.
func (c *Classifier) Preference([]float64) (float64, bool) { return 0, false }

// See runs the convolutions and pools.
func (c *Classifier) See(ctx context.Context, p *image.NRGBA) ([]float32, error) {
	x, side := c.input(p), c.config.Input
	for _, l := range c.layers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		x, side = l.forward(x, side)
	}
	channels := c.layers[len(c.layers)-1].out
	var features []float32
	for _, how := range c.config.Pool {
		pooled := make([]float32, channels)
		for i, v := range x {
			if o := i % channels; how == "mean" {
				pooled[o] += v / float32(side*side)
			} else {
				pooled[o] = max(pooled[o], v) // after a ReLU nothing is below 0
			}
		}
		features = append(features, pooled...)
	}
	return features, nil
}

// input scales the picture to the network's side and range, [H,W,3]. Where the side divides the picture's, as in training, squares of
// pixels are averaged without rounding.
func (c *Classifier) input(p *image.NRGBA) []float32 {
	side := c.config.Input
	if p.Rect.Dx()%side != 0 || p.Rect.Dy()%side != 0 {
		p = imaging.Resize(p, side, side, imaging.Box)
	}
	kx, ky := p.Rect.Dx()/side, p.Rect.Dy()/side
	low, high := c.config.Range[0], c.config.Range[1]
	x := make([]float32, 0, 3*side*side)
	for i := range side * side {
		var sum [3]int
		for y := range ky {
			row := p.Pix[(i/side*ky+y)*p.Stride+4*(i%side)*kx:]
			for j := range kx {
				for channel := range 3 {
					sum[channel] += int(row[4*j+channel])
				}
			}
		}
		for _, v := range sum {
			x = append(x, float32(low+(high-low)*float64(v)/float64(255*kx*ky)))
		}
	}
	return x
}

// forward convolves a square picture, then cuts off what is below 0.
func (l layer) forward(x []float32, side int) (out []float32, newSide int) {
	newSide = (side+2*l.padding-l.kernel)/l.stride + 1
	out = make([]float32, newSide*newSide*l.out)
	for y := range newSide {
		for xx := range newSide {
			for o := range l.out {
				acc := l.bias[o]
				for i := range l.kernel {
					row := y*l.stride + i - l.padding
					if row < 0 || row >= side {
						continue
					}
					for j := range l.kernel {
						column := xx*l.stride + j - l.padding
						if column < 0 || column >= side {
							continue
						}
						w := l.weight[((o*l.kernel+i)*l.kernel+j)*l.in:][:l.in]
						for k, v := range x[(row*side+column)*l.in:][:l.in] {
							acc += v * w[k]
						}
					}
				}
				out[(y*newSide+xx)*l.out+o] = max(acc, 0)
			}
		}
	}
	return out, newSide
}

// Agreement is the probability of the prompt's noun in percent. The noun is the longest one of the network's that the
// prompt has; false if it has none.
func (c *Classifier) Agreement(_ context.Context, features []float64, prompt string) (float64, bool, error) {
	at, longest := -1, 0
	words := " " + strings.Join(strings.FieldsFunc(strings.ToLower(prompt), notOfWord), " ") + " "
	for i, noun := range c.config.Heads["noun"] {
		noun = strings.Join(strings.FieldsFunc(strings.ToLower(noun), notOfWord), " ")
		if len(noun) > longest && strings.Contains(words, " "+noun+" ") {
			at, longest = i, len(noun)
		}
	}
	if at < 0 {
		return 0, false, nil
	}
	logits := c.nouns.forward(features)
	top := math.Inf(-1)
	for _, v := range logits {
		top = max(top, v)
	}
	var sum float64
	for _, v := range logits {
		sum += math.Exp(v - top)
	}
	return 100 * math.Exp(logits[at]-top) / sum, true, nil
}

func notOfWord(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r > 127)
}

func (l linear) forward(x []float64) []float64 {
	y := make([]float64, l.out)
	for o := range y {
		acc := float64(l.bias[o])
		for i, w := range l.weight[o*l.in:][:l.in] {
			acc += float64(w) * x[i]
		}
		y[o] = acc
	}
	return y
}
