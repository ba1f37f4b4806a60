package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"darkroom/imagefile"
	"darkroom/pipeline"
	"darkroom/recipe"
)

// source is a picture to be made again: what --from and verify read.
type source struct {
	file     string
	recipe   recipe.Recipe
	complete bool               // the recipe is this program's, with every setting
	fields   *recipe.Parameters // of a recipe that is not complete
}

// readSource reads a recipe from an image, from a file with the recipe's JSON, or from one with a parameters text.
func readSource(file string) (*source, error) {
	info, err := imagefile.Inspect(file)
	if err == nil {
		if info.Recipe == nil {
			return nil, fmt.Errorf("%s: there is no recipe in this %v file: nothing says how the picture was made", file, info.Format)
		}
		return checkSource(&source{file, *info.Recipe, info.Complete, info.Parameters})
	}
	if !errors.Is(err, imagefile.ErrNotImage) {
		return nil, unopened(err)
	}
	f, openErr := os.Open(file)
	if openErr != nil {
		return nil, unopened(openErr)
	}
	defer f.Close()
	text, readErr := io.ReadAll(io.LimitReader(f, recipe.MaxJSON+1))
	if readErr != nil {
		return nil, readErr
	}
	s := &source{file: file}
	if jsonErr := json.Unmarshal(text, &s.recipe); jsonErr == nil && s.recipe.Scheduler != "" {
		s.complete = true
		return checkSource(s)
	}
	p, paramErr := recipe.ParseParameters(string(text))
	if paramErr != nil {
		return nil, fmt.Errorf("%s: neither an image with a recipe, nor a recipe as JSON, nor a parameters text", file)
	}
	s.recipe, s.fields = p.Recipe, &p
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
	if o.Model == "" && s.complete {
		folder, err := findModel(s.recipe.Model)
		if err != nil {
			return nil, fmt.Errorf("%s was made with the model %q (weights %.10s…), which is not here: say where it is with --model", s.file, s.recipe.Model, s.recipe.ModelHash)
		}
		o.Model = folder
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

// request is the recipe's, on top of the model's defaults for what a foreign text leaves out.
func (s *source) request(p *pipeline.Pipeline) pipeline.Request {
	if s.complete {
		return pipeline.FromRecipe(s.recipe)
	}
	q, r := s.recipe, p.NewRequest(s.recipe.Prompt)
	r.Negative, r.Seed, r.ClipSkip, r.Rescale, r.Noise = q.Negative, q.Seed, q.ClipSkip, q.Rescale, q.Noise
	r.Guidance, r.SDENoise, r.Extra = q.Guidance, q.SDENoise, q.Extra
	if s.fields.Has("Steps") {
		r.Steps = q.Steps
	}
	if s.fields.Has("CFG scale") {
		r.CFG = q.CFG
	}
	if q.Width > 0 && q.Height > 0 {
		r.Width, r.Height = q.Width, q.Height
	}
	if q.Scheduler != "" {
		r.Scheduler, r.Sigmas = q.Scheduler, q.Sigmas
	}
	if s.fields.Has("Eta") || s.fields.Has("Eta DDIM") {
		r.Eta = &q.Eta
	}
	return r
}

// warnings are what the user should know before trusting the result to be the same picture.
func (s *source) warnings() []string {
	var w []string
	if s.complete {
		if s.recipe.Numerics != pipeline.Numerics {
			w = append(w, fmt.Sprintf("%s was made with numerics %q, this program has %q: the picture may differ in details", s.file, s.recipe.Numerics, pipeline.Numerics))
		}
		return w
	}
	w = append(w, s.file+" was made by another program: the picture will be alike at best")
	var unused []string
	for _, f := range s.fields.Unused {
		unused = append(unused, fmt.Sprintf("%s: %.40s", f.Key, f.Value))
	}
	if len(unused) > 0 {
		w = append(w, "settings of that program that are not used: "+strings.Join(unused, "; "))
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
