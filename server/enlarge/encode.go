package enlarge

import (
	"bytes"
	"image"
	"slices"

	"darkroom/checkpoint"
	"darkroom/imagefile"
	"darkroom/models/library"
	"darkroom/recipe"
)

// Upscaler is the network that enlarged a picture.
type Upscaler struct {
	Path      string
	Scale     int
	HashCache string // where hashes of files are kept; "": nowhere
}

// Encode encodes an enlarged picture, with the recipe of the one that was enlarged if that has one of this program's own. The
// recipe is nil otherwise.
func Encode(larger *image.NRGBA, of imagefile.Info, by Upscaler, format imagefile.Format) ([]byte, *recipe.Recipe, error) {
	var buf bytes.Buffer
	options := imagefile.Options{Format: format, Source: imagefile.Composite}
	if of.Recipe == nil || of.Recipe.Version == "" {
		err := imagefile.EncodePlain(&buf, larger, options)
		return buf.Bytes(), nil, err
	}
	hash, err := checkpoint.HashFile(by.Path, by.HashCache)
	if err != nil {
		return nil, nil, err
	}
	r := *of.Recipe
	r.Upscale = max(r.Upscale, 1) * by.Scale
	r.Files = append(slices.Clone(r.Files), recipe.File{Kind: "upscaler", Name: library.PartName(by.Path), SHA256: hash})
	r.Result.Pixels = "" // those that the recipe makes are not these
	err = imagefile.Encode(&buf, larger, r, options)
	return buf.Bytes(), &r, err
}
