package esrgan

import (
	"fmt"

	"darkroom/nn"
	"darkroom/tensor"
)

// Config is the structure of an upscaler. Its files hold nothing but weights, so that their shapes say it.
type Config struct {
	Compact   bool // a chain of convolutions (SRVGGNetCompact) in place of dense blocks (RRDBNet)
	Scale     int  // pixels of the result a side for one of the input
	Unshuffle int  // pixels a side that the network's first layer takes as one: the input's sides are multiples of it
	Features  int  // channels inside
	Grow      int  // channels that each layer of a dense block adds
	Blocks    int  // dense blocks of three; or layers of the chain between the first and the last
	Ups       int  // doublings at the end
}

const maxBlocks, maxUps = 1 << 10, 4

// ReadConfig finds the structure in the shapes of the weights, by the names of Real-ESRGAN.
func ReadConfig(src nn.Source) (Config, error) {
	shape := func(name string) tensor.Shape {
		a, ok := src.Array(name)
		if !ok {
			return nil
		}
		return a.Shape()
	}
	first := shape("conv_first.weight")
	if len(first) != 4 {
		return readCompact(shape)
	}
	c := Config{Features: first[0]}
	for _, u := range []int{1, 2, 4} {
		if first[1] == 3*u*u {
			c.Unshuffle = u
		}
	}
	for shape(fmt.Sprintf("body.%d.rdb1.conv1.weight", c.Blocks)) != nil && c.Blocks < maxBlocks {
		c.Blocks++
	}
	for shape(fmt.Sprintf("conv_up%d.weight", c.Ups+1)) != nil && c.Ups < maxUps {
		c.Ups++
	}
	dense := shape("body.0.rdb1.conv1.weight")
	switch {
	case len(dense) != 4:
		return c, fmt.Errorf("upscaler: conv_first.weight is there, but no body.0.rdb1.conv1.weight: this is not an RRDBNet")
	case c.Unshuffle == 0 || 1<<c.Ups%c.Unshuffle != 0:
		return c, fmt.Errorf("upscaler: conv_first.weight is %v: it reads %d channels; colour pictures have 3, or 12 and 48 where pixels are put together", first, first[1])
	}
	c.Grow, c.Scale = dense[0], 1<<c.Ups/c.Unshuffle
	return c, nil
}

func readCompact(shape func(string) tensor.Shape) (Config, error) {
	first, c := shape("body.0.weight"), Config{Compact: true, Unshuffle: 1}
	if len(first) != 4 || first[1] != 3 {
		return c, fmt.Errorf("upscaler: neither conv_first.weight (RRDBNet) nor body.0.weight of three input channels (SRVGGNetCompact) is there: this network is not known")
	}
	c.Features = first[0]
	for len(shape(fmt.Sprintf("body.%d.weight", 2*c.Blocks+4))) == 4 && c.Blocks < maxBlocks {
		c.Blocks++
	}
	last := shape(c.lastName() + ".weight")
	for s := range 9 {
		if len(last) == 4 && last[0] == 3*s*s {
			c.Scale = s
		}
	}
	if c.Scale == 0 {
		return c, fmt.Errorf("upscaler: %s.weight is %v: 3·scale² output channels are needed", c.lastName(), last)
	}
	return c, nil
}

// lastName is the last layer of a chain: each but it is followed by its slopes.
func (c Config) lastName() string { return fmt.Sprintf("body.%d", 2*c.Blocks+2) }
