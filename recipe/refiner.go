package recipe

import (
	"fmt"
	"strconv"
	"strings"
)

// RefinerStart is where a refiner begins, as a share of the training's timesteps, where nothing else is said.
const RefinerStart = 0.8

// ParseRefiner reads MODEL[:start=0.8]: a model, and the share of the noise's way that the other model goes before it.
func ParseRefiner(text string) (model string, start float64, err error) {
	start = RefinerStart
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return text, start, nil
	}
	value, ok := strings.CutPrefix(text[i+1:], "start=")
	if !ok {
		return text, start, nil // a Windows path's drive, or a name with a colon
	}
	start, err = strconv.ParseFloat(value, 64)
	if err != nil || !(start > 0 && start < 1) {
		return "", 0, fmt.Errorf("%.40q: start must be above 0 and below 1", value)
	}
	if i == 0 {
		return "", 0, fmt.Errorf("%.40q: a model is needed before the start", text)
	}
	return text[:i], start, nil
}

// FormatRefiner is the inverse of ParseRefiner.
func FormatRefiner(model string, start float64) string {
	return model + ":start=" + formatNumber(start)
}
