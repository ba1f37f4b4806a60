package recipe

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// EmbeddingsByWord, as a value of Embedding, means each installed embedding whose name the prompts have as a word, as in
// AUTOMATIC1111's interface. The recipe of a picture names those that were used.
const EmbeddingsByWord = "auto"

// Names of embeddings as ComfyUI's prompts have them, embedding:NAME or embedding:FOLDER/NAME.pt, and SwarmUI's, <embed:NAME>.
var (
	comfyEmbedding = regexp.MustCompile(`(?i)\bembedding:([^\s,:;()\[\]{}<>|"]+)`)
	swarmEmbedding = regexp.MustCompile(`(?i)<embed(?:ding)?:([^<>:]+)>`)
)

// embeddings puts the plain names of embeddings into the prompts, which are what this program's have, and lists them among the files.
func (f *Foreign) embeddings() {
	for _, text := range []*string{&f.Recipe.Prompt, &f.Recipe.Negative} {
		for _, form := range []*regexp.Regexp{comfyEmbedding, swarmEmbedding} {
			*text = form.ReplaceAllStringFunc(*text, func(s string) string {
				name := path.Base(strings.ReplaceAll(strings.TrimSpace(form.FindStringSubmatch(s)[1]), `\`, "/"))
				for _, ending := range []string{".safetensors", ".pt", ".bin"} {
					name = strings.TrimSuffix(name, ending)
				}
				if !slices.ContainsFunc(f.Files, func(x File) bool { return x.Kind == "embedding" && strings.EqualFold(x.Name, name) }) {
					f.Files = append(f.Files, File{Kind: "embedding", Name: name})
				}
				return name
			})
		}
	}
}

// RenameEmbedding puts another name into the prompts where an embedding's stands as a word.
func (r *Recipe) RenameEmbedding(from, to string) {
	const apart = `[^\pL\pN_-]`
	word := regexp.MustCompile(`(?i)(^|` + apart + `)` + regexp.QuoteMeta(from) + `($|` + apart + `)`)
	for _, text := range []*string{&r.Prompt, &r.Negative} {
		*text = word.ReplaceAllString(*text, "${1}"+strings.ReplaceAll(to, "$", "$$")+"${2}")
	}
}
