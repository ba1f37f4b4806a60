package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"darkroom/checkpoint"
	defaultmodel "darkroom/models/default"
	"darkroom/pipeline"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"
)

func modelsCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "models",
		Usage: "list the models that --model takes by name",
		Description: `A model is a folder in the diffusers layout (model_index.json, unet/, vae/, …). --model takes the
path of any; by name it finds those in the folders of DARKROOM_MODELS, or else in
` + strings.Join(defaultModelFolders(), ", ") + `.

Examples:
   darkroom models
   DARKROOM_MODELS=/data/models darkroom generate --model sd15 "a red apple"`,
		Flags: []cli.Flag{jsonFlag("print a line of JSON for each model")},
		Action: func(c *cli.Context) error {
			if err := noWords(c); err != nil {
				return err
			}
			return models(c.Context, e, c.Bool("json"))
		},
	}
}

// modelInfo is a row of models.
type modelInfo struct {
	Name       string `json:"name"`
	Path       string `json:"path"` // "" for the embedded one
	Class      string `json:"class"`
	Parameters int64  `json:"parameters"`
	Bytes      int64  `json:"bytes"` // of the weights on disk
	Problem    string `json:"problem,omitempty"`
}

func models(_ context.Context, e *env, asJSON bool) error {
	infos := []modelInfo{describeModel(defaultmodel.Name, "")}
	for _, path := range installedModels() {
		infos = append(infos, describeModel(filepath.Base(path), path))
	}
	if asJSON {
		for _, m := range infos {
			if err := printJSON(e.stdout, m); err != nil {
				return err
			}
		}
		return nil
	}
	t := newTable(e.stdout)
	t.AppendHeader(table.Row{"name", "kind", "parameters", "size", "where"})
	for _, m := range infos {
		where, kind := m.Path, m.Class
		if where == "" {
			where = "in the program"
		}
		if m.Problem != "" {
			kind = m.Problem
		}
		t.AppendRow(table.Row{m.Name, kind, millions(m.Parameters), bytesText(uint64(m.Bytes)), where})
	}
	t.Render()
	return nil
}

func describeModel(name, path string) modelInfo {
	m := modelInfo{Name: name, Path: path}
	folder, err := pipeline.OpenFolder(pipeline.Options{Model: path})
	if err != nil {
		m.Problem = err.Error()
		return m
	}
	index, err := folder.Index()
	if err != nil {
		m.Problem = err.Error()
		return m
	}
	m.Class = index.Class
	for _, part := range weightParts(index) {
		set, err := folder.Weights(part)
		if err != nil {
			m.Problem = err.Error()
			return m
		}
		st := set.Stats()
		m.Parameters += st.Parameters
		m.Bytes += st.Bytes
		if err := set.Close(); err != nil {
			m.Problem = err.Error()
		}
	}
	return m
}

// weightParts are the model's parts that have weights, in the order of the data.
func weightParts(index *checkpoint.Index) []string {
	var parts []string
	for _, part := range []string{"text_encoder", "text_encoder_2", "unet", "vae"} {
		if _, ok := index.Components[part]; ok {
			parts = append(parts, part)
		}
	}
	return parts
}

// modelFolders are where models are found by name.
func modelFolders() []string {
	if list := os.Getenv("DARKROOM_MODELS"); list != "" {
		return filepath.SplitList(list)
	}
	return defaultModelFolders()
}

// defaultModelFolders is where the system keeps a user's data.
func defaultModelFolders() []string {
	data := os.Getenv("XDG_DATA_HOME")
	if data == "" {
		if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
			data, _ = os.UserConfigDir()
		} else if home, err := os.UserHomeDir(); err == nil {
			data = filepath.Join(home, ".local", "share")
		}
	}
	if data == "" {
		return nil
	}
	return []string{filepath.Join(data, "darkroom", "models")}
}

// installedModels are the paths of all models in those folders; of one name, the first.
func installedModels() []string {
	var paths []string
	for _, folder := range modelFolders() {
		found, _ := filepath.Glob(filepath.Join(escapeGlob(folder), "*", "model_index.json"))
		for _, index := range found {
			path := filepath.Dir(index)
			same := func(p string) bool { return filepath.Base(p) == filepath.Base(path) }
			if !slices.ContainsFunc(paths, same) {
				paths = append(paths, path)
			}
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

// findModel turns what --model says into what the pipeline opens: the embedded model's name or a folder.
func findModel(name string) (string, error) {
	if name == "" || name == defaultmodel.Name {
		return defaultmodel.Name, nil
	}
	st, err := os.Stat(name)
	if err == nil && st.IsDir() {
		return name, nil
	}
	if err == nil {
		return "", fmt.Errorf("--model %s: it is a file: a folder in the diffusers layout (with model_index.json) is needed", name)
	}
	installed := installedModels()
	names := []string{defaultmodel.Name}
	for _, path := range installed {
		if filepath.Base(path) == name {
			return path, nil
		}
		names = append(names, filepath.Base(path))
	}
	return "", fmt.Errorf("--model %s: there is no such folder, and no model of that name in %s%s", name, strings.Join(modelFolders(), ", "), nearest(name, names))
}

// openPipeline opens the model that o names, by path or by name.
func openPipeline(o pipeline.Options) (*pipeline.Pipeline, error) {
	path, err := findModel(o.Model)
	if err != nil {
		return nil, err
	}
	o.Model = path
	return pipeline.Open(o)
}

// modelNames are all names that --model takes.
func modelNames() []string {
	names := []string{defaultmodel.Name}
	for _, path := range installedModels() {
		names = append(names, filepath.Base(path))
	}
	return names
}
