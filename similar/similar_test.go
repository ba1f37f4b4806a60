package similar

import (
	"strings"
	"testing"
)

func TestHint(t *testing.T) {
	names := []string{"steps", "seed", "scheduler", "step", "sigmas"}
	for wrong, want := range map[string]string{"stpes": "; nearest: step, steps", "sede": "; nearest: seed", "x": "", "nothing like it": "", strings.Repeat("s", 1<<20): ""} {
		if got := Hint(wrong, names); got != want {
			t.Errorf("%.20s: %q, want %q", wrong, got, want)
		}
	}
	if names[0] != "steps" {
		t.Error("the caller's list was sorted")
	}
}
