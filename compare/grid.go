// Package compare measures which setting of which scheduler is worth its time: it renders a grid of settings over the same
// prompts and seeds, measures every picture against the converged solution of its own noise, and says what the numbers show.
//
//	Grid → settings × items → a journal of rendered pictures (run.go) → measures (evaluate.go) → Report
//
// A setting is everything but prompt and seed; an item is a prompt with a seed. All settings see an item's noise and
// conditioning (common random numbers), so that differences between settings are taken pair by pair.
package compare

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"darkroom/pipeline"
)

// Grid is what is compared. The lists are axes: each combination is a setting. An empty list is the model's own value.
type Grid struct {
	Models     []string  `json:"models,omitempty"` // "" is the embedded one
	DTypes     []string  `json:"dtypes,omitempty"`
	Schedulers []string  `json:"schedulers,omitempty"`
	Sigmas     []string  `json:"sigmas,omitempty"` // names, or lists such as 14.6,6.1,0.03
	Steps      []int     `json:"steps,omitempty"`
	CFG        []float64 `json:"cfg,omitempty"`
	Rescale    []float64 `json:"rescale,omitempty"`
	Guidance   []string  `json:"guidance,omitempty"` // as generate --guidance; "" is cfg
	Eta        []float64 `json:"eta,omitempty"`
	SDENoise   []string  `json:"sdeNoise,omitempty"` // "" is torch

	Prompts   []string `json:"prompts"`
	FirstSeed uint64   `json:"firstSeed"`
	Seeds     int      `json:"seeds"` // FirstSeed, FirstSeed+1, …

	// What all settings share. The zero value is the model's own.
	Negative *string `json:"negative,omitempty"`
	Width    int     `json:"width,omitempty"`
	Height   int     `json:"height,omitempty"`
	Noise    string  `json:"noise,omitempty"`
	Syntax   string  `json:"syntax,omitempty"`
	ClipSkip int     `json:"clipSkip,omitempty"`

	// Budget, in seconds a picture, replaces Steps: each scheduler's step counts are those that it has time for. 0: none.
	Budget float64 `json:"budget,omitempty"`
	// ReferenceSteps is of the converged solution that pictures are measured against; 0: none is made.
	ReferenceSteps int `json:"referenceSteps"`
}

// Setting is how a picture is made, but for its prompt and seed.
type Setting struct {
	Model     string   `json:"model"`
	DType     string   `json:"dtype"`
	Scheduler string   `json:"scheduler"` // as it was asked for
	Sigmas    string   `json:"sigmas,omitempty"`
	Steps     int      `json:"steps"` // 0: the scheduler chooses
	CFG       float64  `json:"cfg"`
	Rescale   float64  `json:"rescale"`
	Guidance  string   `json:"guidance,omitempty"`
	Eta       *float64 `json:"eta,omitempty"`
	SDENoise  string   `json:"sdeNoise,omitempty"`
}

// Item is what all settings draw.
type Item struct {
	Prompt int    `json:"prompt"` // index into Grid.Prompts
	Seed   uint64 `json:"seed"`
}

// Items lists them, prompt by prompt.
func (g *Grid) Items() []Item {
	var items []Item
	for p := range g.Prompts {
		for s := range g.Seeds {
			items = append(items, Item{p, g.FirstSeed + uint64(s)})
		}
	}
	return items
}

// MostItems is how many items a grid may have: more would take a year, and the list alone all memory.
const MostItems = 100_000

