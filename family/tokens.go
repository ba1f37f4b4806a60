package family

import (
	"fmt"

	"darkroom/checkpoint"
	"darkroom/clip"
	"darkroom/qwen"
	"darkroom/t5"
)

// Tokens are what a prompt becomes before it is encoded.
type Tokens struct {
	Chunks int
	Rows   []Token
	Cut    string // the end of the text that did not fit, as tokens spell it
	NumCut int
	Window int // tokens of a chunk
	// Warnings are sentences on what the text asks for and does not get.
	Warnings []string
}

// Token is one of them: its chunk and its position there, both from 0.
type Token = clip.Row

// Tokenizer takes prompts apart, without weights of a model.
type Tokenizer struct {
	clip   *clip.Tokenizer
	window int

	chat     *qwen.Tokenizer // of a model whose text encoder is a language model; nil for others
	thinking bool
	t5       *t5.Tokenizer // of a model that has T5, whose window is the longest; nil for others
}

// OpenTokenizer opens no more of a model than is needed: the tokenizer, and the length of its window.
func OpenTokenizer(f *checkpoint.Folder) (*Tokenizer, error) {
	index, err := f.Index()
	if err != nil {
		return nil, err
	}
	if thinking := isZImage(index); thinking || isFlux2(index) {
		t, err := qwen.LoadTokenizer(f.Sub("tokenizer"))
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", f.Name(), err)
		}
		return &Tokenizer{clip: t.Tokenizer, window: qwen.Most, chat: t, thinking: thinking}, nil
	}
	if part, tokens := t5Of(f, index); part != "" {
		t, err := t5.LoadTokenizer(f.Sub(part))
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", f.Name(), err)
		}
		return &Tokenizer{t5: t, window: tokens}, nil
	}
	t, err := clip.LoadTokenizer(f.Sub("tokenizer"))
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", f.Name(), err)
	}
	raw, err := f.Config("text_encoder")
	if err != nil {
		return nil, err
	}
	c, err := clip.ReadTextConfig(raw)
	if err != nil {
		return nil, err
	}
	return &Tokenizer{clip: t, window: c.MaxPositionEmbeddings}, nil
}

// t5Of is the folder of T5's tokenizer, and the tokens of T5 that the model reads; "" where it has none.
func t5Of(f *checkpoint.Folder, index *checkpoint.Index) (folder string, tokens int) {
	switch {
	case isFlux1(index):
		c, err := f.Config("transformer")
		return "tokenizer_2", flux1Tokens(err == nil && c.Bool("guidance_embeds", false))
	case isStableDiffusion3(index) && f.Exists("text_encoder_3/config.json"):
		return "tokenizer_3", sd3Tokens
	}
	return "", 0
}

// Encode gives the ids of the raw text: nothing is added and nothing is cut off.
func (t *Tokenizer) Encode(text string) []int32 {
	if t.t5 != nil {
		return t.t5.Encode(text)
	}
	return t.clip.Encode(text)
}

// Read reads a prompt in a syntax, recipe.Weighted or recipe.Plain.
func (t *Tokenizer) Read(text, syntax string) (Tokens, error) {
	s, err := clip.ParseSyntax(syntax)
	if err != nil {
		return Tokens{}, err
	}
	if t.t5 != nil {
		words, warnings := wordsOf(text, syntax)
		ids, cut := t.t5.Prompt(words, t.window)
		out := Tokens{Chunks: 1, Cut: cut, NumCut: len(t.t5.Encode(cut)), Window: t.window, Warnings: warnings}
		for i, id := range ids {
			out.Rows = append(out.Rows, Token{Position: i, ID: id, Token: t.t5.Token(id), Weight: 1})
		}
		return out, nil
	}
	if t.chat != nil {
		e := languageModel{tokenizer: t.chat, thinking: t.thinking}
		ids, cut, warnings := e.read(text, syntax)
		out := Tokens{Chunks: 1, Cut: cut, NumCut: len(t.chat.Encode(cut)), Window: t.window, Warnings: warnings}
		for i, id := range ids {
			out.Rows = append(out.Rows, Token{Position: i, ID: id, Token: t.chat.Token(id), Weight: 1})
		}
		return out, nil
	}
	p, err := t.clip.Prompt(text, s, t.window)
	if err != nil {
		return Tokens{}, err
	}
	return Tokens{len(p.Chunks), t.clip.Report(p), p.Cut, p.NumCut, t.window, p.Warnings}, nil
}

// Vocabularies are the files of a model's tokenizers that the program supplies, by name: a single file brings none.
func Vocabularies(f *checkpoint.Folder) (map[string]string, error) {
	files := map[string]string{}
	for _, folder := range []string{"tokenizer", "tokenizer_2"} {
		if !f.Exists(folder) {
			continue
		}
		own, err := clip.BuiltInFiles(f.Sub(folder))
		if err != nil {
			return nil, fmt.Errorf("model %s: %s: %w", f.Name(), folder, err)
		}
		for name, text := range own {
			files[folder+"/"+name] = text
		}
	}
	return files, nil
}
