package recipe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Field is one setting as another program wrote it, unquoted.
type Field struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Foreign is a picture's description by another program, or by this one in the text for other programs. It holds less than
// a recipe.
type Foreign struct {
	// Program is what wrote it, as far as it says: "ComfyUI", "v1.10.1"; "": it does not.
	Program string
	// Recipe holds what could be translated. What is not known is zero; see Knows.
	Recipe Recipe
	// ModelHash is the beginning of the model's SHA-256, usually ten digits; "" if the text does not say. Files are other files by
	// such hashes: adapters (AutoV3) and embeddings (SHA256).
	ModelHash string
	Files     []File
	// Fields are all settings in the order of the file, whether understood or not.
	Fields []Field
	// Unused are the settings that Recipe does not hold: other programs' features, or values not understood.
	Unused []Field
	// Notes are sentences on what was used instead of what the file asks for.
	Notes []string

	known map[string]bool // by the JSON name of Recipe's fields
}

// keysFirst are the keys of texts in the order in which they are believed: what a program wrote for others to read, what it
// wrote for itself, and where a text ends up after a detour.
var keysFirst = []string{"parameters", "invokeai_metadata", "sd-metadata", "Comment", "prompt", "workflow", "Dream", "UserComment", "XPComment", "ImageDescription", "Description", "comment"}

// FromTexts finds a description among the texts of an image file, each under the key that it has in a PNG. Where a key is there
// twice the last counts, as for most readers.
func FromTexts(texts []Field) (Foreign, error) {
	byKey := map[string]string{}
	var order []string
	for _, t := range texts {
		if _, twice := byKey[t.Key]; !twice {
			order = append(order, t.Key)
		}
		byKey[t.Key] = t.Value
	}
	rank := func(key string) int {
		if i := slices.Index(keysFirst, key); i >= 0 {
			return i
		}
		return len(keysFirst)
	}
	slices.SortStableFunc(order, func(a, b string) int { return rank(a) - rank(b) })
	for _, key := range order {
		if key == "Comment" {
			if f, ok := withNovelAI(byKey); ok {
				return f, nil
			}
		}
		if f, err := ParseForeign(byKey[key]); err == nil {
			return f, nil
		}
	}
	if f, ok := withEasyDiffusion(byKey); ok {
		return f, nil
	}
	return Foreign{}, ErrNoParameters
}

// MaxForeign is the longest text of another program that is read, in bytes. Some programs store a whole workflow.
const MaxForeign = 4 << 20

// ParseForeign reads one text, whichever program wrote it: JSON of ComfyUI, InvokeAI, SwarmUI, NovelAI, Easy Diffusion, Draw Things
// or Fooocus, a command line of InvokeAI, a text file of Easy Diffusion, or a parameters text.
func ParseForeign(text string) (Foreign, error) {
	if len(text) > MaxForeign {
		return Foreign{}, fmt.Errorf("%d bytes of another program's text, more than the %d that are read", len(text), MaxForeign)
	}
	f, err := parseForeign(cleanText(text))
	f.embeddings()
	return f, err
}

func parseForeign(text string) (Foreign, error) {
	if o, ok := parseObject(text); ok {
		return parseJSON(o)
	}
	if f, err := parseDream(text); err == nil {
		return f, nil
	}
	if f, err := parseEasyText(text); err == nil {
		return f, nil
	}
	return ParseParameters(text)
}

// ErrNoParameters means that a text does not describe a picture.
var ErrNoParameters = errors.New("no generation parameters in the text")

// Has reports whether there is a field of that name ("CFG scale"), whatever its value.
func (f Foreign) Has(key string) bool {
	return slices.ContainsFunc(f.Fields, func(x Field) bool { return x.Key == key })
}

// Knows reports whether the description decides a field of Recipe, named as in its JSON ("cfg").
func (f Foreign) Knows(name string) bool { return f.known[name] }

func (f *Foreign) learn(names ...string) {
	if f.known == nil {
		f.known = map[string]bool{}
	}
	for _, name := range names {
		f.known[name] = true
	}
}

func (f *Foreign) note(format string, args ...any) {
	f.Notes = append(f.Notes, fmt.Sprintf(format, args...))
}

