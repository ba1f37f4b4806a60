package main

import (
	"context"
	"fmt"
	"strings"

	defaultmodel "darkroom/models/default"
	"darkroom/models/library"
)

// showModel describes a model: its file's facts or, for the embedded one, the words that it was trained on.
func showModel(ctx context.Context, e *env, names []string, asJSON bool) error {
	if len(names) != 1 {
		return &usageError{"models", "show: name one model"}
	}
	path, err := library.Find(names[0])
	if err != nil {
		return err
	}
	if path != defaultmodel.Name {
		return inspect(ctx, e, path, asJSON)
	}
	w := defaultmodel.Known()
	if asJSON {
		return printJSON(e.stdout, w)
	}
	width, _ := terminalWidth(e.stdout)
	for _, text := range []string{
		"The embedded model draws pictures of 256×256 pixels from these words.",
		"Things (" + fmt.Sprint(len(w.Nouns)) + "): " + strings.Join(w.Names(), ", "),
		"Colours: " + strings.Join(w.Colours, ", "),
		"Backgrounds: on a " + strings.Join(w.Backgrounds, ", "),
		"Around it: " + strings.Join(w.Settings, ", "),
		"Alone: " + strings.Join(w.Scenery, ", "),
		"Places: " + strings.Join(w.Places, ", "),
		"How many: " + strings.Join(w.Counts, ", ") + "; two things with \"and\"",
		"Sizes: " + strings.Join(w.Sizes, ", "),
		"Styles: " + strings.Join(w.Styles, ", "),
		fmt.Sprintf("Other words: %d and their plurals are drawn as the nearest of these, \"a poodle\" as a dog and \"crimson\" as red; the rest are left out", defaultmodel.Alike()),
		"Examples: \"a red apple\", \"two cats on the grass\", \"a castle at night\", \"a cat and a dog\"",
	} {
		if err := println(e.stdout, strings.TrimRight(wrap(text, width, "", "   "), "\n")); err != nil {
			return err
		}
	}
	return nil
}
