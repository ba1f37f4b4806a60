package clients

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestPython runs the Python packages openai and webuiapi against the server.
func TestPython(t *testing.T) {
	python := os.Getenv("DARKROOM_CLIENTS_PYTHON")
	if python == "" {
		t.Skip("SKIPPED: set DARKROOM_CLIENTS_PYTHON to a Python that has the packages openai and webuiapi")
	}
	out, err := exec.Command(python, "testdata/clients.py", serve(t), key, "ada", "lovelace").CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "ok") {
		t.Errorf("%v:\n%s", err, out)
	}
}
