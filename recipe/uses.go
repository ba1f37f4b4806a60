package recipe

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Use is a file that is used with a strength: an adapter for the denoiser and for the text encoders.
type Use struct {
	Name               string // a file's path, or a name
	Weight, TextWeight float64
}

// String is NAME, NAME:WEIGHT or NAME:WEIGHT:TEXT_WEIGHT, whatever says it all.
func (u Use) String() string {
	switch {
	case u.Weight == 1 && u.TextWeight == 1:
		return u.Name
	case u.Weight == u.TextWeight:
		return u.Name + ":" + formatNumber(u.Weight)
	}
	return u.Name + ":" + formatNumber(u.Weight) + ":" + formatNumber(u.TextWeight)
}

// ParseUses reads NAME[:WEIGHT[:TEXT_WEIGHT]], several with commas between them. A weight that is left out is 1, and the
// text encoders' the denoiser's. A Windows path's drive is part of its name.
func ParseUses(list string) (uses []Use, err error) {
	for _, item := range strings.Split(list, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		u := Use{Name: item, Weight: 1, TextWeight: 1}
		var weights []float64
		for len(weights) < 2 {
			name, last, found := cutLast(u.Name)
			v, err := strconv.ParseFloat(last, 64)
			if !found || err != nil && !errors.Is(err, strconv.ErrRange) {
				break
			}
			if err != nil || math.IsInf(v, 0) || math.IsNaN(v) || math.Abs(v) > 1000 {
				return nil, fmt.Errorf("%.80q: a weight must be from -1000 to 1000", item)
			}
			u.Name, weights = name, append([]float64{v}, weights...)
		}
		switch len(weights) {
		case 1:
			u.Weight, u.TextWeight = weights[0], weights[0]
		case 2:
			u.Weight, u.TextWeight = weights[0], weights[1]
		}
		if u.Name == "" {
			return nil, fmt.Errorf("%.80q: a file or a name is needed before the weight", item)
		}
		uses = append(uses, u)
	}
	return uses, nil
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// FormatUses is the inverse of ParseUses.
func FormatUses(uses []Use) string {
	texts := make([]string, len(uses))
	for i, u := range uses {
		texts[i] = u.String()
	}
	return strings.Join(texts, ",")
}

// splitUses takes a sweep over lists apart, at semicolons: commas are between the items of one.
func splitUses(list string) []string { return strings.Split(list, ";") }

// whole is for settings of which a list makes no sweep.
func whole(list string) []string { return []string{list} }
