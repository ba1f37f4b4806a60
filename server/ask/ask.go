// Package ask turns what clients send into requests: settings by the names of the table or those of other programs, checked
// before anything is rendered. Models, adapters and autoencoders go by names, pictures by ids: no path is taken.
package ask

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"

	"darkroom/batch/jobs"
	"darkroom/recipe"
	"darkroom/render"
	"darkroom/server/wire"
)

// Limits bound what is accepted. Zero fields are the defaults.
type Limits struct {
	Pixels int // of a picture; 0: 4 megapixels
	Steps  int // 0: 250
	Prompt int // bytes of a prompt; 0: 16 KiB
	Count  int // pictures of a job; 0: 1,000
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		v *int
		d int
	}{{&l.Pixels, 4 << 20}, {&l.Steps, 250}, {&l.Prompt, 16 << 10}, {&l.Count, 1000}} {
		if *f.v == 0 {
			*f.v = f.d
		}
	}
	return l
}

// MaxPixels is how large a picture may be.
func (l Limits) MaxPixels() int { return l.withDefaults().Pixels }

// Reader reads requests.
type Reader struct {
	Limits    Limits
	Catalogue *Catalogue
	// Upload and Picture give the paths of pictures by their ids.
	Upload, Picture func(id string) (path string, err error)
	// Base holds where a request says nothing: the server's model, and what its configuration says.
	Base recipe.Given
}

// Asked is what a client asked for.
type Asked struct {
	recipe.Given
	Count      int
	RandomSeed bool // the seed is to be drawn
	// Unknown are fields that are not settings.
	Unknown []string
}

// Invalid is an error of a request.
func Invalid(param, format string, args ...any) *wire.Error {
	return &wire.Error{Status: http.StatusBadRequest, Type: "invalid_request_error", Param: param, Message: fmt.Sprintf(format, args...), Code: "invalid_value"}
}

// Settings reads the settings among the fields of a JSON object. Aliases are known, null is as good as nothing, and numbers may
// be texts.
func Settings(fields map[string]json.RawMessage) (Asked, error) {
	var a Asked
	by := map[string]string{} // setting → the field that gave it
	for name, raw := range fields {
		if string(raw) == "null" {
			continue
		}
		if name == "count" {
			n, err := wholeNumber(raw)
			if err != nil {
				return a, Invalid(name, "it must be a whole number")
			}
			a.Count = n
			continue
		}
		s, ok := recipe.Lookup(name)
		if !ok {
			a.Unknown = append(a.Unknown, name)
			continue
		}
		if twice := by[s.Name]; twice != "" {
			return a, Invalid(name, "it says the same as %s: give one of them", twice)
		}
		by[s.Name] = name
		if err := a.Take(s, name, raw); err != nil {
			return a, err
		}
	}
	return a, nil
}

// Take gives a setting the value in raw. name is what the client calls it.
func (a *Asked) Take(s *recipe.Setting, name string, raw json.RawMessage) error {
	v, drawn, err := decode(s, raw)
	if err != nil {
		return Invalid(name, "%v", err)
	}
	if drawn {
		a.RandomSeed = true
		return nil
	}
	if v == "" && !s.Zero || v == false && s.Kind == recipe.SwitchKind {
		return nil // as good as nothing
	}
	if err := s.Check(v); err != nil {
		return Invalid(name, "%v", err)
	}
	a.Set(s.Name, v)
	return nil
}

// decode reads a value leniently: clients send numbers as texts, whole numbers with a point, and lists of adapters. drawn says
// that a seed is to be drawn.
func decode(s *recipe.Setting, raw json.RawMessage) (v any, drawn bool, err error) {
	text := string(raw)
	switch {
	case text[0] == '"':
		if err := json.Unmarshal(raw, &text); err != nil {
			return nil, false, err
		}
		if s.Kind == recipe.SeedKind && (text == "" || recipe.RandomSeed(text)) {
			return nil, true, nil
		}
		v, err := s.Parse(text)
		return v, false, err
	case s.Kind == recipe.TextKind && text[0] == '[':
		v, err := joined(raw)
		return v, false, err
	case s.Kind == recipe.SeedKind && text[0] == '-':
		return nil, true, nil
	case s.Kind == recipe.SeedKind || s.Kind == recipe.WholeKind:
		v, err := s.Parse(text)
		if f, parse := strconv.ParseFloat(text, 64); err != nil && parse == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			v, err = s.Parse(strconv.FormatFloat(f, 'f', 0, 64))
		}
		return v, false, err
	}
	v, err = s.Decode(raw)
	if err != nil {
		err = fmt.Errorf("it must be %v", s.Kind)
	}
	return v, false, err
}

