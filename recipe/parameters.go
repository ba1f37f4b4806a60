package recipe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Parameters is the recipe as the text that AUTOMATIC1111's interface introduced and that most other
// programs read:
//
//	a red apple
//	Negative prompt: blurry
//	Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1, Size: 512x512, Model hash: 0123456789, Model: sd15, …
//
// The schedule of sigmas is part of the sampler's name, which old and new programs understand alike. The text is for
// others: it keeps most settings, but only the JSON keeps all.
func (r Recipe) Parameters() string {
	var b strings.Builder
	b.WriteString(r.Prompt)
	if r.Negative != "" {
		b.WriteString("\nNegative prompt: " + r.Negative)
	}
	b.WriteByte('\n')
	for i, f := range r.parameterFields() {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(f.Key + ": " + quote(f.Value))
	}
	// A NUL would end the text in a PNG or EXIF field.
	return strings.TrimSpace(strings.ReplaceAll(b.String(), "\x00", "�"))
}

func (r Recipe) parameterFields() []Field {
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	fields := []Field{
		{"Steps", strconv.Itoa(r.Steps)},
		{"Sampler", toForeign(r.Scheduler, r.Sigmas)},
		{"CFG scale", number(r.CFG)},
		{"Seed", strconv.FormatUint(r.Seed, 10)},
		{"Size", fmt.Sprintf("%dx%d", r.Width, r.Height)},
	}
	add := func(when bool, key, value string) {
		if when {
			fields = append(fields, Field{key, value})
		}
	}
	add(r.ModelHash != "", "Model hash", r.ModelHash[:min(10, len(r.ModelHash))])
	add(r.Model != "", "Model", r.Model)
	add(r.ClipSkip > 0, "Clip skip", strconv.Itoa(r.ClipSkip+1)) // there, 1 is the last layer
	add(r.Eta != defaultEta(r.Scheduler), etaKey(r.Scheduler), number(r.Eta))
	add(r.Rescale != 0, "CFG Rescale Phi", number(r.Rescale))
	add(r.Guidance != "", "Guidance", r.Guidance)
	add(r.SDENoise != "", "SDE noise", r.SDENoise)
	add(r.Noise == "torch-cpu", "RNG", "CPU")
	add(r.Noise == "torch-cuda", "RNG", "NV")
	fields = append(fields, r.extraFields()...)
	add(true, "Version", strings.TrimSpace("darkroom "+r.Version))
	return fields
}

// defaultEta is the eta that AUTOMATIC1111's interface assumes where the text has none: 1 for the ancestral and the SDE
// samplers; 0 for DDIM, and here for those that have no eta.
func defaultEta(scheduler string) float64 {
	if strings.HasSuffix(scheduler, "-a") || strings.Contains(scheduler, "sde") {
		return 1
	}
	return 0
}

// onBrownianPath are the samplers whose noise k-diffusion, and with it all other interfaces, takes from a Brownian path.
var onBrownianPath = map[string]bool{"dpm++sde": true, "dpm++2m-sde": true, "dpm++3m-sde": true}

func etaKey(scheduler string) string {
	if scheduler == "ddim" {
		return "Eta DDIM"
	}
	return "Eta"
}

// quote writes a value as that interface does: as a JSON string where it has a comma, a colon or a line break.
func quote(s string) string {
	if !strings.ContainsAny(s, ",:\n") {
		return s
	}
	var buf bytes.Buffer
	if err := encode(&buf, s); err != nil {
		panic(err) // a string can always be encoded
	}
	return buf.String()
}

func unquote(s string) string {
	var text string
	if len(s) < 2 || s[0] != '"' || json.Unmarshal([]byte(s), &text) != nil {
		return s
	}
	return text
}

// Field is one "Key: value" of a parameters text, unquoted.
type Field struct{ Key, Value string }

// Parameters is a parameters text taken apart.
type Parameters struct {
	// Recipe holds what could be translated. A setting that the text does not have is zero; see Has.
	Recipe Recipe
	// Fields are all fields in the order of the text, whether understood or not.
	Fields []Field
	// Unused are the fields that Recipe does not hold: other programs' features, or values not understood.
	Unused []Field
}

// Has says whether the text has a field of that name ("CFG scale"), whatever its value.
func (p Parameters) Has(key string) bool {
	for _, f := range p.Fields {
		if f.Key == key {
			return true
		}
	}
	return false
}

// ErrNoParameters says that a text is not a parameters text.
var ErrNoParameters = errors.New("no generation parameters in the text")

// field matches "Key: value," with the value plain or a JSON string.
var field = regexp.MustCompile(`\s*([\pL\pN_][\pL\pN_ \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)`)

