// Package guidance combines a model's prediction for the prompt with the one for no (or a negative) prompt, so that the
// picture follows the prompt more closely than the model alone would. Each method is a pure function of float32 slices, which
// hold the model's output, ε or v, or the picture x₀: see [Method.OfPicture].
//
// A method is written NAME[:key=value,…], such as cfg:rescale=0.7 or apg:eta=0,momentum=-0.5; see [Methods].
package guidance

import (
	"fmt"
	"maps"
	"math"
	"sort"
	"strconv"
	"strings"
)

// Method is a parsed choice of guidance. The zero value is plain classifier-free guidance. A method is a value that
// any number of pictures may share; what is remembered from step to step is in Guide.
type Method struct {
	Name string // "" is cfg
	set  map[string]float64
}

// Info describes a method for a list that users read.
type Info struct {
	Name, About, Paper string
	Keys               []Key
}

// Key is a number that a method takes.
type Key struct {
	Name      string
	Default   float64
	Low, High float64
	About     string
}

// bounds says which numbers are taken.
func (k Key) bounds() string {
	if k.High == math.MaxFloat32 {
		return fmt.Sprintf(" of at least %v", k.Low)
	}
	return fmt.Sprintf(" from %v to %v", k.Low, k.High)
}

// everywhere are the keys of all methods.
func everywhere() []Key {
	return []Key{
		{"start", 0, 0, 1, "share of the steps before guidance begins"},
		{"stop", 1, 0, 1, "share of the steps after which it ends"},
		{"low", 0, 0, math.MaxFloat32, "guide only above this noise level σ/α (Kynkäänniemi et al. 2024)"},
		{"high", math.MaxFloat32, 0, math.MaxFloat32, "guide only up to this noise level"},
		{"rescale", 0, 0, 1, "φ: brings the deviation back towards the prompt's prediction's (Lin et al. 2024)"},
	}
}

// OfPicture says of which of the model's predictions the method is: the picture x₀ (apg, whose paper projects there, and dynamic, whose
// range is the picture's), or what the model was trained to give, ε, v or a velocity (all others).
func (m Method) OfPicture() bool { return m.Name == "apg" || m.Name == "dynamic" }

// Methods lists all methods.
func Methods() []Info {
	list := []Info{
		{"cfg", "classifier-free guidance: uncond + scale·(cond − uncond)", "Ho and Salimans 2022, arXiv 2207.12598", nil},
		{"cfg-zero", "CFG-Zero*: scales uncond to fit cond first, and lets the first steps rest", "Fan et al. 2025, arXiv 2503.18886", []Key{
			{"zero", 0, 0, 1000, "first steps with a prediction of zero: where it is not given, 1 for flow models"}}},
		{"apg", "adaptive projected guidance: damps the part along cond, which oversaturates", "Sadat et al. 2024, arXiv 2410.02416", []Key{
			{"eta", 1, -10, 10, "share of the parallel part: 0 takes it out, 1 keeps it"},
			{"norm", 15, 0, math.MaxFloat32, "longest the difference may be; 0: any"},
			{"momentum", 0, -1, 1, "of the difference over the steps, usually below 0; 0: none"}}},
		{"dynamic", "dynamic thresholding: the range of a lower scale, the detail of the higher", "Saharia et al. 2022, section 2.3; mcmonkey4eva/sd-dynamic-thresholding", []Key{
			{"mimic", 7, 0, 1000, "the scale whose range is kept"},
			{"percentile", 1, 0.5, 1, "of the absolute values that set the range"},
			{"phi", 1, 0, 1, "share of the thresholded prediction"}}},
		{"perp-neg", "perpendicular negative: only what of the negative prompt does not oppose the prompt; one more model call", "Armandpour et al. 2023, arXiv 2304.04968", []Key{
			{"negative", 1, 0, 100, "strength of the negative prompt"}}},
	}
	for i := range list {
		list[i].Keys = append(list[i].Keys, everywhere()...)
	}
	return list
}

