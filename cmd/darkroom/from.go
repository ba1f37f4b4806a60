package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"darkroom/checkpoint"
	"darkroom/imagefile"
	"darkroom/machine"
	defaultmodel "darkroom/models/default"
	"darkroom/models/library"
	"darkroom/pipeline"
	"darkroom/recipe"
)

// source is a picture to be made again: what --from and verify read.
type source struct {
	file     string
	recipe   recipe.Recipe
	complete bool            // the recipe is this program's, with every setting
	foreign  *recipe.Foreign // of a recipe that is not complete
	model    string          // the folder or name that the recipe's model was found under; "": it was not looked for
}

// readSource reads a recipe from an image, from a file with the recipe's JSON, or from one with a text that another program
// wrote.
func readSource(file string) (*source, error) {
	info, err := imagefile.Inspect(file)
	if err == nil {
		if info.Recipe == nil {
			return nil, fmt.Errorf("%s: this %v file has no recipe: nothing says how the picture was made", file, info.Format)
		}
		return checkSource(&source{file: file, recipe: *info.Recipe, complete: info.Complete, foreign: info.Parameters})
	}
	if !errors.Is(err, imagefile.ErrNotImage) {
		return nil, unopened(err)
	}
	return readTextSource(file)
}

// readTextSource reads a file that is not an image.
func readTextSource(file string) (*source, error) {
	f, openErr := os.Open(file)
	if openErr != nil {
		return nil, unopened(openErr)
	}
	defer f.Close()
	text, readErr := io.ReadAll(io.LimitReader(f, recipe.MaxForeign+1))
	if readErr != nil {
		return nil, readErr
	}
	text = []byte(recipe.WithoutMark(string(text)))
	s := &source{file: file}
	var foreign recipe.Foreign
	switch err := json.Unmarshal(text, &s.recipe); {
	case json.Unmarshal(text, &foreign) == nil:
	case err == nil && s.recipe.Scheduler != "" && (len(s.recipe.Unknown) == 0 || s.recipe.Numerics != ""):
		s.complete = true
		return checkSource(s)
	default:
		if foreign, err = recipe.ParseForeign(string(text)); err != nil {
			return nil, fmt.Errorf("%s: this is neither an image with a recipe, nor a recipe as JSON, nor a parameters text", file)
		}
	}
	s.recipe, s.foreign = foreign.Recipe, &foreign
	return checkSource(s)
}

