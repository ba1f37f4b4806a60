package clip

import (
	"fmt"
	"math"
)

// Syntax is how a prompt is read. The zero value is Weighted.
type Syntax int

const (
	// Weighted is the syntax of the Stable Diffusion web UIs: emphasis by brackets, BREAK, any length.
	Weighted Syntax = iota
	// Plain is diffusers': all of the text is text, and what does not fit is cut off.
	Plain
)

// ParseSyntax reads "weighted" or "plain".
func ParseSyntax(name string) (Syntax, error) {
	switch name {
	case "weighted":
		return Weighted, nil
	case "plain":
		return Plain, nil
	}
	return 0, fmt.Errorf("unknown prompt syntax %q: choose weighted or plain", name)
}

func (s Syntax) String() string {
	if s == Plain {
		return "plain"
	}
	return "weighted"
}

// Prompt is a text as the text encoder takes it: one or more chunks, each encoded by itself, their hidden
// states one after the other.
type Prompt struct {
	Chunks []Chunk
	// Cut is the end of the text, as tokens spell it, that Plain left out; "" if all of it fits.
	Cut string
	// NumCut is the number of tokens in Cut.
	NumCut int
	// Tags are the networks that a Weighted text asks for; they are not part of Chunks.
	Tags []Tag
	// Warnings are sentences on what the text asks for and does not get.
	Warnings []string

	empty Chunk // the chunk of an empty prompt
}

// Chunk is one window of the text encoder.
type Chunk struct {
	IDs     []int32   // Start, the text's, End, and Pad up to the window
	Weights []float32 // of each id; 1 for those that are not the text's
	Tokens  int       // ids of the text
}

// commaBacktrack is the web UIs' setting of that name, at its default: a chunk that is full ends after
// its last comma if no more tokens than that follow it, so that what belongs together stays together.
const commaBacktrack = 20

// Prompt takes text apart into chunks of window ids (the text encoder's max_position_embeddings, at
// least 3), Start and End included.
//
// Weighted follows the AUTOMATIC1111 web UI: parseWeighted's spans are tokenized one by one; a chunk ends
// where it is full, at a comma shortly before (commaBacktrack), or at a BREAK. The error is a weight that
// brackets have multiplied beyond float32. Plain makes one chunk.
func (t *Tokenizer) Prompt(text string, syntax Syntax, window int) (Prompt, error) {
	if window < 3 {
		panic(fmt.Sprintf("clip: a window of %d ids has no room for text", window))
	}
	p := Prompt{empty: t.chunk(nil, nil, window), Warnings: warnings(text, syntax)}
	if syntax == Plain {
		ids := t.Encode(text)
		if room := window - 2; len(ids) > room {
			p.NumCut, p.Cut = len(ids)-room, t.Decode(ids[room:])
			ids = ids[:room]
		}
		p.Chunks = []Chunk{t.chunk(ids, nil, window)}
		return p, nil
	}
	text, p.Tags = CutTags(text)
	spans, err := parseWeighted(text)
	if err != nil {
		return Prompt{}, err
	}
	c := chunker{t: t, window: window, comma: -1}
	for _, s := range spans {
		if s.isBreak() {
			c.end()
			continue
		}
		w := float32(s.weight)
		if math.IsInf(float64(w), 0) {
			return Prompt{}, fmt.Errorf("the brackets around %.40q multiply to a weight of %g: use fewer, or smaller weights", s.text, s.weight)
		}
		for _, id := range t.Encode(s.text) {
			c.add(id, w)
		}
	}
	if len(c.ids) > 0 || len(c.chunks) == 0 {
		c.end()
	}
	p.Chunks = c.chunks
	return p, nil
}

// chunk frames ids; no weights are all 1.
func (t *Tokenizer) chunk(ids []int32, weights []float32, window int) Chunk {
	c := Chunk{IDs: make([]int32, window), Weights: make([]float32, window), Tokens: len(ids)}
	for i := range c.IDs {
		c.IDs[i], c.Weights[i] = t.Pad, 1
	}
	c.IDs[0], c.IDs[len(ids)+1] = t.Start, t.End
	copy(c.IDs[1:], ids)
	copy(c.Weights[1:], weights)
	return c
}

