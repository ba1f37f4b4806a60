package pipeline

import (
	"context"
	"errors"
	"io"
	"sync"

	"darkroom/family"
	"darkroom/models/library"
)

// previewer is the autoencoder that decodes previews: TAESD, if the user has it. It takes a few hundredths of the time of the
// model's own, and is accurate enough for previews.
type previewer struct {
	once  sync.Once
	codec family.Codec // nil: previews are decoded with the model's own
	set   io.Closer
}

// preview decodes what the model expects the picture to be.
func (p *Pipeline) preview(ctx context.Context, pl *plan, x0 []float32) (family.Decoded, error) {
	p.previewer.once.Do(func() {
		if p.model.Small == "" {
			return
		}
		path, err := library.NamedPart(library.VAEs, p.model.Small)
		if err != nil {
			return
		}
		// A preview that cannot be read must not end a rendering.
		p.previewer.codec, p.previewer.set, _ = family.OpenSmall(p.model, path, p.device)
	})
	x0 = pl.frame(x0, 0)
	if p.previewer.codec == nil {
		return p.decode(ctx, pl, x0, func(string) {}) // the picture will warn
	}
	return p.previewer.codec.Decode(ctx, x0, pl.area(p), func(string) {})
}

func (s *previewer) close() error {
	if s.codec == nil {
		return nil
	}
	s.codec.Shed()
	return errors.Join(s.codec.Close(), s.set.Close())
}
