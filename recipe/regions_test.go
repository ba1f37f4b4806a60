package recipe

import (
	"strings"
	"testing"
)

// Texts of regions, ways, moves, sides and windows mean what they say, and what is wrong is told.
func TestParsePlaces(t *testing.T) {
	list, err := ParseRegions(`left=a cat, black; 10, 20,30,40 =a \; b=c;mask.png=x`)
	if err != nil || len(list) != 3 || list[0] != (Region{"left", "a cat, black"}) || list[1] != (Region{"10, 20,30,40", "a ; b=c"}) || list[2].Area != "mask.png" {
		t.Errorf("%q, %v", list, err)
	}
	if r, ok, err := Rectangle("10, 20,30,90"); !ok || err != nil || r != [4]float64{0.1, 0.2, 0.4, 1} {
		t.Errorf("%v %v %v", r, ok, err)
	}
	if share, text, err := ParseToward("0.25:a: b"); share != 0.25 || text != "a: b" || err != nil {
		t.Errorf("%v %q %v", share, text, err)
	}
	if m, err := ParseMove("zoom=1.5,x=-3"); err != nil || *m != (Move{Zoom: 1.5, X: -3}) {
		t.Errorf("%+v, %v", m, err)
	}
	if s, err := ParseSides("top=3, left=5"); err != nil || s != (Sides{Left: 5, Top: 3}) {
		t.Errorf("%+v, %v", s, err)
	}
	if w, err := ParseWindows("512:overlap=0.25"); err != nil || *w != (Windows{512, 0.25}) {
		t.Errorf("%+v, %v", w, err)
	}
	for text, want := range map[string]string{"zoom=0": "from 0.1 to 10", "x": "write zoom=F", "zoom=nan": "write zoom=F", "y=1e9": "write zoom=F"} {
		if _, err := ParseMove(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzPlaces: what is read is written so that it is read as the same, and nothing stops the readers.
func FuzzPlaces(f *testing.F) {
	f.Add("left=a cat; 0,0,50,100=b", "0.5:x", "zoom=1,rotate=3", "left=1", "64:overlap=0.5")
	f.Fuzz(func(t *testing.T, regions, toward, move, sides, windows string) {
		if list, err := ParseRegions(regions); err == nil {
			text := FormatRegions(list)
			again, err := ParseRegions(text)
			if err != nil && !strings.Contains(regions, `\`) || err == nil && FormatRegions(again) != text {
				t.Errorf("%q became %q: %v", regions, text, err)
			}
		}
		if share, text, err := ParseToward(toward); err == nil && toward != "" {
			if s, again, err := ParseToward(FormatToward(share, text)); err != nil || s != share || again != text {
				t.Errorf("%q: %v %q %v", toward, s, again, err)
			}
		}
		if m, err := ParseMove(move); err == nil && m != nil && !(m.Zoom >= 0.1 && m.Zoom <= 10) {
			t.Errorf("%q: %+v", move, m)
		}
		if s, err := ParseSides(sides); err == nil && min(s.Left, s.Right, s.Top, s.Bottom) < 0 {
			t.Errorf("%q: %+v", sides, s)
		}
		if w, err := ParseWindows(windows); err == nil && w != nil && !(w.Overlap >= 0 && w.Overlap < 1) {
			t.Errorf("%q: %+v", windows, w)
		}
	})
}
