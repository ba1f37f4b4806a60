package compare

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"darkroom/guidance"
	"darkroom/recipe"
)

// Setting is how a picture is made, but for its prompt and seed. Scheduler is as it was asked for; Steps is 0 where the
// scheduler chooses.
type Setting struct{ recipe.Given }

// The names that settings have in a report's JSON, where they are not those of every other JSON; reports and the IDs of
// settings outlive the program's version. The first ones stand first, and some of them always.
var (
	settingNames = map[string]string{"guidance-rescale": "rescale", "sde-noise": "sdeNoise"}
	settingFirst = []string{"model", "dtype", "scheduler", "sigmas", "steps", "cfg", "guidance-rescale", "guidance", "eta", "sde-noise"}
	settingEver  = []string{"model", "dtype", "scheduler", "steps", "cfg", "guidance-rescale"}
)

// settingOrder are all axes, the first ones first.
func settingOrder() []*recipe.Setting {
	var order []*recipe.Setting
	for _, name := range settingFirst {
		s, _ := recipe.Lookup(name)
		order = append(order, s)
	}
	all := recipe.All()
	for i := range all {
		if s := &all[i]; IsAxis(s) && !slices.Contains(settingFirst, s.Name) {
			order = append(order, s)
		}
	}
	return order
}

func settingName(s *recipe.Setting) string {
	if name := settingNames[s.Name]; name != "" {
		return name
	}
	return s.JSON()
}

// MarshalJSON writes the values that differ from nothing said. The same setting always gives the same bytes.
func (s Setting) MarshalJSON() ([]byte, error) {
	var buf bytes.Buffer
	for _, row := range settingOrder() {
		v := row.Get(&s.Settings)
		if !slices.Contains(settingEver, row.Name) && (!s.Has(row.Name) || v == nil || v == "") {
			continue
		}
		text, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", row.Name, err)
		}
		fmt.Fprintf(&buf, ",%q:%s", settingName(row), text)
	}
	return append(append([]byte{'{'}, buf.Bytes()[1:]...), '}'), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Setting) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	*s = Setting{}
	for _, row := range settingOrder() {
		if raw, ok := fields[settingName(row)]; ok {
			v, err := row.Decode(raw)
			if err != nil {
				return err
			}
			s.Set(row.Name, v)
		}
	}
	return nil
}

// The names of axes in a grid's JSON, where they are others than in a setting's; those that stood for all settings alike
// are written as one value, not as a list of one.
var (
	axisNames = map[string]string{"model": "models", "dtype": "dtypes", "scheduler": "schedulers", "prompt-syntax": "syntax", "clip-skip": "clipSkip"}
	axisAlone = []string{"negative", "width", "height", "noise", "prompt-syntax", "clip-skip"}
)

func axisName(s *recipe.Setting) string {
	if name := axisNames[s.Name]; name != "" {
		return name
	}
	return settingName(s)
}

// gridRest are the fields of a grid beside its axes.
type gridRest struct {
	Prompts        []string `json:"prompts"`
	FirstSeed      uint64   `json:"firstSeed"`
	Seeds          int      `json:"seeds"`
	Budget         float64  `json:"budget,omitempty"`
	ReferenceSteps int      `json:"referenceSteps"`
}

// MarshalJSON writes an object of axes, beside what else the grid is made of.
func (g Grid) MarshalJSON() ([]byte, error) {
	text, err := json.Marshal(gridRest{g.Prompts, g.FirstSeed, g.Seeds, g.Budget, g.ReferenceSteps})
	if err != nil {
		return nil, err
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	for _, row := range settingOrder() {
		values := g.Axes[row.Name]
		if len(values) == 0 {
			continue
		}
		var v any = values
		if len(values) == 1 && slices.Contains(axisAlone, row.Name) {
			v = values[0]
		}
		if fields[axisName(row)], err = json.Marshal(v); err != nil {
			return nil, fmt.Errorf("%s: %w", row.Name, err)
		}
	}
	return json.Marshal(fields)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (g *Grid) UnmarshalJSON(data []byte) error {
	var rest gridRest
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &rest); err != nil {
		return err
	}
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	*g = Grid{Prompts: rest.Prompts, FirstSeed: rest.FirstSeed, Seeds: rest.Seeds, Budget: rest.Budget, ReferenceSteps: rest.ReferenceSteps}
	for _, row := range settingOrder() {
		raw, ok := fields[axisName(row)]
		if !ok {
			continue
		}
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil {
			list = []json.RawMessage{raw}
		}
		for _, text := range list {
			v, err := row.Decode(text)
			if err != nil {
				return err
			}
			g.SetAxis(row.Name, append(g.Axes[row.Name], v)...)
		}
	}
	return nil
}

// gridNames are the fields of two grids as JSON, in the order of the axes.
func gridNames(grids ...map[string]any) []string {
	var names []string
	for _, row := range settingOrder() {
		names = append(names, axisName(row))
	}
	for _, g := range grids {
		for _, name := range slices.Sorted(maps.Keys(g)) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
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
	for _, row := range recipe.All() {
		if row.Solver && varies(row.Name) && !slices.Contains([]string{"scheduler", "sigmas", "steps", "eta"}, row.Name) {
			parts = append(parts, s.label(&row))
		}
	}
	return strings.Join(append(parts, s.problemParts(varies)...), ", ")
}

// problemParts name those values that decide what is solved, not how.
func (s Setting) problemParts(varies func(axis string) bool) (parts []string) {
	var last []string // what is asked for before what computes it
	for _, row := range recipe.All() {
		switch {
		case row.Solver || !IsAxis(&row) || !varies(row.Name):
		case row.Group == recipe.ModelGroup || row.Group == recipe.ComputeGroup:
			last = append([]string{s.label(&row)}, last...)
		default:
			parts = append(parts, s.label(&row))
		}
	}
	return append(parts, last...)
}

// label is a value as a name of the setting shows it.
func (s Setting) label(row *recipe.Setting) string {
	switch row.Name {
	case "sde-noise":
		return usual(s.SDENoise, row.Default) + " noise"
	case "guidance-rescale":
		return "rescale " + number(s.Rescale)
	case "model":
		return modelName(s.Model)
	case "dtype":
		return s.DType
	}
	return row.Name + " " + usual(row.Format(row.Get(&s.Settings)), row.Default)
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
	for _, row := range recipe.All() {
		if row.Solver {
			s.Drop(row.Name)
		}
	}
	// Guidance that is left out in a share of the steps is a shortcut to the same, as is a cache.
	if m, err := guidance.Parse(s.Guidance); err == nil && s.Guidance != "" {
		m = m.Without("start").Without("stop")
		if s.Guidance = m.String(); m.Plain() {
			s.Drop("guidance")
		}
	}
	return s
}

// problemID names the problem.
func (s Setting) problemID() string { return s.problem().ID() }

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
