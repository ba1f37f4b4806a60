package scheduler

import (
	"os"
	"strings"
	"testing"
)

// TestDocs: docs/schedulers.md has a paragraph on every sampler and a row on every sigma schedule.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../docs/schedulers.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range Names() {
		if !strings.Contains(string(page), "**"+i.Name+"**") {
			t.Errorf("nothing on %s", i.Name)
		}
	}
	for _, s := range SigmaSchedules() {
		if !strings.Contains(string(page), "\n| "+s[0]) {
			t.Errorf("nothing on the schedule %s", s[0])
		}
	}
}
