package qwen

import (
	"fmt"
	"io/fs"

	"darkroom/clip"
)

// Tokenizer turns prompts into the ids of a chat with the model. The files are those of Hugging Face's Qwen2Tokenizer.
type Tokenizer struct{ *clip.Tokenizer }

// LoadTokenizer reads a model's tokenizer folder: clip.LoadTokenizer says which files. The error is of files that are
// missing or not understood.
func LoadTokenizer(fsys fs.FS) (*Tokenizer, error) {
	t, err := clip.LoadByteLevel(fsys)
	if err != nil {
		return nil, err
	}
	return &Tokenizer{t}, nil
}

// Chat is a prompt as a user's message to the model, with the beginning of its answer: Qwen3's chat template. Without
// thinking, the answer begins after thoughts that are empty.
func Chat(prompt string, thinking bool) string {
	text := "<|im_start|>user\n" + prompt + "<|im_end|>\n<|im_start|>assistant\n"
	if !thinking {
		text += "<think>\n\n</think>\n\n"
	}
	return text
}

// Most is how many tokens of a chat are read.
const Most = 512

// Prompt are the ids of a prompt's chat, at most Most of them, as the reference cuts them off at the end: that of the
// message is lost, and the beginning of the answer with it. cut is what was left out of the prompt.
func (t *Tokenizer) Prompt(prompt string, thinking bool) (ids []int32, cut string) {
	ids = t.Encode(Chat(prompt, thinking))
	if len(ids) <= Most {
		return ids, ""
	}
	whole, end := t.Decode(ids[Most:]), t.Decode(t.Encode(Chat("", thinking)[len("<|im_start|>user\n"):]))
	if cut = whole; len(cut) >= len(end) {
		cut = cut[:len(cut)-len(end)]
	}
	return ids[:Most], cut
}

// Check says whether the vocabulary fits a model.
func (t *Tokenizer) Check(c Config) error {
	if n := t.Size(); n > c.VocabSize {
		return fmt.Errorf("the tokenizer has %d tokens, text_encoder/config.json vocab_size %d: they must agree", n, c.VocabSize)
	}
	return nil
}
