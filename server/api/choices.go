package api

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"darkroom/family"
	"darkroom/models/library"
	"darkroom/recipe"
	"darkroom/scheduler"
	"darkroom/server/ask"
	"darkroom/server/web"
)

// Model is an entry of GET /v1/models: OpenAI's fields, and what the model draws by itself.
type Model struct {
	ID        string  `json:"id"`
	Object    string  `json:"object"`
	Created   int64   `json:"created"`
	OwnedBy   string  `json:"owned_by"`
	Name      string  `json:"name"`
	Family    string  `json:"family"`
	Width     int     `json:"width"`
	Height    int     `json:"height"`
	Factor    int     `json:"factor" doc:"sides are multiples of it"`
	Steps     int     `json:"steps"`
	CFG       float64 `json:"cfg"`
	Scheduler string  `json:"scheduler"`
	Negative  string  `json:"negative"`
	Default   bool    `json:"default" doc:"used when a request names no model"`
	Problem   string  `json:"problem,omitempty" doc:"why it cannot be used"`
}

// List is a list in OpenAI's shape.
type List[T any] struct {
	Object string `json:"object"`
	Data   []T    `json:"data"`
}

func list[T any](data []T) List[T] {
	if data == nil {
		data = []T{}
	}
	return List[T]{"list", data}
}

func (a *API) model(name string) Model {
	f := a.Catalogue.Facts(name)
	return Model{
		ID: name, Object: "model", Created: modified(a.Catalogue.Path(name)), OwnedBy: "darkroom", Name: name, Family: f.Family,
		Width: f.Width, Height: f.Height, Factor: f.Factor, Steps: f.Steps, CFG: f.CFG, Scheduler: f.Scheduler, Negative: f.Negative,
		Default: name == a.Catalogue.Default(), Problem: f.Problem,
	}
}

// modified is when a model's file was written, in seconds of Unix time; of the embedded one, nothing is known.
func modified(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.ModTime().Unix()
}

func (a *API) models(w http.ResponseWriter, _ *http.Request) error {
	var all []Model
	for _, name := range a.Catalogue.Names() {
		all = append(all, a.model(name))
	}
	web.JSON(w, http.StatusOK, list(all))
	return nil
}

func (a *API) getModel(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	if !a.Catalogue.Has(name) {
		return web.NotFound("there is no model %.60q", name)
	}
	web.JSON(w, http.StatusOK, a.model(name))
	return nil
}

// Part is a file that is used beside a model.
type Part struct {
	Name  string    `json:"name"`
	Bytes int64     `json:"bytes"`
	Date  time.Time `json:"modified"`
}

// parts lists the files of a kind.
func parts(k library.Kind) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, _ *http.Request) error {
		var all []Part
		for _, path := range library.Parts(k) {
			p := Part{Name: library.PartName(path)}
			if st, err := os.Stat(path); err == nil {
				p.Bytes, p.Date = st.Size(), st.ModTime().UTC()
			}
			all = append(all, p)
		}
		slices.SortFunc(all, func(a, b Part) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
		web.JSON(w, http.StatusOK, list(all))
		return nil
	}
}

// Scheduler is a sampler.
type Scheduler struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

func schedulers(w http.ResponseWriter, _ *http.Request) error {
	var all []Scheduler
	for _, i := range scheduler.Names() {
		all = append(all, Scheduler{i.Name, i.About})
	}
	web.JSON(w, http.StatusOK, list(all))
	return nil
}

// Setting is a row of the table of settings.
type Setting struct {
	Name    string   `json:"name"`
	Aliases []string `json:"aliases,omitempty"`
	Kind    string   `json:"kind" enum:"text,whole,number,seed,switch"`
	Group   string   `json:"group"`
	Default string   `json:"default" doc:"the default, in words"`
	Choices []string `json:"choices,omitempty"`
	Open    bool     `json:"open,omitempty" doc:"values beyond the choices are accepted"`
	Repeat  bool     `json:"repeat,omitempty" doc:"several, with commas"`
	Min     *float64 `json:"min,omitempty"`
	Max     *float64 `json:"max,omitempty"`
	Help    string   `json:"help"`
}

func settings(w http.ResponseWriter, _ *http.Request) error {
	web.JSON(w, http.StatusOK, list(Table()))
	return nil
}

