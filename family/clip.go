package family

import (
	"context"
	"fmt"
	"image"
	"io/fs"

	"darkroom/checkpoint"
	"darkroom/clip"
	"darkroom/config"
	"darkroom/nn"
	"darkroom/stage"
	"darkroom/tensor"
)

// CLIP is a whole CLIP model (Radford et al. 2021), with both towers or only the one for pictures. It makes no pictures, but
// measures how well one fits a text.
type CLIP struct {
	vision    clip.VisionConfig
	pixels    Preprocessing
	pictures  *stage.Part
	tokenizer *clip.Tokenizer // nil where the folder has no text tower
	window    int             // of the text tower
	texts     *stage.Part
}

// Preprocessing is how a picture becomes a tower's input: preprocessor_config.json.
type Preprocessing struct{ Mean, Std []float64 }

// ReadPreprocessing reads preprocessor_config.json. Scaling and cutting are always CLIP's.
func ReadPreprocessing(f *config.Object) (Preprocessing, error) {
	p := Preprocessing{
		Mean: f.Floats("image_mean", 3, clip.VisionMean()...),
		Std:  f.Floats("image_std", 3, clip.VisionStd()...),
	}
	f.Ignore(f.Keys()...)
	return p, f.Done()
}

// OpenCLIP opens a model with the configuration of its config.json; fsys holds its tokenizer. The weights stay the caller's.
func OpenCLIP(f *config.Object, p Preprocessing, set *checkpoint.Set, fsys fs.FS, d *stage.Device) (*CLIP, error) {
	vision, text, err := readCLIPConfig(f)
	if err != nil {
		return nil, err
	}
	m, err := clip.NewVision(vision, nn.NewLoader("judge", set))
	if err != nil {
		return nil, err
	}
	c := &CLIP{vision: vision, pixels: p, pictures: (&stage.Part{Name: "vision_model", Title: "the judge", Net: m}).On(d)}
	if err := c.pictures.Ready(alone); err != nil {
		return nil, err
	}
	if text == nil || !set.Has("text_projection.weight") {
		return c, nil
	}
	if c.tokenizer, err = clip.LoadTokenizer(fsys); err != nil {
		return nil, err
	}
	if n := c.tokenizer.Size(); n > text.VocabSize {
		return nil, fmt.Errorf("the tokenizer has %d tokens, config.json vocab_size %d: they must agree", n, text.VocabSize)
	}
	t, err := clip.NewText(*text, nn.NewLoader("judge", set))
	if err != nil {
		return nil, err
	}
	c.window = text.MaxPositionEmbeddings
	c.texts = (&stage.Part{Name: "text_model", Title: "the judge's text encoder", Net: t}).On(d)
	return c, nil
}

// readCLIPConfig reads the towers' configurations, of which text is nil where the file has none. What else it has is of
// training and of ranking.
func readCLIPConfig(f *config.Object) (vision clip.VisionConfig, text *clip.TextConfig, err error) {
	width := f.IntIn("projection_dim", 1, 1<<20, 512)
	if vision, err = clip.ReadVisionConfig(f.Object("vision_config")); err != nil {
		return vision, nil, err
	}
	vision.ProjectionDim = width
	if string(f.Raw("text_config")) != "null" {
		t, err := clip.ReadTextConfig(f.Object("text_config"))
		if err != nil {
			return vision, nil, err
		}
		t.ProjectionDim = width
		text = &t
	}
	f.Ignore(f.Keys()...)
	return vision, text, f.Done()
}

// alone is what a tower runs at: one picture or text.
var alone = nn.Sizes{Rows: 1}

// Width is the length of embeddings, and ReadsTexts says whether there is a tower for texts.
func (c *CLIP) Width() int       { return c.vision.ProjectionDim }
func (c *CLIP) ReadsTexts() bool { return c.texts != nil }

// Pixels is a picture as the tower takes it, [S,S,3]: the shorter side scaled to S (bicubic), the middle cut out, normalised.
func (c *CLIP) Pixels(picture *image.NRGBA) []float32 {
	return c.vision.Normalised(seen(picture, c.vision.ImageSize).Pix, c.pixels.Mean, c.pixels.Std)
}

// Picture returns the embedding of Pixels, not normalised.
func (c *CLIP) Picture(ctx context.Context, pixels []float32) ([]float32, error) {
	patches := c.vision.Patches(pixels)
	out, err := c.pictures.Run(ctx, alone, stage.Values{"patches": tensor.Of(patches, c.pictures.Shape("patches")...)}, "pooled")
	if err != nil {
		return nil, fmt.Errorf("%w: its weights may be damaged", err)
	}
	return tensor.Floats(out["pooled"].Data), nil
}

// Text returns the embedding of a text, not normalised. A text longer than the window is cut, as is usual for CLIP scores.
func (c *CLIP) Text(ctx context.Context, text string) ([]float32, error) {
	prompt, err := c.tokenizer.Prompt(text, clip.Plain, c.window)
	if err != nil {
		return nil, err
	}
	chunk := prompt.Chunks[0]
	out, err := c.texts.Run(ctx, alone, stage.Values{"ids": tensor.OfIDs(chunk.IDs, 1, len(chunk.IDs))}, "pooled")
	if err != nil {
		return nil, fmt.Errorf("%w: its weights may be damaged", err)
	}
	end, width := chunk.Tokens+1, c.Width()
	return tensor.Floats(out["pooled"].Data)[end*width:][:width], nil
}
