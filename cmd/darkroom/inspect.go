package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"darkroom/c2pa"
	"darkroom/checkpoint"
	"darkroom/imagefile"
	"darkroom/machine"
	"darkroom/models/library"
	"darkroom/pipeline"
	"darkroom/recipe"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"
)

func inspectCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "show how a picture was made, or what a model consists of",
		ArgsUsage: "FILE|FOLDER",
		Description: `Reads recipes, from this program and others, in PNG, JPEG and WebP files and in texts. For a model's folder or name, it
shows the parts, parameters, types, hashes and the memory needed.

Examples:
   darkroom inspect apple.png
   darkroom inspect --json apple.png > apple.json     # which --from takes too
   darkroom inspect models/sd15`,
		Flags: []cli.Flag{jsonFlag("print JSON: the recipe alone, or the model's facts")},
		Action: func(c *cli.Context) error {
			path, err := oneWord(c, "the file or folder")
			if err != nil {
				return err
			}
			return inspect(c.Context, e, path, c.Bool("json"))
		},
	}
}

func inspect(ctx context.Context, e *env, path string, asJSON bool) error {
	st, err := os.Stat(path)
	switch {
	case err == nil && st.IsDir() && partFile(path) != "":
		return inspectFile(ctx, e, partFile(path), asJSON)
	case err == nil && st.IsDir():
		return inspectModel(ctx, e, path, asJSON)
	case err == nil && (strings.HasSuffix(path, ".safetensors") || checkpoint.IsSource(path)):
		return inspectFile(ctx, e, path, asJSON)
	case err == nil:
		return inspectImage(e, path, asJSON)
	}
	if folder, findErr := library.Find(path); findErr == nil {
		return inspectModel(ctx, e, folder, asJSON)
	}
	return unopened(err)
}

func inspectImage(e *env, path string, asJSON bool) error {
	info, err := imagefile.Inspect(path)
	if errors.Is(err, imagefile.ErrNotImage) {
		return inspectText(e, path, asJSON)
	}
	if err != nil {
		return err
	}
	if asJSON {
		switch {
		case info.Complete:
			return printRecipe(e, *info.Recipe)
		case info.Parameters != nil:
			return printRecipe(e, *info.Parameters)
		}
		return fmt.Errorf("%s: this %v file has no recipe", path, info.Format)
	}
	t := newTable(e.stdout)
	t.AppendRow(table.Row{"file", fmt.Sprintf("%s, %d×%d pixels, %s", info.Format, info.Width, info.Height, bytesText(uint64(info.Size)))})
	switch {
	case info.Complete:
		t.AppendRow(table.Row{"made by", printable("darkroom " + info.Recipe.Version + ", numerics " + info.Recipe.Numerics)})
		recipeRows(t, *info.Recipe)
	case info.Parameters != nil:
		foreignRows(t, *info.Parameters)
	default:
		t.AppendRow(table.Row{"recipe", "none that can be read"})
	}
	if picture, err := imagefile.Load(path); err == nil {
		if score := imagefile.MarkScore(picture.Pixels); score >= imagefile.MarkFound {
			t.AppendRow(table.Row{"watermark", fmt.Sprintf("found: machine-made (%.1f standard deviations above chance)", score)})
		}
	}
	if text := credentials(path); text != "" {
		t.AppendRow(table.Row{"c2pa", printable(text)})
	}
	for _, x := range info.Texts {
		switch {
		case x.Problem != "":
			t.AppendRow(table.Row{printable(x.Key), "cannot be read: " + x.Problem})
		case x.Key == "darkroom" || x.Key == "XML:com.adobe.xmp" && x.Problem == "" || x.Key == "parameters" && info.Recipe != nil:
		default:
			t.AppendRow(table.Row{printable(x.Key), printable(shorten(x.Value, 200))})
		}
	}
	t.Render()
	return nil
}

