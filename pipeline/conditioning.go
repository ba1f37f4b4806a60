package pipeline

import (
	"context"
	"errors"
	"fmt"

	"darkroom/family"
)

// conditioning is what a plan's rows read, as the denoiser reads it.
type conditioning struct {
	key conditioningKey
	*family.Encoded
	script script
}

type conditioningKey struct {
	texts      string // of all rows and steps
	options    family.TextOptions
	adaptation string
	toward     float64
	base, rows int
}

// keptConditionings is how many prompts are remembered: a batch over seeds encodes its text once.
const keptConditionings = 8

// textNames are those of the texts of the base rows in messages.
var textNames = []string{"the prompt", "the negative prompt", "the empty prompt"}

// maxTexts is how many texts a request may have in all its steps.
const maxTexts = 512

// condition encodes the texts, or finds them among the latest ones.
func (p *Pipeline) condition(ctx context.Context, pl *plan, warn func(string)) (*conditioning, error) {
	list, prompts := pl.all()
	var texts, names []string
	places := make([][]int, len(list)) // by track: where its texts are
	o := family.TextOptions{Syntax: pl.Syntax, Skip: pl.ClipSkip, Width: pl.Width, Height: pl.Height, Seen: [2]int{pl.seen().Height, pl.seen().Width}, Sizes: pl.sizes, References: pl.references.sizes()}
	key := conditioningKey{adaptation: pl.adaptation.key, toward: pl.tracks.toward, base: pl.baseRows(), rows: pl.rows()}
	for i, t := range list {
		if i == prompts {
			o.Prompts = len(texts)
		}
		seen := map[string]int{}
		for _, timed := range t.texts {
			at, ok := seen[timed.Text]
			if !ok {
				at = len(texts)
				seen[timed.Text] = at
				texts, names = append(texts, p.readable(timed.Text)), append(names, t.name)
			}
			places[i] = append(places[i], at)
			key.texts += fmt.Sprintf("%d %q\n", timed.Until, timed.Text)
		}
		key.texts += "\n"
	}
	if prompts == len(list) {
		o.Prompts = len(texts)
	}
	if len(texts) > maxTexts {
		return nil, usagef("the prompts have %d texts over the steps: at most %d are allowed", len(texts), maxTexts)
	}
	key.options = o
	c := p.remembered(key)
	if c == nil {
		if p.device.Drops() {
			p.model.Shed() // for the text encoder's weights
			if p.steering.steered != nil {
				p.steering.steered.Close()
			}
		}
		encoded, err := p.encode(ctx, texts, names, o)
		if err != nil {
			return nil, err
		}
		conds := make([][]family.Cond, len(list))
		for i := range list {
			for _, at := range places[i] {
				conds[i] = append(conds[i], encoded.Conds[at])
			}
		}
		c = &conditioning{key, encoded, pl.script(list, conds)}
		p.conditionings = append([]*conditioning{c}, p.conditionings...)
		p.conditionings = p.conditionings[:min(len(p.conditionings), keptConditionings)]
	}
	for i, cut := range c.Cut {
		if cut != "" {
			warn(fmt.Sprintf("%s is longer than %d tokens, so its end is ignored (--prompt-syntax weighted takes any length): %q", names[i], c.Window, cut))
		}
	}
	for i, warnings := range c.Warnings {
		for _, w := range warnings {
			warn(names[i] + ": " + w)
		}
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

func (p *Pipeline) encode(ctx context.Context, texts, names []string, o family.TextOptions) (*family.Encoded, error) {
	e, err := p.model.Text.Encode(ctx, texts, o)
	var bad *family.TextError
	if !errors.As(err, &bad) {
		return e, err
	}
	err = fmt.Errorf("%s: %w", names[bad.Text], bad.Err)
	if bad.Usage {
		err = &UsageError{err}
	}
	return nil, err
}
