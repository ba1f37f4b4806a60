package pipeline

import (
	"fmt"
	"slices"
	"strings"

	defaultmodel "darkroom/models/default"
)

// warnTrained warns about what the model was not trained on: sizes far from its training sizes and, for the embedded model, words.
func (p *Pipeline) warnTrained(pl *plan) {
	if text := p.sizeWarning(pl.seen().Width, pl.seen().Height); text != "" && pl.Init == "" {
		pl.warnings = append(pl.warnings, text)
	}
	if p.folder == defaultmodel.Name && pl.LoRA == "" && pl.Embedding == "" {
		if text := wordWarning(pl.Prompt); text != "" {
			pl.warnings = append(pl.warnings, text)
		}
	}
}

// The sizes at which a model still draws well, as a share of the pixels that it was trained at: with half of them things are cut off, with
// twice as many they come twice. The embedded model, which has seen each thing at one size, bears less.
const (
	fewestPixels, mostPixels           = 0.5, 2
	fewestOfEmbedded, mostOfEmbedded   = 0.75, 1.35
	mostAspect, mostAspectOfEmbedded   = 2.4, 1.3
	smallestTrainedSide                = 96 // pixels; anything smaller is not a model for pictures
	nearbySizesStep                    = 64
	textOfTwice, textOfCut, textOfWide = "things come twice", "things are cut off or coarse", "things are stretched or come twice"
)

// sizeWarning is "" for sizes at which the model draws well.
func (p *Pipeline) sizeWarning(width, height int) string {
	l := p.model.Latent
	w, h := l.Width*l.Factor, l.Height*l.Factor
	if w == 0 || h == 0 {
		w, h = l.Side*l.Factor, l.Side*l.Factor
	}
	if min(w, h) < smallestTrainedSide {
		return ""
	}
	few, most, aspect := fewestPixels, float64(mostPixels), mostAspect
	if p.folder == defaultmodel.Name {
		few, most, aspect = fewestOfEmbedded, mostOfEmbedded, mostAspectOfEmbedded
	}
	what, share := "", float64(width)*float64(height)/float64(w*h)
	long := max(float64(width)/float64(height)*float64(h)/float64(w), float64(height)/float64(width)*float64(w)/float64(h))
	switch {
	case share > most:
		what = textOfTwice
	case share < few:
		what = textOfCut
	case long > aspect:
		what = textOfWide
	default:
		return ""
	}
	text := fmt.Sprintf("%d×%d pixels are far from the %d×%d that this model was trained on, so %s. These work: %s", width, height, w, h, what, strings.Join(p.goodSizes(w, h), ", "))
	if share > most {
		text += "; for more pixels, draw one of these and enlarge it (--hires 2, darkroom upscale)"
	}
	return text
}

// goodSizes are the trained size and, where a model bears them, oblong ones with as many pixels.
func (p *Pipeline) goodSizes(w, h int) []string {
	sizes := []string{fmt.Sprintf("%d×%d", w, h)}
	if p.folder == defaultmodel.Name || w != h {
		return sizes
	}
	for _, ratio := range [][2]float64{{1.22, 0.82}, {1.34, 0.75}} { // 3:2 and 16:9
		long, short := rounded(float64(w)*ratio[0], nearbySizesStep), rounded(float64(w)*ratio[1], nearbySizesStep)
		for _, size := range []string{fmt.Sprintf("%d×%d", long, short), fmt.Sprintf("%d×%d", short, long)} {
			if !slices.Contains(sizes, size) {
				sizes = append(sizes, size)
			}
		}
	}
	return sizes
}

func rounded(v float64, step int) int { return int(v/float64(step)+0.5) * step }

// wordWarning names the words that the embedded model was not trained on, and what it draws for some of them; "" where it knows them all.
func wordWarning(prompt string) string {
	const most = 8
	unknown, thing := defaultmodel.Unknown(prompt)
	for i, w := range unknown {
		unknown[i] = fmt.Sprintf("%.40q", w)
	}
	if len(unknown) > most {
		unknown = append(unknown[:most], fmt.Sprintf("and %d more", len(unknown)-most))
	}
	var alike []string
	for _, l := range defaultmodel.Likened(prompt) {
		alike = append(alike, fmt.Sprintf("%.40q as %q", l.Phrase, l.As))
	}
	if len(alike) > most {
		alike = append(alike[:most], fmt.Sprintf("and %d more so", len(alike)-most))
	}
	const list = "darkroom models show default lists what it draws; --model chooses another model"
	switch {
	case strings.TrimSpace(prompt) == "":
		return ""
	case !thing && len(unknown) > 0:
		return fmt.Sprintf("the prompt names nothing that the embedded model can draw (it does not know %s), so the picture shows something else: %s", strings.Join(unknown, ", "), list)
	case !thing:
		return "the prompt names nothing that the embedded model can draw, so the picture shows something else: " + list
	}
	var does []string
	if len(alike) > 0 {
		does = append(does, "draws "+strings.Join(alike, ", "))
	}
	if len(unknown) > 0 {
		them := "them"
		if len(unknown) == 1 {
			them = "it"
		}
		does = append(does, fmt.Sprintf("does not know %s and leaves %s out", strings.Join(unknown, ", "), them))
	}
	if len(does) == 0 {
		return ""
	}
	return "the embedded model " + strings.Join(does, ", and ") + ": " + list
}

// readable is a prompt as the model reads it: the embedded one leaves out words that it does not know, which wordWarning names.
func (p *Pipeline) readable(prompt string) string {
	if p.folder != defaultmodel.Name {
		return prompt
	}
	return defaultmodel.Readable(prompt)
}
