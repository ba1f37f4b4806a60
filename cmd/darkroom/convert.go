package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"darkroom/checkpoint"
	"darkroom/family"
	defaultmodel "darkroom/models/default"
	"darkroom/models/library"
)

// convertOptions are convert's flags and arguments.
type convertOptions struct {
	In, Out    string
	DType      string   // "", "fp32", "fp16", "bf16"
	Adapters   []string // FILE|NAME[:WEIGHT[:TEXT_WEIGHT]]
	Prediction string
	EMA        bool
}

func convertCommand(e *env) *cli.Command {
	var o convertOptions
	return &cli.Command{
		Name:      "convert",
		Usage:     "write a model in another layout or type",
		ArgsUsage: "IN OUT",
		Description: `IN is a model: a folder in the diffusers layout, a single file, or a name. If OUT ends in
.safetensors, it is written as a single file with the names that other programs read; otherwise as a new folder. Weights
keep their type unless --dtype is given; quantised weights become fp16.

Examples:
   darkroom convert river.safetensors river            # a folder
   darkroom convert --dtype fp16 models/sd15 sd15.safetensors
   darkroom convert --lora paint.safetensors:0.8 river.safetensors river-paint.safetensors`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dtype", Usage: "`TYPE` of the weights: fp32, fp16 or bf16", Destination: &o.DType},
			&cli.StringSliceFlag{Name: "lora", Usage: "bake in an adapter, as `FILE`[:WEIGHT[:TEXT_WEIGHT]] (repeated)"},
			&cli.StringFlag{Name: "prediction", Usage: "what the model predicts: auto, epsilon, v or flow", Destination: &o.Prediction},
			&cli.BoolFlag{Name: "ema", Usage: "use the averaged (EMA) weights if the model has both", Destination: &o.EMA},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return usagef("IN and OUT are needed: darkroom convert IN OUT")
			}
			o.In, o.Out, o.Adapters = c.Args().Get(0), c.Args().Get(1), adapterList(c.StringSlice("lora"))
			return convert(c.Context, e, o)
		},
	}
}

func convert(_ context.Context, e *env, o convertOptions) (err error) {
	as := ""
	if o.DType != "" {
		if as = map[string]string{"fp32": "F32", "fp16": "F16", "bf16": "BF16"}[o.DType]; as == "" {
			return usagef("--dtype %s: fp32, fp16 or bf16", o.DType)
		}
	}
	if ext := strings.ToLower(filepath.Ext(o.Out)); slices.Contains([]string{".gguf", ".ckpt", ".pt", ".pth", ".bin", ".sft"}, ext) {
		return usagef("%s: convert writes no %s files: end the name with .safetensors, or give a folder's", o.Out, ext)
	}
	prediction, err := checkpoint.ParsePrediction(o.Prediction)
	if err != nil {
		return usagef("--%v", err)
	}
	path, err := library.Find(o.In)
	if err != nil {
		return err
	}
	open := func() (*checkpoint.Folder, error) {
		return checkpoint.OpenModel(path, checkpoint.SingleOptions{Prediction: prediction, EMA: o.EMA})
	}
	if path == defaultmodel.Name {
		open = defaultmodel.Folder
	}
	folder, err := open()
	if err != nil {
		return err
	}
	sets, err := checkpoint.OpenParts(folder)
	if err != nil {
		return err
	}
	x := &checkpoint.Export{Folder: folder, Parts: map[string]checkpoint.Weights{}, Type: as}
	for part, s := range sets {
		defer release(s)
		x.Parts[part] = s
	}
	sources, err := bake(e, x, o.Adapters)
	for _, s := range sources {
		defer release(s) // they are read while the model is written
	}
	if err != nil {
		return err
	}
	if strings.EqualFold(filepath.Ext(o.Out), ".safetensors") {
		err = x.SaveFile(o.Out)
	} else {
		if x.Files, err = family.Vocabularies(folder); err == nil {
			err = x.SaveFolder(filepath.Clean(o.Out)) // a slash at the end would put the unfinished one into it
		}
	}
	if err != nil {
		return fmt.Errorf("converting %s: %w", o.In, err)
	}
	fmt.Fprintln(e.stdout, o.Out)
	return nil
}

// bake applies adapters to the parts. It returns what it opened.
func bake(e *env, x *checkpoint.Export, adapters []string) (sources []*checkpoint.Source, err error) {
	var uses []checkpoint.Use
	for _, text := range adapters {
		name, weight, textWeight, err := splitAdapter(text)
		if err != nil {
			return sources, usagef("--lora %s: %v", text, err)
		}
		path, err := library.FindPart(library.LoRAs, name)
		if err != nil {
			return sources, usagef("--lora %s: %v", name, err)
		}
		source, err := checkpoint.OpenSource(path)
		if err != nil {
			return sources, err
		}
		sources = append(sources, source)
		a, err := checkpoint.ReadAdapter(source)
		if err != nil {
			return sources, err
		}
		m, err := a.Match(x.Parts)
		if err != nil {
			return sources, err
		}
		if n := len(m.Unmatched); n > 0 {
			fmt.Fprintf(e.stderr, "darkroom: %s: %d layers are not in the model, such as %s\n", path, n, strings.Join(m.Unmatched[:min(3, n)], ", "))
		}
		uses = append(uses, checkpoint.Use{Matched: m, Weight: weight, TextWeight: textWeight})
	}
	for part, w := range x.Parts {
		if len(uses) > 0 {
			x.Parts[part] = checkpoint.Patched(w, part, uses...)
		}
	}
	return sources, nil
}

// adapterList takes values with several adapters apart, at commas.
func adapterList(values []string) []string {
	return strings.FieldsFunc(strings.Join(values, ","), func(r rune) bool { return r == ',' })
}

// splitAdapter reads FILE[:WEIGHT[:TEXT_WEIGHT]]. A colon that no number follows is the name's, as in C:\loras.
func splitAdapter(text string) (name string, weight, textWeight float64, err error) {
	weight = 1
	var numbers []float64
	for name = text; len(numbers) < 2; {
		i := strings.LastIndexByte(name, ':')
		if i <= 0 {
			break
		}
		v, parseErr := strconv.ParseFloat(name[i+1:], 64)
		if parseErr != nil {
			break
		}
		numbers, name = append(numbers, v), name[:i]
	}
	switch len(numbers) {
	case 1:
		weight = numbers[0]
	case 2:
		return name, numbers[1], numbers[0], nil
	}
	if name == "" {
		err = errors.New("a file is needed")
	}
	return name, weight, weight, err
}
