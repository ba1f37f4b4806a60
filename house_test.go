// Package darkroom_test keeps the house in order: it checks what docs/architecture.md promises of the
// whole tree.
package darkroom_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// layers lists the folders from the bottom up. An import points to a lower layer or to another
// package of the same folder, never up and never sideways.
var layers = [][]string{
	{"config", "atomicfile", "machine", "similar", "scheduler", "noise", "tensor", "prompt", "option", "c2pa"},
	{"guidance", "stepcache"},
	{"recipe"},
	{"imagefile", "preprocess"},
	{"kernels"},
	{"nn", "checkpoint"},
	{"internal"},
	{"stage", "clip", "qwen", "t5", "unet", "dit", "vae", "control", "esrgan", "models"},
	{"family"},
	{"pipeline"},
	{"render"},
	{"server", "batch", "compare"},
	{"cmd"},
}

// sideways are the imports within a layer that are meant.
var sideways = map[[2]string]bool{
	{"control", "unet"}:     true, // a ControlNet is half a U-Net, and is written into the graph of a whole one
	{"qwen", "clip"}:        true, // the files and the byte pair encoding of tokenizers
	{"t5", "clip"}:          true, // the added tokens of tokenizers
	{"scheduler", "config"}: true, // scheduler_config.json
	{"compare", "batch"}:    true,
	{"server", "batch"}:     true,
}

// standardOnly are the packages that import the standard library alone.
var standardOnly = []string{"config", "atomicfile", "scheduler", "noise", "tensor", "prompt", "option", "guidance", "stepcache"}

type goPackage struct {
	ImportPath string
	Imports    []string
	Module     struct{ Path string }
}

func TestImportsPointDown(t *testing.T) {
	level := map[string]int{}
	for i, folders := range layers {
		for _, f := range folders {
			level[f] = i
		}
	}
	for _, p := range packages(t) {
		from := folder(p.ImportPath)
		if from == "" {
			continue
		}
		if _, ok := level[from]; !ok {
			t.Errorf("%s: folder %s has no layer: add it to layers here and to docs/architecture.md", p.ImportPath, from)
			continue
		}
		for _, imp := range p.Imports {
			to := folder(imp)
			if to == "" || to == from || sideways[[2]string{from, to}] {
				if to == "" && slices.Contains(standardOnly, from) && strings.Contains(strings.Split(imp, "/")[0], ".") {
					t.Errorf("%s imports %s: only the standard library is allowed there", p.ImportPath, imp)
				}
				continue
			}
			if level[to] >= level[from] {
				t.Errorf("%s (layer %d) imports %s (layer %d): imports point down", p.ImportPath, level[from], imp, level[to])
			}
		}
	}
}

// networks are the packages that only family imports: above it nothing knows what a model is made of.
var networks = []string{"clip", "qwen", "t5", "unet", "dit", "vae", "control", "esrgan"}

func TestNetworksAreFamilys(t *testing.T) {
	for _, p := range packages(t) {
		from := folder(p.ImportPath)
		if from == "" || from == "family" || from == "internal" || slices.Contains(networks, from) {
			continue
		}
		for _, imp := range p.Imports {
			if slices.Contains(networks, folder(imp)) {
				t.Errorf("%s imports %s: only package family knows networks", p.ImportPath, imp)
			}
		}
	}
}

// classes are what files call pipelines and networks. Which family a model is, is asked in package family alone, and by
// the reader that tells kinds of files apart.
var classes = regexp.MustCompile(`"(StableDiffusion\w*|UNet2DConditionModel|AutoencoderKL|CLIPTextModel\w*|Flux\w*|ZImage\w*)"`)

