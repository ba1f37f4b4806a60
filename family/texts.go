package family

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"darkroom/checkpoint"
)

// textParts are a model's text encoders, by the names of its files, and their kinds.
type textParts []struct {
	part string
	kind checkpoint.TextKind
}

// take has the text encoders that the user gives stand for the model's own of the same kinds, and says what a model in a single
// file still lacks.
func (x *files) take(own textParts) error {
	x.texts = map[string]*checkpoint.TextModel{}
	for _, given := range x.options.Texts {
		at := slices.IndexFunc(own, func(p struct {
			part string
			kind checkpoint.TextKind
		}) bool {
			return p.kind == given.Kind
		})
		switch {
		case at < 0:
			return fmt.Errorf("model %s: its text encoders are %s, and --text-encoder gives %s", x.folder.Name(), own, given.Kind)
		case x.texts[own[at].part] != nil:
			return fmt.Errorf("model %s: --text-encoder gives %s twice", x.folder.Name(), given.Kind)
		}
		x.texts[own[at].part] = given
	}
	s := x.folder.Single()
	if s == nil {
		return nil
	}
	var flags []string
	var missing textParts
	for _, p := range own {
		if slices.Contains(s.Missing, p.part) && !x.has(p.part) {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		flags = append(flags, fmt.Sprintf("%s with --text-encoder", missing))
	}
	if !x.folder.Exists("vae") && x.options.VAE == nil {
		flags = append(flags, "the autoencoder with --vae")
	}
	if len(flags) == 0 {
		return nil
	}
	return fmt.Errorf("model %s: the file holds only %s of %s: give %s, or a model that has them with --parts", x.folder.Name(), strings.Join(s.Parts, ", "), s.Family, strings.Join(flags, ", and "))
}

// String lists the encoders for people.
func (p textParts) String() string {
	var names []string
	for _, one := range p {
		names = append(names, string(one.kind))
	}
	if len(names) == 1 {
		return "the text encoder " + names[0]
	}
	return "the text encoders " + strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// has reports whether there is a part.
func (x *files) has(part string) bool {
	return x.texts[part] != nil || x.folder.Exists(part+"/config.json")
}

// noTokenizer is an error about a tokenizer that could not be read, with what to do about it.
func (x *files) noTokenizer(err error, file string) error {
	if x.folder.Single() != nil {
		return fmt.Errorf("%s: %w. The model's %s must lie beside the file", x.folder.Name(), err, file)
	}
	return fmt.Errorf("%s: %w", x.folder.Name(), err)
}

// tokenizer is the folder of the tokenizer of a text encoder.
func (x *files) tokenizer(part string) fs.FS {
	if t := x.texts[part]; t != nil {
		return t.Tokenizer
	}
	return x.folder.Sub("tokenizer" + strings.TrimPrefix(part, "text_encoder"))
}
