package unet

import (
	"darkroom/kernels"
	"darkroom/nn"
)

// downBlock is layers × (ResBlock, perhaps attention), then perhaps a convolution of stride 2. It
// leaves every result on the skips.
type downBlock struct {
	resnets     []nn.ResBlock
	attentions  []transformer // empty in a DownBlock2D
	downsampler *nn.Conv2D    // nil at the lowest level
	motions     []motion      // a layer each; empty without a motion module
}

func newDownBlock(l nn.Loader, times *nn.Times, c Config, level int, kind string, in int, downsample bool) downBlock {
	var b downBlock
	out := c.BlockOutChannels[level]
	for i := range c.LayersPerBlock[level] {
		b.resnets = append(b.resnets, l.At("resnets", i).ResBlock(in, out, times, c.NormNumGroups, c.NormEps))
		if kind == "CrossAttnDownBlock2D" {
			b.attentions = append(b.attentions, newTransformer(l.At("attentions", i), c, level, c.DownTransformerLayers[level][i], c.OnlyCrossAttention[level]))
		}
		in = out
	}
	if downsample {
		conv := l.At("downsamplers.0.conv").Conv2D(out, out, 3)
		conv.Stride = 2
		if c.DownsamplePadding == 0 {
			conv.Pad = [2]int{0, 1} // as diffusers pads by hand: right and bottom only
		}
		b.downsampler = &conv
	}
	return b
}

// The feature of an adapter, if there is one, joins the last layer's result, or that of the whole block where it has no
// attention. The way ends where there are most skips.
func (b downBlock) forward(g *kernels.Graph, x *kernels.Tensor, time nn.Time, read context, join func(*kernels.Tensor) *kernels.Tensor, film filmed, skips *[]*kernels.Tensor, most int) *kernels.Tensor {
	last, downs := len(b.resnets)-1, b.downsampler != nil
	for i, r := range b.resnets {
		if len(*skips) == most {
			return x
		}
		x = r.Forward(g, x, nil, time)
		if b.attentions != nil {
			x = b.attentions[i].forward(g, x, read)
		}
		x = film.move(g, b.motions, i, x)
		if i == last && (b.attentions != nil || !downs) {
			x = join(x)
		}
		*skips = append(*skips, x)
	}
	if downs && len(*skips) < most {
		x = b.downsampler.Forward(g, x, nn.Conv{})
		if b.attentions == nil {
			x = join(x)
		}
		*skips = append(*skips, x)
	}
	return x
}

// midBlock is a ResBlock, at the bottom of the U, and perhaps attention and another one.
type midBlock struct {
	resnets   []nn.ResBlock
	attention *transformer // nil in a UNetMidBlock2D
	motions   []motion     // one or none
}

func newMidBlock(l nn.Loader, times *nn.Times, c Config) *midBlock {
	level := len(c.BlockOutChannels) - 1
	width := c.BlockOutChannels[level]
	resnet := func(i int) nn.ResBlock {
		return l.At("resnets", i).ResBlock(width, width, times, c.NormNumGroups, c.NormEps)
	}
	if c.MidBlockType == "UNetMidBlock2D" {
		return &midBlock{resnets: []nn.ResBlock{resnet(0)}}
	}
	// only_cross_attention does not reach the middle of a UNetMidBlock2DCrossAttn.
	t := newTransformer(l.At("attentions", 0), c, level, c.MidTransformerLayers, false)
	return &midBlock{resnets: []nn.ResBlock{resnet(0), resnet(1)}, attention: &t}
}

func (b *midBlock) forward(g *kernels.Graph, x *kernels.Tensor, time nn.Time, read context, film filmed) *kernels.Tensor {
	x = b.resnets[0].Forward(g, x, nil, time)
	if b.attention != nil {
		x = film.move(g, b.motions, 0, b.attention.forward(g, x, read))
		x = b.resnets[1].Forward(g, x, nil, time)
	}
	return x
}

// upBlock is layers+1 × (ResBlock over x and a skip, perhaps attention), then perhaps a convolution
// of the picture at twice the size.
type upBlock struct {
	resnets    []nn.ResBlock
	widths     []int         // of x before each of resnets
	attentions []transformer // empty in an UpBlock2D
	upsampler  *nn.Conv2D    // nil at the top
	motions    []motion      // a layer each; empty without a motion module
}

func newUpBlock(l nn.Loader, times *nn.Times, c Config, level int, kind string, in int, upsample bool) upBlock {
	var b upBlock
	out := c.BlockOutChannels[level]
	layers := c.LayersPerBlock[level] + 1
	for i := range layers {
		skip := out
		if i == layers-1 { // the down block's own input
			skip = c.BlockOutChannels[max(level-1, 0)]
		}
		b.widths = append(b.widths, in)
		b.resnets = append(b.resnets, l.At("resnets", i).ResBlock(in+skip, out, times, c.NormNumGroups, c.NormEps))
		if kind == "CrossAttnUpBlock2D" {
			b.attentions = append(b.attentions, newTransformer(l.At("attentions", i), c, level, c.UpTransformerLayers[level][i], c.OnlyCrossAttention[level]))
		}
		in = out
	}
	if upsample {
		conv := l.At("upsamplers.0.conv").Conv2D(out, out, 3)
		b.upsampler = &conv
	}
	return b
}

// layer writes layer i of the block, which takes the last of the skips.
func (b upBlock) layer(g *kernels.Graph, i int, x *kernels.Tensor, time nn.Time, read context, film filmed, skips *[]*kernels.Tensor) *kernels.Tensor {
	last := len(*skips) - 1
	x = b.resnets[i].Forward(g, x, (*skips)[last], time)
	*skips = (*skips)[:last]
	if b.attentions != nil {
		x = b.attentions[i].forward(g, x, read)
	}
	x = film.move(g, b.motions, i, x)
	if b.upsampler != nil && i == len(b.resnets)-1 {
		// To the size of the next skip: not always twice, for sizes that are odd on the way down.
		next := (*skips)[len(*skips)-1].Shape
		x = b.upsampler.Forward(g, x, nn.Conv{Upsample: [2]int{next[1], next[2]}})
	}
	return x
}
