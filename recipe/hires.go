package recipe

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Hires is a second pass over the enlarged picture: A1111's "hires fix".
type Hires struct {
	Scale    float64 // of each side, above 1
	Upscaler string  // HiresLatent, HiresLanczos, or an upscaler's file or name
	Strength float64 // how much is painted anew, above 0 to 1
	Steps    int     // that are run in the second pass; 0: as many as in the first
}

// What enlarges without a network: the latents, by bilinear interpolation, or the pixels, by Lanczos' filter.
const (
	HiresLatent  = "latent"
	HiresLanczos = "lanczos"
)

// MaxHires is the largest scale.
const MaxHires = 8

// ParseHires reads SCALE[:upscaler=NAME,strength=F,steps=N]; "" is nil.
func ParseHires(text string) (*Hires, error) {
	if text == "" {
		return nil, nil
	}
	scale, rest, has := strings.Cut(text, ":")
	h := &Hires{Upscaler: HiresLatent, Strength: 0.7}
	var err error
	if h.Scale, err = strconv.ParseFloat(strings.TrimSpace(scale), 64); err != nil || !(h.Scale > 1 && h.Scale <= MaxHires) {
		return nil, fmt.Errorf("%.40q: the scale must be a number above 1, up to %d", scale, MaxHires)
	}
	if !has {
		return h, nil
	}
	for _, word := range strings.Split(rest, ",") {
		key, value, _ := strings.Cut(word, "=")
		value = strings.TrimSpace(value)
		var ok bool
		switch strings.TrimSpace(key) {
		case "upscaler":
			h.Upscaler, ok = value, value != ""
		case "strength":
			h.Strength, err = strconv.ParseFloat(value, 64)
			ok = err == nil && h.Strength > 0 && h.Strength <= 1
		case "steps":
			h.Steps, err = strconv.Atoi(value)
			ok = err == nil && h.Steps >= 0 && h.Steps <= maxSteps
		default:
			return nil, fmt.Errorf("%.40q: write SCALE[:upscaler=NAME,strength=F,steps=N]", word)
		}
		if !ok {
			return nil, fmt.Errorf("%.40q: upscaler is latent, lanczos or an upscaler's file or name; strength above 0 to 1; steps a whole number", word)
		}
	}
	return h, nil
}

// String writes what ParseHires reads.
func (h *Hires) String() string {
	s := fmt.Sprintf("%s:upscaler=%s,strength=%s", formatNumber(h.Scale), h.Upscaler, formatNumber(h.Strength))
	if h.Steps > 0 {
		s += ",steps=" + strconv.Itoa(h.Steps)
	}
	return s
}

// splitHires begins a new value with a number: 1.5,2:upscaler=latent,steps=9 are two.
func splitHires(text string) (list []string) {
	for _, word := range strings.Split(text, ",") {
		scale, _, _ := strings.Cut(word, ":")
		if _, err := strconv.ParseFloat(strings.TrimSpace(scale), 64); err == nil || len(list) == 0 {
			list = append(list, strings.TrimSpace(word))
			continue
		}
		list[len(list)-1] += "," + word
	}
	return list
}

// hiresFields are a recipe's second pass as the web UI writes it.
func (r Recipe) hiresFields() []Field {
	h, err := ParseHires(r.Hires)
	if err != nil || h == nil {
		return nil
	}
	fields := []Field{{"Denoising strength", formatPlain(h.Strength)}, {"Hires upscale", formatPlain(h.Scale)}}
	if h.Steps > 0 {
		fields = append(fields, Field{"Hires steps", strconv.Itoa(h.Steps)})
	}
	name := h.Upscaler
	switch name {
	case HiresLatent:
		name = "Latent"
	case HiresLanczos:
		name = "Lanczos"
	}
	return append(fields, Field{"Hires upscaler", name})
}

// hiresOf reads what the web UI writes of a second pass; false: there is none that can be meant. resize is the size that some
// give instead of a scale, "1024x1536".
func (f *Foreign) hiresOf(scale, resize, upscaler, strength, steps string) bool {
	h := &Hires{Upscaler: HiresLatent, Strength: 0.7}
	var ok bool
	if h.Scale, ok = parseFinite(scale); scale == "" {
		var w, tall int
		if w, tall, ok = parseSize(resize); ok && f.Recipe.Width > 0 && f.Recipe.Height > 0 {
			h.Scale = math.Max(float64(w)/float64(f.Recipe.Width), float64(tall)/float64(f.Recipe.Height))
		}
	}
	if !ok || !(h.Scale > 1 && h.Scale <= MaxHires) {
		return false
	}
	if strength != "" {
		if h.Strength, ok = parseFinite(strength); !ok || !(h.Strength > 0 && h.Strength <= 1) {
			return false
		}
	}
	if steps != "" {
		if h.Steps, ok = parseWhole(steps); !ok || h.Steps < 0 || h.Steps > maxSteps {
			return false
		}
	}
	switch folded := strings.ToLower(upscaler); {
	case folded == "latent" || folded == "":
	case strings.HasPrefix(folded, "latent"):
		f.note("Hires upscaler %s: latents are enlarged bilinearly here", upscaler)
	case folded == "lanczos":
		h.Upscaler = HiresLanczos
	case folded == "nearest" || folded == "none":
		f.note("Hires upscaler %s: lanczos is used instead", upscaler)
		h.Upscaler = HiresLanczos
	case strings.ContainsAny(upscaler, ",/\\"):
		return false
	default:
		h.Upscaler = upscaler
	}
	f.Recipe.Hires = h.String()
	f.learn("hires")
	return true
}

// tile reads "Tiling: True" and the axes that this program writes.
func (f *Foreign) tile(value string) bool {
	switch value = strings.ToLower(value); value {
	case "true":
		f.Recipe.Tile = "both"
	case "x", "y":
		f.Recipe.Tile = value
	case "false":
		return true
	default:
		return false
	}
	f.learn("tile")
	return true
}
