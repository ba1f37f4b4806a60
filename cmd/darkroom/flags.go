package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"darkroom/pipeline"

	"github.com/urfave/cli/v2"
)

// requestFlags are what decides a picture. None has a default of its own: what is not given comes from --from, or from
// the model. So 0 is a value like any other.
func requestFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "prompt", Usage: "the prompt, instead of the argument", DefaultText: "none"},
		&cli.StringFlag{Name: "negative", Usage: "what the picture should not show", DefaultText: "the model's"},
		&cli.Uint64Flag{Name: "seed", Usage: "start of the random numbers; picture i of --count has seed + i", DefaultText: "random"},
		&cli.IntFlag{Name: "steps", Usage: "steps of denoising", DefaultText: "the model's"},
		&cli.Float64Flag{Name: "cfg", Usage: "guidance scale: how closely the prompt is followed; 1 is no guidance", DefaultText: "the model's"},
		&cli.Float64Flag{Name: "guidance-rescale", Usage: "share of guidance that is rescaled, 0 to 1", DefaultText: "0"},
		&cli.StringFlag{Name: "guidance", Usage: "how --cfg is applied: NAME[:key=value,…], see darkroom guidance", DefaultText: "cfg"},
		&cli.StringFlag{Name: "scheduler", Usage: "the sampler: see darkroom schedulers", DefaultText: "the model's"},
		&cli.StringFlag{Name: "sigmas", Usage: "spacing of noise levels (karras, exponential, …), or a list: 14.6,6.1,0.03", DefaultText: "the scheduler's"},
		&cli.Float64Flag{Name: "eta", Usage: "share of fresh noise in each step, for schedulers that have it", DefaultText: "the scheduler's"},
		&cli.StringFlag{Name: "sde-noise", Usage: "noise of stochastic schedulers: torch, a draw a step as in diffusers, or brownian, a path of the seed as in k-diffusion", DefaultText: "torch"},
		&cli.IntFlag{Name: "width", Usage: "pixels", DefaultText: "the model's"},
		&cli.IntFlag{Name: "height", Usage: "pixels", DefaultText: "the model's"},
		&cli.StringFlag{Name: "noise", Usage: "whose random numbers: torch-cpu or torch-cuda", DefaultText: "torch-cpu"},
		&cli.StringFlag{Name: "prompt-syntax", Usage: "weighted: (word:1.3), [word], BREAK, any length; plain: all is text, the first 77 tokens", DefaultText: "weighted"},
		&cli.IntFlag{Name: "clip-skip", Usage: "layers to leave off the text encoder's end", DefaultText: "0"},
	}
}

// requestOptions are the request flags that were given; nil was not.
type requestOptions struct {
	Prompt, Negative, Scheduler, Sigmas, Noise, Syntax *string
	Guidance, SDENoise                                 *string
	Seed                                               *uint64
	Steps, Width, Height, ClipSkip                     *int
	CFG, Rescale, Eta                                  *float64
}

func readRequestFlags(c *cli.Context) (requestOptions, error) {
	o := requestOptions{
		Prompt: given(c, "prompt", c.String), Negative: given(c, "negative", c.String),
		Scheduler: given(c, "scheduler", c.String), Sigmas: given(c, "sigmas", c.String),
		Noise: given(c, "noise", c.String), Syntax: given(c, "prompt-syntax", c.String),
		Guidance: given(c, "guidance", c.String), SDENoise: given(c, "sde-noise", c.String),
		Seed:  given(c, "seed", c.Uint64),
		Steps: given(c, "steps", c.Int), Width: given(c, "width", c.Int), Height: given(c, "height", c.Int), ClipSkip: given(c, "clip-skip", c.Int),
		CFG: given(c, "cfg", c.Float64), Rescale: given(c, "guidance-rescale", c.Float64), Eta: given(c, "eta", c.Float64),
	}
	if c.NArg() > 0 {
		word, err := oneWord(c, "the prompt")
		if err != nil {
			return o, err
		}
		if o.Prompt != nil {
			return o, &usageError{c.Command.Name, fmt.Sprintf("two prompts: --prompt %.40q and the argument %.40q: give one", *o.Prompt, word)}
		}
		o.Prompt = &word
	}
	for _, t := range []*string{o.Prompt, o.Negative} {
		if t != nil && !utf8.ValidString(*t) {
			return o, &usageError{c.Command.Name, fmt.Sprintf("the prompt %.40q is not UTF-8 text", *t)}
		}
	}
	return o, nil
}

