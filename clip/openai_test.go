package clip

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
	"testing/fstest"
)

// The vocabulary in the program encodes as transformers does with OpenAI's files, with either padding.
func TestBuiltInVocabulary(t *testing.T) {
	text, err := os.ReadFile("testdata/openai.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden []struct {
		Pad, Text   string
		IDs, Padded []int32
	}
	if err := json.Unmarshal(text, &golden); err != nil {
		t.Fatal(err)
	}
	tokenizers := map[string]*Tokenizer{}
	for _, pad := range []string{"<|endoftext|>", "!"} {
		config := `{"vocabulary":"clip","model_max_length":77,"pad_token":"` + pad + `",
			"bos_token":{"content":"<|startoftext|>","normalized":true},"eos_token":{"content":"<|endoftext|>","normalized":true},
			"unk_token":{"content":"<|endoftext|>","normalized":true}}`
		tok, err := LoadTokenizer(fstest.MapFS{"tokenizer_config.json": {Data: []byte(config)}})
		if err != nil {
			t.Fatal(err)
		}
		if tok.Size() != 49408 || tok.Start != 49406 || tok.End != 49407 || tok.Pad != map[string]int32{"!": 0, "<|endoftext|>": 49407}[pad] {
			t.Errorf("size %d, start %d, end %d, pad %d", tok.Size(), tok.Start, tok.End, tok.Pad)
		}
		tokenizers[pad] = tok
	}
	if ids := tokenizers["!"].Encode("a photo of a cat"); !slices.Equal(ids, []int32{320, 1125, 539, 320, 2368}) { // as CLIP's paper's code has it
		t.Errorf("ids %v", ids)
	}
	if len(golden) < 20 {
		t.Errorf("only %d texts", len(golden))
	}
	for _, g := range golden {
		tok := tokenizers[g.Pad]
		if ids := tok.Encode(g.Text); !slices.Equal(ids, g.IDs) {
			t.Errorf("pad %q: %q is %v, transformers has %v", g.Pad, g.Text, ids, g.IDs)
		}
		p, err := tok.Prompt(g.Text, Plain, 77)
		if err != nil || len(p.Chunks) != 1 || !slices.Equal(p.Chunks[0].IDs, g.Padded) {
			t.Errorf("pad %q: %q padded is %v, %v; transformers has %v", g.Pad, g.Text, p.Chunks, err, g.Padded)
		}
	}
}
