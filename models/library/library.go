// Package library finds models by name: the embedded one, and those in the user's folders.
package library

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"darkroom/checkpoint"
	"darkroom/machine"
	defaultmodel "darkroom/models/default"
	"darkroom/similar"
)

// Installed are the paths of all models in the user's folders; of one name, the first.
func Installed() []string {
	var paths []string
	for _, folder := range machine.ModelFolders() {
		found, _ := filepath.Glob(filepath.Join(escapeGlob(folder), "*", "model_index.json"))
		for _, index := range found {
			path := filepath.Dir(index)
			same := func(p string) bool { return filepath.Base(p) == filepath.Base(path) }
			if strings.HasPrefix(filepath.Base(path), ".") {
				continue // half fetched
			}
			if !slices.ContainsFunc(paths, same) {
				paths = append(paths, path)
			}
		}
	}
	for _, path := range Parts(models) {
		same := func(p string) bool { return NameOf(p) == NameOf(path) }
		if !slices.ContainsFunc(paths, same) {
			paths = append(paths, path)
		}
	}
	return paths
}

func escapeGlob(path string) string {
	if runtime.GOOS == "windows" {
		return path
	}
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// Names are all names that Find takes, the embedded model's first.
func Names() []string {
	names := []string{defaultmodel.Name}
	for _, path := range Installed() {
		names = append(names, NameOf(path))
	}
	return names
}

// NameOf is what a model is called by: a folder's last element, or a file's without its ending.
func NameOf(path string) string {
	if slices.Contains(weightFiles, strings.ToLower(filepath.Ext(path))) {
		return PartName(path)
	}
	return filepath.Base(path)
}

// Named is the model of that name: the embedded one's name, or a folder's path. It takes no paths, and is for names that
// others send.
func Named(name string) (path string, ok bool) {
	if name == defaultmodel.Name {
		return name, true
	}
	for _, path := range Installed() {
		if NameOf(path) == name || filepath.Base(path) == name {
			return path, true
		}
	}
	return "", false
}

// Find turns a name or a path, as --model takes it, into what pipeline.Open takes: the embedded model's name or a folder.
func Find(name string) (string, error) {
	if name == "" || name == defaultmodel.Name {
		return defaultmodel.Name, nil
	}
	st, err := os.Stat(name)
	if err == nil && st.IsDir() {
		return name, nil
	}
	if err == nil && st.Mode().IsRegular() {
		return name, nil // checkpoint says what it is
	}
	if path, ok := Named(name); ok {
		return path, nil
	}
	return "", &NotFoundError{name, fmt.Sprintf("--model %s: there is no such folder, and no model of that name in %s%s", name, strings.Join(machine.ModelFolders(), ", "), similar.Hint(name, Names()))}
}

// NotFoundError says that a model is not here.
type NotFoundError struct{ Name, text string }

func (e *NotFoundError) Error() string { return e.text }

// Info is what a list of models shows.
type Info struct {
	Name       string `json:"name"`
	Path       string `json:"path"` // "" for the embedded one
	Class      string `json:"class"`
	Parameters int64  `json:"parameters"`
	Bytes      int64  `json:"bytes"` // of the weights on disk
	Problem    string `json:"problem,omitempty"`
}

// List describes the embedded model and all that are installed.
func List() []Info {
	all := []Info{describe(defaultmodel.Name, "")}
	for _, path := range Installed() {
		all = append(all, describe(NameOf(path), path))
	}
	return all
}

func describe(name, path string) Info {
	m := Info{Name: name, Path: path}
	if err := m.read(); err != nil {
		m.Problem = err.Error()
	}
	return m
}

func (m *Info) read() error {
	open := func() (*checkpoint.Folder, error) { return checkpoint.OpenModel(m.Path, checkpoint.SingleOptions{}) }
	if m.Path == "" {
		open = defaultmodel.Folder
	}
	folder, err := open()
	if err != nil {
		return err
	}
	index, err := folder.Index()
	if err != nil {
		return err
	}
	m.Class = index.Class
	for _, part := range WeightParts(index) {
		set, err := folder.Weights(part)
		if err != nil {
			return err
		}
		st := set.Stats()
		m.Parameters += st.Parameters
		m.Bytes += st.Bytes
		if err := set.Close(); err != nil {
			return err
		}
	}
	return nil
}

// WeightParts are the model's parts that have weights, in the order of the data.
func WeightParts(index *checkpoint.Index) []string {
	var parts []string
	for _, part := range []string{"text_encoder", "text_encoder_2", "text_encoder_3", "unet", "transformer", "vae"} {
		if _, ok := index.Components[part]; ok {
			parts = append(parts, part)
		}
	}
	return parts
}