// inspectText shows a recipe as JSON, or another program's text.
// credentials says what a file's C2PA manifest says, and whether it fits; "" without one.
func credentials(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	r, err := c2pa.Check(data)
	switch {
	case err != nil:
		return err.Error()
	case r == nil:
		return ""
	}
	what := fmt.Sprintf("the manifest by %s, signed by %s (vouched for by %s)", r.Generator, r.Signer, r.Issuer)
	if r.Source != "" {
		what += ", says " + r.Source[strings.LastIndexByte(r.Source, '/')+1:]
	}
	if r.Problems != nil {
		return what + ", does not fit: " + strings.Join(r.Problems, "; ")
	}
	return what + ", fits: its hashes and its signature are right. Whether to trust the signer is for you to decide"
}

func inspectText(e *env, path string, asJSON bool) error {
	s, err := readTextSource(path)
	if err != nil {
		return err
	}
	if asJSON && s.complete {
		return printRecipe(e, s.recipe)
	}
	if asJSON {
		return printRecipe(e, *s.foreign)
	}
	t := newTable(e.stdout)
	if t.AppendRow(table.Row{"file", "a text"}); s.complete {
		t.AppendRow(table.Row{"made by", printable("darkroom " + s.recipe.Version + ", numerics " + s.recipe.Numerics)})
		recipeRows(t, s.recipe)
	} else {
		foreignRows(t, *s.foreign)
	}
	t.Render()
	return nil
}

// printRecipe prints a recipe, or another program's description, as JSON without escapes for HTML.
func printRecipe(e *env, r json.Marshaler) error {
	text, err := r.MarshalJSON()
	if err != nil {
		return err
	}
	return println(e.stdout, string(text))
}

// shorten is the beginning of a long text.
func shorten(s string, most int) string {
	if runes := []rune(s); len(runes) > most {
		return fmt.Sprintf("%s… (%d characters)", string(runes[:most]), len(runes))
	}
	return s
}

// foreignRows shows what another program wrote, and what it means here.
func foreignRows(t table.Writer, f recipe.Foreign) {
	made := "another program"
	if strings.HasPrefix(f.Program, "darkroom") {
		made = printable(shorten(f.Program, 80)) + ", whose recipe is lost except for this text"
	} else if f.Program != "" {
		made += ": " + printable(shorten(f.Program, 80))
	}
	t.AppendRow(table.Row{"made by", made})
	r := f.Recipe
	for _, row := range [][2]string{{"prompt", r.Prompt}, {"negative", r.Negative}} {
		t.AppendRow(table.Row{row[0], printable(row[1])})
	}
	for _, x := range f.Fields {
		if x.Value == r.Prompt || x.Value == r.Negative {
			continue
		}
		t.AppendRow(table.Row{printable(x.Key), printable(shorten(x.Value, 200))})
	}
	given := f.Given()
	given.Drop("prompt")
	given.Drop("negative")
	if given.Has("scheduler") {
		given.Drop("sigmas")
		given.Set("scheduler", r.Name())
	}
	words := given.Flags()
	if r.Model != "" {
		words = append(words, "--model", r.Model)
	}
	t.AppendRow(table.Row{"in terms of darkroom", printable(strings.Join(words, " "))})
	for _, note := range f.Notes {
		t.AppendRow(table.Row{"note", printable(note)})
	}
	for _, x := range f.Unused {
		t.AppendRow(table.Row{"not used", printable(shorten(x.Key+": "+x.Value, 80))})
	}
}