func checkSource(s *source) (*source, error) {
	if !s.complete {
		return s, nil // the request that comes of it is checked as any other
	}
	if err := s.recipe.Validate(); err != nil {
		return nil, fmt.Errorf("%s: the recipe is damaged: %s", s.file, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	if len(s.recipe.Unknown) > 0 {
		var names []string
		for name := range s.recipe.Unknown {
			names = append(names, fmt.Sprintf("%.40q", name))
		}
		return nil, fmt.Errorf("%s: the recipe (of darkroom %s) has settings that this version does not know (%s): use the version that made it", s.file, s.recipe.Version, strings.Join(names, ", "))
	}
	return s, nil
}

// open opens the model that the recipe names, on the backend that it names, where the command line does not say
// otherwise. A backend that this machine lacks is replaced, with a warning.
func (s *source) open(o pipeline.Options, show progress) (*pipeline.Pipeline, error) {
	if o.Model == "" {
		if err := s.findModel(show); err != nil {
			return nil, err
		}
		o.Model = s.model
	}
	if s.complete || strings.HasPrefix(s.foreign.Program, "darkroom") { // parts of the model, as the recipe names them
		for _, x := range []struct {
			to   *string
			from string
		}{{&o.VAE, s.recipe.VAE}, {&o.TextModel, s.recipe.TextModel}, {&o.Parts, s.recipe.Parts}, {&o.Refiner, s.recipe.Refiner}, {&o.Prediction, s.recipe.PredictionAsked}} {
			if *x.to == "" {
				*x.to = x.from
			}
		}
	}
	as := o
	if as.Backend == "" {
		as.Backend = s.recipe.Backend
	}
	if as.DType == "" {
		as.DType = s.recipe.DType
	}
	p, err := openPipeline(as)
	if err == nil || as == o {
		return p, err
	}
	p, otherErr := openPipeline(o)
	if otherErr == nil {
		show.note(fmt.Sprintf("warning: %s was made with --backend %s --dtype %s, which this machine cannot do (%v): the picture may differ in details", s.file, as.Backend, as.DType, err))
	}
	return p, otherErr
}

// findModel looks for the recipe's model by name, and by the hash of its weights where it goes by another name here. Another
// program's picture is made with the embedded model if there is no other, with a warning.
func (s *source) findModel(show progress) error {
	if s.model != "" {
		return nil
	}
	if name := s.recipe.Model; name != "" || s.complete {
		folder, err := library.Find(name)
		if err == nil {
			s.model = folder
			return nil
		}
		if s.complete {
			if s.model = modelByHash(s.recipe.ModelHash); s.model == "" {
				return fmt.Errorf("%s was made with the model %q (weights %.10s…), which is not here: say where it is with --model", s.file, name, s.recipe.ModelHash)
			}
			show.note(fmt.Sprintf("%s was made with the model %q, whose weights are here as %s", s.file, name, filepath.Base(s.model)))
			return nil
		}
		if s.model = modelByHash(s.foreign.ModelHash); s.model != "" {
			show.note(fmt.Sprintf("%s was made with the model %q, whose weights are here as %s", s.file, name, filepath.Base(s.model)))
			return nil
		}
		show.note(fmt.Sprintf("warning: %s was made with the model %q, which is not here: the embedded model draws a different picture instead. Name a model with --model", s.file, name))
	}
	s.model = defaultmodel.Name
	return nil
}

// modelByHash is the installed model whose hash begins so, "" if there is none.
func modelByHash(hash string) string {
	if len(hash) < 8 {
		return ""
	}
	for _, path := range append([]string{defaultmodel.Name}, library.Installed()...) {
		p, err := openPipeline(pipeline.Options{Model: path, Backend: pipeline.Ref, HashCache: machine.HashFolder()})
		if err != nil {
			continue
		}
		got, err := p.Hash()
		release(p)
		if err == nil && strings.HasPrefix(got, hash) {
			return path
		}
	}
	return ""
}

// request is the recipe's, on top of r, the model's defaults, for what another program's description leaves out.
func (s *source) request(p *pipeline.Pipeline, r pipeline.Request) (pipeline.Request, []string) {
	if s.complete {
		return pipeline.FromRecipe(s.recipe), nil
	}
	renamed := append(s.renameLoRAs(), s.renameEmbeddings()...)
	given := s.foreign.Given()
	if !given.Has("embedding") {
		given.Set("embedding", recipe.EmbeddingsByWord)
	}
	given.Apply(&r.Settings)
	r, notes := s.usable(p, r)
	return r, append(renamed, notes...)
}

// renameLoRAs finds adapters that go by other names here by the hashes that other programs write.
func (s *source) renameLoRAs() (notes []string) {
	var hashes map[string]string // of those that are here, made where one is missing
	for _, name := range s.foreign.Recipe.LoRANames() {
		if _, err := library.NamedPart(library.LoRAs, name); err == nil {
			continue
		}
		i := slices.IndexFunc(s.foreign.Files, func(f recipe.File) bool { return f.Kind == "lora" && strings.EqualFold(f.Name, name) })
		if i < 0 || len(s.foreign.Files[i].AutoV3) < 8 {
			continue
		}
		if hashes == nil {
			hashes = map[string]string{}
			for _, path := range library.Parts(library.LoRAs) {
				if hash, err := checkpoint.AutoV3(path, machine.HashFolder()); err == nil {
					hashes[path] = hash
				}
			}
		}
		for path, hash := range hashes {
			if strings.HasPrefix(hash, s.foreign.Files[i].AutoV3[:min(12, len(s.foreign.Files[i].AutoV3))]) {
				s.foreign.Recipe.RenameLoRA(name, library.PartName(path))
				notes = append(notes, fmt.Sprintf("the adapter %q is here as %s", name, library.PartName(path)))
				break
			}
		}
	}
	return notes
}

// renameEmbeddings finds embeddings that go by other names here by their hashes, and says which are missing.
func (s *source) renameEmbeddings() (notes []string) {
	for _, f := range s.foreign.Files {
		if f.Kind != "embedding" {
			continue
		}
		if _, err := library.NamedPart(library.Embeddings, f.Name); err == nil {
			continue
		}
		if path := embeddingByHash(f.SHA256); path != "" {
			s.foreign.Recipe.RenameEmbedding(f.Name, library.PartName(path))
			notes = append(notes, fmt.Sprintf("the embedding %q is here as %s", f.Name, library.PartName(path)))
			continue
		}
		notes = append(notes, fmt.Sprintf("the embedding %.80q is not here, so its name is encoded as words", f.Name))
	}
	return notes
}

// embeddingByHash is the installed embedding whose SHA-256 begins so, "" if there is none.
func embeddingByHash(hash string) string {
	if len(hash) < 8 {
		return ""
	}
	for _, path := range library.Parts(library.Embeddings) {
		if got, err := checkpoint.HashFile(path, machine.HashFolder()); err == nil && strings.HasPrefix(got, hash) {
			return path
		}
	}
	return ""
}

// usable replaces settings of another program that this model would refuse and reports the replacements. Such a picture is
// similar at best, so this is not a reason to stop.
func (s *source) usable(p *pipeline.Pipeline, r pipeline.Request) (pipeline.Request, []string) {
	own := p.NewRequest("")
	f := p.Factor()
	var notes []string
	if w, h := roundTo(r.Width, f), roundTo(r.Height, f); w != r.Width || h != r.Height {
		notes = append(notes, fmt.Sprintf("%d×%d pixels: this model's sizes are multiples of %d pixels: using %d×%d instead", r.Width, r.Height, f, w, h))
		r.Width, r.Height = w, h
	}
	names := []string{"eta", "sigmas", "clip-skip", "guidance", "scheduler", "number of steps"}
	r = recipe.Mend(r, func(r pipeline.Request) error { _, err := p.Plan(r); return err }, []func(*pipeline.Request){
		func(r *pipeline.Request) { r.Eta = nil },
		func(r *pipeline.Request) { r.Sigmas = "" },
		func(r *pipeline.Request) { r.ClipSkip = 0 },
		func(r *pipeline.Request) { r.Guidance = "" },
		func(r *pipeline.Request) { r.Scheduler, r.Sigmas = own.Scheduler, own.Sigmas },
		func(r *pipeline.Request) { r.Steps = own.Steps },
	}, func(i int, why error) {
		notes = append(notes, fmt.Sprintf("%v: using the default %s instead", why, names[i]))
	})
	return r, notes
}

// roundTo is the multiple of f nearest to n, at least f.
func roundTo(n, f int) int { return max((n+f/2)/f, 1) * f }

// hasSeed reports whether the source decides the seed.
func (s *source) hasSeed() bool { return s.complete || s.foreign.Knows("seed") }

// warnings are what the user should know before relying on the result being the same picture.
func (s *source) warnings() []string {
	var w []string
	if s.complete {
		if !pipeline.SameArithmetic(s.recipe) {
			w = append(w, fmt.Sprintf("%s was made with numerics %q, this program has %q: the picture may differ in details", s.file, s.recipe.Numerics, pipeline.Numerics))
		}
		return w
	}
	if strings.HasPrefix(s.foreign.Program, "darkroom") {
		w = append(w, s.file+" has lost its recipe except for the text that other programs read: settings missing there take the model's defaults")
	} else {
		w = append(w, s.file+" was made by another program: the picture will be similar at best")
	}
	var unused []string
	for _, f := range s.foreign.Unused {
		unused = append(unused, printable(fmt.Sprintf("%.40s: %.40s", f.Key, f.Value)))
	}
	if len(unused) > 0 {
		w = append(w, "settings of that program that are ignored: "+strings.Join(unused, "; "))
	}
	for _, note := range s.foreign.Notes {
		w = append(w, printable(note))
	}
	return w
}

// sameWeights compares the open model's weights with the recipe's. It waits for the hash.
func (s *source) sameWeights(p *pipeline.Pipeline) error {
	if s.recipe.ModelHash == "" || !s.complete {
		return nil
	}
	hash, err := p.Hash()
	if err != nil {
		return err
	}
	if hash != s.recipe.ModelHash {
		return fmt.Errorf("%s was made with other weights of %q: %.10s…, and these are %.10s…", s.file, s.recipe.Model, s.recipe.ModelHash, hash)
	}
	return nil
}
