package jobs

import (
	"fmt"
	"maps"
	"slices"

	"darkroom/recipe"
)

// Config is what a user's configuration file says: settings that hold where nothing else is said, and named ones.
//
//	defaults: {model: sd15, steps: 30}
//	presets:
//	  quick: {scheduler: dpm++2m-karras, steps: 8}
//	styles:
//	  film: {prompt: "{prompt}, 35mm film", negative: cartoon}
type Config struct {
	Defaults        recipe.Given
	Presets, Styles map[string]recipe.Given
}

// ParseConfig reads a configuration file's YAML. The names of settings are those of flags and jobs. Mistakes are Errors.
func ParseConfig(name string, data []byte) (Config, error) {
	r := &reporter{file: name}
	var c Config
	text, ok := decode(r, data)
	if !ok {
		return c, r.err()
	}
	n, ok := parseYAML(r, text)
	if !ok || n.kind == nullKind {
		return c, r.err()
	}
	if n.kind != objectKind {
		r.errorf(n.line, "a configuration is an object with defaults, presets and styles, but this is %v", n.kind)
		return c, r.err()
	}
	for _, f := range n.fields {
		switch f.name {
		case "defaults":
			c.Defaults = settingsOf(r, f)
		case "presets":
			c.Presets = named(r, f)
		case "styles":
			c.Styles = named(r, f)
		default:
			r.errorf(f.line, "unknown field %q%s (there are defaults, presets and styles)", cut(f.name), nearest(f.name, []string{"defaults", "presets", "styles"}))
		}
	}
	return c, r.err()
}

func named(r *reporter, f field) map[string]recipe.Given {
	if f.value.kind != objectKind {
		r.errorf(f.line, "%s: names with settings are needed, as in %s: {quick: {steps: 8}}", f.name, f.name)
		return nil
	}
	all := map[string]recipe.Given{}
	for _, p := range f.value.fields {
		if _, twice := all[p.name]; twice {
			r.errorf(p.line, "%s: %q appears twice", f.name, cut(p.name))
		}
		all[p.name] = settingsOf(r, p)
	}
	return all
}

// settingsOf reads the settings of an object, a value each.
func settingsOf(r *reporter, f field) (g recipe.Given) {
	if f.value.kind != objectKind {
		r.errorf(f.line, "%s: settings are needed, as in %s: {steps: 8}", cut(f.name), cut(f.name))
		return g
	}
	for _, v := range f.value.fields {
		s, ok := recipe.Lookup(v.name)
		if !ok {
			r.errorf(v.line, "no setting is called %q%s", cut(v.name), nearest(normal(v.name), settingNames()))
			continue
		}
		value, err := spec{name: s.Name, kind: s.Kind}.value(v.value)
		if _, random := value.(drawn); random && err == nil {
			err = fmt.Errorf("without a seed a random one is used: leave it out")
		}
		if err == nil {
			err = s.Check(value)
		}
		switch {
		case v.value.kind == listKind:
			r.errorf(v.line, "%s: one value is needed, and this is a list", s.Name)
		case err != nil:
			r.errorf(v.line, "%s: %v", s.Name, err)
		default:
			g.Set(s.Name, value)
		}
	}
	return g
}

func settingNames() (names []string) {
	for _, s := range recipe.All() {
		names = append(names, s.Name)
	}
	return names
}

// Preset is the preset of that name. The error lists those that there are.
func (c *Config) Preset(name string) (recipe.Given, error) { return pick("preset", c.Presets, name) }

// Style is the style of that name, likewise.
func (c *Config) Style(name string) (recipe.Given, error) { return pick("style", c.Styles, name) }

func pick(what string, all map[string]recipe.Given, name string) (recipe.Given, error) {
	g, ok := all[name]
	if ok {
		return g, nil
	}
	names := slices.Sorted(maps.Keys(all))
	if len(names) == 0 {
		return g, fmt.Errorf("no %s is called %q: the configuration file has no %ss", what, cut(name), what)
	}
	return g, fmt.Errorf("no %s is called %q%s (there are %q)", what, cut(name), nearest(name, names), names)
}
