package recipe

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Move is how a picture is moved before it is painted over.
type Move struct {
	Zoom   float64 // above 1 goes nearer; 1 is none
	X, Y   float64 // pixels that what is seen moves to the right and down
	Rotate float64 // degrees, clockwise
}

// ParseMove reads zoom=F,x=N,y=N,rotate=F, of which any may be left out; "" is nil.
func ParseMove(text string) (*Move, error) {
	if text == "" {
		return nil, nil
	}
	m := &Move{Zoom: 1}
	for _, word := range strings.Split(text, ",") {
		key, value, _ := strings.Cut(word, "=")
		v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		to := map[string]*float64{"zoom": &m.Zoom, "x": &m.X, "y": &m.Y, "rotate": &m.Rotate}[strings.TrimSpace(key)]
		if to == nil || err != nil || math.IsNaN(v) || math.Abs(v) > MaxSide {
			return nil, fmt.Errorf("%.40q: write zoom=F,x=N,y=N,rotate=F: a factor, pixels to the right and down, degrees clockwise", word)
		}
		*to = v
	}
	if !(m.Zoom >= 0.1 && m.Zoom <= 10) {
		return nil, fmt.Errorf("%.40q: the zoom must be from 0.1 to 10", text)
	}
	return m, nil
}
