package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"darkroom/batch/jobs"
	"darkroom/machine"
	"darkroom/recipe"

	"github.com/urfave/cli/v2"
)

// A picture's settings come from several places, each overriding the one before: the model, the configuration file, the
// environment (DARKROOM_STEPS, …), --from, --preset, --style, the command line's other flags.

func presetFlag() cli.Flag {
	return &cli.StringFlag{Name: "preset", Usage: "`NAME` of a preset of settings in the configuration file; several with commas between", DefaultText: "none", Category: recipe.PromptGroup.String()}
}

func styleFlag() cli.Flag {
	return &cli.StringFlag{Name: "style", Usage: "`NAME` of a style in the configuration file, whose words are added to the prompt; several with commas between", DefaultText: "none", Category: recipe.PromptGroup.String()}
}

func wildcardsFlag() cli.Flag {
	return &cli.StringFlag{Name: "wildcards", Usage: "`FOLDER` of the texts for __name__ in a prompt", DefaultText: "wildcards", Category: recipe.PromptGroup.String()}
}

// readConfig reads the user's configuration file; without one, nothing is configured.
func readConfig() (c jobs.Config, err error) {
	path := machine.ConfigFile()
	if path == "" {
		return c, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && os.Getenv("DARKROOM_CONFIG") == "" {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("the configuration file: %w", err)
	}
	c, err = jobs.ParseConfig(path, data)
	var mistakes jobs.Errors
	if errors.As(err, &mistakes) {
		return c, &usageError{text: mistakes.Error()}
	}
	return c, err
}

// standing are the settings of the configuration file and of the environment, which stand over it.
func standing(c jobs.Config) (recipe.Given, error) {
	var env recipe.Given
	for _, s := range recipe.All() {
		name := "DARKROOM_" + strings.ToUpper(s.JSON())
		text, ok := os.LookupEnv(name)
		if !ok || text == "" || s.Name == "prompt" {
			continue
		}
		v, err := s.Parse(text)
		if err == nil {
			err = s.Check(v)
		}
		if err != nil {
			return env, usagef("%s=%s: %v", name, text, err)
		}
		env.Set(s.Name, v)
	}
	return env.Over(c.Defaults), nil
}

// named puts the presets and styles of a command line over what stands below, and the other flags over them. The words of
// styles are added at the end, by addStyle.
func named(c *cli.Context, config jobs.Config, below, flags recipe.Given) (all recipe.Given, styles []recipe.Given, err error) {
	for _, name := range words(c.String("preset")) {
		p, err := config.Preset(name)
		if err != nil {
			return below, nil, &usageError{c.Command.Name, "--preset: " + err.Error()}
		}
		below = p.Over(below)
	}
	for _, name := range words(c.String("style")) {
		s, err := config.Style(name)
		if err != nil {
			return below, nil, &usageError{c.Command.Name, "--style: " + err.Error()}
		}
		styles = append(styles, s)
		s.Drop("prompt")
		s.Drop("negative")
		below = s.Over(below)
	}
	return flags.Over(below), styles, nil
}

// addStyle adds a style's words: what is asked for takes the place of {prompt} in them, or stands before them.
func addStyle(to *recipe.Settings, style recipe.Given) {
	add := func(text *string, words string) {
		switch {
		case words == "":
		case strings.Contains(words, "{prompt}"):
			*text = strings.ReplaceAll(words, "{prompt}", *text)
		case *text == "":
			*text = words
		default:
			*text += ", " + words
		}
	}
	add(&to.Prompt, style.Prompt)
	add(&to.Negative, style.Negative)
}

// fitOutput drops the configuration's file settings that do not apply to the file named on the command line.
func fitOutput(g *recipe.Given, flags recipe.Given, out string) {
	ext := filepath.Ext(out)
	if !flags.Has("format") && ext != "" {
		g.Drop("format")
	}
	if !flags.Has("quality") && (ext == ".png" || ext == "" && (g.Format == "" || g.Format == "png")) {
		g.Drop("quality")
	}
}

func words(list string) (all []string) {
	for _, w := range strings.Split(list, ",") {
		if w = strings.TrimSpace(w); w != "" {
			all = append(all, w)
		}
	}
	return all
}
