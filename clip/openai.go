package clip

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"errors"
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

// wantsBuiltIn says whether the configuration asks for CLIP's own vocabulary.
func wantsBuiltIn(fsys fs.FS) (bool, error) {
	var config struct {
		Vocabulary string `json:"vocabulary"`
	}
	_, err := readJSON(fsys, "tokenizer_config.json", &config)
	return config.Vocabulary == builtIn, err
}

// readBuiltIn takes CLIP's own vocabulary where the configuration asks for it.
func (f *tokenizerFiles) readBuiltIn(fsys fs.FS) error {
	wants, err := wantsBuiltIn(fsys)
	if err == nil && !wants {
		err = errors.New("the folder has neither tokenizer.json nor vocab.json")
	}
	if err != nil {
		return err
	}
	text, err := mergesText()
	if err != nil {
		return err
	}
	if f.merges, err = parseMerges(text); err != nil {
		return err
	}
	f.vocab = openAIVocabulary(f.merges)
	return nil
}

func mergesText() (string, error) {
	z, err := gzip.NewReader(bytes.NewReader(openAIMerges))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(z)
	return string(text), err
}

// BuiltInFiles are the files that a folder with the vocabulary of the program lacks for other programs: vocab.json and
// merges.txt. They are none where the folder has its own.
func BuiltInFiles(fsys fs.FS) (map[string]string, error) {
	for _, name := range []string{"tokenizer.json", "vocab.json"} {
		if _, err := fs.Stat(fsys, name); err == nil {
			return nil, nil
		}
	}
	if wants, err := wantsBuiltIn(fsys); err != nil || !wants {
		return nil, err
	}
	text, err := mergesText()
	if err != nil {
		return nil, err
	}
	merges, err := parseMerges(text)
	if err != nil {
		return nil, err
	}
	vocab, err := json.Marshal(openAIVocabulary(merges))
	return map[string]string{"vocab.json": string(vocab), "merges.txt": "#version: 0.2\n" + text}, err
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
