package family

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"darkroom/checkpoint"
	"darkroom/clip"
	"darkroom/config"
	"darkroom/nn"
	"darkroom/qwen"
	"darkroom/recipe"
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

// whole says what a model in a single file lacks, and how to give it.
func (x *files) whole() error {
	s := x.folder.Single()
	if s == nil {
		return nil
	}
	var flags []string
	if !x.folder.Exists(languagePart) && x.options.Text == nil {
		flags = append(flags, "the text encoder with --text-encoder")
	}
	if !x.folder.Exists("vae") && x.options.VAE == nil {
		flags = append(flags, "the autoencoder with --vae")
	}
	if len(flags) == 0 {
		return nil
	}
	return fmt.Errorf("model %s: the file holds only %s of %s: give %s, or a model that has them with --parts", x.folder.Name(), strings.Join(s.Parts, ", "), s.Family, strings.Join(flags, ", and "))
}

// openLanguageModel opens the text encoder and the tokenizer. layers chooses the states that are read.
func openLanguageModel(x *files, d *stage.Device, thinking bool, layers func(qwen.Config) []int) (*languageModel, error) {
	if err := x.whole(); err != nil {
		return nil, err
	}
	files := x.folder.Sub("tokenizer")
	if x.options.Text != nil {
		files = x.options.Text.Tokenizer
	}
	t, err := qwen.LoadTokenizer(files)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", x.folder.Name(), err)
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
	for _, array := range qwen.EmbeddingNames {
		if a, ok := x.weights[name].arrays.Array(array); ok {
			e.table = a
		}
	}
	if want := (tensor.Shape{m.Config.VocabSize, m.Config.HiddenSize}); e.table == nil || !e.table.Shape().Equal(want) {
		return nil, fmt.Errorf("model %s: %s has no table of tokens' vectors (%s, %v)", x.folder.Name(), name, qwen.EmbeddingNames[0], want)
	}
	e.part = (&stage.Part{
		Name: name, Title: "the text encoder", Net: m, Once: true, Large: true,
		Sizes: func(int, int, int, bool) nn.Sizes { return nn.Sizes{Rows: 1, Tokens: e.Tokens()} },
	}).On(d)
	return e, nil
}

// Layers is 1: none can be left off.
func (*languageModel) Layers() int { return 1 }

// Tokens is that of a prompt of some thirty words.
func (*languageModel) Tokens() int { return 64 }

func (t *languageModel) Check(_, syntax string) error {
	_, err := clip.ParseSyntax(syntax)
	return err
}

// weightedWords are a part of a prompt with a weight, in the syntax of the web UIs.
var weightedWords = regexp.MustCompile(`\([^()]+:\s*[+-]?[0-9.]+\s*\)`)

// read gives the ids of a prompt's chat. Of the weighted syntax the tags of adapters alone mean something here: brackets are
// text, as weights of words have no place in the states of a language model.
func (t *languageModel) read(text, syntax string) (ids []int32, cut string, warnings []string) {
	if syntax == recipe.Weighted {
		text, _ = clip.CutTags(text)
		if found := weightedWords.FindString(text); found != "" {
			warnings = append(warnings, fmt.Sprintf("%.80q is encoded as words: this model's text encoder knows no weights", found))
		}
	}
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

func (t *languageModel) embed(all []*checkpoint.Embedding, _ map[string]checkpoint.Weights, _ map[string]string) error {
	if len(all) > 0 {
		return fmt.Errorf("the embedding %s is for CLIP text encoders, which this model does not have", all[0].Token)
	}
	return nil
}