func TestFamiliesAreAskedInOnePlace(t *testing.T) {
	for _, name := range tracked(t) {
		first, _, _ := strings.Cut(name, "/")
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || first == "family" || first == "checkpoint" || slices.Contains(networks, first) {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if found := classes.Find(text); found != nil {
			t.Errorf("%s names %s: which family a model is, is asked in package family", name, found)
		}
	}
}

// folder is the top-level folder of one of our packages, "" for others and for the root.
func folder(path string) string {
	rest, ok := strings.CutPrefix(path, "darkroom/")
	if !ok {
		return ""
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Module", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p goPackage
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

// TestProgramLinksNoTests: what only tests need is not in what users run.
func TestProgramLinksNoTests(t *testing.T) {
	for _, tags := range []string{"", "cuda"} {
		// -e: the compiled CUDA kernels may be missing.
		out, err := exec.Command("go", "list", "-e", "-deps", "-tags", tags, "./cmd/darkroom").Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		paths := strings.Fields(string(out))
		if !slices.Contains(paths, "darkroom/kernels/conformance") {
			t.Error("the list lacks conformance, which the self-test needs: this test sees too little")
		}
		if i := slices.IndexFunc(paths, func(p string) bool { return strings.HasPrefix(p, "github.com/nats-io/nats-server/") }); i >= 0 {
			t.Errorf("cmd/darkroom links %s, a third of its first build: it belongs to cmd/darkroom-queue", paths[i])
		}
		for _, path := range paths {
			if path == "testing" || strings.HasPrefix(path, "testing/") {
				t.Errorf("cmd/darkroom with tags %q links %s: ask go mod why", tags, path)
			}
		}
	}
}

// longFiles are the files that may have more than 600 lines, with the reason.
var longFiles = map[string]string{}

func TestFilesAreShort(t *testing.T) {
	for _, name := range tracked(t) {
		switch filepath.Ext(name) {
		case ".go", ".c", ".h", ".cu", ".cuh", ".cc", ".py", ".md":
		default:
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			continue // deleted, not yet committed
		}
		if n := strings.Count(string(text), "\n"); n > 600 && longFiles[name] == "" {
			t.Errorf("%s has %d lines: cut it where a stranger would, or give the reason in longFiles", name, n)
		}
	}
}

// machinePath is an absolute path that some machine has and others do not: a home, a place for work or for mounted disks. What every
// system has (/usr, /etc, /dev, /proc) is none, nor is a path that begins with a name of examplePaths.
var machinePath = regexp.MustCompile(`(?m)(?:^|[\s"'` + "`" + `=:(,\[{])((?:file://)?/(?:home|Users|root|work|mnt|media|opt|srv|var|data|scratch|private|workspace)/[A-Za-z0-9_.-]+|[A-Za-z]:\\Users\\\w+)`)

// examplePaths are in examples that users read.
var examplePaths = []string{"/data/models", "/data/sd15"}

// registries are hosts that packages came from: a lock file of some machine, not ours.
var registries = regexp.MustCompile(`\.(?:pypi|pythonhosted|npmjs)\.org|registry\.npm`)

func TestNoTraceOfAMachine(t *testing.T) {
	for _, name := range tracked(t) {
		info, err := os.Stat(name)
		if err != nil || info.Size() > 1<<20 || name == "house_test.go" {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil || bytes.IndexByte(text, 0) >= 0 { // not a text
			continue
		}
		for _, trace := range traces(text) {
			t.Errorf("%s mentions %q", name, trace)
		}
	}
}

func traces(text []byte) (found []string) {
	for _, m := range machinePath.FindAllSubmatch(text, -1) {
		if !slices.ContainsFunc(examplePaths, func(e string) bool { return strings.HasPrefix(string(m[1]), e) }) {
			found = append(found, string(m[1]))
		}
	}
	for _, m := range registries.FindAll(text, -1) {
		found = append(found, string(m))
	}
	return found
}

func TestFindsTraces(t *testing.T) {
	for text, want := range map[string]int{
		`model = "/home/ada/models"`: 1, "see /Users/ada/x": 1, `(C:\Users\ada)`: 1, "/root/.cache/a /work/b": 2, "https://files.python" + "hosted.org/x": 1,
		"/usr/share/x /etc/hosts /dev/null": 0, "/data/models/sd15": 0, "a/home/b": 0, "https://example.org/home/x": 0,
	} {
		if got := traces([]byte(text)); len(got) != want {
			t.Errorf("%s: found %q, want %d", text, got, want)
		}
	}
}

func tracked(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("git", "ls-files").Output()
	if err != nil {
		t.Skip("not a git checkout: the tree's rules are not checked")
	}
	return strings.Fields(string(out))
}
