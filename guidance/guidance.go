// Package guidance combines a model's prediction for the prompt with the one for no (or a negative) prompt, so that the
// picture follows the prompt more closely than the model alone would. Each method is a pure function of float32 slices, which
// hold the model's output, ε or v, or the picture x₀: see [Method.OfPicture].
//
// A method is written NAME[:key=value,…], such as cfg:rescale=0.7 or apg:eta=0,momentum=-0.5; see [Methods].
package guidance

import (
	"fmt"
	"math"
	"strings"

	"darkroom/option"
)

// Method is a parsed choice of guidance. The zero value is plain classifier-free guidance. A method is a value that
// any number of pictures may share; what is remembered from step to step is in Guide.
type Method struct{ option.Choice }

// Info and Key describe methods for a list that users read.
type (
	Info = option.Info
	Key  = option.Key
)

// everywhere are the keys of all methods.
func everywhere() []Key {
	return []Key{
		{Name: "scale", Default: 0, Low: 0, High: 1000, About: "in place of --cfg; 0: that. With models that read --cfg themselves, such as FLUX.1, guidance by a second call"},
		{Name: "start", Default: 0, Low: 0, High: 1, About: "share of the steps before guidance begins"},
		{Name: "stop", Default: 1, Low: 0, High: 1, About: "share of the steps after which it ends"},
		{Name: "low", Default: 0, Low: 0, High: math.MaxFloat32, About: "guide only above this noise level σ/α (Kynkäänniemi et al. 2024)"},
		{Name: "high", Default: math.MaxFloat32, Low: 0, High: math.MaxFloat32, About: "guide only up to this noise level"},
		{Name: "rescale", Default: 0, Low: 0, High: 1, About: "φ: brings the deviation back towards the prompt's prediction's (Lin et al. 2024)"},
	}
}

// OfPicture says of which of the model's predictions the method is: the picture x₀ (apg, whose paper projects there, and dynamic, whose
// range is the picture's), or what the model was trained to give, ε, v or a velocity (all others).
func (m Method) OfPicture() bool { return m.Name == "apg" || m.Name == "dynamic" }

// Methods lists all methods.
func Methods() []Info {
	list := []Info{
		{Name: "cfg", About: "classifier-free guidance: uncond + scale·(cond − uncond)", Paper: "Ho and Salimans 2022, arXiv 2207.12598"},
		{Name: "cfg-zero", About: "CFG-Zero*: scales uncond to fit cond first, and lets the first steps rest", Paper: "Fan et al. 2025, arXiv 2503.18886", Keys: []Key{
			{Name: "zero", Default: 0, Low: 0, High: 1000, About: "first steps with a prediction of zero: where it is not given, 1 for flow models"}}},
		{Name: "apg", About: "adaptive projected guidance: damps the part along cond, which oversaturates", Paper: "Sadat et al. 2024, arXiv 2410.02416", Keys: []Key{
			{Name: "eta", Default: 1, Low: -10, High: 10, About: "share of the parallel part: 0 takes it out, 1 keeps it"},
			{Name: "norm", Default: 15, Low: 0, High: math.MaxFloat32, About: "longest the difference may be; 0: any"},
			{Name: "momentum", Default: 0, Low: -1, High: 1, About: "of the difference over the steps, usually below 0; 0: none"}}},
		{Name: "dynamic", About: "dynamic thresholding: the range of a lower scale, the detail of the higher", Paper: "Saharia et al. 2022, section 2.3; mcmonkey4eva/sd-dynamic-thresholding", Keys: []Key{
			{Name: "mimic", Default: 7, Low: 0, High: 1000, About: "the scale whose range is kept"},
			{Name: "percentile", Default: 1, Low: 0.5, High: 1, About: "of the absolute values that set the range"},
			{Name: "phi", Default: 1, Low: 0, High: 1, About: "share of the thresholded prediction"}}},
		{Name: "perp-neg", About: "perpendicular negative: only what of the negative prompt does not oppose the prompt; one more model call", Paper: "Armandpour et al. 2023, arXiv 2304.04968", Keys: []Key{
			{Name: "negative", Default: 1, Low: 0, High: 100, About: "strength of the negative prompt"}}},
	}
	for i := range list {
		list[i].Keys = append(list[i].Keys, everywhere()...)
	}
	return list
}

// Parse reads NAME[:key=value,…]. Errors name what is wrong and what there is.
func Parse(text string) (Method, error) {
	c, err := option.Parse("guidance", text, Methods())
	if err != nil {
		return Method{}, err
	}
	m := Method{c}
	if m.value("start") >= m.value("stop") || m.value("low") >= m.value("high") {
		return Method{}, fmt.Errorf("guidance %s: an interval must begin before it ends", m.Name)
	}
	return m, nil
}

// String is the form that Parse reads, keys in order.
func (m Method) String() string { return m.named().String() }

// named is the choice with its name, which the zero value lacks.
func (m Method) named() option.Choice {
	if m.Name == "" {
		m.Name = "cfg"
	}
	return m.Choice
}

// ParseList reads several methods with commas between them: cfg,apg:eta=0,momentum=-0.5,dynamic.
func ParseList(list string) ([]Method, error) {
	var methods []Method
	for _, text := range option.Split(list) {
		if strings.TrimSpace(text) == "" {
			return nil, fmt.Errorf("guidance %q: a name between the commas is empty", list)
		}
		m, err := Parse(text)
		if err != nil {
			return nil, err
		}
		methods = append(methods, m)
	}
	return methods, nil
}

// With is the method with another number for a key. It panics where Parse would give an error.
func (m Method) With(key string, v float64) Method {
	info, _ := option.Find(Methods(), m.named().Name)
	if k, ok := info.Key(key); !ok || !k.Takes(v) {
		panic(fmt.Sprintf("guidance: %s cannot have %s = %v", m, key, v))
	}
	return Method{m.Choice.With(key, v)}
}

// Without is the method with a key's default.
func (m Method) Without(key string) Method { return Method{m.Choice.Without(key)} }

// BySteps says whether guidance begins or ends at a share of the steps, whose number must then be known.
func (m Method) BySteps() bool { return m.value("start") > 0 || m.value("stop") < 1 }

// Plain is whether the method is classifier-free guidance and nothing else.
func (m Method) Plain() bool { return m.String() == "cfg" }

// Scale is the method's own guidance scale, or where it has none the given one.
func (m Method) Scale(cfg float64) float64 {
	if own := m.value("scale"); own != 0 {
		return own
	}
	return cfg
}

// NeedsEmpty says whether Combine wants the prediction for an empty prompt besides that for the negative one.
func (m Method) NeedsEmpty() bool { return m.Name == "perp-neg" }

// value is a key's number, or its default.
func (m Method) value(key string) float64 { return m.named().Value(Methods(), key) }
