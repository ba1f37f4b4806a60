package pipeline

import "fmt"

// Check says what is wrong with a request for this model, as a *UsageError: what Render would refuse before its first
// number, and mistakes in the prompts. It loads no weights and takes a fraction of a millisecond.
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
	if err := p.model.Text.Check(text, syntax); err != nil {
		return &UsageError{fmt.Errorf("%s: %w", name, err)}
	}
	return nil
}

// Factor is what a picture's sides must be multiples of, in pixels.
func (p *Pipeline) Factor() int { return p.model.Latent.Step() }

// Family is the name of the model's family: "Stable Diffusion".
func (p *Pipeline) Family() string { return p.model.Family }
