package recipe

import (
	"bytes"
	"fmt"
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
	b.WriteString(strings.TrimSpace(r.Prompt + r.loraTags()))
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
	sigmas, discards := strings.CutSuffix(r.Sigmas, discarding)
	fields := []Field{
		{"Steps", strconv.Itoa(r.Steps)},
		{"Sampler", toForeign(r.Scheduler, sigmas)},
		{"CFG scale", number(r.CFG)},
		{"Seed", strconv.FormatUint(r.Seed, 10)},
		{"Size", fmt.Sprintf("%dx%d", r.Width, r.Height)},
	}
	add := func(when bool, key, value string) {
		if when {
			fields = append(fields, Field{key, value})
		}
	}
	add(discards, "Discard penultimate sigma", "True")
	add(r.ModelHash != "", "Model hash", r.ModelHash[:min(10, len(r.ModelHash))])
	add(r.Model != "", "Model", r.Model)
	fields = append(fields, r.hashFields()...)
	add(r.ClipSkip > 0, "Clip skip", strconv.Itoa(r.ClipSkip+1)) // there, 1 is the last layer
	add(r.Eta != defaultEta(r.Scheduler), etaKey(r.Scheduler), number(r.Eta))
	add(r.Rescale != 0, "CFG Rescale Phi", number(r.Rescale))
	add(r.Guidance != "", "Guidance", r.Guidance)
	add(r.SDENoise != "", "SDE noise", r.SDENoise)
	add(r.Cache != "", "Step cache", r.Cache)
	add(r.TokenMerging != 0, "Token merging ratio", number(r.TokenMerging))
	add(r.Noise == "torch-cpu", "RNG", "CPU")
	add(r.Noise == "torch-cuda", "RNG", "NV")
	if v, err := ParseVariation(r.Variation); err == nil && len(v) == 1 {
		add(true, "Variation seed", strconv.FormatUint(v[0].Seed, 10))
		add(true, "Variation seed strength", number(v[0].Strength))
	} else {
		add(r.Variation != "", "Variations", r.Variation)
	}
	fields = append(fields, r.hiresFields()...)
	add(r.Tile != "" && r.Tile != "off", "Tiling", map[string]string{"both": "True"}[r.Tile]+strings.TrimSuffix(r.Tile, "both"))
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