// chunker fills one chunk after the other.
type chunker struct {
	t       *Tokenizer
	window  int
	chunks  []Chunk
	ids     []int32 // of the chunk at hand
	weights []float32
	comma   int // index of its last comma, -1 for none
}

func (c *chunker) add(id int32, weight float32) {
	full := len(c.ids) == c.window-2
	switch {
	case id == c.t.Comma:
		c.comma = len(c.ids)
	case full && c.comma >= 0 && len(c.ids)-c.comma <= commaBacktrack:
		n := c.comma + 1
		ids, weights := c.ids[n:], c.weights[n:]
		c.ids, c.weights = c.ids[:n], c.weights[:n]
		c.end()
		c.ids, c.weights = append(c.ids, ids...), append(c.weights, weights...)
	}
	if len(c.ids) == c.window-2 {
		c.end()
	}
	c.ids, c.weights = append(c.ids, id), append(c.weights, weight)
}

func (c *chunker) end() {
	c.chunks = append(c.chunks, c.t.chunk(c.ids, c.weights, c.window))
	c.ids, c.weights, c.comma = nil, nil, -1
}

// Align gives all prompts the same number of chunks: chunks of the empty prompt follow the shorter ones.
func Align(prompts ...*Prompt) {
	most := 0
	for _, p := range prompts {
		most = max(most, len(p.Chunks))
	}
	for _, p := range prompts {
		for len(p.Chunks) < most {
			p.Chunks = append(p.Chunks, p.empty)
		}
	}
}

// ApplyWeights puts a chunk's weights into its hidden states, [len(weights), width], in place: each
// token's state times its weight, then all of them times one factor, so that their mean is what it was
// (the web UIs' "original" emphasis):
//
//	h'[t,c] = h[t,c]·w[t] · mean(h)/mean(h·w)
//
// Weights that are all 1 change nothing, not even a rounding. Where a mean is nothing but rounding
// error, its ratio would be noise: then the second step is left out.
func ApplyWeights(hidden, weights []float32, width int) {
	if len(hidden) != len(weights)*width {
		panic(fmt.Sprintf("clip: %d hidden values for %d tokens of width %d", len(hidden), len(weights), width))
	}
	before := momentsOf(hidden)
	weighted := false
	for t, w := range weights {
		if w == 1 {
			continue
		}
		weighted = true
		for c := range hidden[t*width : (t+1)*width] {
			hidden[t*width+c] *= w
		}
	}
	if !weighted {
		return
	}
	after := momentsOf(hidden)
	if before.isNoise() || after.isNoise() {
		return
	}
	factor := float32(before.sum) / float32(after.sum)
	for i := range hidden {
		hidden[i] *= factor
	}
}

// moments of float32 values, summed in float64.
type moments struct{ sum, abs float64 }

func momentsOf(values []float32) (m moments) {
	for _, v := range values {
		m.sum += float64(v)
		m.abs += math.Abs(float64(v))
	}
	return m
}

// isNoise: each value carries a relative error of a few 2⁻²⁴, so the sum does of the sum of magnitudes.
func (m moments) isNoise() bool { return math.Abs(m.sum) <= m.abs*0x1p-21 }

// Row is a line of Report.
type Row struct {
	Chunk    int // from 0
	Position int // in the chunk, from 0
	ID       int32
	Token    string // as in the vocabulary: "apple</w>"
	Weight   float32
}

// Report lists what a prompt became, without the padding: Start, the text's tokens and End of each chunk.
func (t *Tokenizer) Report(p Prompt) []Row {
	var rows []Row
	for n, c := range p.Chunks {
		for i, id := range c.IDs[:c.Tokens+2] {
			rows = append(rows, Row{n, i, id, t.Token(id), c.Weights[i]})
		}
	}
	return rows
}
