package recipe

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// ParseParameters takes apart a parameters text, as written by AUTOMATIC1111's interface, Forge, SD.Next, Fooocus,
// stable-diffusion.cpp and the ComfyUI nodes that save one, and as it looks after a detour over a web page: settings with or
// without commas, on one line with the prompts, or on a line each. The last line that has settings holds them; what stands
// before them is the prompt and, from "Negative prompt:" on, the negative prompt.
func ParseParameters(text string) (Foreign, error) {
	if len(text) > MaxJSON {
		return Foreign{}, fmt.Errorf("%d bytes of parameters, more than the %d that are read", len(text), MaxJSON)
	}
	text = cleanText(text)
	if o, ok := parseObject(text); ok {
		return parseJSON(o)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	prompts, settings, after, ok := findSettings(lines)
	if !ok {
		return Foreign{}, ErrNoParameters
	}
	f := Foreign{Fields: scanFields(settings)}
	if strings.Contains(text, `\u`) && f.own() && !strings.ContainsFunc(text, func(c rune) bool { return c > 0xff }) {
		if plain := unescaped(text); plain != text {
			return ParseParameters(plain)
		}
	}
	f.Recipe.Prompt, f.Recipe.Negative = splitPrompts(prompts, !f.own())
	f.learn("prompt", "negative")
	// What follows the settings was added by an extension (dynamic prompts: the template).
	for _, line := range after {
		if key, value, ok := strings.Cut(line, ": "); ok {
			f.Fields = append(f.Fields, Field{key, value})
		}
	}
	f.translate()
	return f, nil
}

// WithoutMark is a file's text without the byte order mark that some editors put before it, and as UTF-8 where the mark says
// UTF-16, as PowerShell writes what a program prints.
func WithoutMark(text string) string {
	var order binary.ByteOrder
	switch {
	case strings.HasPrefix(text, "\ufeff"):
		return strings.TrimPrefix(text, "\ufeff")
	case strings.HasPrefix(text, "\xff\xfe"):
		order = binary.LittleEndian
	case strings.HasPrefix(text, "\xfe\xff"):
		order = binary.BigEndian
	default:
		return text
	}
	units := make([]uint16, len(text)/2-1)
	for i := range units {
		units[i] = order.Uint16([]byte(text[2+2*i : 4+2*i]))
	}
	return string(utf16.Decode(units))
}

// cleanText is a text as UTF-8 with plain line ends.
func cleanText(text string) string {
	text = strings.ToValidUTF8(WithoutMark(text), "�")
	return strings.ReplaceAll(strings.TrimRight(text, "\x00"), "\r\n", "\n")
}

// settingKeys are the keys that say what a text is, folded, and the setting of Foreign that they mean. The first five are what no
// picture is without; the rest begin a field where no comma stands before it.
var settingKeys = map[string]string{
	"steps": "steps", "samplingsteps": "steps", "numinferencesteps": "steps",
	"sampler": "sampler", "samplername": "sampler", "samplingmethod": "sampler",
	"cfgscale": "cfg", "cfg": "cfg", "guidancescale": "cfg", "distilledcfgscale": "distilled",
	"seed": "seed",
	"size": "size", "resolution": "size",

	"scheduletype": "schedule", "scheduler": "schedule", "schedule": "schedule", "samplersigma": "schedule",
	"size1": "width", "size2": "height", "width": "width", "height": "height",
	"model": "model", "modelhash": "model-hash", "lorahashes": "lora-hashes", "tihashes": "ti-hashes", "vae": "vae", "vaehash": "vae-hash", "refiner": "refiner", "refinerswitchat": "refiner-start", "clipskip": "clip_skip", "eta": "eta", "etaddim": "eta", "rng": "noise",
	"cfgrescale": "guidance_rescale", "cfgrescalephi": "guidance_rescale", "guidancerescale": "guidance_rescale",
	"version": "version", "app": "version", "generator": "version",
	"discardpenultimatesigma": "discard", "schedulerho": "rho",
	"negativeprompt": "negative",
	"guidance":       "guidance", "sdenoise": "sde-noise",
	"variationseed": "variation-seed", "variationseedstrength": "variation-strength", "variations": "variations",
	"hiresupscale": "hires-scale", "hiresresize": "hires-resize", "hiressteps": "hires-steps", "hiresupscaler": "hires-upscaler", "denoisingstrength": "hires-strength", "tiling": "tile", "stepcache": "cache",
	"tokenmergingratio": "token_merging",
}

// otherKeys begin a field, too, but mean nothing here.
var otherKeys = []string{
	"Hires steps", "Hires sampler", "Hires CFG Scale", "Hires upscale", "Hires upscaler", "Hires schedule type", "Denoising strength", "VAE hash", "VAE",
	"Refiner", "Refiner switch at", "Lora hashes", "TI hashes", "Variation seed", "Variation seed strength", "Distilled CFG Scale", "Face restoration",
	"Batch size", "ENSD", "Mask blur", "First pass size", "Style Selector Style", "Sampler RNG", "Sampler spacing",
}

const core = "(?:Sampling steps|Steps|Sampling method|Sampler|CFG scale|Seed|Size)"

var (
	// anyKey is a key at the start of a text.
	anyKey = regexp.MustCompile(`^[\pL\pN_][\pL\pN_ \-/+]*\s*:`)
	// coreKey is where settings can begin.
	coreKey = regexp.MustCompile(`(?:^|[\s,.;|])` + core + `\s*:`)
	coreAny = regexp.MustCompile(`(?i)(?:^|[\s,.;|])` + core + `\s*:`)
	// nextField is where a value without quotes ends: before a comma or a line break with a key after it, or before a key that is
	// known.
	nextField = regexp.MustCompile(`(?i),[\s.;|]*[\pL\pN_][\pL\pN_ \-/+]*\s*:|[\s.;|]+(?:` + strings.Join(append(slices.Clone(otherKeys),
		"Sampling steps", "Steps", "Sampling method", "Sampler", "CFG scale", "Seed", "Size", "Schedule type", "Scheduler", "Model hash", "Model", "Clip skip",
		"Eta DDIM", "Eta", "RNG", "Version", "CFG Rescale Phi", "CFG rescale", "Guidance", "Negative prompt"), "|") + `)\s*:`)
	negativeLine = regexp.MustCompile(`(?i)^[\s.,;]*negative[ _]prompt\s*:`)
	negativeWord = regexp.MustCompile(`(?i)[\s.,;|]negative prompt\s*:`)
	promptLine   = regexp.MustCompile(`(?i)^(?:positive )?prompt\s*:\s*`)
)

const separators = " \t\n\r\f\v,.;|"

// findSettings parts the lines of a text into those of the prompts, the settings, and the lines after them.
func findSettings(lines []string) (prompts []string, settings string, after []string, ok bool) {
	for i := len(lines) - 1; i >= max(0, len(lines)-maxLines); i-- {
		// A line that is not the last holds the settings only if it begins as programs begin it.
		if i < len(lines)-1 && !startsWithCore(lines[i]) {
			continue
		}
		if at := settingsAt(lines[i], i); at >= 0 {
			prompts = slices.Clone(lines[:i])
			if before := strings.TrimRight(lines[i][:at], separators); before != "" {
				prompts = append(prompts, before)
			}
			return prompts, lines[i][at:], lines[i+1:], true
		}
	}
	// A setting a line.
	i := len(lines)
	for i > max(0, len(lines)-maxLines) && knownLine(lines[i-1]) {
		i--
	}
	if settings = strings.Join(lines[i:], "\n"); isSettings(scanFields(settings)) {
		return lines[:i], settings, nil, true
	}
	return nil, "", nil, false
}

func startsWithCore(line string) bool {
	at := coreAny.FindStringIndex(strings.TrimLeft(line, separators))
	return at != nil && at[0] == 0
}

// knownLine reports whether a line is one setting that is known.
func knownLine(line string) bool {
	key, _, ok := strings.Cut(strings.TrimLeft(line, separators), ":")
	_, known := settingKeys[foldKey(key)]
	return ok && known && foldKey(key) != "negativeprompt"
}

// settingsAt is where the settings begin in a line, −1 if it has none: at its start, if a key is there, or after a prompt.
func settingsAt(line string, index int) int {
	start := len(line) - len(strings.TrimLeft(line, separators))
	if fields := scanFields(line); isSettings(fields) {
		_, known := settingKeys[foldKey(fields[0].Key)]
		if anyKey.MatchString(line[start:]) && !negativeLine.MatchString(line) && (known || index > 0) {
			return start
		}
	}
	keys := coreKey.FindAllStringIndex(line, -1)
	if keys == nil {
		keys = coreAny.FindAllStringIndex(line, -1)
	}
	for _, at := range keys[max(0, len(keys)-maxStarts):] {
		if begins(scanFields(line[at[0]:])) {
			return at[0]
		}
	}
	return -1
}

// isSettings: three fields or more, and among them one of those that every picture has.
func isSettings(fields []Field) bool {
	has := slices.ContainsFunc(fields, isCore)
	return len(fields) >= 3 && has
}

// begins reports whether settings begin with the first of the fields: three that are known, each once, with values that can be meant.
func begins(fields []Field) bool {
	seen := map[string]bool{}
	for i, f := range fields {
		key := foldKey(f.Key)
		_, known := settingKeys[key]
		needed := slices.Contains([]string{"steps", "sampler", "cfg", "seed", "size"}, settingKeys[key])
		if i < 3 && (!known || seen[key] || needed && !isCore(f)) {
			return false
		}
		if i >= 3 && seen[key] && needed {
			return false // these are a prompt's, the settings follow
		}
		seen[key] = true
	}
	return len(fields) >= 3
}

// isCore reports whether the field is one that every picture has, with a value that looks like one.
func isCore(f Field) bool {
	var ok bool
	switch settingKeys[foldKey(f.Key)] {
	case "steps", "seed":
		_, ok = parseWhole(f.Value)
	case "cfg":
		_, ok = parseFinite(f.Value)
	case "size":
		_, _, ok = parseSize(f.Value)
	case "sampler":
		ok = f.Value != "" && len(f.Value) < 60
	}
	return ok
}

// Limits on a hostile text: what no program writes.
const (
	maxFields  = 1000
	maxLines   = 1000    // from the end, in which the settings are looked for
	maxStarts  = 50      // places where settings may begin in a line
	maxLiteral = 1 << 16 // bytes of a value in JSON
)

// scanFields takes "Key: value, Key: value" apart. A value may be a JSON string, list or object.
func scanFields(s string) []Field {
	var fields []Field
	for len(fields) < maxFields {
		s = strings.TrimLeft(s, separators)
		m := anyKey.FindString(s)
		if m == "" {
			at := nextField.FindStringIndex(s)
			if at == nil {
				return fields
			}
			s = s[max(at[0], 1):]
			continue
		}
		var value string
		value, s = cutValue(strings.TrimLeft(s[len(m):], " \t"))
		fields = append(fields, Field{strings.TrimSpace(strings.TrimSuffix(m, ":")), value})
	}
	return fields
}

func cutValue(s string) (value, rest string) {
	if s != "" && strings.ContainsRune(`"{[`, rune(s[0])) {
		dec := json.NewDecoder(strings.NewReader(s[:min(len(s), maxLiteral)]))
		var raw json.RawMessage
		if dec.Decode(&raw) == nil {
			rest = s[dec.InputOffset():]
			if trimmed := strings.TrimLeft(rest, " \t"); trimmed == "" || strings.ContainsRune(separators, rune(trimmed[0])) || len(trimmed) < len(rest) {
				return unquote(string(raw)), rest
			}
		}
	}
	end := len(s)
	if at := nextField.FindStringIndex(s); at != nil {
		end = at[0]
	}
	return strings.TrimRight(strings.TrimSpace(s[:end]), separators), s[end:]
}

func unquote(s string) string {
	var text string
	if len(s) < 2 || s[0] != '"' || json.Unmarshal([]byte(s), &text) != nil {
		return s
	}
	return text
}

// foldKey compares keys without case, spaces and underscores.
func foldKey(key string) string {
	return strings.NewReplacer(" ", "", "_", "", "-", "").Replace(strings.ToLower(key))
}

// splitPrompts parts the lines before the settings at "Negative prompt:", which begins a line or, where none begins so and the
// text may have been through other hands, stands anywhere.
func splitPrompts(lines []string, loose bool) (prompt, negative string) {
	if loose && !slices.ContainsFunc(lines, negativeLine.MatchString) {
		for i, line := range lines {
			if at := negativeWord.FindStringIndex(line); at != nil {
				lines = slices.Concat(lines[:i], []string{strings.TrimRight(line[:at[0]], separators), line[at[0]+1:]}, lines[i+1:])
				break
			}
		}
	}
	var parts [2][]string
	part := 0
	for i, line := range lines {
		line = strings.TrimSpace(line)
		if at := negativeLine.FindStringIndex(line); at != nil {
			part, line = 1, strings.TrimSpace(line[at[1]:])
		}
		if i == 0 && loose {
			line = promptLine.ReplaceAllString(line, "")
		}
		parts[part] = append(parts[part], line)
	}
	return strings.Join(parts[0], "\n"), strings.Join(parts[1], "\n")
}

// translate fills Recipe from Fields.
func (f *Foreign) translate() {
	r := &f.Recipe
	own := f.own()
	var sampler, schedule, rho string
	var distilled float64
	var variation [2]string // seed and strength
	hires := map[string]string{}
	var discard bool
	for _, field := range f.Fields {
		key, value := foldKey(field.Key), field.Value
		setting, known := settingKeys[key]
		ok := known
		switch setting {
		case "":
			if !known && own && r.takeField(field) {
				ok = true
				for i := range rows.all {
					if rows.all[i].key() == field.Key {
						f.learn(rows.all[i].JSON())
					}
				}
			}
		case "model-hash": // ten digits: too few for the recipe's
			if ok = shortHash.MatchString(value); ok {
				f.ModelHash = strings.ToLower(value)
			}
		case "vae":
			if ok = own; ok {
				r.VAE = value
				f.learn("vae")
			}
		case "vae-hash":
			ok = own
		case "refiner":
			if ok = own; ok {
				r.Refiner, _, _ = strings.Cut(value, " [")
				f.learn("refiner")
			}
		case "refiner-start":
			if ok = own && r.Refiner != ""; ok {
				r.Refiner += ":start=" + value
			}
		case "lora-hashes":
			ok = f.files("lora", value)
		case "ti-hashes":
			ok = f.files("embedding", value)
		case "sampler":
			sampler = value
		case "schedule":
			if !strings.EqualFold(value, "default") {
				schedule = value
			}
		case "rho":
			rho = value
			_, ok = parseFinite(value)
		case "discard":
			discard = strings.EqualFold(value, "true")
		case "version":
			if f.Program == "" || key == "version" {
				f.Program = value
				r.Version = strings.TrimPrefix(value, "darkroom ")
			}
		case "distilled": // Forge's, of models that read the scale
			if distilled, ok = parseFinite(value); ok && distilled <= 0 {
				ok = false
			}
		case "guidance": // there, the scale of a distilled model
			if ok = own; ok {
				r.Guidance = value
				f.learn("guidance")
			}
		case "cache":
			if ok = own; ok {
				r.Cache = value
				f.learn("cache")
			}
		case "sde-noise":
			if ok = own; ok {
				r.SDENoise = value
				f.learn("sde_noise")
			}
		case "variation-seed":
			variation[0] = value
		case "variation-strength":
			variation[1] = value
		case "hires-scale", "hires-resize", "hires-steps", "hires-upscaler", "hires-strength":
			hires[setting] = value
			ok = true
		case "tile":
			ok = f.tile(value)
		case "variations":
			if ok = own && f.variation(value); ok {
				continue
			}
		case "eta":
			if strings.EqualFold(value, "inf") { // stable-diffusion.cpp: the sampler's own
				continue
			}
			ok = f.setting(setting, value)
		default:
			ok = f.setting(setting, value)
		}
		if !ok {
			f.Unused = append(f.Unused, field)
		}
	}
	if distilled > 0 {
		f.readScale(distilled)
	}
	if variation[0] != "" && !f.variation(variation[0]+":"+variation[1]) {
		f.unused("Variation seed", variation[0])
	}
	if len(hires) > 0 && !f.hiresOf(hires["hires-scale"], hires["hires-resize"], hires["hires-upscaler"], hires["hires-strength"], hires["hires-steps"]) {
		for _, field := range f.Fields {
			if strings.HasPrefix(settingKeys[foldKey(field.Key)], "hires-") {
				f.Unused = append(f.Unused, field)
			}
		}
		slices.SortStableFunc(f.Unused, func(a, b Field) int { return slices.Index(f.Fields, a) - slices.Index(f.Fields, b) })
	}
	if own {
		f.ownSampling(sampler, discard)
		return
	}
	f.sdCppEta(sampler)
	f.sampling(sampler, schedule, f.webFamily())
	if rho != "" && (r.Sigmas == "karras" || r.Sigmas == "polyexponential:1") {
		r.Sigmas = strings.TrimSuffix(r.Sigmas, ":1") + ":" + rho
	}
	if discard && r.Scheduler != "" {
		f.discard()
	}
}

// readScale notes the scale that a distilled model reads: that is --cfg of it here, and the CFG scale there is of a second call.
func (f *Foreign) readScale(distilled float64) {
	if g := SecondCall(f.Recipe.CFG); g != "" {
		f.Recipe.Guidance = g
		f.learn("guidance")
	}
	f.Recipe.CFG = distilled
	f.learn("cfg")
}

// SecondCall is the guidance of a model that reads --cfg itself, where another program has a CFG scale beside: that of a second call,
// which reads the negative prompt. "" where there is none.
func SecondCall(cfg float64) string {
	if !(cfg > 1 && cfg <= 1000) {
		return ""
	}
	return "cfg:scale=" + strconv.FormatFloat(cfg, 'g', -1, 64)
}

// own reports whether Parameters wrote the text.
func (f *Foreign) own() bool {
	return slices.ContainsFunc(f.Fields, func(x Field) bool { return x.Key == "Version" && strings.HasPrefix(x.Value, "darkroom") })
}

var escape = regexp.MustCompile(`(?:\\u[0-9a-f]{4})+`)

// unescaped puts back the characters that a PNG's tEXt cannot hold and that this program writes there as JSON spells them.
func unescaped(text string) string {
	return escape.ReplaceAllStringFunc(text, func(s string) string {
		if decoded := unquote(`"` + s + `"`); !strings.ContainsFunc(decoded, func(c rune) bool { return c <= 0xff }) {
			return decoded
		}
		return s
	})
}

// ownSampling is for texts that Parameters wrote.
func (f *Foreign) ownSampling(sampler string, discard bool) {
	r := &f.Recipe
	var ok bool
	r.Scheduler, r.Sigmas, ok = FromForeign(sampler, "")
	switch {
	case ok:
		f.learn("scheduler", "sigmas")
	case sampler != "":
		f.unused("Sampler", sampler)
	}
	if discard {
		f.discard()
	}
	if !f.Knows("eta") {
		r.Eta = defaultEta(r.Scheduler)
	}
	if r.Noise == "" {
		r.Noise = "torch-cpu"
	}
	f.learn("noise")
}

// sdCppEta: before it had "Eta: inf" for the sampler's own, stable-diffusion.cpp wrote 0 there, and its ancestral samplers did
// not look at it.
func (f *Foreign) sdCppEta(sampler string) {
	scheduler, _, _ := FromForeign(sampler, "")
	if f.Program == "stable-diffusion.cpp" && f.Knows("eta") && f.Recipe.Eta == 0 && defaultEta(scheduler) != 0 {
		delete(f.known, "eta")
	}
}

// webFamily is whose habits the text follows.
func (f *Foreign) webFamily() family {
	program := strings.ToLower(f.Program)
	switch {
	case strings.HasPrefix(program, "comfyui"), strings.HasPrefix(program, "fooocus"):
		return comfy
	case strings.Contains(program, "stable-diffusion.cpp"), strings.Contains(program, "llama-box"), strings.Contains(program, "kobold"):
		return sdCpp
	case strings.Contains(program, "sd.next"), f.Has("Sampler sigma"), f.Has("Sampler spacing"):
		return diffuser
	case since19(program):
		return webUI19
	}
	return webUI
}

var webVersion = regexp.MustCompile(`v?(\d+)\.(\d+)`)

// since19 reports whether a version is of AUTOMATIC1111's interface since 1.9 ("v1.10.1"), or of a fork of that ("f2.0.1v1.10.1-…").
func since19(version string) bool {
	fork, isFork := strings.CutPrefix(version, "f")
	if at := strings.Index(fork, "v1."); isFork && at >= 0 {
		version = fork[at:]
	} else if isFork {
		version = fork
	}
	m := webVersion.FindStringSubmatch(version)
	if m == nil || !strings.HasPrefix(version, m[0]) {
		return false
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	return major == 1 && minor >= 9 || isFork && major >= 2
}
