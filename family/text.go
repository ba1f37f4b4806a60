package family

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"darkroom/clip"
	"darkroom/config"
	"darkroom/nn"
	"darkroom/stage"
	"darkroom/tensor"
)

// clipText is one CLIP text encoder with its tokenizer: prompts of any length, a window of tokens at a time.
type clipText struct {
	tokenizer *clip.Tokenizer
	model     *clip.TextModel
	part      *stage.Part
	table     string          // the array of its tokens' vectors
	extended  *clip.Tokenizer // with the words of embeddings; nil without
}

// openCLIP opens an encoder with its tokenizer.
func openCLIP(x *files, d *stage.Device, name string) (*clipText, error) {
	return openCLIPWith(x, d, name, clip.ReadTextConfig)
}

// openCLIPWith is openCLIP with another reader of the configuration.
func openCLIPWith(x *files, d *stage.Device, name string, read func(*config.Object) (clip.TextConfig, error)) (*clipText, error) {
	if len(x.options.Texts) > 0 && x.texts == nil {
		return nil, fmt.Errorf("model %s: its text encoders are CLIP's, which no other can replace: leave --text-encoder out", x.folder.Name())
	}
	t, err := clip.LoadTokenizer(x.tokenizer(name))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", x.folder.Name(), err)
	}
	m, err := network(x, name, read, clip.NewText)
	if err != nil {
		return nil, err
	}
	if n := t.Size(); n > m.Config.VocabSize {
		return nil, fmt.Errorf("model %s: the tokenizer has %d tokens, %s/config.json vocab_size %d: they must agree", x.folder.Name(), n, name, m.Config.VocabSize)
	}
	e := newCLIPText(t, m, name, d)
	for array := range x.weights[name].loaded {
		if strings.HasSuffix(array, "embeddings.token_embedding.weight") {
			e.table = array
		}
	}
	return e, nil
}

func newCLIPText(t *clip.Tokenizer, m *clip.TextModel, name string, d *stage.Device) *clipText {
	return &clipText{tokenizer: t, model: m, part: (&stage.Part{
		Name: name, Title: "the text encoder", Net: m, Once: true,
		Sizes: func(int, int, int, bool) nn.Sizes { return nn.Sizes{Rows: 1} },
	}).On(d)}
}

func (t *clipText) Layers() int { return t.model.Layers() }
func (t *clipText) Tokens() int { return t.model.Config.MaxPositionEmbeddings }

func (t *clipText) Check(text, syntax string) error {
	_, err := t.read(text, syntax)
	return err
}

func (t *clipText) read(text, syntax string) (*clip.Prompt, error) {
	s, err := clip.ParseSyntax(syntax)
	if err != nil {
		return nil, err
	}
	tokenizer := t.tokenizer
	if t.extended != nil {
		tokenizer = t.extended
	}
	p, err := tokenizer.Prompt(text, s, t.Tokens())
	return &p, err
}

// readAll reads texts and fills them up to one length.
func (t *clipText) readAll(texts []string, syntax string) (prompts []*clip.Prompt, err error) {
	for i, text := range texts {
		p, err := t.read(text, syntax)
		if err != nil {
			return nil, &TextError{i, true, err}
		}
		prompts = append(prompts, p)
	}
	clip.Align(prompts...)
	return prompts, nil
}

// Encode gives the hidden states of all chunks, one after the other, as "text" [tokens, width].
func (t *clipText) Encode(ctx context.Context, texts []string, o TextOptions) (*Encoded, error) {
	prompts, err := t.readAll(texts, o.Syntax)
	if err != nil {
		return nil, err
	}
	if t.part.Device().Drops() {
		defer t.part.Unload()
	}
	e := &Encoded{Window: t.Tokens()}
	width := t.model.Config.HiddenSize
	for i, p := range prompts {
		hidden, _, err := t.encode(ctx, p, o.Skip, false)
		if err != nil {
			return nil, &TextError{i, false, err}
		}
		e.Tokens = len(hidden) / width
		e.Conds = append(e.Conds, Cond{"text": tensor.Of(hidden, e.Tokens, width)})
		e.Cut = append(e.Cut, p.Cut)
		e.Warnings = append(e.Warnings, p.Warnings)
	}
	return e, nil
}

// encode runs the encoder over each window of tokens: the states of all, and where it is asked for the embedding of the
// text of the first.
func (t *clipText) encode(ctx context.Context, p *clip.Prompt, skip int, wantPooled bool) (all, pooled []float32, err error) {
	names := []string{"hidden"}
	if wantPooled {
		names = append(names, "pooled")
	}
	for i, chunk := range p.Chunks {
		out, err := t.part.Run(ctx, nn.Sizes{Rows: 1, Skip: skip}, stage.Values{"ids": tensor.OfIDs(chunk.IDs, 1, len(chunk.IDs))}, names...)
		var bad *stage.NotFiniteError
		if errors.As(err, &bad) {
			return nil, nil, bad.Diagnosis(ctx, "")
		}
		if err != nil {
			return nil, nil, err
		}
		hidden := tensor.Floats(out["hidden"].Data)
		clip.ApplyWeights(hidden, chunk.Weights, t.model.Config.HiddenSize)
		all = append(all, hidden...)
		if wantPooled && i == 0 {
			v := out["pooled"]
			width := v.Shape[len(v.Shape)-1]
			pooled = tensor.Floats(v.Data)[t.model.Config.EOS(chunk.IDs)*width:][:width]
		}
	}
	return all, pooled, nil
}
