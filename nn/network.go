package nn

import (
	"fmt"

	"darkroom/kernels"
	"darkroom/tensor"
)

// Sizes are all that a network's graph depends on besides its weights. A network reads those that concern it.
type Sizes struct {
	Rows       int     // of the batch
	H, W       int     // of the input: pixels of a picture or of latents
	Tokens     int     // of a text
	Skip       int     // layers left off at the end of a text encoder
	References int     // tokens of reference pictures
	Frames     int     // of a film, for each row; 0 and 1 are a picture
	Wrap       [2]bool // seamless pictures, along rows and columns: kernels.Graph's
	Winograd   bool    // convolutions may multiply less: kernels.Graph's
	Cut        Cut     // of a U-Net
	Merge      float64 // share of the tokens that are merged in a U-Net's largest self-attention
}

// Cut says how much of a U-Net is written, for calls that take what lies deep in it from an earlier one.
type Cut struct {
	Form   Form
	Layers int // of the way up, from its end: the outermost ones, which every form but First has
}

// Form is a part of a U-Net.
type Form int

const (
	Whole     Form = iota
	Keep           // whole, and writes what the outermost layers read, "inner", and the first layer's result, "first"
	Outer          // the outermost layers, which read "inner"
	First          // the first layer alone, to "first"
	KeepCross      // whole, and writes what each cross-attention gives, Cross
	NoCross        // reads that, and has no cross-attention
)

// Cross is the name of what cross-attention i of a U-Net gives, [N,T,C], in the order in which they run.
func Cross(i int) string { return fmt.Sprint("cross", i) }

// Network is a model part as it is written into a graph. Its inputs and outputs have names.
type Network interface {
	Write(g *kernels.Graph, s Sizes)
}

// Graph is a new graph of a network with activations of that type.
func Graph(n Network, dtype tensor.DType, s Sizes) *kernels.Graph {
	g := kernels.NewGraph(dtype)
	g.Wrap, g.Winograd = s.Wrap, s.Winograd
	n.Write(g, s)
	return g
}
