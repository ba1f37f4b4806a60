package main

import (
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"

	"darkroom/machine"
	"darkroom/pipeline"
	"darkroom/recipe"

	"github.com/urfave/cli/v2"
)

// settingFlags are the flags of the named settings, or of all that determine a picture. None has its own default: settings
// that are not given come from --from or from the model. So 0 is an ordinary value.
func settingFlags(names ...string) (flags []cli.Flag) {
	all := recipe.All()
	for i := range all {
		if s := &all[i]; slices.Contains(names, s.Name) || len(names) == 0 {
			flags = append(flags, settingFlag(s))
		}
	}
	return flags
}

// settingFlag is a flag whose value is read by readSettings. Its other names are known to arrange.
func settingFlag(s *recipe.Setting) cli.Flag {
	if s.Kind == recipe.SwitchKind {
		return &cli.BoolFlag{Name: s.Name, Usage: s.About, Category: s.Group.String()}
	}
	if s.Repeat {
		return &cli.StringSliceFlag{Name: s.Name, Usage: s.About, DefaultText: s.Default, Category: s.Group.String()}
	}
	return &cli.StringFlag{Name: s.Name, Usage: s.About, DefaultText: s.Default, Category: s.Group.String()}
}

// settingText is what was given for a setting, of a repeated one all together.
func settingText(c *cli.Context, s *recipe.Setting) string {
	if s.Repeat {
		return strings.Join(c.StringSlice(s.Name), cmp.Or(s.Join, ","))
	}
	return c.String(s.Name)
}

// readSettings reads what was given of the settings that the command has flags for, and, if so said, the prompt that is its
// argument.
func readSettings(c *cli.Context, prompt bool) (recipe.Given, error) {
	var g recipe.Given
	all := recipe.All()
	for i := range all {
		s := &all[i]
		if !c.IsSet(s.Name) {
			continue
		}
		if s.Kind == recipe.SwitchKind {
			g.Set(s.Name, c.Bool(s.Name))
		} else if randomSeed(c) && s.Kind == recipe.SeedKind {
			g.Set(s.Name, drawSeed())
		} else if err := g.Parse(s.Name, drawn(s, settingText(c, s))); err != nil {
			return g, &usageError{c.Command.Name, fmt.Sprintf("--%s %q: %v", s.Name, settingText(c, s), err)}
		}
	}
	if prompt && c.NArg() > 0 {
		word, err := oneWord(c, "the prompt")
		if err != nil {
			return g, err
		}
		if g.Has("prompt") {
			return g, &usageError{c.Command.Name, fmt.Sprintf("two prompts: --prompt %.40q and the argument %.40q: give one", g.Prompt, word)}
		}
		if word == "-" {
			if word, err = promptOf(c.App.Reader); err != nil {
				return g, err
			}
		}
		g.Set("prompt", word)
	}
	for _, text := range []string{g.Prompt, g.Negative} {
		if !utf8.ValidString(text) {
			return g, &usageError{c.Command.Name, fmt.Sprintf("the prompt %.40q is not UTF-8 text", text)}
		}
	}
	return g, nil
}

// promptOf is the prompt that stdin holds, without the line break at its end.
func promptOf(stdin io.Reader) (string, error) {
	const most = 1 << 20 // what is too long for a prompt is refused elsewhere
	text, err := io.ReadAll(io.LimitReader(stdin, most))
	if err != nil {
		return "", fmt.Errorf("reading the prompt from stdin: %w", err)
	}
	prompt := strings.TrimRight(string(text), "\r\n")
	if prompt == "" {
		return "", usagef("the prompt - is read from stdin, which is empty (--prompt=- is a dash itself)")
	}
	return prompt, nil
}

// randomSeed reports whether a random seed was asked for, which is also the default.
func randomSeed(c *cli.Context) bool { return recipe.RandomSeed(c.String("seed")) }

// drawn puts a seed in the place of "random" in a variation.
func drawn(s *recipe.Setting, text string) string {
	if seed, strength, ok := strings.Cut(text, ":"); ok && s.Name == "variation" && recipe.RandomSeed(seed) {
		return fmt.Sprintf("%d:%s", drawSeed(), strength)
	}
	return text
}

// drawSeed draws a 32-bit seed, the largest that most other programs take.
func drawSeed() uint64 { return uint64(rand.Uint32()) }

func given[T any](c *cli.Context, name string, get func(string) T) *T {
	if !c.IsSet(name) {
		return nil
	}
	v := get(name)
	return &v
}

func override[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

// engineFlags are which model runs, and where.
func engineFlags() []cli.Flag {
	return append(settingFlags("model", "vae", "parts", "refiner", "prediction", "backend", "dtype"), deviceFlag(), threadsFlag(), lowMemoryFlag())
}

func lowMemoryFlag() cli.Flag {
	return &cli.BoolFlag{Name: "low-memory", Usage: "save memory: load weights block by block, drop the text encoder after use, decode large pictures in tiles; slower"}
}

func threadsFlag() cli.Flag {
	return &cli.IntFlag{Name: "threads", Usage: "processors to use; does not change the picture", DefaultText: "all"}
}

// readEngineFlags is for commands that run on one device.
func readEngineFlags(c *cli.Context) (pipeline.Options, error) {
	o, devices, err := readEngines(c)
	if err == nil && !devices.single() {
		err = &usageError{c.Command.Name, fmt.Sprintf("--device %s: %s runs on one device", c.String("device"), c.Command.Name)}
	}
	return o, err
}

// readEngines is for commands that run on several: the options are those of the first.
func readEngines(c *cli.Context) (pipeline.Options, deviceList, error) {
	devices, err := readDevices(c)
	if err != nil {
		return pipeline.Options{}, devices, err
	}
	o, err := readEngine(c)
	o.Device = devices.first()
	if err == nil && !devices.single() && o.Backend == pipeline.CPU {
		err = &usageError{c.Command.Name, fmt.Sprintf("--device %s --backend cpu: --device lists GPUs: leave one of the two out", c.String("device"))}
	}
	return o, devices, err
}

func readEngine(c *cli.Context) (pipeline.Options, error) {
	o := pipeline.Options{
		Model: c.String("model"), VAE: c.String("vae"), TextModel: c.String("text-encoder"), Parts: c.String("parts"), Refiner: c.String("refiner"), Prediction: c.String("prediction"), Backend: c.String("backend"), DType: c.String("dtype"),
		Threads: c.Int("threads"), HashCache: machine.HashFolder(), LowMemory: c.Bool("low-memory"),
	}
	if c.IsSet("threads") && o.Threads < 1 {
		return o, &usageError{c.Command.Name, fmt.Sprintf("--threads %d: it must be at least 1; leave it out to use all processors", o.Threads)}
	}
	if c.IsSet("model") && o.Model == "" {
		return o, &usageError{c.Command.Name, "--model is empty: name a folder or a model, or leave it out for the embedded one"}
	}
	return o, nil
}

func quietFlag() cli.Flag {
	return &cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "no progress"}
}

func jsonFlag(what string) cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: what}
}
