package jobs

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"darkroom/clip"
	"darkroom/guidance"
	"darkroom/noise"
	"darkroom/pipeline"
	"darkroom/recipe"
	"darkroom/scheduler"
)

// Limits of a single request that no model comes near.
const (
	maxSteps = 10_000
	maxSide  = recipe.MaxSide
	maxCount = MaxImages
)

// checker finds mistakes in a request without a model: what only the model knows (its size factor, how many levels it
// was trained on) is asked of the model by List.Check, or found when the image is rendered, and fails that image alone.
type checker struct {
	config scheduler.Config
	known  map[sampling]error
}

// sampling are the settings that are checked together. eta is NaN-free: −1 stands for none.
type sampling struct {
	scheduler, sigmas string
	steps             int
	eta               float64
}

func newChecker() *checker {
	// What Stable Diffusion 1.5 has, as far as a sampler asks for it.
	c, err := scheduler.ParseConfig("scheduler_config.json", []byte(`{"_class_name":"DDIMScheduler","num_train_timesteps":1000,"beta_start":0.00085,"beta_end":0.012,"beta_schedule":"scaled_linear","prediction_type":"epsilon","clip_sample":false,"set_alpha_to_one":false,"steps_offset":1}`))
	if err != nil {
		panic("jobs: the built-in scheduler configuration: " + err.Error())
	}
	return &checker{c, map[sampling]error{}}
}

// request checks everything of a request. given says which fields were written, "" and 0 included.
func (c *checker) request(q *Request, given map[string]bool) error {
	switch {
	case q.Prompt == "" && !given["prompt"]:
		return fmt.Errorf("the prompt is missing")
	case given["steps"] && (q.Steps < 1 || q.Steps > maxSteps):
		return fmt.Errorf("steps: %d: it must be from 1 to %d", q.Steps, maxSteps)
	case given["width"] && (q.Width < 1 || q.Width > maxSide):
		return fmt.Errorf("width: %d: it must be from 1 to %d", q.Width, maxSide)
	case given["height"] && (q.Height < 1 || q.Height > maxSide):
		return fmt.Errorf("height: %d: it must be from 1 to %d", q.Height, maxSide)
	case q.ClipSkip < 0 || q.ClipSkip > 100:
		return fmt.Errorf("clip-skip: %d: it must be from 0 to 100", q.ClipSkip)
	case !(q.Rescale >= 0 && q.Rescale <= 1):
		return fmt.Errorf("guidance-rescale: %v: it must be from 0 to 1", q.Rescale)
	case q.CFG != nil && !(math.Abs(*q.CFG) <= 1000):
		return fmt.Errorf("cfg: %v: it must be from -1000 to 1000", *q.CFG)
	}
	for _, t := range []struct {
		name, text string
		most       int
	}{{"prompt", q.Prompt, MaxPrompt}, {"negative", or(deref(q.Negative), ""), MaxPrompt}, {"model", q.Model, 4096}, {"sigmas", q.Sigmas, 1 << 16}} {
		switch {
		case len(t.text) > t.most:
			return fmt.Errorf("%s: %d bytes: at most %d are allowed", t.name, len(t.text), t.most)
		case !utf8.ValidString(t.text):
			return fmt.Errorf("%s: it is not UTF-8 text", t.name)
		case strings.ContainsRune(t.text, 0):
			return fmt.Errorf("%s: it has a NUL character", t.name)
		}
	}
	for _, e := range []struct {
		name, value string
		choices     []string
	}{
		{"backend", q.Backend, []string{pipeline.Auto, pipeline.CPU, pipeline.CUDA, pipeline.Ref}},
		{"dtype", q.DType, []string{"auto", "fp32", "tf32", "bf16", "fp16"}},
		{"format", q.Format, []string{"png", "jpg", "webp"}},
		{"noise", q.Noise, []string{noise.KindTorchCPU, "torch-cuda"}},
		{"prompt-syntax", q.Syntax, []string{clip.Weighted.String(), clip.Plain.String()}},
		{"sde-noise", q.SDENoise, recipe.SDENoises()},
		{"model", q.Model, nil},
		{"guidance", q.Guidance, nil},
		{"scheduler", q.Scheduler, nil},
	} {
		if e.value == "" && given[e.name] {
			return fmt.Errorf("%s: it is empty: leave the field out for the default", e.name)
		}
		if e.value != "" && e.choices != nil && !slices.Contains(e.choices, e.value) {
			return fmt.Errorf("%s: %q: choose %s%s", e.name, cut(e.value), strings.Join(e.choices, ", "), nearest(e.value, e.choices))
		}
	}
	switch {
	case given["quality"] && (q.Quality < 1 || q.Quality > 100):
		return fmt.Errorf("quality: %d: it must be from 1 to 100", q.Quality)
	case q.Quality != 0 && (q.Format == "" || q.Format == "png"):
		return fmt.Errorf("quality: %d: PNG has no quality: set format: jpg or webp, or leave it out", q.Quality)
	}
	if err := checkGuidance(q); err != nil {
		return err
	}
	return c.sampler(q)
}

func checkGuidance(q *Request) error {
	m, err := guidance.Parse(q.Guidance)
	if err != nil {
		return fmt.Errorf("guidance: %w", err)
	}
	if φ, given := m.Get("rescale"); given && q.Rescale != 0 && q.Rescale != φ {
		return fmt.Errorf("guidance: %s: its rescale is not the %v of guidance-rescale: give one of them", m, q.Rescale)
	}
	if m.BySteps() && q.Scheduler == "dpm-adaptive" {
		return fmt.Errorf("guidance: %s: dpm-adaptive chooses its own steps: use low and high, which are noise levels, instead of start and stop", m)
	}
	return nil
}

// sampler asks the scheduler, once for each combination.
func (c *checker) sampler(q *Request) error {
	key := sampling{q.Scheduler, q.Sigmas, q.Steps, -1}
	if q.Eta != nil {
		if !(*q.Eta >= 0 && *q.Eta <= 1) {
			return fmt.Errorf("eta: %v: it must be from 0 to 1", *q.Eta)
		}
		key.eta = *q.Eta
	}
	if err, ok := c.known[key]; ok {
		return err
	}
	steps := q.Steps
	if steps == 0 && !strings.Contains(q.Sigmas, ",") {
		steps = pipeline.DefaultSteps
	}
	o := scheduler.Options{Name: q.Scheduler, Steps: steps, Sigmas: q.Sigmas}
	if q.Scheduler != "" { // the model's own sampler may take it
		o.Eta = q.Eta
	}
	_, err := scheduler.New(c.config, o)
	if len(c.known) < 10_000 {
		c.known[key] = err
	}
	return err
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Validator checks requests that come from elsewhere than a job file, such as the queue. It is for one goroutine.
type Validator struct{ c *checker }

// NewValidator makes a validator.
func NewValidator() *Validator { return &Validator{newChecker()} }

// Check says what is wrong with a request.
func (v *Validator) Check(q *Request) error {
	given := map[string]bool{"prompt": true}
	for name, set := range map[string]bool{"steps": q.Steps != 0, "width": q.Width != 0, "height": q.Height != 0, "quality": q.Quality != 0} {
		given[name] = set
	}
	return v.c.request(q, given)
}
