package recipe

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Hashes of files as AUTOMATIC1111's interface and Civitai write them into parameters texts: ten digits of a model's or an autoencoder's
// SHA-256, twelve of an embedding's, and of a LoRA twelve of the SHA-256 of what follows the header (AutoV3), since trainers and
// users change the header.

// hashFields are "Lora hashes" and "TI hashes", NAME: HASH with commas between, and the autoencoder and the refiner with theirs.
func (r Recipe) hashFields() (fields []Field) {
	var loras, embeddings []string
	for _, f := range r.Files {
		short := func(n int) string { return f.SHA256[:min(n, len(f.SHA256))] }
		switch f.Kind {
		case "lora":
			hash := f.AutoV3
			if hash == "" {
				hash = short(12)
			}
			loras = append(loras, f.Name+": "+hash)
		case "embedding":
			embeddings = append(embeddings, modelName(f.Name)+": "+short(12))
		case "vae":
			fields = append(fields, Field{"VAE hash", short(10)}, Field{"VAE", f.Name})
		case "refiner":
			if _, start, err := ParseRefiner(r.Refiner); err == nil {
				fields = append(fields, Field{"Refiner", f.Name + " [" + short(10) + "]"}, Field{"Refiner switch at", formatNumber(start)})
			}
		}
	}
	if loras != nil {
		fields = append(fields, Field{"Lora hashes", strings.Join(loras, ", ")})
	}
	if embeddings != nil {
		fields = append(fields, Field{"TI hashes", strings.Join(embeddings, ", ")})
	}
	return fields
}

// loraTags are the adapters of the settings as prompts ask for them: elsewhere there is no other way to say it.
func (r Recipe) loraTags() string {
	uses, err := ParseUses(r.LoRA)
	if err != nil {
		return ""
	}
	var b strings.Builder
	for _, u := range uses {
		b.WriteString(u.tag())
	}
	return b.String()
}

// tag is what asks for an adapter in a prompt, "" where its name cannot stand there.
func (u Use) tag() string {
	name := modelName(u.Name)
	switch {
	case strings.ContainsAny(name, "<>:"):
		return ""
	case u.Weight == u.TextWeight:
		return fmt.Sprintf(" <lora:%s:%s>", name, formatNumber(u.Weight))
	}
	return fmt.Sprintf(" <lora:%s:%s:%s>", name, formatNumber(u.TextWeight), formatNumber(u.Weight)) // the text encoder's first
}

// ask puts the adapters that a program lists beside the prompt into the prompt, unless it has their tags.
func (f *Foreign) ask(uses ...Use) {
	for _, u := range uses {
		has := slices.ContainsFunc(f.Recipe.LoRANames(), func(name string) bool { return strings.EqualFold(modelName(name), modelName(u.Name)) })
		switch tag := u.tag(); {
		case has || u.Name == "" || u.Name == "None" || u.Weight == 0 && u.TextWeight == 0:
		case tag == "":
			f.unused("LoRA", u.String())
		default:
			f.Recipe.Prompt = strings.TrimLeft(f.Recipe.Prompt+tag, " ")
		}
	}
}

// strength reads a weight as a program wrote it; 1 where it wrote none.
func strength(value string) float64 {
	if w, ok := parseFinite(value); ok && w >= -1000 && w <= 1000 {
		return w
	}
	return 1
}

var shortHash = regexp.MustCompile(`^[0-9a-fA-F]{6,64}$`)

// files reads "Lora hashes" or "TI hashes"; false where there is none.
func (f *Foreign) files(kind, value string) bool {
	found := false
	for _, item := range strings.Split(value, ",") {
		i := strings.LastIndexByte(item, ':')
		if i < 0 {
			continue
		}
		name, hash := strings.TrimSpace(item[:i]), strings.ToLower(strings.TrimSpace(item[i+1:]))
		if name == "" || !shortHash.MatchString(hash) {
			continue
		}
		file := File{Kind: kind, Name: name}
		if kind == "lora" {
			file.AutoV3 = hash
		} else {
			file.SHA256 = hash
		}
		f.Files, found = append(f.Files, file), true
	}
	return found
}

// RenameLoRA puts another name into the tags of prompts that ask for an adapter.
func (r *Recipe) RenameLoRA(from, to string) {
	tag := regexp.MustCompile(`(?i)(<(?:lora|lyco):)\s*` + regexp.QuoteMeta(from) + `\s*([:>])`)
	for _, text := range []*string{&r.Prompt, &r.Negative} {
		*text = tag.ReplaceAllString(*text, "${1}"+strings.ReplaceAll(to, "$", "$$")+"${2}")
	}
}

// LoRANames are the adapters that a prompt's tags ask for.
func (r *Recipe) LoRANames() (names []string) {
	for _, m := range loraTag.FindAllStringSubmatch(r.Prompt+" "+r.Negative, -1) {
		if name := strings.TrimSpace(m[1]); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

var loraTag = regexp.MustCompile(`(?i)<(?:lora|lyco):([^<>:]+)[:>]`)
