package recipe

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Motion is a film that a motion module makes of the prompt.
type Motion struct {
	Model  string  // the module: a file, a folder or a name
	Frames int     // pictures
	FPS    float64 // pictures a second, where the film is shown
	Betas  string  // the noise schedule: BetasLinear, BetasModel, or "" for the module's own
}

// The noise schedules of a film: AnimateDiff's modules were trained with one that is linear in β, whatever the model's own is.
const (
	BetasLinear = "linear"
	BetasModel  = "model"
)

// MaxFrames bounds a film.
const MaxFrames = 1024

// ParseMotion reads MODULE[:frames=16,fps=8,betas=linear]; "" is nil. A colon that none of these words follows is part of a path.
func ParseMotion(text string) (*Motion, error) {
	if text = strings.TrimSpace(text); text == "" {
		return nil, nil
	}
	m := &Motion{Model: text, Frames: 16, FPS: 8}
	i := strings.LastIndexByte(text, ':')
	if i < 0 || !strings.Contains(text[i:], "=") || strings.ContainsAny(text[i:], `/\`) {
		return m, nil
	}
	m.Model = strings.TrimSpace(text[:i])
	if m.Model == "" {
		return nil, fmt.Errorf("%.40q: a motion module is needed before the options", text)
	}
	for _, word := range strings.Split(text[i+1:], ",") {
		key, value, _ := strings.Cut(word, "=")
		value = strings.TrimSpace(value)
		var err error
		switch strings.TrimSpace(key) {
		case "frames":
			if m.Frames, err = strconv.Atoi(value); err != nil || m.Frames < 2 || m.Frames > MaxFrames {
				return nil, fmt.Errorf("frames=%.40s: it must be a whole number from 2 to %d", value, MaxFrames)
			}
		case "fps":
			if m.FPS, err = strconv.ParseFloat(value, 64); err != nil || !(m.FPS >= 0.1 && m.FPS <= 240) || math.IsNaN(m.FPS) {
				return nil, fmt.Errorf("fps=%.40s: it must be from 0.1 to 240", value)
			}
		case "betas":
			if m.Betas = value; !slices.Contains([]string{BetasLinear, BetasModel}, value) {
				return nil, fmt.Errorf("betas=%.40s: choose %s or %s", value, BetasLinear, BetasModel)
			}
		default:
			return nil, fmt.Errorf("no option is called %.40q: write MODULE[:frames=N,fps=F,betas=%s|%s]", strings.TrimSpace(key), BetasLinear, BetasModel)
		}
	}
	return m, nil
}

// String writes what ParseMotion reads.
func (m *Motion) String() string {
	s := fmt.Sprintf("%s:frames=%d,fps=%s", m.Model, m.Frames, formatNumber(m.FPS))
	if m.Betas != "" {
		s += ",betas=" + m.Betas
	}
	return s
}