// recipeRows shows a recipe's settings by the names of their flags, then what came of them.
func recipeRows(t table.Writer, r recipe.Recipe) {
	row := func(name, value string) { t.AppendRow(table.Row{name, printable(value)}) }
	for _, group := range recipe.Groups() {
		for _, s := range recipe.All() {
			if s.Group == group && s.InRecipe() {
				if name, value, ok := recipeRow(&s, &r); ok {
					row(name, value)
				}
			}
		}
	}
	row("weights", r.ModelHash)
	for _, f := range r.Files {
		value := f.Name + ", " + f.SHA256
		if f.AutoV3 != "" {
			value += ", AutoV3 " + f.AutoV3
		}
		row(f.Kind+" file", value)
	}
	prediction := r.Prediction
	if r.PredictionWhy != "" {
		prediction += ": " + r.PredictionWhy
	}
	row("prediction", prediction)
	row("device", r.Device)
	if r.DecodeDType != "" {
		row("decoded in", r.DecodeDType)
	}
	row("noise hash", r.Result.Noise)
	row("latents hash", r.Result.Latents)
	row("pixels hash", r.Result.Pixels)
	for _, name := range sortedKeys(r.Unknown) {
		t.AppendRow(table.Row{printable(name), string(r.Unknown[name]) + " (not known to this version)"})
	}
}

// recipeRow is how a setting is shown; settings with their usual value are not.
func recipeRow(s *recipe.Setting, r *recipe.Recipe) (name, value string, ok bool) {
	v := s.FromRecipe(r)
	switch s.Name {
	case "width":
		return "size", fmt.Sprintf("%d×%d", r.Width, r.Height), true
	case "height":
		return "", "", false // with the width
	case "scheduler":
		return s.Name, r.Name(), true // with the name of its sigmas
	case "sigmas":
		return s.Name, s.Format(v), len(r.SigmaList) > 0
	}
	if s.Recipe == nil {
		return s.Name, s.Format(v), r.Extra[s.Name] != nil
	}
	return s.Name, s.Format(v), v != "" && v != false || s.Zero
}

