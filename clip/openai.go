package clip

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// openAIMerges are the byte pair merges of OpenAI's CLIP, one a line, which nearly every model uses: see openai/LICENSE.
//
//go:embed openai/merges.gz
var openAIMerges []byte

// builtIn is what tokenizer_config.json says under "vocabulary" in place of files: models in a single file bring none.
const builtIn = "clip"

// readBuiltIn takes CLIP's own vocabulary where the configuration asks for it.
func (f *tokenizerFiles) readBuiltIn(fsys fs.FS) error {
	var config struct {
		Vocabulary string `json:"vocabulary"`
	}
	if _, err := readJSON(fsys, "tokenizer_config.json", &config); err != nil {
		return err
	}
	if config.Vocabulary != builtIn {
		return fmt.Errorf("the folder has neither tokenizer.json nor vocab.json")
	}
	z, err := gzip.NewReader(bytes.NewReader(openAIMerges))
	if err != nil {
		return err
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return err
	}
	if f.merges, err = parseMerges(string(text)); err != nil {
		return err
	}
	f.vocab = openAIVocabulary(f.merges)
	return nil
}

// openAIVocabulary numbers tokens as CLIP does: the bytes' symbols, printable ones first; the same at a word's end; what
// each merge makes; start and end.
func openAIVocabulary(merges [][2]string) map[string]int32 {
	symbols := byteSymbols()
	var order []string
	for _, printable := range []bool{true, false} {
		for b, r := range symbols {
			if (r == rune(b)) == printable {
				order = append(order, string(r))
			}
		}
	}
	vocab := make(map[string]int32, 2*len(order)+len(merges)+2)
	add := func(token string) { vocab[token] = int32(len(vocab)) }
	for _, s := range order {
		add(s)
	}
	for _, s := range order {
		add(s + endOfWord)
	}
	for _, m := range merges {
		add(strings.Join(m[:], ""))
	}
	add("<|startoftext|>")
	add("<|endoftext|>")
	return vocab
}