// joined is a list of texts or numbers with commas between them.
func joined(raw json.RawMessage) (string, error) {
	var items []any
	if err := json.Unmarshal(raw, &items); err != nil {
		return "", err
	}
	texts := make([]string, len(items))
	for i, item := range items {
		switch item := item.(type) {
		case string:
			texts[i] = item
		case float64:
			texts[i] = strconv.FormatFloat(item, 'g', -1, 64)
		default:
			return "", errors.New("it must be text or a list of texts")
		}
	}
	return strings.Join(texts, ","), nil
}

func wholeNumber(raw json.RawMessage) (int, error) {
	var f float64
	if err := json.Unmarshal(raw, &f); err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<30 {
		return 0, errors.New("not a whole number")
	}
	return int(f), nil
}

// Requests are the pictures that were asked for: picture i has seed + i. All that can be wrong is found here, as a *wire.Error.
func (r *Reader) Requests(a Asked) ([]jobs.Request, error) {
	l := r.Limits.withDefaults()
	if a.Count == 0 {
		a.Count = 1
	}
	if a.Count < 1 || a.Count > l.Count {
		return nil, Invalid("count", "%d pictures: this server takes from 1 to %d in a job", a.Count, l.Count)
	}
	q := jobs.Request{Given: a.Given}
	if q.Given = q.Over(r.Base); a.RandomSeed || !q.Has("seed") {
		q.Set("seed", uint64(rand.Uint32())) // all that most other programs take
	}
	if err := r.Check(&q); err != nil {
		return nil, err
	}
	all := make([]jobs.Request, a.Count)
	for i := range all {
		all[i] = q
		all[i].Set("seed", q.Seed+uint64(i))
	}
	return all, nil
}

// Images are the pictures of a job file's text.
func (r *Reader) Images(name string, data []byte, notation string) ([]jobs.Image, error) {
	l := r.Limits.withDefaults()
	list, err := jobs.Parse(name, data, nil, jobs.Options{Notation: notation, Base: jobs.Request{Given: r.Base}, MaxImages: l.Count, MaxTexts: 16 << 20, Draw: rand.Uint64()})
	if err != nil {
		return nil, Invalid("jobs", "%v", err)
	}
	checked := map[string]error{}
	for i := range list.Images {
		q := list.Images[i].Request
		prompt := q.Prompt
		q.Seed, q.Prompt = 0, ""
		key := q.Hash()
		err, known := checked[key]
		if q.Prompt = prompt; !known {
			err = r.Check(&q)
			checked[key] = err
		}
		if err == nil && len(prompt) > l.Prompt {
			err = Invalid("prompt", "%d bytes: this server takes at most %d", len(prompt), l.Prompt)
		}
		if err != nil {
			return nil, Invalid("jobs", "line %d: %v", list.Images[i].Line, err)
		}
	}
	return list.Images, nil
}

// Check says what is wrong with a request, as a *wire.Error.
func (r *Reader) Check(q *jobs.Request) error {
	l := r.Limits.withDefaults()
	switch {
	case q.Prompt == "" && !q.Has("prompt"):
		return Invalid("prompt", "the prompt is missing")
	case len(q.Prompt) > l.Prompt:
		return Invalid("prompt", "%d bytes: this server takes at most %d", len(q.Prompt), l.Prompt)
	case len(q.Negative) > l.Prompt:
		return Invalid("negative", "%d bytes: this server takes at most %d", len(q.Negative), l.Prompt)
	case q.Steps > l.Steps:
		return Invalid("steps", "%d: this server takes at most %d (--max-steps)", q.Steps, l.Steps)
	case strings.Count(q.Sigmas, ",") >= l.Steps:
		return Invalid("sigmas", "%d levels: this server takes at most %d steps (--max-steps)", strings.Count(q.Sigmas, ",")+1, l.Steps)
	case q.Has("backend") && q.Backend != "auto":
		return Invalid("backend", "the backend is chosen when the server is started (--backend)")
	}
	resolved, err := r.Resolve(q)
	if err != nil {
		return err
	}
	if err := jobs.NewValidator().Check(&resolved); err != nil {
		return Invalid("", "%v", err)
	}
	plan, err := r.Catalogue.plan(&resolved)
	if err != nil {
		var e *wire.Error
		switch {
		case errors.As(err, &e):
			return e
		case render.Classify(err) == render.Hopeless:
			return Invalid("", "%v", err)
		}
		return &wire.Error{Status: http.StatusInternalServerError, Type: "server_error", Param: "model", Message: "the model cannot be opened: " + err.Error()}
	}
	if plan.Steps > l.Steps {
		return Invalid("steps", "%d in all: this server takes at most %d (--max-steps)", plan.Steps, l.Steps)
	}
	if w, h := plan.Width, plan.Height; max(w, 1) > l.Pixels/max(h, 1) {
		return Invalid("size", "%d×%d pixels: this server takes at most %d in all (--max-pixels)", w, h, l.Pixels)
	}
	return nil
}
