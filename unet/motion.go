package unet

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/tensor"
)

// MotionConfig is what the shapes of a motion module do not say.
type MotionConfig struct {
	Heads  []int // of attention, by level from the top
	Groups int   // of normalisation
	Frames int   // the most that it has positions for
	Levels int   // of the U-Net that it was made for
}

// FrameName is the input that numbers the frames of a film.
const FrameName = "frame"

// motion is a temporal transformer (Guo et al. 2023, "AnimateDiff", sec. 4.2): each pixel attends to itself in the other frames.
//
// Statistics of its GroupNorm are those of all frames together, as in diffusers; the original program takes them frame by frame.
type motion struct {
	norm            nn.GroupNorm
	projIn, projOut nn.Linear
	blocks          []motionBlock
}

// motionBlock is x += attention(LN x + positions), twice; x += GEGLU MLP(LN x).
type motionBlock struct {
	norms     [2]nn.LayerNorm
	attn      [2]nn.Attention
	ff        [2]nn.Linear
	positions *kernels.Weight // Table [frames, width]
}

func newMotion(l nn.Loader, width, heads int, c MotionConfig) motion {
	m := motion{
		norm:   l.At("norm").GroupNorm(width, c.Groups, transformerNormEps),
		projIn: l.At("proj_in").Linear(width, width), projOut: l.At("proj_out").Linear(width, width),
	}
	names := nn.AttentionNames{Q: "to_q", K: "to_k", V: "to_v", Out: "to_out.0"}
	for i := 0; i == 0 || l.At("transformer_blocks", i, "norm1").Has("weight"); i++ {
		at := l.At("transformer_blocks", i)
		b := motionBlock{
			ff:        [2]nn.Linear{at.At("ff.net.0.proj").LinearGEGLU(width, 4*width).After(at.At("norm3").LayerNorm(width, layerNormEps)), at.At("ff.net.2").Linear(4*width, width)},
			positions: framePositions(c.Frames, width),
		}
		for k := range b.attn {
			b.norms[k] = at.At(fmt.Sprint("norm", k+1)).LayerNorm(width, layerNormEps)
			b.attn[k] = at.At(fmt.Sprint("attn", k+1)).Attention(names, width, width, heads)
		}
		m.blocks = append(m.blocks, b)
	}
	return m
}

// framePositions are the sinusoids of the frames' numbers (Vaswani et al. 2017, sec. 3.5), sines and cosines in turn.
func framePositions(frames, width int) *kernels.Weight {
	values := make([]float32, frames*width)
	for f := range frames {
		for i := range width {
			// In float32, as torch computes it.
			frequency := float32(math.Exp(float64(float32(i/2*2) * float32(-math.Log(10000)/float64(width)))))
			angle := float64(float32(f) * frequency)
			values[f*width+i] = float32(math.Sin(angle))
			if i%2 == 1 {
				values[f*width+i] = float32(math.Cos(angle))
			}
		}
	}
	return kernels.NewWeight(fmt.Sprintf("motion.positions.%d", width), kernels.Table, tensor.Of(values, frames, width))
}

// forward changes x, [rows·frames,h,w,C]. The frames are numbered by frame, [rows·frames,1].
func (m motion) forward(g *kernels.Graph, x, frame *kernels.Tensor, frames int) *kernels.Tensor {
	n, h, w, c := x.Shape[0], x.Shape[1], x.Shape[2], x.Shape[3]
	normed := m.norm.Forward(g, g.Reshape(x, n/frames, frames*h, w, c), nil)
	y := m.projIn.Forward(g, g.Reshape(normed, n, h*w, c), kernels.Identity, nil)
	for _, b := range m.blocks {
		y = b.forward(g, y, frame, frames)
	}
	y = m.projOut.Forward(g, y, kernels.Identity, g.Reshape(x, n, h*w, c))
	return g.Reshape(y, n, h, w, c)
}

