package family

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"darkroom/clip"
	"darkroom/config"
	"darkroom/nn"
	"darkroom/recipe"
	"darkroom/stage"
	"darkroom/t5"
	"darkroom/tensor"
)

// t5Text is T5's encoder with its tokenizer: states of a fixed number of tokens, of which all count, padding too.
type t5Text struct {
	tokenizer *t5.Tokenizer
	model     *t5.Model
	part      *stage.Part
	vectors   tensor.Array // of the tokens
	bias      []float32    // by distance, of so many tokens
	tokens    int
}

// openT5 opens the encoder that is called so, with its tokenizer. width is what the transformer reads.
func openT5(x *files, d *stage.Device, name string, width, tokens int) (*t5Text, error) {
	t, err := t5.LoadTokenizer(x.tokenizer(name))
	if err != nil {
		return nil, x.noTokenizer(err, "spiece.model or tokenizer.json")
	}
	m, err := network(x, name, func(c *config.Object) (t5.Config, error) { return t5.ReadConfig(c) }, t5.New)
	if err != nil {
		return nil, err
	}
	c := m.Config
	if err := t.Check(c, name); err != nil {
		return nil, fmt.Errorf("model %s: %w", x.folder.Name(), err)
	}
	if c.Model != width {
		return nil, fmt.Errorf("model %s: transformer/config.json has joint_attention_dim %d, %s/config.json d_model %d: they must agree", x.folder.Name(), width, name, c.Model)
	}
	e := &t5Text{tokenizer: t, model: m, tokens: tokens}
	arrays := x.weights[name].arrays
	if e.vectors, err = tokenTable(arrays, t5.EmbeddingNames, tensor.Shape{c.VocabSize, c.Model}); err != nil {
		return nil, fmt.Errorf("model %s: %s %w", x.folder.Name(), name, err)
	}
	bias, ok := arrays.Array(t5.BiasName)
	if !ok || !bias.Shape().Equal(tensor.Shape{c.Buckets, c.Heads}) {
		return nil, fmt.Errorf("model %s: %s has no weight %s (%v)", x.folder.Name(), name, t5.BiasName, tensor.Shape{c.Buckets, c.Heads})
	}
	table := make([]float32, c.Buckets*c.Heads)
	if err := bias.Decode(table, 0); err != nil {
		return nil, fmt.Errorf("model %s: %s: %w", x.folder.Name(), t5.BiasName, err)
	}
	e.bias = c.Bias(table, tokens)
	e.part = (&stage.Part{
		Name: name, Title: "the T5 text encoder", Net: m, Once: true, Large: true,
		Sizes: func(int, int, int, bool) nn.Sizes { return nn.Sizes{Rows: 1, Tokens: tokens} },
	}).On(d)
	return e, nil
}

// weightedWords are a part of a prompt with a weight, in the syntax of the web UIs.
var weightedWords = regexp.MustCompile(`\([^()]+:\s*[+-]?[0-9.]+\s*\)`)

// wordsOf is a prompt as a text encoder reads it that knows no weights: of the weighted syntax the tags of adapters alone mean
// something, and brackets are text.
func wordsOf(text, syntax string) (words string, warnings []string) {
	if syntax != recipe.Weighted {
		return text, nil
	}
	text, _ = clip.CutTags(text)
	if found := weightedWords.FindString(text); found != "" {
		warnings = append(warnings, fmt.Sprintf("%.80q is encoded as words: this model's text encoder knows no weights", found))
	}
	return text, warnings
}

// encode gives the states of a text, [tokens, width], and what of it did not fit.
func (t *t5Text) encode(ctx context.Context, text string) (states []float32, cut string, err error) {
	c := t.model.Config
	ids, cut := t.tokenizer.Prompt(text, t.tokens)
	embedded := make([]float32, t.tokens*c.Model)
	for i := range t.tokens {
		id := t.tokenizer.Pad
		if i < len(ids) {
			id = ids[i]
		}
		row := embedded[i*c.Model:][:c.Model]
		if err := t.vectors.Decode(row, int(id)*c.Model); err != nil {
			return nil, "", fmt.Errorf("the vector of token %d: %w", id, err)
		}
		for j := range row {
			row[j] *= t5.Residual
		}
	}
	in := stage.Values{"embedded": tensor.Of(embedded, 1, t.tokens, c.Model), "bias": tensor.Of(t.bias, c.Heads, 2*t.tokens-1)}
	out, err := t.part.Run(ctx, nn.Sizes{Rows: 1, Tokens: t.tokens}, in, "hidden")
	var bad *stage.NotFiniteError
	if errors.As(err, &bad) {
		err = bad.Diagnosis(ctx, "")
	}
	if err != nil {
		return nil, "", err
	}
	return tensor.Floats(out["hidden"].Data), cut, nil
}
