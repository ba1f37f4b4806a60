package recipe

import (
	"fmt"
	"strconv"
	"strings"
)

// Windows are parts of a large picture that the denoiser sees one by one.
type Windows struct {
	Pixels  int     // a side
	Overlap float64 // the share of a window that the next one covers too
}

// ParseWindows reads PIXELS[:overlap=F]; "" is nil.
func ParseWindows(text string) (*Windows, error) {
	if text == "" {
		return nil, nil
	}
	side, rest, has := strings.Cut(text, ":")
	w := &Windows{Overlap: 0.5}
	var err error
	if w.Pixels, err = strconv.Atoi(strings.TrimSpace(side)); err != nil || w.Pixels < 8 || w.Pixels > MaxSide {
		return nil, fmt.Errorf("%.40q: write PIXELS[:overlap=F] with pixels from 8 to %d", text, MaxSide)
	}
	if has {
		key, value, _ := strings.Cut(rest, "=")
		if w.Overlap, err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil || strings.TrimSpace(key) != "overlap" || !(w.Overlap >= 0 && w.Overlap <= 0.95) {
			return nil, fmt.Errorf("%.40q: write PIXELS[:overlap=F] with an overlap from 0 to 0.95", text)
		}
	}
	return w, nil
}