func sortedKeys(f recipe.Fields) []string {
	var names []string
	for name := range f {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// modelFacts is what inspect shows of a model.
type modelFacts struct {
	Name       string      `json:"name"`
	Path       string      `json:"path"`
	Class      string      `json:"class"`
	Kind       string      `json:"kind,omitempty"` // "FLUX.1 Canny": a family, or what its models were trained for
	Parts      []partFacts `json:"parts"`
	Parameters int64       `json:"parameters"`
	Bytes      int64       `json:"bytes"`
	Hash       string      `json:"hash,omitempty"`
	Width      int         `json:"width,omitempty"` // of a picture where the request does not say
	Height     int         `json:"height,omitempty"`
	Steps      int         `json:"steps,omitempty"`
	CFG        float64     `json:"cfg,omitempty"`
	Scheduler  string      `json:"scheduler,omitempty"`
	Memory     uint64      `json:"memory,omitempty"` // bytes that such a picture takes
	// Likewise where the text encoders are given back after each prompt, which is done where memory is short, and with --low-memory.
	MemoryFrugal uint64 `json:"memoryFrugal,omitempty"`
	MemoryLow    uint64 `json:"memoryLow,omitempty"`
	Device       string `json:"device,omitempty"` // that this is for
	Problem      string `json:"problem,omitempty"`
	*singleFacts
}

type partFacts struct {
	Name       string           `json:"name"`
	Class      string           `json:"class"`
	Tensors    int              `json:"tensors"`
	Parameters int64            `json:"parameters"`
	Bytes      int64            `json:"bytes"`
	Types      map[string]int64 `json:"types"` // parameters by type
	Hash       string           `json:"hash"`
}

func inspectModel(_ context.Context, e *env, path string, asJSON bool) error {
	options := pipeline.Options{Model: path, HashCache: machine.HashFolder()}
	folder, err := pipeline.OpenFolder(options)
	if err != nil {
		return err
	}
	index, err := folder.Index()
	if err != nil {
		return err
	}
	m := modelFacts{Name: filepath.Base(path), Path: folder.Name(), Class: index.Class}
	if single := folder.Single(); single != nil {
		m.Name = library.PartName(path)
		m.single(single)
	}
	for _, name := range library.WeightParts(index) {
		part, err := describePart(folder, name)
		if err != nil {
			return err
		}
		part.Class = index.Components[name].Class
		m.Parts = append(m.Parts, part)
		m.Parameters += part.Parameters
		m.Bytes += part.Bytes
	}
	if err := m.describeUse(options); err != nil {
		m.Problem = err.Error()
	}
	if asJSON {
		return printJSON(e.stdout, m)
	}
	m.print(e)
	return nil
}

func describePart(folder *checkpoint.Folder, name string) (partFacts, error) {
	set, err := folder.Weights(name)
	if err != nil {
		return partFacts{}, err
	}
	defer release(set)
	p := setFacts(set)
	p.Name = name
	p.Hash, err = set.Hash()
	return p, err
}

func setFacts(set *checkpoint.Set) partFacts {
	st := set.Stats()
	p := partFacts{Tensors: st.Tensors, Parameters: st.Parameters, Bytes: st.Bytes, Types: map[string]int64{}}
	for kind, s := range st.ByType {
		p.Types[kind] = s.Parameters
	}
	return p
}

// describeUse opens the model as generate does, and finds how much memory a picture takes.
func (m *modelFacts) describeUse(o pipeline.Options) error {
	p, err := pipeline.Open(o)
	if err != nil {
		return err
	}
	defer release(p)
	r := p.NewRequest("")
	m.Kind = p.Family()
	m.Width, m.Height, m.Steps, m.CFG, m.Scheduler = r.Width, r.Height, r.Steps, r.CFG, r.Scheduler
	m.Memory = p.Need(r.Width, r.Height, r.CFG > 1).Total()
	m.MemoryFrugal, m.MemoryLow = p.NeedFrugal(r.Width, r.Height, r.CFG > 1).Total(), p.NeedLow(r.Width, r.Height, r.CFG > 1).Total()
	if m.singleFacts != nil {
		m.Lender = p.Lender()
	}
	m.Device = p.Backend()
	if kind := p.DType(); kind != "" {
		m.Device += ", " + kind
	}
	m.Hash, err = p.Hash()
	return err
}

func (m *modelFacts) print(e *env) {
	t := newTable(e.stdout)
	t.AppendRow(table.Row{"model", m.Path})
	kind := m.Class
	if m.Kind != "" {
		kind = m.Kind + " (" + m.Class + ")"
	}
	t.AppendRow(table.Row{"kind", kind})
	if m.singleFacts != nil {
		m.rows(t)
	}
	t.AppendRow(table.Row{"parameters", millions(m.Parameters)})
	t.AppendRow(table.Row{"weights", bytesText(uint64(m.Bytes))})
	if m.Problem != "" {
		t.AppendRow(table.Row{"cannot be run", m.Problem})
	} else {
		t.AppendRow(table.Row{"hash", m.Hash})
		t.AppendRow(table.Row{"size", fmt.Sprintf("%d×%d pixels", m.Width, m.Height)})
		t.AppendRow(table.Row{"steps, cfg", fmt.Sprintf("%d, %v", m.Steps, m.CFG)})
		t.AppendRow(table.Row{"memory", fmt.Sprintf("%s for a picture of that size (%s); %s if memory is short; %s with --low-memory",
			bytesText(m.Memory), m.Device, bytesText(m.MemoryFrugal), bytesText(m.MemoryLow))})
	}
	t.Render()
	fmt.Fprintln(e.stdout)
	t = newTable(e.stdout)
	t.AppendHeader(table.Row{"part", "class", "tensors", "parameters", "weights", "types", "SHA-256"})
	for _, p := range m.Parts {
		t.AppendRow(table.Row{p.Name, p.Class, p.Tensors, millions(p.Parameters), bytesText(uint64(p.Bytes)), typesText(p.Types), p.Hash})
	}
	t.Render()
}

func typesText(types map[string]int64) string {
	var names []string
	for name := range types {
		names = append(names, name)
	}
	sort.Strings(names)
	return strings.Join(names, ", ")
}