func (b motionBlock) forward(g *kernels.Graph, x, frame *kernels.Tensor, frames int) *kernels.Tensor {
	n, pixels, c := x.Shape[0], x.Shape[1], x.Shape[2]
	rows := n / frames
	at := g.Reshape(g.Add("", &kernels.Embed{IDs: frame, Tokens: b.positions}), n, c)
	for i, a := range b.attn {
		norm := b.norms[i]
		y := g.Add("", &kernels.LayerNorm{In: x, Gamma: norm.Gamma, Beta: norm.Beta, Shift: at, Eps: norm.Eps})
		y = swap(g, y, rows, frames, pixels)
		linear := func(l nn.Linear) *kernels.Tensor { return l.Forward(g, y, kernels.Identity, nil) }
		y = swap(g, a.Attend(g, linear(a.ToQ), linear(a.ToK), linear(a.ToV)), rows, pixels, frames)
		x = a.ToOut.Forward(g, y, kernels.Identity, x)
	}
	hidden := b.ff[0].Forward(g, x, kernels.GEGLU, nil)
	return b.ff[1].Forward(g, hidden, kernels.Identity, x)
}

// swap turns [rows·first,second,C] into [rows·second,first,C].
func swap(g *kernels.Graph, x *kernels.Tensor, rows, first, second int) *kernels.Tensor {
	c := x.Shape[2]
	y := g.Add("swap", &kernels.Swap{In: g.Reshape(x, rows, first, second, c)})
	return g.Reshape(y, rows*second, first, c)
}

// WithMotion is the network with a motion module in it. Its batch is Sizes.Frames frames for each row of the inputs, and it also
// reads their numbers, FrameName. The loader stands at the module.
func (m *Model) WithMotion(c MotionConfig, l nn.Loader) (*Model, error) {
	u := m.Config
	last := len(u.BlockOutChannels) - 1
	switch {
	case c.Levels != last+1:
		return nil, fmt.Errorf("it has %d levels and the U-Net %d: it belongs to another kind of model", c.Levels, last+1)
	case len(c.Heads) != c.Levels:
		return nil, fmt.Errorf("motion_num_attention_heads has %d numbers for %d levels", len(c.Heads), c.Levels)
	case m.frames > 0:
		return nil, errors.New("there is a motion module already")
	}
	modules := func(at nn.Loader, n, level int) (all []motion) {
		for i := range n {
			all = append(all, newMotion(at.At("motion_modules", i), u.BlockOutChannels[level], c.Heads[level], c))
		}
		return all
	}
	w := *m
	w.frames = c.Frames
	w.downBlocks, w.upBlocks = slices.Clone(m.downBlocks), slices.Clone(m.upBlocks)
	for i := range w.downBlocks {
		w.downBlocks[i].motions = modules(l.At("down_blocks", i), len(w.downBlocks[i].resnets), i)
	}
	for i := range w.upBlocks {
		w.upBlocks[i].motions = modules(l.At("up_blocks", i), len(w.upBlocks[i].resnets), last-i)
	}
	if mid := l.At("mid_block"); mid.At("motion_modules", 0, "norm").Has("weight") {
		if m.midBlock == nil || m.midBlock.attention == nil {
			return nil, errors.New("it has a module for a middle that the U-Net does not have: it belongs to another kind of model")
		}
		w.midBlock = &midBlock{m.midBlock.resnets, m.midBlock.attention, modules(mid, 1, last)}
	}
	return &w, l.Err()
}

// Frames is the most that a network with a motion module makes of a film; 0 without a module.
func (m *Model) Frames() int { return m.frames }

// filmed are the frames as the blocks read them.
type filmed struct {
	frames int
	frame  *kernels.Tensor // their numbers; nil without a motion module
}

// move has a block's motion module i work on x, where there is one.
func (f filmed) move(g *kernels.Graph, all []motion, i int, x *kernels.Tensor) *kernels.Tensor {
	if i >= len(all) {
		return x
	}
	return all[i].forward(g, x, f.frame, f.frames)
}

// Each repeats a row's value, [N,…], for each of its frames: [N·frames,…].
func Each(g *kernels.Graph, x *kernels.Tensor, frames int) *kernels.Tensor {
	if frames <= 1 {
		return x
	}
	shape := slices.Clone(x.Shape)
	line := g.Reshape(x, shape[0], 1, shape[1:].Len())
	all := g.Add("frames", &kernels.Concat{Parts: slices.Repeat([]*kernels.Tensor{line}, frames), Axis: 1})
	shape[0] *= frames
	return g.Reshape(all, shape...)
}