func (f *Foreign) unused(key, value string) {
	f.Unused = append(f.Unused, Field{key, value})
}

// foreignKey is the JSON field that marks a foreign description.
const foreignKey = "foreign"

// foreignJSON is what stands beside the settings.
type foreignJSON struct {
	Program string   `json:"program,omitempty"`
	Unused  []Field  `json:"unused,omitempty"`
	Notes   []string `json:"notes,omitempty"`
	Model   string   `json:"model_hash,omitempty"`
	Files   []File   `json:"files,omitempty"`
}

// MarshalJSON writes what is known of the recipe, in its order, with the rest under "foreign": what is not known is not
// there. UnmarshalJSON reads it back, but for Fields.
func (f Foreign) MarshalJSON() ([]byte, error) {
	text, err := f.Recipe.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	buf.WriteString(`{"` + foreignKey + `":`)
	if err := encode(&buf, foreignJSON{f.Program, f.Unused, f.Notes, f.ModelHash, f.Files}); err != nil {
		return nil, fmt.Errorf("recipe: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	_, err = dec.Token() // the opening brace
	for err == nil && dec.More() {
		var name json.Token
		var value json.RawMessage
		if name, err = dec.Token(); err == nil {
			err = dec.Decode(&value)
		}
		if name, ok := name.(string); ok && f.known[name] {
			fmt.Fprintf(&buf, ",%q:%s", name, value)
		}
	}
	buf.WriteByte('}')
	return buf.Bytes(), err
}

// UnmarshalJSON is as strict as Recipe's, and wants the mark that MarshalJSON sets.
func (f *Foreign) UnmarshalJSON(data []byte) error {
	var r Recipe
	if err := r.UnmarshalJSON(data); err != nil {
		return err
	}
	mark, ok := r.Unknown[foreignKey]
	if !ok {
		return errors.New("recipe: not another program's")
	}
	var rest foreignJSON
	if err := json.Unmarshal(mark, &rest); err != nil {
		return fmt.Errorf("recipe: %s: %w", foreignKey, err)
	}
	var names Fields
	if err := json.Unmarshal(data, &names); err != nil {
		return fmt.Errorf("recipe: %w", err)
	}
	*f = Foreign{Program: rest.Program, Unused: rest.Unused, Notes: rest.Notes, ModelHash: rest.Model, Files: rest.Files}
	f.learn(slices.Collect(maps.Keys(names))...)
	delete(f.known, foreignKey)
	for name := range r.Unknown {
		if name != foreignKey {
			return fmt.Errorf("recipe: another program's description has no field %.80q", name)
		}
	}
	r.Unknown = nil
	f.Recipe = r
	return nil
}

// setting takes one setting of another program into the recipe: the name is one of those in settingNames. false: the value
// cannot be meant, or is none.
func (f *Foreign) setting(name, value string) bool {
	r := &f.Recipe
	ok := true
	switch name {
	case "prompt":
		r.Prompt = value
	case "negative":
		r.Negative = value
	case "steps":
		r.Steps, ok = parseCount(value)
	case "cfg":
		r.CFG, ok = parseFinite(value)
		ok = ok && math.Abs(r.CFG) <= 1000
	case "seed":
		r.Seed, ok = parseSeed(value)
	case "size":
		if r.Width, r.Height, ok = parseSize(value); ok {
			f.learn("width", "height")
		}
		return ok
	case "width":
		r.Width, ok = parseSide(value)
	case "height":
		r.Height, ok = parseSide(value)
	case "model":
		r.Model = modelName(value)
		ok = r.Model != ""
	case "clip_skip": // counted from 1, which is none; some count from the end: -2 is the last but one
		var n int
		n, ok = parseWhole(value)
		ok = ok && n >= -100 && n <= 100
		r.ClipSkip = max(0, max(n, -n)-1)
	case "eta":
		r.Eta, ok = parseFinite(value)
		ok = ok && r.Eta >= 0 && r.Eta <= 1
	case "guidance_rescale":
		r.Rescale, ok = parseFinite(value)
		ok = ok && r.Rescale >= 0 && r.Rescale <= 1
	case "token_merging":
		r.TokenMerging, ok = parseFinite(value)
		ok = ok && r.TokenMerging >= 0 && r.TokenMerging <= 0.75
	case "noise":
		r.Noise, ok = noiseNames[strings.ToLower(value)]
	default:
		panic("recipe: no setting " + name)
	}
	if !ok {
		zero(r, name)
		return false
	}
	f.learn(name)
	return true
}

// zero takes back what a value that cannot be meant has left.
func zero(r *Recipe, name string) {
	switch name {
	case "steps":
		r.Steps = 0
	case "cfg":
		r.CFG = 0
	case "seed":
		r.Seed = 0
	case "width":
		r.Width = 0
	case "height":
		r.Height = 0
	case "clip_skip":
		r.ClipSkip = 0
	case "eta":
		r.Eta = 0
	case "guidance_rescale":
		r.Rescale = 0
	case "noise":
		r.Noise = ""
	}
}

// noiseNames are other programs' names of random number generators. "GPU" and "cuda" mean Philox, as CUDA's generator has
// it, computed anywhere.
var noiseNames = map[string]string{
	"cpu": "torch-cpu", "torch-cpu": "torch-cpu", "nv": "torch-cuda", "gpu": "torch-cuda", "cuda": "torch-cuda", "torch-cuda": "torch-cuda",
}

// modelName is a model's name without folders and the ending of a file.
func modelName(path string) string {
	name := path[strings.LastIndexAny(path, `/\`)+1:]
	for _, ending := range []string{".safetensors", ".ckpt", ".gguf", ".sft", ".pt", ".pth", ".bin"} {
		if len(name) > len(ending) && strings.EqualFold(name[len(name)-len(ending):], ending) {
			return name[:len(name)-len(ending)]
		}
	}
	return strings.TrimSpace(name)
}

func parseFinite(s string) (float64, bool) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !finite(v) {
		return 0, false
	}
	return v, true
}

// wholeNumber takes "20" and "20.0": programs that keep all numbers as floats write the latter.
var wholeNumber = regexp.MustCompile(`^([+-]?\d+)(?:\.0*)?$`)

func parseWhole(s string) (int, bool) {
	m := wholeNumber.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(m[1])
	return n, err == nil
}

func parseCount(s string) (int, bool) {
	n, ok := parseWhole(s)
	return n, ok && n >= 1 && n <= 10_000
}

func parseSide(s string) (int, bool) {
	n, ok := parseWhole(s)
	return n, ok && n >= 1 && n <= MaxSide
}

// parseSeed takes whole numbers from 0 to 2⁶⁴−1. −1 asks for a random one, which the file does not say.
func parseSeed(s string) (uint64, bool) {
	m := wholeNumber.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	seed, err := strconv.ParseUint(strings.TrimPrefix(m[1], "+"), 10, 64)
	return seed, err == nil
}

var sizeText = regexp.MustCompile(`^[(\[]?\s*(\d+)\s*[xX×*,]\s*(\d+)\s*[)\]]?$`)

func parseSize(s string) (w, h int, ok bool) {
	m := sizeText.FindStringSubmatch(s)
	if m == nil {
		return 0, 0, false
	}
	w, okW := parseSide(m[1])
	h, okH := parseSide(m[2])
	if !okW || !okH {
		return 0, 0, false
	}
	return w, h, true
}

// onBrownianPath are the samplers whose noise k-diffusion, and with it most other interfaces, takes from a Brownian path.
var onBrownianPath = map[string]bool{"dpm++sde": true, "dpm++2m-sde": true, "dpm++3m-sde": true}

// family is how a program chooses what its files leave out.
type family struct {
	noise string // its generator where the file names none
	// discards are the samplers that run over one step more, without the last of its levels.
	discards []string
	// automatic says that a sampler without a schedule has the one that AUTOMATIC1111's interface gives it since 1.9.
	automatic bool
	diffusers bool // it runs diffusers' schedulers, not k-diffusion's
}

var (
	webUI    = family{noise: "torch-cuda", discards: []string{"dpm2", "dpm2-a", "dpm++3m-sde"}}
	webUI19  = family{noise: "torch-cuda", discards: webUI.discards, automatic: true}
	comfy    = family{noise: "torch-cpu", discards: []string{"dpm2", "dpm2-a", "unipc"}}
	sdCpp    = family{noise: "torch-cuda"}
	diffuser = family{noise: "torch-cuda", diffusers: true}
	invoke   = family{noise: "torch-cpu", diffusers: true}
)

// sampling translates the names of a sampler and a schedule, "" for what is not said. The texts that this program writes
// have its own names: they are not given to sampling.
func (f *Foreign) sampling(sampler, schedule string, in family) {
	r := &f.Recipe
	if r.Noise == "" {
		r.Noise = in.noise
	}
	f.learn("noise")
	if sampler == "" {
		if schedule != "" {
			f.unused("Schedule type", schedule)
		}
		return
	}
	scheduler, sigmas, ok := FromForeign(sampler, schedule)
	if !ok && scheduler == "" {
		f.unused("Sampler", strings.TrimSpace(sampler+" "+schedule))
		return
	}
	if !ok {
		f.unused("Schedule type", schedule)
	}
	spaced := fold(schedule)
	for _, name := range []string{"normal", "uniform", "discrete"} {
		if schedule == "" && strings.HasSuffix(fold(sampler), name) {
			spaced = name // "dpm++2m discrete"
		}
	}
	switch {
	case spaced == "automatic" || spaced == "" && in.automatic:
		if sigmas == "" {
			sigmas = automaticSigmas[scheduler]
		}
	case sigmas == "" && (spaced == "normal" || spaced == "uniform" || spaced == "discrete") && onLogSNR[scheduler] && !in.diffusers:
		sigmas = "normal" // k-diffusion's even timesteps, which these samplers do not take by themselves
	case sigmas == "polyexponential":
		sigmas = "polyexponential:1" // its exponent elsewhere
	}
	var notes []string
	r.Scheduler, r.Sigmas, notes = available(scheduler, sigmas)
	f.Notes = append(f.Notes, notes...)
	if slices.Contains(in.discards, r.Scheduler) {
		f.discard()
	}
	f.learn("scheduler", "sigmas")
	if onBrownianPath[r.Scheduler] && !in.diffusers {
		r.SDENoise = "brownian"
		f.learn("sde_noise")
	}
	if !f.Knows("eta") {
		r.Eta = defaultEta(r.Scheduler)
	}
}

// discard leaves the last but one of the noise levels out, as some programs do with some samplers.
func (f *Foreign) discard() {
	r := &f.Recipe
	if ownSteps[r.Scheduler] || strings.HasSuffix(r.Sigmas, discarding) {
		return
	}
	if r.Sigmas == "" {
		r.Sigmas = "normal"
	}
	r.Sigmas += discarding
}

// discarding is how a schedule's name says that the last but one of the levels is left out.
const discarding = "-discard"

// automaticSigmas are the schedules that AUTOMATIC1111's interface gives its samplers since 1.9.
var automaticSigmas = map[string]string{
	"dpm++2m": "karras", "dpm++sde": "karras", "dpm++2s-a": "karras", "dpm2": "karras", "dpm2-a": "karras", "restart": "karras",
	"dpm++2m-sde": "exponential", "dpm++2m-sde-heun": "exponential", "dpm++3m-sde": "exponential",
}

// onLogSNR are the samplers whose own timesteps are not those of k-diffusion.
var onLogSNR = map[string]bool{
	"dpm++2m": true, "dpm++2m-sde": true, "dpm++3m": true, "dpm++3m-sde": true, "dpm++2s": true, "deis": true, "unipc": true, "sa-solver": true, "er-sde": true,
	"dpm++2m-sde-heun": true, "sa-solver-pece": true, "dpm++2m-v2": true,
}

// Given are the settings that the description decides, but for the model, which has another name here.
func (f Foreign) Given() Given {
	var g Given
	for i := range rows.all {
		s := &rows.all[i]
		if s.Name == "model" || !f.known[s.JSON()] {
			continue
		}
		if v := s.FromRecipe(&f.Recipe); v != nil {
			g.Set(s.Name, v)
		}
	}
	return g
}
