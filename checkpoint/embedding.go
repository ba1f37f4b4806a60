package checkpoint

import (
	"fmt"
	"path/filepath"
	"strings"

	"darkroom/tensor"
)

// Embedding is a textual inversion (Gal et al. 2022): vectors in the text encoder's table that a token of their own stands
// for. A multi-vector one takes as many places in the prompt.
type Embedding struct {
	Token string       // the file's name, by which prompts call it
	Note  string       // the name that the file gives itself; "" for none
	Text  tensor.Array // [n, 768] and the like: for the first text encoder; nil if there is none
	Text2 tensor.Array // for SDXL's second
}

// Vectors is how many places it takes.
func (e *Embedding) Vectors() int {
	if e.Text != nil {
		return e.Text.Shape()[0]
	}
	return e.Text2.Shape()[0]
}

// Family is what its widths are made for: "SDXL" for two of them, "" if it is none that is known.
func (e *Embedding) Family() string {
	if e.Text2 != nil {
		return SDXL.String()
	}
	return familyByContext(e.Text.Shape()[1], false)
}

// maxVectors bounds what counts as one: CLIP reads 75 tokens at a time.
const maxVectors = 1024

// ReadEmbedding reads a file of one embedding:
//
//	string_to_param.*            A1111, and the first ones
//	emb_params                   A1111's safetensors
//	clip_l and clip_g            SDXL's two parts
//	one array, the token its name    diffusers
//
// A list of them counts as its first.
func ReadEmbedding(s *Source) (*Embedding, error) {
	t := table(s.arrays)
	if inner := t.below("0."); len(inner) > 0 && len(inner) < len(t)+1 && s.Format() != "safetensors" {
		t = inner
	}
	e := &Embedding{Token: strings.TrimSuffix(filepath.Base(s.Name()), filepath.Ext(s.Name())), Note: s.Metadata()["name"]}
	not := func() (*Embedding, error) {
		return nil, fmt.Errorf("%s: not a textual inversion", s.Name())
	}
	pick := func(names ...string) tensor.Array {
		for _, n := range names {
			if a := vectors(t[n]); a != nil {
				return a
			}
		}
		return nil
	}
	e.Text, e.Text2 = pick("clip_l"), pick("clip_g")
	if e.Text == nil && e.Text2 == nil {
		e.Text = pick("string_to_param.*", "emb_params", "<concept>")
	}
	if e.Text == nil && e.Text2 == nil {
		if params := t.below("string_to_param."); len(params) == 1 {
			for _, a := range params {
				e.Text = vectors(a)
			}
		}
	}
	if e.Text == nil && e.Text2 == nil && len(t) == 1 {
		for name, a := range t {
			if strings.HasSuffix(name, ".weight") || strings.HasSuffix(name, ".bias") {
				return not()
			}
			e.Text = vectors(a)
			if e.Note == "" {
				e.Note = name
			}
		}
	}
	if e.Text == nil && e.Text2 == nil {
		return not()
	}
	if e.Text != nil && e.Text2 != nil && e.Text.Shape()[0] != e.Text2.Shape()[0] {
		return nil, fmt.Errorf("%s: clip_l has %d vectors, clip_g %d: they must agree", s.Name(), e.Text.Shape()[0], e.Text2.Shape()[0])
	}
	if e.Text != nil && e.Text2 == nil && e.Text.Shape()[1] == 1280 { // of the second encoder alone
		e.Text, e.Text2 = nil, e.Text
	}
	return e, nil
}

// vectors is an array as [n, d], nil if it is not a list of vectors.
func vectors(a tensor.Array) tensor.Array {
	if a == nil {
		return nil
	}
	s := a.Shape()
	switch {
	case len(s) == 1 && s[0] > 1:
		return reshaped{a, tensor.Shape{1, s[0]}}
	case len(s) == 2 && s[0] >= 1 && s[0] <= maxVectors && s[1] > 1:
		return a
	}
	return nil
}

// BundledEmbeddings are the embeddings within a file of adapters: bundle_emb.NAME.string_to_param.* and the like.
func BundledEmbeddings(s *Source) ([]*Embedding, error) {
	var all []*Embedding
	for _, token := range AdapterFactsOf(s).BundledTokens {
		inner := &Source{name: token + ".", contents: contents{format: s.format, arrays: table(s.arrays).below("bundle_emb." + token + ".")}}
		e, err := ReadEmbedding(inner)
		if err != nil {
			return nil, fmt.Errorf("%s: bundle_emb.%s is not an embedding", s.Name(), token)
		}
		e.Token = token
		all = append(all, e)
	}
	return all, nil
}

// Extended is a text encoder whose table has the vectors of embeddings after its own rows, in their order.
func Extended(w Weights, table string, embeddings ...tensor.Array) (Weights, error) {
	base, ok := w.Array(table)
	if !ok || len(base.Shape()) != 2 {
		return nil, fmt.Errorf("the text encoder has no table %s", table)
	}
	e, width := &stacked{[]tensor.Array{base}}, base.Shape()[1]
	for _, a := range embeddings {
		if s := a.Shape(); len(s) != 2 || s[1] != width {
			return nil, fmt.Errorf("an embedding of %v for a text encoder that is %d wide: it is for another family", s, width)
		}
		e.arrays = append(e.arrays, a)
	}
	return replaced{w, table, e}, nil
}

// replaced is Weights with another array under one name.
type replaced struct {
	Weights
	name  string
	array tensor.Array
}

func (r replaced) Array(name string) (tensor.Array, bool) {
	if name == r.name {
		return r.array, true
	}
	return r.Weights.Array(name)
}

// stacked is arrays on top of each other, along their first axis.
type stacked struct{ arrays []tensor.Array }

func (s *stacked) Shape() tensor.Shape {
	shape := append(tensor.Shape{}, s.arrays[0].Shape()...)
	for _, a := range s.arrays[1:] {
		shape[0] += a.Shape()[0]
	}
	return shape
}

func (s *stacked) Type() string { return s.arrays[0].Type() }

func (s *stacked) Bytes() int {
	n := 0
	for _, a := range s.arrays {
		n += a.Bytes()
	}
	return n
}

func (s *stacked) Plain() (tensor.Tensor, bool) {
	if len(s.arrays) == 1 {
		return s.arrays[0].Plain()
	}
	return tensor.Tensor{}, false
}

func (s *stacked) Release() {
	for _, a := range s.arrays {
		a.Release()
	}
}

func (s *stacked) Decode(dst []float32, start int) error {
	for _, a := range s.arrays {
		n := a.Shape().Len()
		if start < n && len(dst) > 0 {
			m := min(n-start, len(dst))
			if err := a.Decode(dst[:m], start); err != nil {
				return err
			}
			dst, start = dst[m:], start+m
		}
		start -= n
	}
	return nil
}
