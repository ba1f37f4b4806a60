package scheduler

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Names lists all samplers.
func Names() []Info {
	var infos []Info
	for _, s := range samplers() {
		infos = append(infos, s.Info)
	}
	return infos
}

// ofClass is the sampler that stands for a class of diffusers.
func ofClass(class string) (sampler, bool) {
	for _, s := range samplers() {
		if slices.Contains(s.classes, class) {
			return s, true
		}
	}
	return sampler{}, false
}

// classNames are the classes whose models are understood. Others scale the model's input and output in ways of their own.
func classNames() []string {
	var names []string
	for _, s := range samplers() {
		names = append(names, s.classes...)
	}
	slices.Sort(names)
	return names
}

// DefaultName is the sampler that the configuration names, or ddim where it names none.
func (c Config) DefaultName() string {
	s, ok := ofClass(c.Class)
	switch {
	case !ok:
		return "ddim"
	case s.choose != nil:
		return s.choose(c)
	}
	return s.Name
}

// normal is a name as the table writes it: lower case, with - for spaces and underscores.
func normal(name string) string {
	name = strings.NewReplacer("_", "-", " ", "-").Replace(strings.ToLower(strings.TrimSpace(name)))
	name = strings.ReplaceAll(name, "dpm++-", "dpm++")
	return strings.ReplaceAll(name, "dpmpp2", "dpmpp-2")
}

// resolve finds the sampler and settles the options that the name's suffix and the file decide.
func resolve(c Config, o Options) (sampler, Options, error) {
	name := normal(or(o.Name, c.DefaultName()))
	for _, class := range classNames() {
		if strings.EqualFold(o.Name, class) {
			s, _ := ofClass(class)
			name = s.Name
		}
	}
	spec, ok := lookup(name)
	if !ok {
		var suffix string
		if spec, suffix, ok = cutSchedule(name); ok {
			if o.Sigmas != "" && normalSchedule(o.Sigmas) != suffix {
				return spec, o, fmt.Errorf("%s: the name asks for %s sigmas and the options for %s: want one", o.Name, suffix, o.Sigmas)
			}
			o.Sigmas = suffix
		}
	}
	if !ok {
		return spec, o, fmt.Errorf("no sampler is called %q; nearest: %s", o.Name, quoted(nearest(name, allNames())))
	}
	if spec.onFlow != "" && c.PredictionType == Flow {
		spec, _ = lookup(spec.onFlow)
	}
	if o.Sigmas == "" && spec.quirks.sigmas {
		o.Sigmas = c.Sigmas
	}
	return spec, o, settle(spec, &o)
}

// cutSchedule takes the sigma schedule off the end of a name such as dpm++2m-karras.
func cutSchedule(name string) (spec sampler, schedule string, ok bool) {
	for i := range name {
		if name[i] != '-' {
			continue
		}
		if spec, ok = lookup(name[:i]); !ok {
			continue
		}
		schedule = normalSchedule(name[i+1:])
		if _, err := parseSchedule(schedule); err == nil || schedule == "model" {
			return spec, schedule, true
		}
	}
	return sampler{}, "", false
}

// normalSchedule is a sigma schedule's name without alias.
func normalSchedule(name string) string {
	name, discards := strings.CutSuffix(normal(name), discarding)
	name, number, has := strings.Cut(name, ":")
	name = or(sigmaAliases[name], name)
	if has {
		name += ":" + number
	}
	if discards {
		name += discarding
	}
	return name
}

// settle checks the options that concern every sampler.
func settle(spec sampler, o *Options) error {
	if o.Spacing != "" && !slices.Contains([]string{"leading", "trailing", "linspace"}, o.Spacing) {
		return fmt.Errorf("spacing %q: supported are leading, trailing, linspace", o.Spacing)
	}
	if isList(o.Sigmas) {
		σs, err := parseSigmas(o.Sigmas)
		if err != nil {
			return err
		}
		if o.Steps != 0 && o.Steps != len(σs) {
			return fmt.Errorf("%d steps and %d sigmas contradict each other: leave the steps out", o.Steps, len(σs))
		}
		o.Steps = len(σs)
	} else if o.Sigmas = normalSchedule(o.Sigmas); o.Sigmas != "" && o.Sigmas != "model" && o.Sigmas != "flow" {
		if _, err := parseSchedule(o.Sigmas); err != nil {
			return err
		}
	}
	if o.Steps < 0 || o.Steps < 1 && !spec.adaptive {
		return fmt.Errorf("%d steps: at least 1 is needed", o.Steps)
	}
	return nil
}

func lookup(name string) (sampler, bool) {
	for _, s := range samplers() {
		if s.Name == name || slices.Contains(s.Aliases, name) {
			return s, true
		}
	}
	return sampler{}, false
}

func allNames() []string {
	var names []string
	for _, s := range samplers() {
		names = append(append(names, s.Name), s.Aliases...)
	}
	return names
}

// nearest are the three names with the least edit distance.
func nearest(name string, names []string) []string {
	sort.SliceStable(names, func(i, j int) bool { return distance(name, names[i]) < distance(name, names[j]) })
	return names[:min(3, len(names))]
}

// distance is Levenshtein's: insertions, deletions and substitutions of bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0]++
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
