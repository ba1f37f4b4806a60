package checkpoint

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// Lacks are the parts that a model's family has and its single file does not; nil for folders.
func (f *Folder) Lacks() []string {
	if f.file == nil {
		return nil
	}
	return f.file.single.Missing
}

// TextPart is the part that a text encoder of that kind is for a model in a single file; "" if its family has none of the kind.
func (f *Folder) TextPart(kind TextKind) string {
	if f.file == nil {
		return ""
	}
	return textKinds[f.file.single.Family][kind]
}

// Fits reports whether another model has the parts that a single file lacks, for a denoiser that reads a text of the same width and the
// same other conditions. Nothing but configurations is read.
func (f *Folder) Fits(other *Folder) bool {
	denoiser := "unet"
	if f.Exists("transformer") {
		denoiser = "transformer"
	}
	a, errA := f.Config(denoiser)
	b, errB := other.Config(denoiser)
	own, errOwn := f.Index()
	index, err := other.Index()
	if errA != nil || errB != nil || errOwn != nil || err != nil || own.Components[denoiser].Class != index.Components[denoiser].Class {
		return false
	}
	for _, key := range []string{"cross_attention_dim", "addition_embed_type", "projection_class_embeddings_input_dim", "cap_feat_dim", "joint_attention_dim", "pooled_projection_dim"} {
		if a.Has(key) != b.Has(key) || a.Has(key) && string(a.Raw(key)) != string(b.Raw(key)) {
			return false
		}
	}
	for _, part := range f.Lacks() {
		if _, ok := index.Components[part]; !ok || slices.Contains(other.Lacks(), part) {
			return false
		}
	}
	return true
}

// Borrow gives a single file the parts that it lacks from another model: their weights, configurations and tokenizers. except are parts
// that come from elsewhere.
func (f *Folder) Borrow(other *Folder, except ...string) error {
	single := f.file.single
	text, err := other.ReadFile("model_index.json")
	if err != nil {
		return err
	}
	var theirs, ours map[string]json.RawMessage
	if err := json.Unmarshal(text, &theirs); err != nil {
		return fmt.Errorf("%s/model_index.json: %w", other.name, err)
	}
	if err := json.Unmarshal([]byte(single.files["model_index.json"]), &ours); err != nil {
		return err
	}
	files := maps.Clone(single.files)
	borrowed := map[string]*Folder{}
	for _, part := range single.Missing {
		if slices.Contains(except, part) {
			continue
		}
		component, ok := theirs[part]
		if !ok || string(component) == "null" || slices.Contains(other.Lacks(), part) {
			return fmt.Errorf("%s has no %s either", other.name, part)
		}
		ours[part], borrowed[part] = component, other
		folders := []string{part}
		if strings.HasPrefix(part, "text_encoder") {
			tokenizer := "tokenizer" + strings.TrimPrefix(part, "text_encoder")
			ours[tokenizer] = theirs[tokenizer]
			folders = append(folders, tokenizer)
		}
		for _, folder := range folders {
			if err := copyTexts(files, other, folder); err != nil {
				return err
			}
		}
	}
	index, err := json.Marshal(ours)
	if err != nil {
		return err
	}
	files["model_index.json"] = string(index)
	single.files, f.fsys, f.file.borrowed = files, files, borrowed
	return nil
}

// Promise says that the autoencoder that a single file lacks comes from elsewhere.
func (f *Folder) Promise() error {
	files := maps.Clone(f.file.single.files)
	var index map[string]json.RawMessage
	if err := json.Unmarshal([]byte(files["model_index.json"]), &index); err != nil {
		return err
	}
	if index["vae"] == nil {
		index["vae"] = json.RawMessage(`["diffusers", "AutoencoderKL"]`)
	}
	text, err := json.Marshal(index)
	files["model_index.json"] = string(text)
	f.file.single.files, f.fsys = files, files
	return err
}

// copyTexts puts the configurations and vocabularies of a part's folder among other files.
func copyTexts(files Embedded, from *Folder, folder string) error {
	entries, err := fs.ReadDir(from.fsys, folder)
	if err != nil {
		return from.wrap(err)
	}
	for _, e := range entries {
		name := folder + "/" + e.Name()
		if e.IsDir() || !strings.HasSuffix(name, ".json") && !strings.HasSuffix(name, ".txt") && !strings.HasSuffix(name, ".model") || strings.Contains(name, ".index.") {
			continue
		}
		text, err := from.ReadFile(name)
		if err != nil {
			return err
		}
		files[name] = string(text)
	}
	return nil
}