// Check finds what is wrong without any model.
func (g *Grid) Check() error {
	switch {
	case len(g.Prompts) == 0:
		return usagef("no prompts: give --prompts FILE with a prompt a line, or --prompt TEXT")
	case g.Seeds < 1:
		return usagef("--seeds %d: at least 1 is needed", g.Seeds)
	case g.Seeds > MostItems/len(g.Prompts):
		return usagef("%d prompts with --seeds %d: more than %d pictures a setting", len(g.Prompts), g.Seeds, MostItems)
	case g.FirstSeed+uint64(g.Seeds-1) < g.FirstSeed:
		return usagef("--seed %d --seeds %d: the last seed would be beyond 18446744073709551615", g.FirstSeed, g.Seeds)
	case g.Budget < 0 || g.Budget != g.Budget || g.Budget > 1e6:
		return usagef("--budget %v: it must be a time above 0, such as 2s", g.Budget)
	case g.Budget > 0 && len(g.Steps) > 0:
		return usagef("--budget and --steps: give one; a budget finds the numbers of steps")
	case g.ReferenceSteps != 0 && g.ReferenceSteps < 10:
		return usagef("--reference-steps %d: at least 10 are needed to converge to anything; 0 is no reference", g.ReferenceSteps)
	}
	for _, n := range g.Steps {
		if n < 1 {
			return usagef("--steps %d: at least 1 is needed", n)
		}
	}
	for _, e := range g.Eta {
		if !(e >= 0 && e <= 1) {
			return usagef("--eta %v: it must be from 0 to 1", e)
		}
	}
	return nil
}

// settings are all combinations for the given numbers of steps of a scheduler; requests gives a model's own values.
func (g *Grid) settings(defaults func(model, dtype string) (pipeline.Request, error), steps func(Setting) []int) ([]Setting, error) {
	var all []Setting
	for _, model := range or(g.Models, "") {
		for _, dtype := range or(g.DTypes, "auto") {
			r, err := defaults(model, dtype)
			if err != nil {
				return nil, err
			}
			for _, name := range or(g.Schedulers, r.Scheduler) {
				for _, sigmas := range or(g.Sigmas, "") {
					for _, cfg := range or(g.CFG, r.CFG) {
						for _, rescale := range or(g.Rescale, 0) {
							for _, guidance := range or(g.Guidance, "") {
								for _, eta := range etas(g.Eta) {
									for _, sde := range or(g.SDENoise, "") {
										s := Setting{model, dtype, name, sigmas, r.Steps, cfg, rescale, guidance, eta, sde}
										for _, s.Steps = range steps(s) {
											all = append(all, s)
										}
									}
								}
							}
						}
					}
				}
			}
		}
	}
	return all, nil
}

func or[T any](list []T, value T) []T {
	if len(list) > 0 {
		return list
	}
	return []T{value}
}

func etas(list []float64) []*float64 {
	out := []*float64{}
	for _, e := range list {
		out = append(out, &e)
	}
	return or(out, nil)
}

// request puts a setting and an item together.
func (g *Grid) request(r pipeline.Request, s Setting, item Item) pipeline.Request {
	r.Prompt, r.Seed = g.Prompts[item.Prompt], item.Seed
	r.Scheduler, r.Sigmas, r.Steps, r.CFG, r.Rescale, r.Eta = s.Scheduler, s.Sigmas, s.Steps, s.CFG, s.Rescale, s.Eta
	r.Guidance, r.SDENoise = s.Guidance, s.SDENoise
	if g.Negative != nil {
		r.Negative = *g.Negative
	}
	for _, v := range []struct{ field, value *int }{{&r.Width, &g.Width}, {&r.Height, &g.Height}, {&r.ClipSkip, &g.ClipSkip}} {
		if *v.value != 0 {
			*v.field = *v.value
		}
	}
	if g.Noise != "" {
		r.Noise = g.Noise
	}
	if g.Syntax != "" {
		r.Syntax = g.Syntax
	}
	return r
}

// ID names the setting in files and pages: a short hash of all that it holds.
func (s Setting) ID() string { return shortHash(s) }

