package compare

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A model that draws nothing without a picture is compared with one: its own scheduler is known before.
func TestModelThatNeedsAPicture(t *testing.T) {
	const mmdit = "../pipeline/testdata/mmdit/"
	model := filepath.Join(t.TempDir(), "flux1-canny-dev")
	for _, from := range []string{"flux-dev", "flux-canny"} { // only its transformer is its own
		if err := os.RemoveAll(filepath.Join(model, "transformer")); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(model, os.DirFS(mmdit+"models/"+from)); err != nil {
			t.Fatal(err)
		}
	}
	o := tinyOptions(t)
	o.Grid.Axes = map[string][]any{"model": {model}, "cfg": {5.0, 30.0}, "steps": {1}, "width": {48}, "height": {48}, "control": {mmdit + "flux-canny-hint.png"}}
	o.Grid.Seeds, o.Grid.ReferenceSteps = 1, 0
	p, err := Plan(t.Context(), o)
	if err != nil || p.Settings != 2 || p.Pictures != 4 {
		t.Errorf("%+v, %v", p, err)
	}
	delete(o.Grid.Axes, "control")
	if _, err := Plan(t.Context(), o); err == nil || !strings.Contains(err.Error(), "needs a control picture") {
		t.Errorf("without a picture: %v", err)
	}
}