// Parse reads NAME[:key=value,…]. Errors name what is wrong and what there is.
func Parse(spec string) (Method, error) {
	name, rest, has := strings.Cut(strings.TrimSpace(spec), ":")
	if strings.ContainsAny(name, "=,") {
		return Method{}, fmt.Errorf("guidance %.80q: keys follow the name and a colon: apg:eta=0,momentum=-0.5", spec)
	}
	name = strings.TrimSuffix(strings.ReplaceAll(strings.ToLower(name), "_", "-"), "*")
	m := Method{Name: name, set: map[string]float64{}}
	if name == "" {
		m.Name = "cfg"
	}
	info, ok := m.info()
	if !ok {
		return Method{}, fmt.Errorf("no guidance is called %.40q: there are %s", name, strings.Join(names(), ", "))
	}
	if !has {
		return m, nil
	}
	for _, pair := range strings.Split(rest, ",") {
		key, text, _ := strings.Cut(pair, "=")
		key = strings.TrimSpace(key)
		k, ok := info.key(key)
		if !ok {
			return Method{}, fmt.Errorf("guidance %s: no key %.40q: there are %s", m.Name, key, info.keyNames())
		}
		if _, twice := m.set[key]; twice {
			return Method{}, fmt.Errorf("guidance %s: %s is given twice", m.Name, key)
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil || !(v >= k.Low && v <= k.High) {
			return Method{}, fmt.Errorf("guidance %s: %s = %.40q: want a number%s", m.Name, key, text, k.bounds())
		}
		m.set[key] = v
	}
	if m.value("start") >= m.value("stop") || m.value("low") >= m.value("high") {
		return Method{}, fmt.Errorf("guidance %s: an interval must begin before it ends", m.Name)
	}
	return m, nil
}

// String is the form that Parse reads, keys in order.
func (m Method) String() string {
	var pairs []string
	for k, v := range m.set {
		pairs = append(pairs, k+"="+strconv.FormatFloat(v, 'g', -1, 64))
	}
	sort.Strings(pairs)
	name := m.Name
	if name == "" {
		name = "cfg"
	}
	if len(pairs) == 0 {
		return name
	}
	return name + ":" + strings.Join(pairs, ",")
}

// ParseList reads several methods with commas between them: cfg,apg:eta=0,momentum=-0.5,dynamic. The commas within a
// method are told from those between methods by what follows: key=value without a colon belongs to the method before it.
func ParseList(list string) ([]Method, error) {
	var methods []Method
	for _, spec := range SplitList(list) {
		if strings.TrimSpace(spec) == "" {
			return nil, fmt.Errorf("guidance %q: a name between the commas is empty", list)
		}
		m, err := Parse(spec)
		if err != nil {
			return nil, err
		}
		methods = append(methods, m)
	}
	return methods, nil
}

// SplitList takes a list apart as ParseList does, without reading the methods.
func SplitList(list string) (specs []string) {
	for _, part := range strings.Split(list, ",") {
		if strings.Contains(part, "=") && !strings.Contains(part, ":") && len(specs) > 0 {
			specs[len(specs)-1] += "," + part
		} else {
			specs = append(specs, part)
		}
	}
	return specs
}

// Get is the number that was given for a key, and whether one was.
func (m Method) Get(key string) (v float64, given bool) {
	v, given = m.set[key]
	return v, given
}

// With is the method with another number for a key. It panics where Parse would give an error.
func (m Method) With(key string, v float64) Method {
	info, _ := m.info()
	if k, ok := info.key(key); !ok || !(v >= k.Low && v <= k.High) {
		panic(fmt.Sprintf("guidance: %s cannot have %s = %v", m, key, v))
	}
	set := maps.Clone(m.set)
	if set == nil {
		set = map[string]float64{}
	}
	set[key] = v
	return Method{m.Name, set}
}

// Without is the method with a key's default.
func (m Method) Without(key string) Method {
	set := maps.Clone(m.set)
	delete(set, key)
	return Method{m.Name, set}
}

// BySteps says whether guidance begins or ends at a share of the steps, whose number must then be known.
func (m Method) BySteps() bool { return m.value("start") > 0 || m.value("stop") < 1 }

// Plain is whether the method is classifier-free guidance and nothing else.
func (m Method) Plain() bool { return m.String() == "cfg" }

// NeedsEmpty says whether Combine wants the prediction for an empty prompt besides that for the negative one.
func (m Method) NeedsEmpty() bool { return m.Name == "perp-neg" }

func (m Method) info() (Info, bool) {
	for _, i := range Methods() {
		if i.Name == m.Name || m.Name == "" && i.Name == "cfg" {
			return i, true
		}
	}
	return Info{}, false
}

// value is a key's number, or its default.
func (m Method) value(key string) float64 {
	if v, ok := m.set[key]; ok {
		return v
	}
	info, _ := m.info()
	k, ok := info.key(key)
	if !ok {
		panic("guidance: " + m.Name + " has no key " + key)
	}
	return k.Default
}

func (i Info) key(name string) (Key, bool) {
	for _, k := range i.Keys {
		if k.Name == name {
			return k, true
		}
	}
	return Key{}, false
}

func (i Info) keyNames() string {
	var ks []string
	for _, k := range i.Keys {
		ks = append(ks, k.Name)
	}
	return strings.Join(ks, ", ")
}

func names() []string {
	var ns []string
	for _, i := range Methods() {
		ns = append(ns, i.Name)
	}
	return ns
}
