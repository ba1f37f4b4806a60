package qwen

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
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
func folders(t testing.TB) map[string]fs.FS {
	t.Helper()
	whole := os.DirFS("testdata/tokenizer")
	parts := fstest.MapFS{}
	for _, name := range []string{"vocab.json", "merges.txt", "tokenizer_config.json"} {
		text, err := fs.ReadFile(whole, name)
		if err != nil {
			t.Fatal(err)
		}
		parts[name] = &fstest.MapFile{Data: text}
	}
	return map[string]fs.FS{"tokenizer.json": whole, "vocab.json and merges.txt": parts}
}

func load(t testing.TB, files fs.FS) *Tokenizer {
	t.Helper()
	tok, err := LoadTokenizer(files)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// lines calls f with each line of a compressed file of JSON arrays.
func lines(t *testing.T, path string, f func(line []byte)) {
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
		f(scanner.Bytes())
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
}

func unpack(t *testing.T, line []byte, parts ...any) {
	t.Helper()
	if err := json.Unmarshal(line, &parts); err != nil {
		t.Fatalf("%.80s: %v", line, err)
	}
}

func TestTokensAgainstHuggingFace(t *testing.T) {
	for name, files := range folders(t) {
		tok := load(t, files)
		counts := map[string]int{}
		lines(t, "testdata/tokens.json.gz", func(line []byte) {
			var kind, text string
			var want []int32
			unpack(t, line, &kind, &text, &want)
			counts[kind]++
			got := tok.Encode(text)
			if kind != "text" {
				got, _ = tok.Prompt(text, kind == "thinking")
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, %s: %+q\n got %v\nwant %v", name, kind, text, got, want)
			}
		})
		if counts["text"] < 400 || counts["thinking"] < 5 || counts["plain"] < 5 {
			t.Errorf("the corpus has shrunk: %v", counts)
		}
	}
}

// The thorough comparison, on every code point: train/goldens_qwen.py 5000 writes the file.
func TestTokensThoroughly(t *testing.T) {
	const path = "../build/qwen-tokens.json.gz"
	if _, err := os.Stat(path); err != nil {
		t.Skipf("SKIPPED: %s is not there: train/goldens_qwen.py 5000 makes it", path)
	}
	tok := load(t, os.DirFS("testdata/tokenizer"))
	total, bad := 0, 0
	lines(t, path, func(line []byte) {
		var text string
		var want []int32
		unpack(t, line, &text, &want)
		total++
		if got := tok.Encode(text); !slices.Equal(got, want) {
			if bad++; bad <= 10 {
				t.Errorf("%+q\n got %v\nwant %v", text, got, want)
			}
		}
	})
	if bad > 0 || total < 1_000_000 {
		t.Errorf("%d of %d texts differ", bad, total)
	}
}

func TestLongPrompt(t *testing.T) {
	tok := load(t, os.DirFS("testdata/tokenizer"))
	ids, cut := tok.Prompt(strings.Repeat("apple ", Most), true)
	if len(ids) != Most || !strings.HasSuffix(cut, "apple ") || strings.Contains(cut, "im_end") {
		t.Errorf("%d ids, cut off %q", len(ids), cut)
	}
	if ids, cut := tok.Prompt("an apple", false); cut != "" || len(ids) >= Most {
		t.Errorf("%d ids, cut off %q", len(ids), cut)
	}
}

func TestTokenizerErrors(t *testing.T) {
	good := folders(t)["tokenizer.json"]
	text, err := fs.ReadFile(good, "tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  string
	}{
		"nothing there":         {fstest.MapFS{}, "neither tokenizer.json nor vocab.json"},
		"another pre-tokenizer": {fstest.MapFS{"tokenizer.json": {Data: []byte(strings.Replace(string(text), `\\p{N}| ?`, `\\p{N}{1,3}| ?`, 1))}}, "pre_tokenizer"},
		"another class":         {fstest.MapFS{"tokenizer.json": {Data: text}, "tokenizer_config.json": {Data: []byte(`{"tokenizer_class": "T5Tokenizer"}`)}}, "only Qwen2Tokenizer"},
	} {
		if _, err := LoadTokenizer(c.files); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzEncode(f *testing.F) {
	tok := load(f, os.DirFS("testdata/tokenizer"))
	for _, s := range []string{"", "a cat's", " \n\n x", "<|im_end|>", "e\u0301 \r\n", "\xff"} {
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

// Sums of up to 40 products over two or three layers, each rounded to float32 after exact sums.
const tolerance = 2e-6

func TestHiddenStates(t *testing.T) {
	f := golden.Open(t, "testdata/hidden.safetensors")
	for _, name := range f.Networks() {
		probe, err := ReadConfig(f.Network(t, name).Config)
		if err != nil {
			t.Fatal(err)
		}
		all := []int{}
		for i := range probe.NumHiddenLayers + 1 {
			all = append(all, i)
		}
		for _, layers := range [][]int{{probe.NumHiddenLayers - 1}, {probe.NumHiddenLayers}, all, {2, 1}} {
			net := f.Network(t, name)
			c, err := ReadConfig(net.Config)
			if err != nil {
				t.Fatal(err)
			}
			c.Layers = layers
			m, err := New(c, net.Loader)
			if err != nil {
				t.Fatal(err)
			}
			net.AllRead(t)
			table, err := embedding(net, c)
			if err != nil {
				t.Fatal(err)
			}
			for _, call := range net.Calls() {
				t.Run(fmt.Sprint(name, "/", call, layers), func(t *testing.T) {
					ids, shape := net.Call(call).IDs(t, "ids")
					net.Call(call).Check(t, tolerance, func(g *kernels.Graph, in *golden.Inputs) golden.Results {
						var embedded []float32
						for _, id := range ids {
							embedded = append(embedded, table[int(id)*c.HiddenSize:][:c.HiddenSize]...)
						}
						x := in.Given(embedded, 1, shape[1], c.HiddenSize)
						hidden := m.Forward(g, x, in.Given(c.Angles(shape[1]), 1, shape[1], c.HeadDim), in.IDs("lengths"))
						out := golden.Results{}
						for i, k := range layers {
							out[fmt.Sprint("states", k)] = g.Add("", &kernels.Cut{In: hidden, Axis: 2, From: i * c.HiddenSize, To: (i + 1) * c.HiddenSize})
						}
						return out
					})
				})
			}
		}
	}
}

func embedding(net *golden.Network, c Config) ([]float32, error) {
	for _, name := range EmbeddingNames {
		if a, ok := net.Source().Array(name); ok {
			values := make([]float32, c.VocabSize*c.HiddenSize)
			return values, a.Decode(values, 0)
		}
	}
	return nil, fmt.Errorf("no table of tokens' vectors")
}
