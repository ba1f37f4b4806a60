package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"darkroom/checkpoint"
)

// singleFacts is what inspect shows of a model in a single file, which a folder's configurations would say.
type singleFacts struct {
	Format        string            `json:"format"`
	Layout        string            `json:"layout"`
	Family        string            `json:"family"`
	FamilyWhy     string            `json:"familyWhy"`
	Prediction    string            `json:"prediction"`
	PredictionWhy string            `json:"predictionWhy"`
	ZeroSNR       bool              `json:"zeroTerminalSNR,omitempty"`
	Missing       []string          `json:"missing,omitempty"` // parts
	Lender        string            `json:"lender,omitempty"`  // the model that they are taken from
	EMA           bool              `json:"ema,omitempty"`
	Metadata      map[string]string `json:"metadata,omitempty"`
}

func (m *modelFacts) single(s *checkpoint.Single) {
	m.singleFacts = &singleFacts{
		Format: s.Format, Layout: s.Layout, Family: s.Family.String(), FamilyWhy: s.FamilyWhy,
		Prediction: s.Prediction.Type, PredictionWhy: s.Prediction.Why, ZeroSNR: s.Prediction.ZeroSNR,
		Missing: s.Missing, EMA: s.EMA, Metadata: s.Metadata,
	}
}

func (f *singleFacts) rows(t table.Writer) {
	t.AppendRow(table.Row{"file", fmt.Sprintf("%s, %s names", f.Format, f.Layout)})
	t.AppendRow(table.Row{"family", f.Family + ": " + f.FamilyWhy})
	prediction := f.Prediction
	if f.ZeroSNR {
		prediction += ", zero terminal SNR"
	}
	t.AppendRow(table.Row{"prediction", prediction + ": " + f.PredictionWhy})
	if len(f.Missing) > 0 {
		missing := strings.Join(f.Missing, ", ")
		if f.Lender != "" {
			missing += ": those of " + f.Lender + " are used"
		}
		t.AppendRow(table.Row{"missing", missing})
	}
	if f.EMA {
		t.AppendRow(table.Row{"averaged", "there are averaged weights (EMA) too; the plain ones are used"})
	}
	metadataRow(t, f.Metadata)
}

// fileFacts is what inspect shows of a file of weights that is not a model.
type fileFacts struct {
	partFacts
	Kind      checkpoint.Kind          `json:"kind"`
	Family    string                   `json:"family,omitempty"`
	What      string                   `json:"what"`
	Hint      string                   `json:"hint,omitempty"`
	Format    string                   `json:"format"`
	Adapter   *checkpoint.AdapterFacts `json:"adapter,omitempty"`
	Embedding *embeddingFacts          `json:"embedding,omitempty"`
	Metadata  map[string]string        `json:"metadata,omitempty"`
}

type embeddingFacts struct {
	Token   string `json:"token"`
	Note    string `json:"note,omitempty"`
	Vectors int    `json:"vectors"`
}

// partFile is the only file of weights of a folder that is one network and no whole model, as diffusers writes a ControlNet or a
// motion module; "" of other folders.
func partFile(folder string) string {
	if _, err := os.Stat(filepath.Join(folder, "model_index.json")); err == nil {
		return ""
	}
	files, _ := filepath.Glob(filepath.Join(folder, "*.safetensors"))
	if len(files) == 0 {
		files, _ = filepath.Glob(filepath.Join(folder, "*.bin"))
	}
	if len(files) != 1 {
		return ""
	}
	return files[0]
}

// inspectFile reports what a file of weights is, by its content.
func inspectFile(ctx context.Context, e *env, path string, asJSON bool) error {
	source, err := checkpoint.OpenSource(path)
	if err != nil {
		return err
	}
	defer release(source)
	d := checkpoint.Describe(source)
	if d.Kind == checkpoint.KindModel {
		return inspectModel(ctx, e, path, asJSON)
	}
	set := checkpoint.NewSourceSet(path, source)
	f := fileFacts{partFacts: setFacts(set), Kind: d.Kind, Family: d.Family, What: d.What, Hint: d.Hint, Format: source.Format(), Metadata: source.Metadata()}
	f.Name = path
	if f.Hash, err = set.Hash(); err != nil {
		return err
	}
	switch d.Kind {
	case checkpoint.KindAdapter:
		facts := checkpoint.AdapterFactsOf(source)
		f.Adapter = &facts
	case checkpoint.KindEmbedding:
		x, err := checkpoint.ReadEmbedding(source)
		if err != nil {
			return err
		}
		f.Embedding = &embeddingFacts{x.Token, x.Note, x.Vectors()}
	}
	if asJSON {
		return printJSON(e.stdout, f)
	}
	f.print(e)
	return nil
}

func (f *fileFacts) print(e *env) {
	t := newTable(e.stdout)
	row := func(name, value string) { t.AppendRow(table.Row{name, printable(value)}) }
	row("file", f.Name)
	what := f.What
	if f.Hint != "" {
		what += ": " + f.Hint
	}
	row("kind", what)
	row("format", f.Format)
	if a := f.Adapter; a != nil {
		adapterRows(row, a)
	}
	if x := f.Embedding; x != nil {
		row("token", fmt.Sprintf("%s, which takes %s in a prompt", x.Token, counted(x.Vectors, "place")))
		if x.Note != "" && x.Note != x.Token {
			row("called", x.Note)
		}
	}
	t.AppendRow(table.Row{"tensors", f.Tensors})
	row("parameters", millions(f.Parameters))
	row("weights", bytesText(uint64(f.Bytes)))
	row("types", typesText(f.Types))
	row("SHA-256", f.Hash)
	metadataRow(t, f.Metadata)
	t.Render()
}

func adapterRows(row func(name, value string), a *checkpoint.AdapterFacts) {
	if a.Name != "" {
		row("called", a.Name)
	}
	if a.Family != "" {
		row("for", a.Family+": "+a.FamilyWhy)
	}
	target := counted(a.Layers, "layer") + " of the denoiser"
	if a.Convolutions > 0 {
		target += fmt.Sprintf(" (%d of them convolutions)", a.Convolutions)
	}
	if a.TextLayers > 0 {
		target += fmt.Sprintf(", %d of text encoders", a.TextLayers)
	}
	row("changes", target)
	switch {
	case a.MaxRank == 0:
	case a.MinRank == a.MaxRank:
		row("rank", fmt.Sprint(a.MaxRank))
	default:
		row("rank", fmt.Sprintf("%d to %d", a.MinRank, a.MaxRank))
	}
	if len(a.Triggers) > 0 {
		row("trained with", strings.Join(a.Triggers, ", "))
	}
	if len(a.BundledTokens) > 0 {
		row("embeddings", strings.Join(a.BundledTokens, ", "))
	}
}

// metadataRow shows the beginning of each value: trainers write whole lists of pictures.
func metadataRow(t table.Writer, meta map[string]string) {
	if len(meta) == 0 {
		return
	}
	short := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(meta)) {
		short[k] = shorten(meta[k], 60)
	}
	if text, err := json.Marshal(short); err == nil {
		t.AppendRow(table.Row{"metadata", printable(fmt.Sprintf("%.300s", text))})
	}
}

// counted is "1 layer", "2 layers".
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
