package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"darkroom/batch/jobs"
	"darkroom/pipeline"
	"darkroom/recipe"
)

// Limits bound what a worker renders of what comes over the network. Zero fields are the defaults.
type Limits struct {
	Pixels int // of a picture; 0: 4 megapixels
	Steps  int // 0: 250
	Prompt int // bytes of a prompt; 0: 16 KiB
	// Reference takes requests for the reference backend, which is some hundred times slower than the others.
	Reference bool
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.Pixels, 4<<20)
	set(&l.Steps, 250)
	set(&l.Prompt, 16<<10)
	return l
}

// refusal is a job that no try can help.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// decodeJob reads a job and checks all of it: nothing in it is trusted.
func decodeJob(subject string, data []byte, l Limits, v *jobs.Validator) (*Job, error) {
	_, batch, hash := tokens(subject)
	var j Job
	if err := json.Unmarshal(data, &j); err != nil {
		return nil, &refusal{fmt.Errorf("the job is not valid JSON: %w", err)}
	}
	if err := j.check(batch, hash, l, v); err != nil {
		return &j, &refusal{err}
	}
	return &j, nil
}

func (j *Job) check(batch, hash string, l Limits, v *jobs.Validator) error {
	q := &j.Request
	switch {
	case j.Batch != batch || j.Hash != hash:
		return errors.New("the job contradicts its subject")
	case q.Hash() != hash:
		return errors.New("the request does not have the hash that the job names")
	case len(q.Prompt) > l.Prompt || len(q.Negative) > l.Prompt:
		return fmt.Errorf("the prompt is longer than the %d bytes that this worker takes", l.Prompt)
	case q.Steps > l.Steps:
		return fmt.Errorf("%d steps: this worker takes at most %d (--max-steps)", q.Steps, l.Steps)
	case strings.Count(q.Sigmas, ",") >= l.Steps:
		return fmt.Errorf("%d sigmas: this worker takes at most %d steps (--max-steps)", strings.Count(q.Sigmas, ",")+1, l.Steps)
	case q.Backend == pipeline.Ref && !l.Reference:
		return fmt.Errorf("the backend %s is too slow for a worker", q.Backend)
	case q.Width < 0 || q.Height < 0 || q.Steps < 0 || q.Quality < 0:
		return errors.New("a size, a number of steps or a quality below 0")
	case float64(max(q.Width, 1))*float64(max(q.Height, 1))*enlarged(q.Hires) > float64(l.Pixels):
		return fmt.Errorf("%d×%d pixels: this worker takes at most %d in all (--max-pixels)", q.Width, q.Height, l.Pixels)
	}
	if err := travels(q); err != nil {
		return err
	}
	if j.Previews < 0 || j.Previews > 100 {
		return errors.New("the number of previews must be from 0 to 100")
	}
	if err := jobs.CheckFile(j.File); err != nil {
		return err
	}
	if path.Ext(j.File) != q.Extension() {
		return fmt.Errorf("file name %.60q: the picture's format has the extension %s", j.File, q.Extension())
	}
	return v.Check(q)
}

// travels says why a request cannot be made on another machine.
func travels(q *jobs.Request) error {
	switch {
	case q.Init+q.Mask+q.Control+q.Depth+q.Reference != "" || namesFiles(q.Regions):
		return errors.New("a picture to start from or to steer with: jobs from a queue cannot name files")
	case strings.ContainsAny(q.LoRA+q.Embedding+q.VAE+q.TextModel+q.Parts+q.Hires+q.Refiner, `/\`):
		return errors.New("a path to an adapter, an autoencoder, a text encoder or a refiner: jobs from a queue give only names")
	}
	return nil
}

// namesFiles reports whether a region is a mask's file.
func namesFiles(regions string) bool {
	list, err := recipe.ParseRegions(regions)
	return err == nil && slices.ContainsFunc(list, func(r recipe.Region) bool {
		_, rectangle, err := recipe.Rectangle(r.Area)
		return err == nil && !rectangle
	})
}

// enlarged is how many times as many pixels a second pass makes.
func enlarged(hires string) float64 {
	if h, err := recipe.ParseHires(hires); err == nil && h != nil {
		return h.Scale * h.Scale
	}
	return 1
}
