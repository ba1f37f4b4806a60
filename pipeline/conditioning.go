package pipeline

import (
	"context"
	"fmt"

	"darkroom/clip"
	"darkroom/kernels"
)

// conditioning is what the U-Net reads of a prompt: hidden states of all its chunks, one after the
// other, [tokens, width].
type conditioning struct {
	key    conditioningKey
	cond   []float32
	uncond []float32 // nil without guidance
	empty  []float32 // of the empty prompt; nil where it is not needed
	tokens int
	cut    []string // warnings about what did not fit
}

type conditioningKey struct {
	prompt, negative string
	syntax           clip.Syntax
	skip             int
	rows             int // 1: the prompt alone; 2: and the negative; 3: and the empty one
}

// keptConditionings is how many prompts are remembered: a batch over seeds encodes its text once.
const keptConditionings = 8

// condition encodes the prompt, or finds it among the latest ones.
func (p *Pipeline) condition(ctx context.Context, pl *plan, warn func(string)) (*conditioning, error) {
	key := conditioningKey{pl.Prompt, pl.Negative, pl.syntax, pl.ClipSkip, pl.rows()}
	if key.rows == 1 {
		key.negative = ""
	}
	c := p.remembered(key)
	if c == nil {
		var err error
		if p.lowMemory {
			p.closePrograms() // for the text encoder's weights
		}
		c, err = p.encode(ctx, key)
		if p.lowMemory {
			p.dropText()
		}
		if err != nil {
			return nil, err
		}
		p.conditionings = append([]*conditioning{c}, p.conditionings...)
		p.conditionings = p.conditionings[:min(len(p.conditionings), keptConditionings)]
	}
	for _, cut := range c.cut {
		warn(cut)
	}
	return c, nil
}

func (p *Pipeline) remembered(key conditioningKey) *conditioning {
	for _, c := range p.conditionings {
		if c.key == key {
			return c
		}
	}
	return nil
}

func (p *Pipeline) encode(ctx context.Context, key conditioningKey) (*conditioning, error) {
	c := &conditioning{key: key}
	texts := []string{key.prompt, key.negative, ""}[:key.rows]
	names := []string{"the prompt", "the negative prompt", "the empty prompt"}
	hidden := []*[]float32{&c.cond, &c.uncond, &c.empty}
	var prompts []*clip.Prompt
	for i, text := range texts {
		prompt, err := p.tokenizer.Prompt(text, key.syntax, p.text.Config.MaxPositionEmbeddings)
		if err != nil {
			return nil, &UsageError{fmt.Errorf("%s: %w", names[i], err)}
		}
		prompts = append(prompts, &prompt)
	}
	clip.Align(prompts...)
	for i, prompt := range prompts {
		if prompt.Cut != "" {
			c.cut = append(c.cut, fmt.Sprintf("%s is longer than %d tokens, its end is ignored (--prompt-syntax weighted takes any length): %q",
				names[i], p.text.Config.MaxPositionEmbeddings, prompt.Cut))
		}
		var err error
		if *hidden[i], err = p.encodeChunks(ctx, prompt, key.skip); err != nil {
			return nil, fmt.Errorf("%s: %w", names[i], err)
		}
	}
	c.tokens = len(c.cond) / p.text.Config.HiddenSize
	return c, nil
}

// encodeChunks runs the text encoder over each window of tokens.
func (p *Pipeline) encodeChunks(ctx context.Context, prompt *clip.Prompt, skip int) ([]float32, error) {
	t, err := p.textProgram(skip)
	if err != nil {
		return nil, err
	}
	var all []float32
	for _, chunk := range prompt.Chunks {
		if err := t.program.WriteIDs(t.ids, chunk.IDs); err != nil {
			return nil, err
		}
		if err := t.program.Run(ctx); err != nil {
			return nil, err
		}
		hidden := make([]float32, t.hidden.Shape.Len())
		if err := t.program.Read(hidden, t.hidden); err != nil {
			return nil, err
		}
		if kernels.NonFinite(hidden) >= 0 {
			return nil, diagnose(ctx, t.program, "the text encoder")
		}
		clip.ApplyWeights(hidden, chunk.Weights, p.text.Config.HiddenSize)
		all = append(all, hidden...)
	}
	return all, nil
}
