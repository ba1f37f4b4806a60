// Package compare measures which setting of which scheduler is worth its time: it renders a grid of settings over the same
// prompts and seeds, measures every picture against the converged solution of its own noise, and says what the numbers show.
//
//	Grid → settings × items → a journal of rendered pictures (run.go) → measures (evaluate.go) → Report
//
// A setting is everything but prompt and seed; an item is a prompt with a seed. All settings see an item's noise and
// conditioning (common random numbers), so that differences between settings are taken pair by pair.
package compare

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"darkroom/pipeline"
	"darkroom/recipe"
)

// Grid is what is compared.
type Grid struct {
	// Axes are the values of settings, by the setting's name: each combination is a Setting. A setting without an axis has
	// the model's own value.
	Axes map[string][]any

	Prompts   []string
	FirstSeed uint64
	Seeds     int // FirstSeed, FirstSeed+1, …

	// Budget, in seconds a picture, replaces the steps: each scheduler's step counts are those that it has time for. 0: none.
	Budget float64
	// ReferenceSteps is of the converged solution that pictures are measured against; 0: none is made.
	ReferenceSteps int
}

// nesting are the settings whose order matters, from the one that changes slowest; the others change slower still, but for
// the model and its type.
var nesting = []string{"scheduler", "sigmas", "cfg", "guidance-rescale", "guidance", "eta", "sde-noise"}

// IsAxis says whether a setting may be compared: all but what an item decides, and what is done with the file. What
// computes is one for all.
func IsAxis(s *recipe.Setting) bool {
	return s.InRecipe() && s.Name != "prompt" && s.Name != "seed" && s.Name != "backend"
}

// SetAxis gives a setting's axis its values; none takes it away.
func (g *Grid) SetAxis(name string, values ...any) {
	if g.Axes == nil {
		g.Axes = map[string][]any{}
	}
	if g.Axes[name] = values; len(values) == 0 {
		delete(g.Axes, name)
	}
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
		return usagef("--seed %d --seeds %d: the last seed would exceed 18446744073709551615", g.FirstSeed, g.Seeds)
	case g.Budget < 0 || g.Budget != g.Budget || g.Budget > 1e6:
		return usagef("--budget %v: it must be a time above 0, such as 2s", g.Budget)
	case g.Budget > 0 && len(g.Axes["steps"]) > 0:
		return usagef("--budget and --steps: give one; a budget finds the numbers of steps")
	case g.ReferenceSteps != 0 && g.ReferenceSteps < 10:
		return usagef("--reference-steps %d: at least 10 are needed to converge to anything; 0 is no reference", g.ReferenceSteps)
	}
	for name, values := range g.Axes {
		row, ok := recipe.Lookup(name)
		if !ok || !IsAxis(row) {
			return usagef("%s: it cannot be compared", name)
		}
		for _, v := range values {
			if row.Kind == recipe.TextKind {
				continue // the plan of a picture knows more of names
			}
			if err := row.Check(v); err != nil {
				return usagef("--%s %w", name, err)
			}
		}
	}
	return nil
}

// settings are all combinations for the given numbers of steps of a scheduler; defaults gives a model's own values.
func (g *Grid) settings(defaults func(model, dtype string) (pipeline.Request, error), steps func(Setting) []int) ([]Setting, error) {
	var all []Setting
	for _, model := range or(g.Axes["model"], "") {
		for _, dtype := range or(g.Axes["dtype"], "auto") {
			r, err := defaults(model.(string), dtype.(string))
			if err != nil {
				return nil, err
			}
			var s Setting
			s.Set("model", model)
			s.Set("dtype", dtype)
			for name, v := range map[string]any{"scheduler": r.Scheduler, "steps": r.Steps, "cfg": r.CFG, "guidance-rescale": 0.0} {
				s.Set(name, v)
			}
			for _, s := range g.combinations(s) {
				for _, n := range steps(s) {
					s.Set("steps", n)
					all = append(all, s)
				}
			}
		}
	}
	return all, nil
}

// combinations are the setting with every value of every axis but the model, its type and the steps.
func (g *Grid) combinations(s Setting) []Setting {
	all := []Setting{s}
	for _, name := range g.axes() {
		var next []Setting
		for _, s := range all {
			for _, v := range g.Axes[name] {
				s.Set(name, v)
				next = append(next, s)
			}
		}
		all = next
	}
	return all
}

// axes are the settings that combinations goes through, the slowest first.
func (g *Grid) axes() (names []string) {
	for _, s := range recipe.All() {
		elsewhere := slices.Contains(nesting, s.Name) || s.Name == "model" || s.Name == "dtype" || s.Name == "steps"
		if len(g.Axes[s.Name]) > 0 && !elsewhere && !g.isShared(s.Name) {
			names = append(names, s.Name)
		}
	}
	for _, name := range nesting {
		if len(g.Axes[name]) > 0 {
			names = append(names, name)
		}
	}
	return names
}

func or[T any](list []T, value T) []T {
	if len(list) > 0 {
		return list
	}
	return []T{value}
}

// isShared says whether all settings have one value, which is then no part of them.
func (g *Grid) isShared(name string) bool {
	return len(g.Axes[name]) == 1 && slices.Contains(axisAlone, name)
}

// shared are those values.
func (g *Grid) shared() (q recipe.Given) {
	for name, values := range g.Axes {
		if g.isShared(name) {
			q.Set(name, values[0])
		}
	}
	return q
}

// request puts a setting and an item together.
func (g *Grid) request(r pipeline.Request, s Setting, item Item) pipeline.Request {
	shared := g.shared()
	shared.Apply(&r.Settings)
	s.Apply(&r.Settings)
	r.Model, r.DType = "", "" // the pipeline's
	r.Prompt, r.Seed = g.Prompts[item.Prompt], item.Seed
	return r
}

// Command is the line that makes the picture again.
func (g *Grid) Command(s Setting, item Item) string {
	q := s.Over(g.shared())
	q.Set("seed", item.Seed)
	if q.DType == "auto" {
		q.Drop("dtype")
	}
	return q.CommandOf(g.Prompts[item.Prompt])
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
