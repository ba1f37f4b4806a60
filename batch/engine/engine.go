// Package engine renders requests on one device. It keeps several models open within a budget of memory and closes the
// one that was not used for longest when another needs the room.
package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"darkroom/batch/jobs"
	"darkroom/imagefile"
	"darkroom/pipeline"
	"darkroom/recipe"
	"darkroom/render"
)

// DefaultBudget is the memory for models where Options.Budget is 0.
const DefaultBudget = 8 << 30

// Options say what an engine opens and where.
type Options struct {
	// Pipeline is the device, and the backend and type for requests that name none. Its model is for requests without
	// a model; "" is the embedded one.
	Pipeline pipeline.Options
	// Resolve turns a request's model into the path of its folder, or refuses it; nil takes every path.
	Resolve func(model string) (string, error)
	// Budget is how much memory models may take together, in bytes; 0 is DefaultBudget. One model is always kept,
	// however large.
	Budget uint64
	// OnModel is called for every model that is opened or closed; may be nil.
	OnModel func(name string, opened bool)
}

// Engine renders one request at a time. Its methods may be called concurrently; they wait for each other.
type Engine struct {
	o Options

	device atomic.Pointer[string] // its name, once a model is open

	mu      sync.Mutex
	open    []*model         // the latest used first
	checked map[string]error // hash of a request without prompt and seed → what is wrong with it
}

type model struct {
	key  pipeline.Options
	p    *pipeline.Pipeline
	cost uint64 // bytes, estimated

	decodes sync.WaitGroup // at work without the engine's lock
	used    atomic.Int64   // when it was last, in nanoseconds of Unix time
}

func (m *model) use() { m.used.Store(time.Now().UnixNano()) }

// New makes an engine. Nothing is opened before the first request.
func New(o Options) *Engine {
	if o.Budget == 0 {
		o.Budget = DefaultBudget
	}
	return &Engine{o: o}
}

// Group identifies requests that are best rendered one after the other: they share the model and how it runs.
func Group(q *jobs.Request) string {
	return strings.Join([]string{q.Model, q.VAE, q.TextModel, q.Parts, q.Refiner, q.Prediction, q.Backend, q.DType}, "\x00")
}

// Render makes one picture. Any failure, including a panic, is an error of this request only.
func (e *Engine) Render(ctx context.Context, q *jobs.Request, ev pipeline.Events) (img *pipeline.Image, err error) {
	e.RenderBatch(ctx, []*jobs.Request{q}, func(int) pipeline.Events { return ev }, func(_ int, i *pipeline.Image, e error) { img, err = i, e })
	return img, err
}

// RenderBatch makes the pictures of several requests of one group at once. Each is the same as if made alone, and fails alone.
// events and done are as for pipeline.RenderBatch. Where the device can do that, the next call denoises its pictures while
// those of this one are decoded.
func (e *Engine) RenderBatch(ctx context.Context, all []*jobs.Request, events func(i int) pipeline.Events, done func(i int, img *pipeline.Image, err error)) {
	e.mu.Lock()
	locked := true
	unlock := func() {
		if locked {
			locked = false
			e.mu.Unlock()
		}
	}
	defer unlock()
	m, err := e.model(all[0])
	if err != nil {
		for i := range all {
			done(i, nil, err)
		}
		return
	}
	requests := make([]pipeline.Request, len(all))
	for i, q := range all {
		if Group(q) != Group(all[0]) {
			panic("engine: a batch of requests of several models")
		}
		requests[i] = q.Fill(m.p.NewRequest(q.Prompt))
	}
	m.decodes.Add(1) // it is not closed before they are done
	broken := render.Together(ctx, m.p, requests, events, func() {
		if m.p.DecodesBeside() {
			unlock()
		}
	}, done)
	m.decodes.Done()
	m.use()
	if broken {
		if !locked {
			e.mu.Lock()
			locked = true
		}
		e.drop(m)
	}
}

// DecodesBeside says of the models that are open whether their pictures are decoded while others are denoised: calls
// from two goroutines then keep the device busy.
func (e *Engine) DecodesBeside() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.open, func(m *model) bool { return m.p.DecodesBeside() })
}

// BatchSize is how many requests like q are best rendered at once; most bounds it, 0 is no bound.
func (e *Engine) BatchSize(q *jobs.Request, most int) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	m, err := e.model(q)
	if err != nil {
		return 1
	}
	return m.p.BatchSize(q.Fill(m.p.NewRequest(q.Prompt)), most)
}

// ModelHash is the hash of the weights that a request would use.
func (e *Engine) ModelHash(q *jobs.Request) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m, err := e.model(q)
	if err != nil {
		return "", err
	}
	return m.p.Hash()
}

// Check says what is wrong with a request for its model, without rendering it: what Render would refuse, or that there
// is no such model. An error that is not a *pipeline.UsageError says that the model could not be asked.
func (e *Engine) Check(q *jobs.Request) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	settings := *q
	settings.Seed, settings.Prompt = 0, "" // a sweep over them has one answer
	key := alike(settings)
	err, known := e.checked[key]
	if !known {
		err = e.check(&settings)
		if e.checked == nil || len(e.checked) > 10_000 {
			e.checked = map[string]error{}
		}
		e.checked[key] = err
	}
	if err != nil {
		return err
	}
	m, err := e.model(q)
	if err != nil {
		return err
	}
	return m.p.CheckPrompt("the prompt", q.Prompt, q.Fill(m.p.NewRequest("")).Syntax)
}

