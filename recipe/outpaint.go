package recipe

import (
	"fmt"
	"strconv"
	"strings"
)

// Sides are how many pixels a picture is continued beyond each side.
type Sides struct{ Left, Right, Top, Bottom int }

// ParseSides reads left=64,right=64,top=0,bottom=0, of which any may be left out; "" is none.
func ParseSides(text string) (s Sides, err error) {
	if text == "" {
		return s, nil
	}
	for _, word := range strings.Split(text, ",") {
		key, value, ok := strings.Cut(word, "=")
		to := map[string]*int{"left": &s.Left, "right": &s.Right, "top": &s.Top, "bottom": &s.Bottom}[strings.TrimSpace(key)]
		n, err := strconv.Atoi(strings.TrimSpace(value))
		if !ok || to == nil || err != nil || n < 0 || n > MaxSide {
			return Sides{}, fmt.Errorf("%.40q: write left=N,right=N,top=N,bottom=N with pixels from 0 to %d", word, MaxSide)
		}
		*to = n
	}
	if s == (Sides{}) {
		return s, fmt.Errorf("%.40q: no side has more than 0 pixels", text)
	}
	return s, nil
}

// splitSides takes a sweep over sides apart, at semicolons: commas are within one.
func splitSides(list string) []string { return strings.Split(list, ";") }

// How much of a picture is painted at the picture's size.
const (
	InpaintWhole  = "whole"
	InpaintMasked = "masked"
)

// DefaultPadding is how many pixels around a mask are looked at with InpaintMasked.
const DefaultPadding = 32

// MaskOfAlpha is the mask that is the transparent part of the picture itself.
const MaskOfAlpha = "alpha"
