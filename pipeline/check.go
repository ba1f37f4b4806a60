package pipeline

import (
	"fmt"

	"darkroom/prompt"
	"darkroom/recipe"
)

// Check reports what is wrong with a request for this model, as a *UsageError: whatever Render would refuse before
// computing, and mistakes in the prompts. It loads no weights and takes a fraction of a millisecond.
func (p *Pipeline) Check(r Request) error {
	if _, err := p.plan(r); err != nil {
		return err
	}
	if err := p.CheckPrompt("the prompt", r.Prompt, r.Syntax); err != nil {
		return err
	}
	if !p.guided(r) {
		return nil // the negative prompt is not read
	}
	return p.CheckPrompt("the negative prompt", r.Negative, r.Syntax)
}

// CheckPrompt is the part of Check that differs between requests of the same settings. name begins its message.
func (p *Pipeline) CheckPrompt(name, text, syntax string) error {
	if err := checkSyntax(syntax); err != nil {
		return err
	}
	texts := []string{text}
	if syntax == recipe.Weighted {
		texts = nil
		for _, part := range prompt.Parse(text, prompt.Steps{Count: checkedSteps}) {
			for _, t := range part.Texts {
				texts = append(texts, t.Text)
			}
		}
	}
	for _, text := range texts {
		if err := p.model.Text.Check(text, syntax); err != nil {
			return &UsageError{fmt.Errorf("%s: %w", name, err)}
		}
	}
	return nil
}

// checkedSteps are those of whose texts CheckPrompt looks at: what is wrong with one is mostly so in any number.
const checkedSteps = 4

// Factor is the number of pixels that a picture's sides must be multiples of.
func (p *Pipeline) Factor() int { return p.model.Latent.Step() }

// Family is the name of the model's family: "Stable Diffusion".
func (p *Pipeline) Family() string { return p.model.Family }
