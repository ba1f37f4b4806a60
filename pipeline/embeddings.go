package pipeline

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"darkroom/checkpoint"
	"darkroom/family"
	"darkroom/models/library"
	"darkroom/recipe"
)

// addEmbeddings reads the textual inversions of the settings, and looks for the installed ones that prompts name.
func (p *Pipeline) addEmbeddings(a *adaptation, pl *plan) error {
	embeddings, err := recipe.ParseUses(pl.Embedding)
	if err != nil {
		return usagef("--embedding %w", err)
	}
	byWord := false
	for _, u := range embeddings {
		if u.Name == recipe.EmbeddingsByWord {
			byWord = true
			continue
		}
		if err := p.addEmbedding(a, u.Name); err != nil {
			return fmt.Errorf("--embedding %s: %w", u.Name, err)
		}
	}
	for _, path := range mentioned(pl.Request) {
		name := library.PartName(path)
		if slices.ContainsFunc(a.Embeddings, func(e *checkpoint.Embedding) bool { return strings.EqualFold(e.Token, name) }) {
			continue
		}
		e, err := p.embedding(path)
		switch {
		case err != nil || !p.model.ReadsEmbedding(e): // it lies there for other models
		case byWord:
			if err := p.addEmbedding(a, path); err != nil {
				return err
			}
		default:
			a.warnings = append(a.warnings, fmt.Sprintf("%.80q is also the name of an embedding, which is not used: --embedding %s uses it, --embedding %s every one that a prompt names", name, quoted(name), recipe.EmbeddingsByWord))
		}
	}
	return nil
}

// quoted is a name as a shell takes it.
func quoted(name string) string {
	if strings.ContainsAny(name, " '\"$&();<>|*?`\\") {
		return fmt.Sprintf("%q", name)
	}
	return name
}

// mentioned are the installed embeddings whose names the request's texts have as words.
func mentioned(r Request) (paths []string) {
	all := library.Parts(library.Embeddings)
	var names []string
	for _, path := range all {
		names = append(names, library.PartName(path))
	}
	for _, name := range family.Mentioned(names, r.Prompt, r.Negative, r.Regions, r.Toward) {
		paths = append(paths, all[slices.Index(names, name)])
	}
	return paths
}

func (p *Pipeline) addEmbedding(a *adaptation, name string) error {
	path, err := library.FindPart(library.Embeddings, name)
	if err != nil {
		return &UsageError{err}
	}
	e, err := p.embedding(path)
	if err != nil {
		return err
	}
	hash, err := checkpoint.HashFile(path, p.options.HashCache)
	if err != nil {
		return err
	}
	a.Embeddings = append(a.Embeddings, e)
	a.files = append(a.files, recipe.File{Kind: "embedding", Name: filepath.Base(path), SHA256: hash})
	a.key += "embedding " + path + "\n"
	return nil
}

// embedding opens a file once.
func (p *Pipeline) embedding(path string) (*checkpoint.Embedding, error) {
	if p.extras.embeddings[path] == nil {
		s, err := checkpoint.OpenSource(path)
		if err != nil {
			return nil, err
		}
		e, err := checkpoint.ReadEmbedding(s)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		p.extras.sources = append(p.extras.sources, s)
		p.extras.remember(path, e)
	}
	return p.extras.embeddings[path], nil
}
