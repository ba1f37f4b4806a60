package pipeline

import (
	"context"
	"image"
	"path/filepath"
	"slices"

	"darkroom/recipe"
)

// ownControl is the control picture of a model that reads one itself, as FLUX.1 Canny and Depth do: its latents are further channels
// of what the denoiser reads, at every step. There is no network beside, so no strength and no range of steps.
type ownControl struct {
	use     recipe.Control
	picture *image.NRGBA // at the size of the picture that is made
	sum     string       // of its file
}

// loadOwnControl reads the control picture of a request whose size is settled, and what it starts from; nil for models that read none.
func (p *Pipeline) loadOwnControl(r *Request, e *edit) (*ownControl, error) {
	if !p.ReadsControl() {
		return nil, nil
	}
	list, err := recipe.ParseControls(r.Control)
	if err != nil {
		return nil, usagef("--control %w", err)
	}
	if len(list) == 0 {
		return nil, usagef("%s needs a control picture, such as edges or a depth map: give it with --control IMAGE, or --control PHOTO:pre=canny to find a photograph's edges", p.name)
	}
	c := &ownControl{use: list[0]}
	switch only := (recipe.Control{Image: c.use.Image, Scale: 1, End: 1, Pre: c.use.Pre, Low: c.use.Low, High: c.use.High}); {
	case len(list) > 1:
		return nil, usagef("--control: %d pictures: %s reads one", len(list), p.name)
	case c.use.Model != "":
		return nil, usagef("--control %s: %s reads its control picture itself, and takes no control network: give --control IMAGE[:pre=NAME]", c.use.Model, p.name)
	case c.use != only:
		return nil, usagef("--control %s: %s reads its control picture itself: only pre, low and high go with it; the other options are for control networks", c.use.Image, p.name)
	}
	if c.picture, c.sum, err = p.show(c.use, false, r, e); err != nil {
		return nil, usagef("--control: %w", err)
	}
	return c, nil
}

// beginOwnControl has the denoiser read the control picture. The draw for its latents comes first, as in diffusers'
// FluxControlPipeline.
func (m *picture) beginOwnControl(ctx context.Context) error {
	if m.ownControl == nil {
		return nil
	}
	latents, err := m.encode(ctx, values(m.ownControl.picture, nil))
	if err != nil {
		return err
	}
	m.denoiser.extra = slices.Repeat([][]float32{latents}, m.rows())
	return nil
}

// recorded is the control as recipes have it, without paths, and its file.
func (c *ownControl) recorded() (string, []recipe.File) {
	use := c.use
	use.Image = filepath.Base(use.Image)
	return use.String(), []recipe.File{{Kind: "hint", Name: use.Image, SHA256: c.sum}}
}