// shortHash is the start of the SHA-256 of v's JSON: 16 hex digits.
func shortHash(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic("compare: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// Name is what people call the setting: the scheduler, and those values in which settings of the report differ.
func (s Setting) Name(varies func(axis string) bool) string {
	parts := []string{s.Scheduler}
	if s.Sigmas != "" {
		parts[0] += "-" + s.Sigmas
	}
	if s.Steps > 0 {
		parts = append(parts, fmt.Sprintf("%d step%s", s.Steps, plural(s.Steps)))
	}
	if s.Eta != nil {
		parts = append(parts, "eta "+number(*s.Eta))
	}
	if varies("sde") {
		parts = append(parts, usual(s.SDENoise, pipeline.SDETorch)+" noise")
	}
	return strings.Join(append(parts, s.problemParts(varies)...), ", ")
}

// problemParts name those values that decide what is solved, not how.
func (s Setting) problemParts(varies func(axis string) bool) (parts []string) {
	for _, p := range [][2]string{
		{"cfg", "cfg " + number(s.CFG)}, {"rescale", "rescale " + number(s.Rescale)}, {"guidance", "guidance " + usual(s.Guidance, "cfg")},
		{"dtype", s.DType}, {"model", modelName(s.Model)},
	} {
		if varies(p[0]) {
			parts = append(parts, p[1])
		}
	}
	return parts
}

// fixedSteps is the number of steps of a setting that cannot have another, and why; "" where it can.
func (s Setting) fixedSteps() (n int, why string) {
	if s.Scheduler == "dpm-adaptive" {
		return 0, "dpm-adaptive chooses its own steps"
	}
	first, _, _ := strings.Cut(s.Sigmas, ",")
	if _, err := strconv.ParseFloat(strings.TrimSpace(first), 64); err == nil {
		return len(strings.Split(s.Sigmas, ",")), "the sigmas " + s.Sigmas + " are as many steps as levels"
	}
	return 0, ""
}

// problem is what a setting solves, however it does: settings of one problem have one converged solution.
func (s Setting) problem() Setting {
	s.Scheduler, s.Sigmas, s.Steps, s.Eta, s.SDENoise = "", "", 0, nil, ""
	return s
}

// Group is the setting without its steps: what a curve is drawn for.
func (s Setting) Group() Setting {
	s.Steps = 0
	return s
}

func modelName(path string) string {
	if path == "" {
		return "default"
	}
	return path[strings.LastIndexAny(path, `/\`)+1:]
}

// usual is the name, or what "" stands for.
func usual(name, empty string) string {
	if name == "" {
		return empty
	}
	return name
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// Command is the line that makes the picture again.
func (g *Grid) Command(s Setting, item Item) string {
	words := []string{"darkroom", "generate", quote(g.Prompts[item.Prompt])}
	flag := func(name, value string) { words = append(words, "--"+name, value) }
	if s.Model != "" {
		flag("model", quote(s.Model))
	}
	if s.DType != "auto" {
		flag("dtype", s.DType)
	}
	flag("scheduler", quote(s.Scheduler))
	if s.Sigmas != "" {
		flag("sigmas", quote(s.Sigmas))
	}
	if s.Steps > 0 {
		flag("steps", strconv.Itoa(s.Steps))
	}
	flag("cfg", number(s.CFG))
	if s.Rescale != 0 {
		flag("guidance-rescale", number(s.Rescale))
	}
	if s.Guidance != "" {
		flag("guidance", quote(s.Guidance))
	}
	if s.Eta != nil {
		flag("eta", number(*s.Eta))
	}
	if s.SDENoise != "" {
		flag("sde-noise", s.SDENoise)
	}
	flag("seed", strconv.FormatUint(item.Seed, 10))
	if g.Negative != nil {
		flag("negative", quote(*g.Negative))
	}
	for _, v := range []struct {
		name  string
		value int
	}{{"width", g.Width}, {"height", g.Height}, {"clip-skip", g.ClipSkip}} {
		if v.value != 0 {
			flag(v.name, strconv.Itoa(v.value))
		}
	}
	if g.Noise != "" {
		flag("noise", g.Noise)
	}
	if g.Syntax != "" {
		flag("prompt-syntax", g.Syntax)
	}
	return strings.Join(words, " ")
}

// quote makes a word of a POSIX shell.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("+-_./:,=@", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// shuffled is an order of n things that is the same for the same block: within an item, settings run in another order
// each time, so that a machine that slows down does not do so for the same setting always.
func shuffled(n int, block uint64) []int {
	order := rand.New(rand.NewPCG(block, 0x6461726b)).Perm(n)
	return slices.Clip(order)
}

// usagef is a comparison that cannot be meant.
func usagef(format string, args ...any) error {
	return &pipeline.UsageError{Err: fmt.Errorf(format, args...)}
}
