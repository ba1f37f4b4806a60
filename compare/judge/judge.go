// Package judge looks at pictures: a network turns each into features, in which sets of pictures are compared, and says how far
// a picture shows what a prompt asks for.
//
// Two kinds of folders are judges. A CLIP model in the Hugging Face layout (config.json with a vision_config) runs on a
// backend's kernels; with preference models of that architecture (PickScore) the agreement is their score, and a file
// head.safetensors adds a head on the image embedding (as that of LAION's aesthetic predictor). A classifier
// (config.json with layers and heads: see Classifier) is small and runs in plain Go.
package judge

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"io/fs"
	"path"

	"darkroom/checkpoint"
	"darkroom/config"
	"darkroom/kernels"
)

// Judge looks at one picture at a time.
type Judge interface {
	// Name is for people, ID for files: it changes with the weights.
	Name() string
	ID() string
	// See returns the features of a picture of any size.
	See(ctx context.Context, p *image.NRGBA) ([]float32, error)
	// Agreement says how far features show what the prompt asks for; false if this judge cannot tell, or does not know what the
	// prompt names.
	Agreement(ctx context.Context, features []float64, prompt string) (score float64, ok bool, err error)
	// Preference is the score of the judge's own head; false if it has none.
	Preference(features []float64) (score float64, ok bool)
	Close() error
}

// Options say where a judge's network runs.
type Options struct {
	// Backend makes one when a network needs it; the judge closes it.
	Backend func() (kernels.Backend, error)
}

// ErrNoJudge says that a folder is none.
var ErrNoJudge = errors.New("no judge")

// Source is a judge's folder: on disk, where weights are mapped, or in a file system.
type Source struct {
	Dir string // on disk; "": FS
	FS  fs.FS
	// Label names it in messages.
	Label string
}

// Open opens a judge. Errors name what is missing or of the wrong shape.
func Open(s Source, o Options) (Judge, error) {
	text, err := s.read("config.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s has no config.json: a CLIP model's folder in the Hugging Face layout is needed", ErrNoJudge, s.Label)
	}
	if err != nil {
		return nil, err
	}
	f, err := config.Parse(text, "config.json")
	if err != nil {
		return nil, fmt.Errorf("judge %s: %w", s.Label, err)
	}
	switch {
	case f.Has("vision_config"):
		c, err := openCLIP(s, f, o)
		if err != nil {
			return nil, fmt.Errorf("judge %s: %w", s.Label, err)
		}
		return c, nil
	case f.Has("layers"):
		c, err := openClassifier(s, text)
		if err != nil {
			return nil, fmt.Errorf("judge %s: %w", s.Label, err)
		}
		return c, nil
	}
	return nil, fmt.Errorf("%w: %s: config.json (model_type %q) has neither a vision_config, as CLIP models have, nor layers, as classifiers have", ErrNoJudge, s.Label, f.String("model_type", ""))
}

// maxText is the largest configuration that is read.
const maxText = 64 << 20

func (s Source) read(name string) ([]byte, error) {
	f, err := s.FS.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err == nil && len(text) > maxText {
		err = fmt.Errorf("%s: %s is longer than %d bytes", s.Label, name, maxText)
	}
	return text, err
}

// folder is the judge's folder as models' are read: with shards by their index.
func (s Source) folder() (*checkpoint.Folder, error) {
	if s.Dir != "" {
		return checkpoint.OpenPart(s.Dir)
	}
	return checkpoint.FromFS(s.FS, s.Label), nil
}

// weights opens the network's weights.
func (s Source) weights() (*checkpoint.Set, error) {
	f, err := s.folder()
	if err != nil {
		return nil, err
	}
	return f.Weights(".")
}

func (s Source) open(name string) (*checkpoint.File, error) {
	if s.Dir != "" {
		return checkpoint.Open(path.Join(s.Dir, name))
	}
	data, err := fs.ReadFile(s.FS, name)
	if err != nil {
		return nil, err
	}
	return checkpoint.Parse(data, name)
}

// floats reads a weight of a known shape.
func floats(set *checkpoint.Set, name string, shape ...int) ([]float32, error) {
	t, err := set.Get(name, shape...)
	if err != nil {
		return nil, err
	}
	v := make([]float32, t.Len())
	t.Float32(v)
	return v, nil
}
