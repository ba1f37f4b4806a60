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
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"io/fs"
	"path"
	"slices"

	"darkroom/checkpoint"
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
	var kind struct {
		Vision json.RawMessage `json:"vision_config"`
		Layers json.RawMessage `json:"layers"`
		Model  string          `json:"model_type"`
	}
	if err := json.Unmarshal(text, &kind); err != nil {
		return nil, fmt.Errorf("%s: config.json: %w", s.Label, err)
	}
	switch {
	case kind.Vision != nil:
		c, err := openCLIP(s, text, o)
		if err != nil {
			return nil, fmt.Errorf("judge %s: %w", s.Label, err)
		}
		return c, nil
	case kind.Layers != nil:
		c, err := openClassifier(s, text)
		if err != nil {
			return nil, fmt.Errorf("judge %s: %w", s.Label, err)
		}
		return c, nil
	}
	return nil, fmt.Errorf("%w: %s: config.json (model_type %q) has neither a vision_config, as CLIP models have, nor layers, as classifiers have", ErrNoJudge, s.Label, kind.Model)
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

// weights opens NAME.safetensors, or its shards.
func (s Source) weights(name string) (*checkpoint.Set, error) {
	names, err := fs.Glob(s.FS, name+"-*-of-*.safetensors")
	if err != nil {
		return nil, err
	}
	if _, err := fs.Stat(s.FS, name+".safetensors"); err == nil {
		names = []string{name + ".safetensors"}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no %s.safetensors: weights in other formats must be converted first", name)
	}
	slices.Sort(names)
	var files []*checkpoint.File
	for _, n := range names {
		f, err := s.open(n)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return checkpoint.NewSet(name, files...)
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
