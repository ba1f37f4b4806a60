package ask

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/batch/jobs"
)

// Controls over the network name networks of the server and pictures that were sent; paths are refused.
func TestControlOverTheNetwork(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "controlnet", "canny.safetensors")
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DARKROOM_MODELS", root)
	r := &Reader{
		Upload:  func(id string) (string, error) { return "/up/" + id + ".png", nil },
		Picture: func(id string) (string, error) { return "/pics/" + id + ".png", nil },
	}
	for text, want := range map[string]string{
		"canny=upload:1:scale=0.5":       "canny.safetensors=/up/1.png:scale=0.5",
		"canny=picture:2;canny=upload:3": "canny.safetensors=/pics/2.png;" + file + "=/up/3.png",
		file + "=upload:1":               "!not a path",
		"canny=/etc/passwd":              "!upload:ID",
		"canny=../a.png":                 "!upload:ID",
		"cany=upload:1":                  "!nearest: canny",
		"canny=upload:1:encoder=/etc":    "!not a path",
		"canny=upload:1:encoder=nowhere": "!of that name",
		"canny=":                         "!MODEL=IMAGE",
		"upload:1:pre=canny":             "=/up/1.png:pre=canny", // without a network
		"/etc/passwd":                    "!upload:ID",
	} {
		var q jobs.Request
		q.Set("control", text)
		got, err := r.Resolve(&q)
		if bad, ok := strings.CutPrefix(want, "!"); ok {
			if err == nil || !strings.Contains(err.Error(), bad) {
				t.Errorf("%q: %q, error %v, want %q", text, got.Control, err, bad)
			}
			continue
		}
		if path, ok := strings.CutPrefix(want, "="); ok {
			want = path
		} else {
			want = filepath.Join(root, "controlnet") + "/" + want
		}
		if err != nil || got.Control != want {
			t.Errorf("%q: %q, %v", text, got.Control, err)
		}
	}
}

func TestReferences(t *testing.T) {
	r := &Reader{
		Upload:  func(id string) (string, error) { return "/up/" + id + ".png", nil },
		Picture: func(id string) (string, error) { return "/pics/" + id + ".png", nil },
	}
	for text, want := range map[string]string{"upload:1": "/up/1.png", "upload:1; picture:2": "/up/1.png;/pics/2.png", "upload:1;/etc/passwd": ""} {
		var q jobs.Request
		q.Set("reference", text)
		got, err := r.Resolve(&q)
		if (err == nil) != (want != "") || err == nil && got.Reference != want {
			t.Errorf("%q: %q, %v, want %q", text, got.Reference, err, want)
		}
	}
}