// alike is a key that requests share which differ in their pictures alone: of a thousand the first is looked at for all. What
// is wrong with another fails that image.
func alike(q jobs.Request) string {
	q.Inputs = ""
	for _, file := range []*string{&q.Init, &q.Mask, &q.Depth} {
		if *file != "" {
			*file = "-"
		}
	}
	list, err := recipe.ParseControls(q.Control)
	for i := range list {
		list[i].Image = "-"
	}
	if err == nil {
		q.Control = recipe.FormatControls(list)
	}
	return q.Hash()
}

// Filled is a request with its model's own settings where it has none.
func (e *Engine) Filled(q *jobs.Request) (pipeline.Request, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m, err := e.model(q)
	if err != nil {
		return pipeline.Request{}, err
	}
	return q.Fill(m.p.NewRequest(q.Prompt)), nil
}

// Plan returns what rendering a request will do. Its errors are those of rendering.
func (e *Engine) Plan(q *jobs.Request) (pipeline.Plan, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m, err := e.model(q)
	if err != nil {
		return pipeline.Plan{}, err
	}
	return m.p.Plan(q.Fill(m.p.NewRequest(q.Prompt)))
}

// Facts are what a model is.
type Facts struct {
	Family           string
	Factor           int // what sides of its pictures are multiples of
	pipeline.Request     // what it draws where nothing is said
	ReadsGuidance    bool
	ReadsControl     bool
}

// About is what a request's model is.
func (e *Engine) About(q *jobs.Request) (Facts, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m, err := e.model(q)
	if err != nil {
		return Facts{}, err
	}
	return Facts{m.p.Family(), m.p.Factor(), m.p.NewRequest(""), m.p.ReadsGuidance(), m.p.ReadsControl()}, nil
}

// Settled are all settings of a request, its model's own too, with names as recipes have them.
func (e *Engine) Settled(q *jobs.Request) (recipe.Settings, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m, err := e.model(q)
	if err != nil {
		return recipe.Settings{}, err
	}
	r := q.Fill(m.p.NewRequest(q.Prompt))
	plan, err := m.p.Plan(r)
	if err != nil {
		return recipe.Settings{}, err
	}
	if r.Scheduler = plan.Scheduler; plan.Sigmas != "" && !recipe.LevelList(plan.Sigmas) {
		r.Scheduler += "-" + plan.Sigmas
	}
	if r.Steps = max(plan.Steps, 0); r.Model == "" {
		r.Model = q.Model
	}
	return r.Settings, nil
}

func (e *Engine) check(q *jobs.Request) error {
	m, err := e.model(q)
	if err != nil {
		return err
	}
	return m.p.Check(q.Fill(m.p.NewRequest("")))
}

// model finds the request's model among the open ones, or opens it and closes others to make room.
func (e *Engine) model(q *jobs.Request) (*model, error) {
	o := e.o.Pipeline.With(q.Settings)
	if e.o.Resolve != nil {
		path, err := e.o.Resolve(o.Model)
		if err != nil {
			return nil, err
		}
		o.Model = path
	}
	if i := slices.IndexFunc(e.open, func(m *model) bool { return m.key == o }); i >= 0 {
		m := e.open[i]
		m.use()
		e.open = slices.Insert(slices.Delete(e.open, i, i+1), 0, m)
		return m, nil
	}
	p, err := pipeline.Open(o)
	if err != nil {
		return nil, err
	}
	r := p.NewRequest("")
	m := &model{key: o, p: p, cost: p.Need(r.Width, r.Height, true).Total()}
	m.use()
	e.makeRoom(m.cost)
	e.open = slices.Insert(e.open, 0, m)
	name := p.Backend()
	e.device.Store(&name)
	e.tell(m, true)
	return m, nil
}

// makeRoom closes models, the one that was not used for longest first, until cost fits into the budget.
func (e *Engine) makeRoom(cost uint64) {
	for len(e.open) > 0 {
		sum := cost
		for _, m := range e.open {
			sum += m.cost
		}
		if sum <= e.o.Budget {
			return
		}
		e.drop(e.open[len(e.open)-1])
	}
}

func (e *Engine) drop(m *model) {
	if !slices.Contains(e.open, m) {
		return // two calls found it broken
	}
	e.open = slices.DeleteFunc(e.open, func(o *model) bool { return o == m })
	m.decodes.Wait()
	defer func() { _ = recover() }() // it may be half broken
	e.tell(m, false)
	m.p.Close()
}

// Unload closes the models that were not used for so long; 0 closes all. It waits for the pictures in work.
func (e *Engine) Unload(idle time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range slices.Clone(e.open) {
		if time.Since(time.Unix(0, m.used.Load())) >= idle {
			e.drop(m)
		}
	}
}

func (e *Engine) tell(m *model, opened bool) {
	if e.o.OnModel != nil {
		e.o.OnModel(m.p.Name(), opened)
	}
}

// Device names the device for people: "cpu", "cuda:1"; "auto" before it is chosen.
func (e *Engine) Device() string {
	if name := e.device.Load(); name != nil {
		return *name
	}
	b := e.o.Pipeline.Backend
	if b == pipeline.CUDA {
		return fmt.Sprintf("cuda:%d", e.o.Pipeline.Device)
	}
	if b == "" {
		return pipeline.Auto
	}
	return b
}

// Close closes all models.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, m := range e.open {
		m.decodes.Wait()
		errs = append(errs, m.p.Close())
	}
	e.open = nil
	return errors.Join(errs...)
}

// Encode encodes a picture in the format that the request asks for.
func Encode(q *jobs.Request, img *pipeline.Image) ([]byte, error) {
	format, err := imagefile.FormatOf("x" + q.Extension())
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	if err := imagefile.Encode(&buf, img.Pixels, img.Recipe, img.Options(imagefile.Options{Format: format, Quality: q.Quality})); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
