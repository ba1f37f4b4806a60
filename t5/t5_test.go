package t5

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"darkroom/internal/golden"
	"darkroom/kernels"
)

// folders are the golden tokenizer's files in both forms.
func folders(t testing.TB, dir string) map[string]fs.FS {
	t.Helper()
	whole := os.DirFS(dir)
	pieces, err := fs.ReadFile(whole, "spiece.model")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]fs.FS{"tokenizer.json": whole, "spiece.model": fstest.MapFS{"spiece.model": {Data: pieces}}}
}

func load(t testing.TB, files fs.FS) *Tokenizer {
	t.Helper()
	tok, err := LoadTokenizer(files)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// corpus calls f with each text of a compressed file and the ids that transformers gives.
func corpus(t *testing.T, path string, f func(text string, ids []int32)) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(z)
	scanner.Buffer(nil, 1<<24)
	for scanner.Scan() {
		var text string
		var ids []int32
		if err := json.Unmarshal(scanner.Bytes(), &[]any{&text, &ids}); err != nil {
			t.Fatal(err)
		}
		f(text, ids)
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
}

func TestTokensAgainstHuggingFace(t *testing.T) {
	for name, files := range folders(t, "testdata/tokenizer") {
		tok, n := load(t, files), 0
		corpus(t, "testdata/tokens.json.gz", func(text string, want []int32) {
			n++
			if got, cut := tok.Prompt(text, 1<<20); !slices.Equal(got, want) || cut != "" {
				t.Errorf("%s: %+q\n got %v\nwant %v", name, text, got, want)
			}
		})
		if n < 400 {
			t.Errorf("the corpus has shrunk to %d texts", n)
		}
	}
}

// The thorough comparison, with T5's own map of characters and on every code point: train/goldens_t5.py 5000 writes the files.
func TestTokensThoroughly(t *testing.T) {
	const dir = "../build/t5"
	if _, err := os.Stat(dir + "/tokens.json.gz"); err != nil {
		t.Skipf("SKIPPED: %s is not there: train/goldens_t5.py 5000 makes it", dir)
	}
	for name, files := range folders(t, dir) {
		tok := load(t, files)
		total, bad := 0, 0
		corpus(t, dir+"/tokens.json.gz", func(text string, want []int32) {
			total++
			if got, _ := tok.Prompt(text, 1<<20); !slices.Equal(got, want) {
				if bad++; bad <= 10 {
					t.Errorf("%s: %+q\n got %v\nwant %v", name, text, got, want)
				}
			}
		})
		if bad > 0 || total < 1_000_000 {
			t.Errorf("%s: %d of %d texts differ", name, bad, total)
		}
	}
}

func TestLongPrompt(t *testing.T) {
	tok := load(t, os.DirFS("testdata/tokenizer"))
	const most = 32
	ids, cut := tok.Prompt(strings.Repeat("apple ", most), most)
	if len(ids) != most || ids[most-1] != tok.End || !strings.HasSuffix(cut, "apple") {
		t.Errorf("%d ids, the last %d, cut off %q", len(ids), ids[len(ids)-1], cut)
	}
	if ids, cut := tok.Prompt("", most); len(ids) != 1 || ids[0] != tok.End || cut != "" {
		t.Errorf("of no text: %v, cut off %q", ids, cut)
	}
}

func TestTokenizerErrors(t *testing.T) {
	files := folders(t, "testdata/tokenizer")
	pieces, _ := fs.ReadFile(files["spiece.model"], "spiece.model")
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  string
	}{
		"nothing there":        {fstest.MapFS{}, "neither tokenizer.json nor spiece.model"},
		"another model":        {fstest.MapFS{"tokenizer.json": {Data: []byte(`{"model": {"type": "BPE", "vocab": []}}`)}}, "only Unigram"},
		"another normalizer":   {fstest.MapFS{"tokenizer.json": {Data: []byte(`{"model": {"type": "Unigram", "vocab": [["<pad>", 0]]}, "normalizer": {"type": "BertNormalizer"}}`)}}, "BertNormalizer"},
		"no vocabulary":        {fstest.MapFS{"tokenizer.json": {Data: []byte(`{"model": {"type": "Unigram", "vocab": []}}`)}}, "empty"},
		"no end":               {fstest.MapFS{"tokenizer.json": {Data: []byte(`{"model": {"type": "Unigram", "vocab": [["<pad>", 0], ["a", -1], ["<unk>", 0]]}}`)}}, "no </s>"},
		"a file that is cut":   {fstest.MapFS{"spiece.model": {Data: pieces[:len(pieces)/2]}}, "cut off"},
		"a damaged charsmap":   {fstest.MapFS{"tokenizer.json": {Data: []byte(`{"model": {"type": "Unigram", "vocab": [["a", 0]]}, "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}`)}}, "damaged"},
		"another class":        {fstest.MapFS{"spiece.model": {Data: pieces}, "tokenizer_config.json": {Data: []byte(`{"tokenizer_class": "Qwen2Tokenizer"}`)}}, "only T5Tokenizer"},
		"a number of no token": {fstest.MapFS{"spiece.model": {Data: pieces}, "tokenizer_config.json": {Data: []byte(`{"added_tokens_decoder": {"-5": "x"}}`)}}, "the number -5"},
	} {
		if _, err := LoadTokenizer(c.files); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzEncode(f *testing.F) {
	tok := load(f, os.DirFS("testdata/tokenizer"))
	for _, s := range []string{"", "a cat's", " \n\n x", "</s>", "e\u0301 \r\n", "\xff", "▁▁"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, id := range tok.Encode(s) {
			if id < 0 || int(id) >= tok.Size() {
				t.Fatalf("%q gives the id %d", s, id)
			}
		}
	})
}

func FuzzPieces(f *testing.F) {
	pieces, err := os.ReadFile("testdata/tokenizer/spiece.model")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pieces)
	f.Add(pieces[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		if tok, err := LoadTokenizer(fstest.MapFS{"spiece.model": {Data: b}}); err == nil {
			tok.Encode("a red apple e\u0301 ½ \x00\xff")
		}
	})
}

