package pipeline

import (
	"context"
	"errors"
	"fmt"

	"darkroom/family"
)

// conditioning is a prompt as the denoiser reads it, with the negative and the empty one where they are needed.
type conditioning struct {
	key conditioningKey
	*family.Encoded
}

type conditioningKey struct {
	prompt, negative string
	options          family.TextOptions
	adaptation       string
	rows             int // 1: the prompt alone; 2: and the negative; 3: and the empty one
}

// keptConditionings is how many prompts are remembered: a batch over seeds encodes its text once.
const keptConditionings = 8

// textNames are those of a conditioning's texts in messages.
var textNames = []string{"the prompt", "the negative prompt", "the empty prompt"}

// condition encodes the prompt, or finds it among the latest ones.
func (p *Pipeline) condition(ctx context.Context, pl *plan, warn func(string)) (*conditioning, error) {
	key := conditioningKey{pl.Prompt, pl.Negative, family.TextOptions{Syntax: pl.Syntax, Skip: pl.ClipSkip, Width: pl.Width, Height: pl.Height, Sizes: pl.sizes}, pl.adaptation.key, pl.texts()}
	if key.rows == 1 {
		key.negative = ""
	}
	c := p.remembered(key)
	if c == nil {
		if p.device.LowMemory {
			p.model.Shed() // for the text encoder's weights
			if p.steering.steered != nil {
				p.steering.steered.Close()
			}
		}
		encoded, err := p.encode(ctx, key)
		if err != nil {
			return nil, err
		}
		c = &conditioning{key, encoded}
		p.conditionings = append([]*conditioning{c}, p.conditionings...)
		p.conditionings = p.conditionings[:min(len(p.conditionings), keptConditionings)]
	}
	for i, cut := range c.Cut {
		if cut != "" {
			warn(fmt.Sprintf("%s is longer than %d tokens, its end is ignored (--prompt-syntax weighted takes any length): %q", textNames[i], c.Window, cut))
		}
	}
	for i, warnings := range c.Warnings {
		for _, w := range warnings {
			warn(textNames[i] + ": " + w)
		}
	}
	return c, nil
}

// texts are how many a plan has encoded: a row each, but that editing by instruction reads the negative prompt in two.
func (pl *plan) texts() int {
	if pl.instructs() {
		return min(pl.rows(), 2)
	}
	return pl.rows()
}

func (p *Pipeline) remembered(key conditioningKey) *conditioning {
	for _, c := range p.conditionings {
		if c.key == key {
			return c
		}
	}
	return nil
}

func (p *Pipeline) encode(ctx context.Context, key conditioningKey) (*family.Encoded, error) {
	texts := []string{key.prompt, key.negative, ""}[:key.rows]
	e, err := p.model.Text.Encode(ctx, texts, key.options)
	var bad *family.TextError
	if !errors.As(err, &bad) {
		return e, err
	}
	err = fmt.Errorf("%s: %w", textNames[bad.Text], bad.Err)
	if bad.Usage {
		err = &UsageError{err}
	}
	return nil, err
}
