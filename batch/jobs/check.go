package jobs

import (
	"errors"
	"fmt"
	"strings"

	"darkroom/guidance"
	"darkroom/pipeline"
	"darkroom/recipe"
	"darkroom/scheduler"
)

// maxCount is how many pictures one job may ask for.
const maxCount = MaxImages

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

// request checks everything of a request.
func (c *checker) request(q *Request) (err error) {
	if q.Prompt == "" && !q.Has("prompt") {
		return errors.New("the prompt is missing")
	}
	q.Each(func(s *recipe.Setting, v any) {
		if err == nil && v != nil {
			err = checkValue(s, v)
		}
	})
	switch {
	case err != nil:
		return err
	case q.Quality != 0 && (q.Format == "" || q.Format == "png"):
		return fmt.Errorf("quality: %d: PNG has no quality: set format: jpg or webp, or leave it out", q.Quality)
	}
	if err := checkGuidance(q); err != nil {
		return err
	}
	return c.sampler(q)
}

func checkValue(s *recipe.Setting, v any) error {
	err := s.Check(v)
	var choice *recipe.ChoiceError
	if errors.As(err, &choice) {
		return fmt.Errorf("%s: %w%s", s.Name, err, nearest(choice.Value, choice.Choices))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return nil
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

// Validator checks requests that come from elsewhere than a job file, such as the queue. It is for one goroutine.
type Validator struct{ c *checker }

// NewValidator makes a validator.
func NewValidator() *Validator { return &Validator{newChecker()} }

// Check says what is wrong with a request.
func (v *Validator) Check(q *Request) error {
	return v.c.request(q)
}
