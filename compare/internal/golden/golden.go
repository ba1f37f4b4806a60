// Package golden reads the files in testdata that tests of metrics and judges compare with.
package golden

import (
	"encoding/json"
	"image"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

// JSON reads testdata/goldens.json into a value of type T.
func JSON[T any](t *testing.T) (v T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "goldens.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// PNG reads testdata/NAME.png.
func PNG(t *testing.T, name string) *image.NRGBA {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	n := image.NewNRGBA(p.Bounds())
	draw.Draw(n, n.Rect, p, n.Rect.Min, draw.Src)
	return n
}
