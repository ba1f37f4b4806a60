package compare

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io/fs"
	"math"
	"os"
	"slices"

	"darkroom/compare/judge"
	"darkroom/kernels"
	"darkroom/pipeline"
)

// scorer is a judge at work; nil is none.
type scorer struct{ judge.Judge }

// NoJudge is the value of Options.Judge that does without.
const NoJudge = "none"

// openJudge opens the judge that was named. With "", that is the small one that comes with the embedded model, where this
// build has it, and only for that model's pictures: of others it knows nothing.
func openJudge(name string, models []any, o pipeline.Options) (*scorer, error) {
	backend := func() (kernels.Backend, error) {
		o.Model, o.DType = "", "fp32"
		return pipeline.NewBackend(o)
	}
	var source judge.Source
	switch name {
	case NoJudge:
		return nil, nil
	case "":
		files, ok := builtInJudge()
		if !ok || slices.ContainsFunc(models, func(m any) bool { return m != "" }) {
			return nil, nil
		}
		source = judge.Source{FS: files, Label: "that comes with the embedded model"}
	default:
		if st, err := os.Stat(name); err != nil || !st.IsDir() {
			return nil, usagef("--judge %s: there is no such folder: name a CLIP model's folder in the Hugging Face layout, or none", name)
		}
		source = judge.Source{Dir: name, FS: os.DirFS(name), Label: name}
	}
	j, err := judge.Open(source, judge.Options{Backend: backend})
	var missing *fs.PathError
	switch {
	case err == nil:
		return &scorer{j}, nil
	case errors.As(err, &missing):
		return nil, err
	}
	return nil, &pipeline.UsageError{Err: fmt.Errorf("--judge: %w", err)}
}

func (e *scorer) name() string {
	if e == nil {
		return ""
	}
	return e.Name()
}

func (e *scorer) id() string { return e.ID() }

func (e *scorer) see(ctx context.Context, p *image.NRGBA) ([]float32, error) {
	f, err := e.See(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Name(), err)
	}
	return f, nil
}

// agreement is NaN where the judge cannot tell.
func (e *scorer) agreement(ctx context.Context, features []float64, prompt string) (float64, error) {
	v, ok, err := e.Agreement(ctx, features, prompt)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", e.Name(), err)
	}
	if !ok {
		v = math.NaN()
	}
	return v, nil
}

// preference is NaN where the judge has none.
func (e *scorer) preference(features []float64) float64 {
	v, ok := e.Preference(features)
	if !ok {
		return math.NaN()
	}
	return v
}