// Table is the table of settings as clients see it.
func Table() (all []Setting) {
	for _, s := range recipe.All() {
		if s.Name == "backend" {
			continue // it is the server's
		}
		out := Setting{
			Name: s.JSON(), Aliases: s.Aliases, Kind: [...]string{"text", "whole", "number", "seed", "switch"}[s.Kind], Group: s.Group.String(),
			Default: s.Default, Open: s.Open, Repeat: s.Repeat, Help: s.About,
		}
		if s.Choices != nil {
			out.Choices = s.Choices()
		}
		if s.Low != 0 || s.High != 0 {
			out.Min, out.Max = &s.Low, &s.High
		}
		all = append(all, out)
	}
	return all
}

// TokenizeRequest is the body of POST /v1/tokenize.
type TokenizeRequest struct {
	Model  string `json:"model,omitempty"`
	Prompt string `json:"prompt"`
	Syntax string `json:"prompt_syntax,omitempty" enum:"weighted,plain"`
}

// Tokens are what a prompt becomes.
type Tokens struct {
	Tokens   int      `json:"tokens"`
	Limit    int      `json:"limit" doc:"tokens that a chunk holds"`
	Chunks   int      `json:"chunks"`
	Pieces   []Piece  `json:"pieces"`
	Cut      string   `json:"cut" doc:"the end that does not fit and is left out"`
	Warnings []string `json:"warnings"`
}

// Piece is a token.
type Piece struct {
	Text   string  `json:"text"`
	Chunk  int     `json:"chunk"`
	Weight float32 `json:"weight"`
	Start  int     `json:"start" doc:"where it is in the prompt, in bytes; -1: it is not found there"`
	End    int     `json:"end"`
}

func (a *API) tokenize(w http.ResponseWriter, r *http.Request) error {
	var body TokenizeRequest
	if err := web.Read(w, r, 1<<20, &body); err != nil {
		return err
	}
	if body.Model == "" {
		body.Model = a.Catalogue.Default()
	}
	if body.Syntax == "" {
		body.Syntax = recipe.Weighted
	}
	if len(body.Prompt) > 64<<10 {
		return ask.Invalid("prompt", "%d bytes: at most 65536 are allowed", len(body.Prompt))
	}
	t, err := a.Catalogue.Tokens(body.Model, body.Prompt, body.Syntax)
	if err != nil {
		return ask.Invalid("prompt", "%v", err)
	}
	web.JSON(w, http.StatusOK, tokens(t, body.Prompt))
	return nil
}

// tokens are without those that only begin, end and fill chunks. Each is looked for in the prompt after the one before.
func tokens(t family.Tokens, prompt string) Tokens {
	out := Tokens{Limit: t.Window - 2, Chunks: t.Chunks, Pieces: []Piece{}, Warnings: []string{}, Cut: t.Cut}
	out.Warnings = append(out.Warnings, t.Warnings...)
	lower, at := strings.ToLower(prompt), 0
	for _, row := range t.Rows {
		text := strings.TrimSuffix(row.Token, "</w>")
		if strings.HasPrefix(row.Token, "<|") {
			continue
		}
		p := Piece{Text: text, Chunk: row.Chunk, Weight: row.Weight, Start: -1, End: -1}
		if i := strings.Index(lower[min(at, len(lower)):], text); i >= 0 && len(lower) == len(prompt) {
			p.Start, p.End = at+i, at+i+len(text)
			at = p.End
		}
		out.Pieces = append(out.Pieces, p)
	}
	out.Tokens = len(out.Pieces) + t.NumCut
	return out
}

// SettingSchemas are the settings as properties of a JSON schema.
func SettingSchemas() map[string]any {
	out := map[string]any{"count": map[string]any{"type": "integer", "minimum": 1, "description": "pictures; picture i has seed + i"}}
	for _, s := range Table() {
		p := map[string]any{"type": map[string]string{"text": "string", "whole": "integer", "number": "number", "seed": "integer", "switch": "boolean"}[s.Kind], "description": s.Help + " (default: " + s.Default + ")"}
		if s.Choices != nil && !s.Open {
			p["enum"] = s.Choices
		}
		if s.Min != nil {
			p["minimum"], p["maximum"] = *s.Min, *s.Max
		}
		out[s.Name] = p
	}
	return out
}
