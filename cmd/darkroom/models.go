package main

import (
	"context"
	"strings"

	"darkroom/machine"
	"darkroom/models/library"
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
` + strings.Join(machine.UserModelFolders(), ", ") + `.

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

func models(_ context.Context, e *env, asJSON bool) error {
	infos := library.List()
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

// openPipeline opens the model that o names, by path or by name.
func openPipeline(o pipeline.Options) (*pipeline.Pipeline, error) {
	path, err := library.Find(o.Model)
	if err != nil {
		return nil, err
	}
	o.Model = path
	return pipeline.Open(o)
}
