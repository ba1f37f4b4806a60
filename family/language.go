package family

import (
	"context"
	"errors"
	"fmt"

	"darkroom/checkpoint"
	"darkroom/clip"
	"darkroom/config"
	"darkroom/nn"
	"darkroom/qwen"
	"darkroom/stage"
	"darkroom/tensor"
)

// languageModel is a text encoder that is a language model, Qwen3, whose states of a chat with the prompt are read.
type languageModel struct {
	tokenizer *qwen.Tokenizer
	model     *qwen.Model
	part      *stage.Part
	table     tensor.Array // of the tokens' vectors
	thinking  bool         // the chat leaves room for thoughts
}

// languagePart is what the text encoder is called in a model's files.
const languagePart = "text_encoder"

// openLanguageModel opens the text encoder and the tokenizer. layers chooses the states that are read.
func openLanguageModel(x *files, d *stage.Device, thinking bool, layers func(qwen.Config) []int) (*languageModel, error) {
	if err := x.take(textParts{{languagePart, checkpoint.Qwen3}}); err != nil {
		return nil, err
	}
	t, err := qwen.LoadTokenizer(x.tokenizer(languagePart))
	if err != nil {
		return nil, x.noTokenizer(err, "tokenizer.json")
	}
	const name = languagePart
	m, err := network(x, name, func(c *config.Object) (qwen.Config, error) {
		q, err := qwen.ReadConfig(c)
		q.Layers = layers(q)
		return q, err
	}, qwen.New)
	if err != nil {
		return nil, err
	}
	if err := t.Check(m.Config); err != nil {
		return nil, fmt.Errorf("model %s: %w", x.folder.Name(), err)
	}
	e := &languageModel{tokenizer: t, model: m, thinking: thinking}
	if e.table, err = tokenTable(x.weights[name].arrays, qwen.EmbeddingNames, tensor.Shape{m.Config.VocabSize, m.Config.HiddenSize}); err != nil {
		return nil, fmt.Errorf("model %s: %s %w", x.folder.Name(), name, err)
	}
	e.part = (&stage.Part{
		Name: name, Title: "the text encoder", Net: m, Once: true, Large: true,
		Sizes: func(int, int, int, bool) nn.Sizes { return nn.Sizes{Rows: 1, Tokens: e.Tokens()} },
	}).On(d)
	return e, nil
}

// tokenTable finds the table of tokens' vectors, of that shape, by one of its names. It is read row by row where it lies.
func tokenTable(arrays checkpoint.Weights, names []string, want tensor.Shape) (tensor.Array, error) {
	for _, name := range names {
		if a, ok := arrays.Array(name); ok && a.Shape().Equal(want) {
			return a, nil
		}
	}
	return nil, fmt.Errorf("has no table of tokens' vectors (%s, %v)", names[0], want)
}

// Layers is 1: none can be left off.
func (*languageModel) Layers() int { return 1 }

// Tokens is that of a prompt of some thirty words.
func (*languageModel) Tokens() int { return 64 }

func (t *languageModel) Check(_, syntax string) error {
	_, err := clip.ParseSyntax(syntax)
	return err
}

// read gives the ids of a prompt's chat. Weights of words have no place in the states of a language model.
func (t *languageModel) read(text, syntax string) (ids []int32, cut string, warnings []string) {
	text, warnings = wordsOf(text, syntax)
	ids, cut = t.tokenizer.Prompt(text, t.thinking)
	return ids, cut, warnings
}

// states runs the encoder on a text's ids, filled up to so many: the states of all, [fill, width].
func (t *languageModel) states(ctx context.Context, ids []int32, fill int) (tensor.Tensor, error) {
	c := t.model.Config
	embedded := make([]float32, fill*c.HiddenSize)
	for i := range fill {
		id := t.tokenizer.Pad
		if i < len(ids) {
			id = ids[i]
		}
		if err := t.table.Decode(embedded[i*c.HiddenSize:][:c.HiddenSize], int(id)*c.HiddenSize); err != nil {
			return tensor.Tensor{}, fmt.Errorf("the vector of token %d: %w", id, err)
		}
	}
	in := stage.Values{
		"embedded": tensor.Of(embedded, 1, fill, c.HiddenSize), "angles": tensor.Of(c.Angles(fill), 1, fill, c.HeadDim),
		"lengths": tensor.OfIDs([]int32{int32(len(ids))}, 1),
	}
	out, err := t.part.Run(ctx, nn.Sizes{Rows: 1, Tokens: fill}, in, "hidden")
	var bad *stage.NotFiniteError
	if errors.As(err, &bad) {
		err = bad.Diagnosis(ctx, "")
	}
	if err != nil {
		return tensor.Tensor{}, err
	}
	hidden := out["hidden"]
	return tensor.Tensor{DType: hidden.DType, Shape: hidden.Shape[1:], Data: hidden.Data}, nil
}

// encode encodes texts, each filled up to what fill says of its length. The conditions are the states, "text", of all
// tokens; lengths are those of the texts.
func (t *languageModel) encode(ctx context.Context, texts []string, o TextOptions, fill func(n int) int) (e *Encoded, lengths []int, err error) {
	if t.part.Device().Drops() {
		defer t.part.Unload()
	}
	e = &Encoded{Window: qwen.Most}
	for i, text := range texts {
		ids, cut, warnings := t.read(text, o.Syntax)
		states, err := t.states(ctx, ids, fill(len(ids)))
		if err != nil {
			return nil, nil, &TextError{i, false, err}
		}
		e.Conds = append(e.Conds, Cond{"text": states})
		e.Cut = append(e.Cut, cut)
		e.Warnings = append(e.Warnings, warnings)
		lengths = append(lengths, len(ids))
	}
	return e, lengths, nil
}

func (t *languageModel) reads(*checkpoint.Embedding) bool { return false }

func (t *languageModel) embed(all []*checkpoint.Embedding, _ map[string]checkpoint.Weights, _ map[string]string) error {
	if len(all) > 0 {
		return fmt.Errorf("the embedding %s is for CLIP text encoders, which this model does not have", all[0].Token)
	}
	return nil
}
