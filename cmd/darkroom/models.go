package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"darkroom/machine"
	"darkroom/models/library"
	"darkroom/pipeline"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"
)

func modelsCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "models",
		Usage:     "list the models that --model takes by name, show one, or remove one",
		ArgsUsage: "[show NAME | rm NAME…]",
		Description: `A model is a folder in the diffusers layout (model_index.json, unet/, vae/, …) or a single file. --model takes the
path of either. It finds names in the folders of DARKROOM_MODELS, or else in
` + strings.Join(machine.UserModelFolders(), ", ") + `. darkroom pull fetches more.
show NAME describes a model; show default lists the words that the embedded model knows.
rm removes a model, adapter, embedding, autoencoder or upscaler by name, only from those folders. It asks first.

Examples:
   darkroom models
   darkroom models show default
   darkroom models rm sdxl-turbo
   darkroom models rm lora:ink --yes
   DARKROOM_MODELS=/data/models darkroom generate --model sd15 "a red apple"`,
		Flags: []cli.Flag{jsonFlag("print one line of JSON per model"), &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "rm: do not ask"}},
		Action: func(c *cli.Context) error {
			if c.Args().First() == "rm" {
				return removeModels(c.Context, e, c.Args().Tail(), c.Bool("yes"))
			}
			if c.Args().First() == "show" {
				return showModel(c.Context, e, c.Args().Tail(), c.Bool("json"))
			}
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
	for _, k := range library.Kinds() {
		for _, path := range library.Parts(k) {
			size := ""
			if items, err := library.Items(k.Name + ":" + library.PartName(path)); err == nil {
				size = bytesText(uint64(items[0].Bytes))
			}
			t.AppendRow(table.Row{library.PartName(path), k.Name, "", size, path})
		}
	}
	t.Render()
	return nil
}

// removeModels removes the items with these names. It removes nothing if a name is unknown or ambiguous.
func removeModels(_ context.Context, e *env, names []string, yes bool) error {
	if len(names) == 0 {
		return &usageError{"models", "rm: name what to remove"}
	}
	var items []library.Item
	for _, name := range names {
		found, err := library.Items(name)
		if err != nil {
			return usagef("%v", err)
		}
		if len(found) > 1 {
			var which []string
			for _, x := range found {
				which = append(which, x.Kind.Name+":"+x.Name+" ("+x.Path+")")
			}
			return usagef("%q names more than one thing: %s; say which kind", name, strings.Join(which, ", "))
		}
		items = append(items, found...)
	}
	answers := bufio.NewReader(e.stdin)
	for _, x := range items {
		if !yes {
			fmt.Fprintf(e.stderr, "Remove %s %s, %s, from %s? [y/N] ", x.Kind.Name, printable(x.Name), bytesText(uint64(x.Bytes)), printable(x.Path))
			answer, err := answers.ReadString('\n')
			if err != nil && answer == "" {
				return usagef("nothing was removed, because there was no answer: --yes removes without asking")
			}
			if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
				fmt.Fprintln(e.stderr, "It stays.")
				continue
			}
		}
		if err := x.Remove(); err != nil {
			return err
		}
		if err := println(e.stdout, "removed "+x.Path); err != nil {
			return err
		}
	}
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
