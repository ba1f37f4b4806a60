package compare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"darkroom/imagefile"
	"darkroom/machine"
	"darkroom/pipeline"
	"darkroom/recipe"
)

// renderer holds the open models, one a model and type, and renders on them.
type renderer struct {
	options pipeline.Options
	open    map[engine]*pipeline.Pipeline
	warm    map[programSize]bool
	meter   meterReader
}

type engine struct{ model, dtype string }

// programSize is what must have run once before time is taken: programs are compiled and memory is touched for the first time.
type programSize struct {
	engine
	rows          int
	width, height int
}

// meterReader reads the energy that a device has used, in joules since some time in the past.
type meterReader interface {
	Joules() (float64, error)
}

func newRenderer(o pipeline.Options) *renderer {
	return &renderer{options: o, open: map[engine]*pipeline.Pipeline{}, warm: map[programSize]bool{}}
}

func (s *renderer) Close() error {
	var errs []error
	for _, p := range s.open {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// pipeline opens a model once. Both names "" are the embedded model and the backend's own type.
func (s *renderer) pipeline(model, dtype string) (*pipeline.Pipeline, error) {
	e := engine{model, dtype}
	if p := s.open[e]; p != nil {
		return p, nil
	}
	o := s.options
	o.Model, o.DType = model, dtype
	p, err := pipeline.Open(o)
	if err != nil {
		return nil, err
	}
	s.open[e] = p
	return p, nil
}

// defaults is the request that a model's own settings make.
func (s *renderer) defaults(model, dtype string) (pipeline.Request, error) {
	p, err := s.pipeline(model, dtype)
	if err != nil {
		return pipeline.Request{}, err
	}
	r := p.NewRequest("")
	if r.Scheduler == "" {
		if r.Scheduler, err = p.Scheduler(); err != nil {
			return r, err
		}
	}
	return r, nil
}

// job is a picture to be made: a setting and an item, with what is known of it before.
type job struct {
	Setting Setting
	Item    Item
	request pipeline.Request
	plan    pipeline.Plan
	key     string
	purpose string // "" or what it is for, where it is not in the grid
}

// jobKey is of everything that decides the picture.
func (s *renderer) job(g *Grid, set Setting, item Item, purpose string) (job, error) {
	p, err := s.pipeline(set.Model, set.DType)
	if err != nil {
		return job{}, err
	}
	j := job{Setting: set, Item: item, purpose: purpose, request: g.request(p.NewRequest(""), set, item)}
	if j.plan, err = p.Plan(j.request); err != nil {
		return job{}, fmt.Errorf("%s with %d steps: %w", set.Scheduler, set.Steps, err)
	}
	hash, err := p.Hash()
	if err != nil {
		return job{}, err
	}
	r := j.request
	r.Scheduler, r.Sigmas, r.Eta = j.plan.Scheduler, j.plan.Sigmas, &j.plan.Eta // aliases are one
	r.Guidance, r.Rescale, r.SDENoise = j.plan.Guidance, j.plan.Rescale, j.plan.SDENoise
	j.key = shortHash([]any{r, hash, set.DType, s.backend()})
	return j, nil
}

// backend is the name without the device's number.
func (s *renderer) backend() string {
	for _, p := range s.open {
		name, _, _ := strings.Cut(p.Backend(), ":")
		return name
	}
	return ""
}

// cost is what the job takes in units of one pass of the model, for the estimate of the time that is left.
func (j job) cost() float64 {
	calls := float64(j.plan.Calls)
	if calls < 0 {
		calls = 40 // dpm-adaptive at its usual tolerance
	}
	return calls*float64(j.plan.Rows) + 2 // the decoder
}

// render makes the picture. Time is taken from the first step to the finished pixels: the text encoder's result is shared, so
// it is not counted.
func (s *renderer) render(ctx context.Context, j job) (*Record, []byte, []float32, error) {
	p, err := s.pipeline(j.Setting.Model, j.Setting.DType)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := s.warmUp(ctx, p, j); err != nil {
		return nil, nil, nil, err
	}
	var begun time.Time
	var joules float64
	var processor time.Duration
	picture, latents, calls, err := p.RenderLatents(ctx, j.request, pipeline.Events{Start: func(int) {
		joules = s.joules()
		begun, processor = time.Now(), machine.ProcessorTime()
	}})
	took := time.Since(begun)
	processor = machine.ProcessorTime() - processor
	if r := picture; r == nil || r.Recipe.Backend != pipeline.CPU {
		processor = 0
	}
	if err != nil {
		return nil, nil, nil, err
	}
	joules = s.joules() - joules
	var png bytes.Buffer
	if err := imagefile.Encode(&png, picture.Pixels, picture.Recipe, picture.Options(imagefile.Options{})); err != nil {
		return nil, nil, nil, err
	}
	r := picture.Recipe
	return &Record{
		Key: j.key, ID: recipeID(r), Setting: j.Setting, Item: j.Item,
		Scheduler: r.Scheduler, Sigmas: r.Sigmas, Stochastic: j.plan.Stochastic, Calls: calls,
		Seconds: took.Seconds(), Processor: processor.Seconds(), Joules: joules, Device: r.Device,
	}, png.Bytes(), latents, nil
}

// recipeID names a picture by its recipe, without what came of it and where.
func recipeID(r recipe.Recipe) string {
	r.Result, r.Version, r.Device = recipe.Result{}, "", ""
	return shortHash(r)
}

// warmUp renders two steps that nobody sees, the first time that a program of that shape runs.
func (s *renderer) warmUp(ctx context.Context, p *pipeline.Pipeline, j job) error {
	w := j.size()
	if s.warm[w] {
		return nil
	}
	if _, err := p.Render(ctx, s.trial(p, j), pipeline.Events{}); err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	s.warm[w] = true
	return nil
}

// trial is the job's request with two steps.
func (s *renderer) trial(p *pipeline.Pipeline, j job) pipeline.Request {
	r := j.request
	r.Scheduler, r.Sigmas, r.Eta, r.Steps = p.NewRequest("").Scheduler, "", nil, 2
	return r
}

// joules is the meter's reading, 0 where there is none.
func (s *renderer) joules() float64 {
	if s.meter == nil {
		return 0
	}
	v, err := s.meter.Joules()
	if err != nil {
		s.meter = nil // better none than half of them
		return 0
	}
	return v
}
