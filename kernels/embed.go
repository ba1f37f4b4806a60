package kernels

import (
	"fmt"

	"darkroom/tensor"
)

// Embed looks up a row for each token and adds the row of its position, if positions have rows.
//
//	dst[n,t,c] = Tokens[IDs[n,t], c] + Positions[t, c]
//
// IDs must lie inside the table; the tokenizer sees to that.
type Embed struct {
	IDs       *Tensor // [N,T], element type I32
	Tokens    *Weight // Table [vocabulary, C]
	Positions *Weight // Table [at least T, C]; nil for 0
}

func (op *Embed) Kind() string { return "embed" }

func (op *Embed) OutShape() tensor.Shape {
	ids, tok, pos := op.IDs.Shape, op.Tokens.Shape, weightShape(op.Positions)
	if len(ids) != 2 || op.IDs.DType != tensor.I32 || len(tok) != 2 || pos != nil && (len(pos) != 2 || tok[1] != pos[1] || ids[1] > pos[0]) {
		panic(fmt.Sprintf("embed: ids %v, tokens %v, positions %v", ids, tok, pos))
	}
	return tensor.Shape{ids[0], ids[1], tok[1]}
}

func (op *Embed) Inputs() []*Tensor          { return present(op.IDs) }
func (op *Embed) Weights() []*Weight         { return presentWeights(op.Tokens, op.Positions) }
func (op *Embed) FLOPs() float64             { return float64(op.OutShape().Len()) }
func (op *Embed) Run(b Backend, dst *Tensor) { b.Embed(dst, op) }