func given[T any](c *cli.Context, name string, get func(string) T) *T {
	if !c.IsSet(name) {
		return nil
	}
	v := get(name)
	return &v
}

// apply writes what was given over r.
func (o requestOptions) apply(r *pipeline.Request) {
	override(&r.Prompt, o.Prompt)
	override(&r.Negative, o.Negative)
	override(&r.Syntax, o.Syntax)
	override(&r.ClipSkip, o.ClipSkip)
	override(&r.Seed, o.Seed)
	override(&r.Noise, o.Noise)
	override(&r.Width, o.Width)
	override(&r.Height, o.Height)
	override(&r.Steps, o.Steps)
	override(&r.CFG, o.CFG)
	if o.Guidance != nil { // another guidance: the old one's rescale is its own
		r.Guidance, r.Rescale = *o.Guidance, 0
	}
	override(&r.Rescale, o.Rescale)
	if o.Scheduler != nil { // another scheduler: the old one's sigmas and eta mean nothing to it
		r.Scheduler, r.Sigmas, r.Eta = *o.Scheduler, "", nil
	}
	if o.Steps != nil && strings.Contains(r.Sigmas, ",") { // another number of steps: the list of sigmas is void
		r.Sigmas = ""
	}
	override(&r.Sigmas, o.Sigmas)
	override(&r.SDENoise, o.SDENoise)
	if o.Eta != nil {
		r.Eta = o.Eta
	}
	if o.Sigmas != nil && o.Steps == nil && strings.Contains(*o.Sigmas, ",") {
		r.Steps = 0 // the list decides
	}
}

func override[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

// engineFlags are which model runs, and where.
func engineFlags() []cli.Flag {
	return []cli.Flag{
		modelFlag(),
		dtypeFlag(), backendFlag(), deviceFlag(), threadsFlag(),
		&cli.BoolFlag{Name: "low-memory", Usage: "bring weights to the device block by block, drop the text encoder after use, decode large pictures in tiles: slower"},
	}
}

func dtypeFlag() cli.Flag {
	return &cli.StringFlag{Name: "dtype", Usage: "type to compute in: auto, fp32, bf16, fp16, or tf32 (fp32 with products on tensor cores)", DefaultText: "auto"}
}

func backendFlag() cli.Flag {
	return &cli.StringFlag{Name: "backend", Usage: "auto, cpu, cuda or ref", DefaultText: "auto"}
}

func threadsFlag() cli.Flag {
	return &cli.IntFlag{Name: "threads", Usage: "processors to use; the picture does not depend on it", DefaultText: "all"}
}

func modelFlag() cli.Flag {
	return &cli.StringFlag{Name: "model", Usage: "a folder in the diffusers layout, or a name from darkroom models", DefaultText: "the embedded one"}
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
		err = &usageError{c.Command.Name, fmt.Sprintf("--device %s --backend cpu: several devices are GPUs", c.String("device"))}
	}
	return o, devices, err
}

func readEngine(c *cli.Context) (pipeline.Options, error) {
	o := pipeline.Options{
		Model: c.String("model"), Backend: c.String("backend"), DType: c.String("dtype"),
		Threads: c.Int("threads"), HashCache: hashCache(), LowMemory: c.Bool("low-memory"),
	}
	if c.IsSet("threads") && o.Threads < 1 {
		return o, &usageError{c.Command.Name, fmt.Sprintf("--threads %d: at least 1 is needed; leave it out to use all processors", o.Threads)}
	}
	if c.IsSet("model") && o.Model == "" {
		return o, &usageError{c.Command.Name, "--model is empty: name a folder or a model, or leave it out for the embedded one"}
	}
	return o, nil
}

// hashCache is where hashes of big weight files are kept between runs, "" if the system has no place for such things.
func hashCache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "darkroom", "hashes")
}

func quietFlag() cli.Flag {
	return &cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "no progress"}
}

func jsonFlag(what string) cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: what}
}
