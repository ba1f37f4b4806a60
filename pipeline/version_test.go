package pipeline

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestVersion: the release is a semantic version, every version begins with it, and the change log has a section for it.
func TestVersion(t *testing.T) {
	if !regexp.MustCompile(`^\d+\.\d+\.\d+(-dev)?$`).MatchString(Release) {
		t.Errorf("Release is %q", Release)
	}
	if v := Version(); !regexp.MustCompile(`^` + regexp.QuoteMeta(Release) + `(\+[0-9a-f]{8}(\.modified)?)?$`).MatchString(v) {
		t.Errorf("Version is %q", v)
	}
	log, err := os.ReadFile("../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	number, _, unreleased := strings.Cut(Release, "-")
	heading := "## " + number
	if unreleased {
		heading += " (unreleased)"
	}
	if !strings.Contains(string(log), "\n"+heading+"\n") {
		t.Errorf("CHANGELOG.md has no section %q", heading)
	}
}
