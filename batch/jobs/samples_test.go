package jobs

import (
	"path/filepath"
	"testing"
)

// TestSamples reads the files that the documentation refers to.
func TestSamples(t *testing.T) {
	for file, want := range map[string]int{"apples.yaml": 12, "templates.yaml": 11, "samplers.yaml": 4, "fruit.jsonl": 6, "fruit.csv": 4} {
		l, err := ReadFile(filepath.Join("..", "..", "samples", "jobs", file), nil, Options{})
		if err != nil {
			t.Errorf("%v", err)
		} else if len(l.Images) != want {
			t.Errorf("%s asks for %d images, not %d", file, len(l.Images), want)
		}
	}
}
