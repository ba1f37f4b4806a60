package pipeline

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"darkroom/checkpoint"
	"darkroom/models/library"
)

// lender is a model that lends parts to a single file that lacks them, such as a U-Net alone.
type lender struct {
	name  string   // "" if there is none
	parts []string // that it lends
	hash  func() (string, error)
}

// lend gives a single file what it lacks: of the model that the options name, or of the first of the user's that fits.
func lend(f *checkpoint.Folder, o Options) (lender, error) {
	lacks := slices.Clone(f.Lacks())
	var except []string
	if o.VAE != "" && slices.Contains(lacks, "vae") { // it has its own place
		except = []string{"vae"}
		if err := f.Promise(); err != nil {
			return lender{}, err
		}
	}
	if o.TextModel != "" && len(lacks) > 0 {
		texts, err := openTexts(o)
		if err != nil {
			return lender{}, err
		}
		for _, t := range texts {
			except = append(except, f.TextPart(t.Kind))
			if err := t.Set.Close(); err != nil {
				return lender{}, err
			}
		}
	}
	lacks = slices.DeleteFunc(lacks, func(part string) bool { return slices.Contains(except, part) })
	if len(f.Lacks()) == 0 {
		if o.Parts != "" {
			return lender{}, usagef("--parts %s: %s lacks nothing", o.Parts, f.Name())
		}
		return lender{}, nil
	}
	if len(lacks) == 0 {
		return lender{}, nil
	}
	paths := library.Installed()
	if o.Parts != "" {
		path, err := library.Find(o.Parts)
		if err != nil {
			return lender{}, usagef("--parts: %w", err)
		}
		paths = []string{path}
	}
	for _, path := range paths {
		other, err := checkpoint.OpenModel(path, checkpoint.SingleOptions{})
		if err != nil && o.Parts != "" {
			return lender{}, fmt.Errorf("--parts: %w", err)
		}
		if err != nil || o.Parts == "" && !f.Fits(other) {
			continue
		}
		other.HashCache = f.HashCache
		if err := f.Borrow(other, except...); err != nil {
			return lender{}, fmt.Errorf("--parts %s: %w", path, err)
		}
		name := filepath.Base(path)
		if other.Single() != nil {
			name = library.PartName(path)
		}
		return lender{name: name, parts: lacks}, nil
	}
	return lender{}, nil // the family says what is missing
}

// Lender is the model that lends the parts that the model's file lacks; "" if it lacks none.
func (p *Pipeline) Lender() string { return p.lender.name }

// warnings tell where the parts are from.
func (l lender) warnings(f *checkpoint.Folder) []string {
	if l.name == "" || len(l.parts) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s has no %s: using those of %s (--parts names another model)", f.Name(), strings.Join(l.parts, ", "), l.name)}
}
