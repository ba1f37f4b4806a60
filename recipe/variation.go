package recipe

import (
	"fmt"
	"strconv"
	"strings"
)

// Variation is another seed's noise, and how far the picture's own goes towards it.
type Variation struct {
	Seed     uint64
	Strength float64 // 0 to 1
}

// ParseVariation reads SEED:STRENGTH; several with commas are mixed in one after the other.
func ParseVariation(text string) (list []Variation, err error) {
	if text == "" {
		return nil, nil
	}
	for _, word := range strings.Split(text, ",") {
		seed, strength, ok := strings.Cut(strings.TrimSpace(word), ":")
		var v Variation
		if v.Seed, err = strconv.ParseUint(seed, 10, 64); err != nil || !ok {
			return nil, fmt.Errorf("%.40q: write SEED:STRENGTH, such as 7:0.2", word)
		}
		if v.Strength, err = strconv.ParseFloat(strength, 64); err != nil || !(v.Strength >= 0 && v.Strength <= 1) {
			return nil, fmt.Errorf("%.40q: the strength must be from 0 to 1", word)
		}
		list = append(list, v)
	}
	return list, nil
}

// FormatVariation writes what ParseVariation reads.
func FormatVariation(list []Variation) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = fmt.Sprintf("%d:%s", v.Seed, formatNumber(v.Strength))
	}
	return strings.Join(words, ",")
}

// splitVariations keeps what is mixed together: it begins anew with a semicolon.
func splitVariations(text string) []string { return strings.Split(text, ";") }

// variation takes another program's variation; false: it cannot be meant.
func (f *Foreign) variation(text string) bool {
	list, err := ParseVariation(text)
	if err != nil {
		return false
	}
	f.Recipe.Variation = FormatVariation(list)
	f.learn("variation")
	return true
}