// ParseParameters takes apart a parameters text, as written by AUTOMATIC1111's interface, Forge, SD.Next, Fooocus and the
// ComfyUI nodes that save one. The last line with three fields or more holds the settings; what stands before it is the
// prompt and, from a line "Negative prompt: …" on, the negative prompt.
func ParseParameters(text string) (Parameters, error) {
	if len(text) > MaxJSON {
		return Parameters{}, fmt.Errorf("%d bytes of parameters, more than the %d that are read", len(text), MaxJSON)
	}
	text = strings.ToValidUTF8(text, "�")
	if strings.HasPrefix(text, "{") {
		return parseFooocus(text)
	}
	lines := strings.Split(strings.ReplaceAll(strings.TrimSpace(text), "\r\n", "\n"), "\n")
	at := settingsLine(lines)
	if at < 0 {
		return Parameters{}, ErrNoParameters
	}
	var p Parameters
	p.Recipe.Prompt, p.Recipe.Negative = splitPrompts(lines[:at])
	for _, m := range field.FindAllStringSubmatch(lines[at], -1) {
		p.Fields = append(p.Fields, Field{m[1], unquote(strings.TrimSpace(m[2]))})
	}
	// What follows the settings was added by an extension (dynamic prompts: the template).
	for _, line := range lines[at+1:] {
		if key, value, ok := strings.Cut(line, ": "); ok {
			p.Fields = append(p.Fields, Field{key, value})
		}
	}
	p.translate()
	return p, nil
}

// settingsLine is the index of the line that holds the settings: the last one, or, where something follows
// it, the last that begins as programs begin it. -1: there is none.
func settingsLine(lines []string) int {
	for i := len(lines) - 1; i >= 0; i-- {
		if i < len(lines)-1 && !strings.HasPrefix(lines[i], "Steps: ") {
			continue
		}
		if len(field.FindAllStringIndex(lines[i], 3)) == 3 {
			return i
		}
	}
	return -1
}

func splitPrompts(lines []string) (prompt, negative string) {
	var parts [2][]string
	part := 0
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "Negative prompt:"); ok {
			part, line = 1, strings.TrimSpace(rest)
		}
		parts[part] = append(parts[part], line)
	}
	return strings.Join(parts[0], "\n"), strings.Join(parts[1], "\n")
}

// translate fills p.Recipe from p.Fields.
func (p *Parameters) translate() {
	r := &p.Recipe
	var sampler, schedule string
	for _, f := range p.Fields {
		ok := true
		switch f.Key {
		case "Steps":
			r.Steps, ok = parsed(strconv.Atoi(f.Value))
		case "Sampler":
			sampler = f.Value
		case "Schedule type", "Scheduler":
			schedule = f.Value
		case "CFG scale":
			r.CFG, ok = parseFinite(f.Value)
		case "Seed":
			r.Seed, ok = parsed(strconv.ParseUint(f.Value, 10, 64))
		case "Size":
			r.Width, r.Height, ok = parseSize(f.Value)
		case "Model":
			r.Model = f.Value
		case "Model hash":
			// Ten digits of a hash: enough to show, too few for ModelHash.
		case "Clip skip":
			n, good := parsed(strconv.Atoi(f.Value))
			r.ClipSkip, ok = max(0, n-1), good
		case "Eta", "Eta DDIM":
			r.Eta, ok = parseFinite(f.Value)
		case "CFG Rescale Phi":
			r.Rescale, ok = parseFinite(f.Value)
		case "Guidance":
			r.Guidance = f.Value
		case "SDE noise":
			r.SDENoise = f.Value
		case "RNG":
			r.Noise, ok = map[string]string{"CPU": "torch-cpu", "NV": "torch-cuda", "GPU": "torch-cuda"}[f.Value]
		case "Version":
			r.Version = strings.TrimPrefix(f.Value, "darkroom ")
		default:
			ok = r.takeField(f)
		}
		if !ok {
			p.Unused = append(p.Unused, f)
		}
	}
	var known bool
	r.Scheduler, r.Sigmas, known = FromForeign(sampler, schedule)
	if !known && sampler != "" {
		p.Unused = append(p.Unused, Field{"Sampler", strings.TrimSpace(sampler + " " + schedule)})
	}
	own := slices.ContainsFunc(p.Fields, func(f Field) bool { return f.Key == "Version" && strings.HasPrefix(f.Value, "darkroom") })
	if !own && !p.Has("SDE noise") && onBrownianPath[r.Scheduler] {
		r.SDENoise = "brownian"
	}
	if !p.Has("Eta") && !p.Has("Eta DDIM") {
		r.Eta = defaultEta(r.Scheduler)
	}
	if !p.Has("RNG") && !strings.HasPrefix(r.Version, "ComfyUI") && !strings.HasPrefix(r.Version, "Fooocus") {
		r.Noise = "torch-cuda" // A1111's default is the GPU's generator; the other two use the CPU's
	}
	if r.Noise == "" {
		r.Noise = "torch-cpu"
	}
}

func parsed[T int | uint64](v T, err error) (T, bool) { return v, err == nil }

func parseFinite(s string) (float64, bool) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !finite(f) {
		return 0, false
	}
	return f, true
}

func parseSize(s string) (w, h int, ok bool) {
	ws, hs, cut := strings.Cut(s, "x")
	w, errW := strconv.Atoi(ws)
	h, errH := strconv.Atoi(hs)
	return w, h, cut && errW == nil && errH == nil
}