// Sums of up to 150 products over two or three layers, each rounded to float32 after exact sums.
const tolerance = 2e-6

func TestStates(t *testing.T) {
	f := golden.Open(t, "testdata/hidden.safetensors")
	for _, name := range f.Networks() {
		net := f.Network(t, name)
		c, err := ReadConfig(net.Config)
		if err != nil {
			t.Fatal(err)
		}
		m, err := New(c, net.Loader)
		if err != nil {
			t.Fatal(err)
		}
		net.AllRead(t)
		read := func(array string, n int) []float32 {
			a, ok := net.Source().Array(array)
			if !ok {
				t.Fatalf("there is no %s", array)
			}
			values := make([]float32, n)
			if err := a.Decode(values, 0); err != nil {
				t.Fatal(err)
			}
			return values
		}
		vectors, table := read(EmbeddingNames[0], c.VocabSize*c.Model), read(BiasName, c.Buckets*c.Heads)
		for _, call := range net.Calls() {
			t.Run(name+"/"+call, func(t *testing.T) {
				ids, shape := net.Call(call).IDs(t, "ids")
				tokens := shape[1]
				bias := c.Bias(table, tokens)
				for key, at := range map[string]func(i int) int{"first_query": func(k int) int { return tokens - 1 - k }, "first_key": func(q int) int { return q + tokens - 1 }} {
					if !net.Call(call).Has(key) {
						continue
					}
					want, _ := net.Call(call).Floats(t, key) // [heads, tokens]
					for i, w := range want {
						if got := bias[i/tokens*(2*tokens-1)+at(i%tokens)]; got != w {
							t.Fatalf("%s: head %d, token %d: %v, want %v", key, i/tokens, i%tokens, got, w)
						}
					}
				}
				net.Call(call).Check(t, tolerance, func(g *kernels.Graph, in *golden.Inputs) golden.Results {
					var embedded []float32
					for _, id := range ids {
						for _, v := range vectors[int(id)*c.Model:][:c.Model] {
							embedded = append(embedded, v*Residual)
						}
					}
					x := in.Given(embedded, 1, tokens, c.Model)
					return golden.Results{"states": m.Forward(g, x, in.Given(bias, c.Heads, 2*tokens-1), nil)}
				})
			})
		}
	}
}
