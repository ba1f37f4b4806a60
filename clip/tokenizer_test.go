package clip

import (
	"archive/zip"
	"bufio"
	"compress/bzip2"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// goldenFolder opens one of the tokenizer folders that train/goldens_tokens.py made.
func goldenFolder(t testing.TB, name string) fs.FS {
	t.Helper()
	z, err := zip.OpenReader("testdata/tokenizers.zip")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { z.Close() })
	sub, err := fs.Sub(z, name)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func goldenTokenizer(t testing.TB, name string) *Tokenizer {
	t.Helper()
	tok, err := LoadTokenizer(goldenFolder(t, name))
	if err != nil {
		t.Fatalf("folder %s: %v", name, err)
	}
	return tok
}

// goldenLines calls f with each line of a compressed file of JSON arrays.
func goldenLines(t *testing.T, name string, f func(line []byte)) {
	t.Helper()
	file, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(bzip2.NewReader(file))
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		f(lines.Bytes())
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

// unpack decodes a JSON array into its parts.
func unpack(t *testing.T, line []byte, parts ...any) {
	t.Helper()
	if err := json.Unmarshal(line, &parts); err != nil {
		t.Fatalf("%.80s: %v", line, err)
	}
}

func TestEncodeAgainstHuggingFace(t *testing.T) {
	toks := map[string]*Tokenizer{}
	total, bad := map[string]int{}, map[string]int{}
	goldenLines(t, "tokens.json.bz2", func(line []byte) {
		var folder, kind, text string
		var want []int32
		unpack(t, line, &folder, &kind, &text, &want)
		if toks[folder] == nil {
			toks[folder] = goldenTokenizer(t, folder)
		}
		total[folder]++
		if got := toks[folder].Encode(text); !slices.Equal(got, want) {
			if bad[folder]++; bad[folder] <= 3 {
				t.Errorf("folder %s, %s: %+q\n got %v\nwant %v", folder, kind, text, got, want)
			}
		}
	})
	if total["default"] < 5000 || len(total) < 10 {
		t.Errorf("the corpus has shrunk: %v", total)
	}
	if len(bad) > 0 {
		t.Errorf("wrong, by folder: %v of %v", bad, total)
	}
}

func TestSpecialIDsAndDecodeAgainstHuggingFace(t *testing.T) {
	goldenLines(t, "decoded.json.bz2", func(line []byte) {
		var folder string
		var want struct{ Start, End, Pad, Unknown, MaxLength int32 }
		var decoded []json.RawMessage
		unpack(t, line, &folder, &want, &decoded)
		tok := goldenTokenizer(t, folder)
		got := want
		got.Start, got.End, got.Pad, got.Unknown, got.MaxLength = tok.Start, tok.End, tok.Pad, tok.Unknown, int32(tok.MaxLength)
		if got != want {
			t.Errorf("folder %s: got %+v, want %+v", folder, got, want)
		}
		if size := tok.Size(); tok.Token(int32(size)) != "" || tok.Token(int32(size-1)) == "" {
			t.Errorf("folder %s: Size() = %d, but the largest id is another", folder, size)
		}
		for _, d := range decoded {
			var ids []int32
			var text string
			unpack(t, d, &ids, &text)
			if got := tok.Decode(ids); got != text {
				t.Errorf("folder %s: Decode(%v) = %q, want %q", folder, ids, got, text)
			}
		}
	})
}

// Within what Unicode 9 assigned, and with few marks in a row, the reference's NFC is everybody's.
func TestNFCIsThatOfXText(t *testing.T) {
	for _, s := range []string{"e\u0301", "\u212b", "가각ᄀ\u1161\u11a8", "\u0958", "q\u0323\u0307", "q\u0307\u0323", "\u0344", "\u0f73\u0f72", "𝅗𝅥", "a\u0315\u0300\u05ae\u0062"} {
		if got, want := nfc(s), norm.NFC.String(s); got != want {
			t.Errorf("nfc(%+q) = %+q, want %+q", s, got, want)
		}
	}
	// More than 30 marks: x/text would put U+034F between them.
	long := "e" + strings.Repeat("\u0316", 40)
	if got := nfc(long); got != long {
		t.Errorf("nfc changed a run of equal marks to %+q", got)
	}
}

// Encoding takes n log n time however the text is made. A quadratic algorithm takes minutes for a quarter of a megabyte.
func TestHostileLengths(t *testing.T) {
	tok := goldenTokenizer(t, "default")
	for name, unit := range map[string]string{
		"one word": "e", "letters": "abcdefgh", "one run of marks": "\u0301", "falling marks": "\u0345\u0334", "spaces": " ", "apostrophes": "'", "open brackets": "<|",
		"special tokens": "<|endoftext|>", "nearly special": "<|endoftext|", "Hangul": "\u1100\u1161\u11a8",
	} {
		start := time.Now()
		tok.Encode(strings.Repeat(unit, (1<<18)/len(unit)))
		if d := time.Since(start); d > 20*time.Second { // half a second; minutes if quadratic
			t.Errorf("%s: took %v", name, d)
		}
	}
	lstrip := goldenTokenizer(t, "decoder")
	lstrip.Encode(strings.Repeat("left ", 1<<15) + strings.Repeat(" ", 1<<18) + "left")
}

func TestEncodeFromManyGoroutines(t *testing.T) {
	tok := goldenTokenizer(t, "sd1")
	want := goldenTokenizer(t, "sd1").Encode("a red apple and 3 cats' 'til late")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if got := tok.Encode("a red apple and 3 cats' 'til late"); !slices.Equal(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
			}
		})
	}
	wg.Wait()
}

// folderOf is a tokenizer folder in memory: every byte, one merge, CLIP's special tokens.
func folderOf(files map[string]string) fstest.MapFS {
	vocab := map[string]int{}
	for _, r := range byteSymbols() {
		vocab[string(r)], vocab[string(r)+endOfWord] = len(vocab), len(vocab)+1
	}
	for _, s := range []string{"ab", "<|startoftext|>", "<|endoftext|>"} {
		vocab[s] = len(vocab)
	}
	b, err := json.Marshal(vocab)
	if err != nil {
		panic(err)
	}
	fsys := fstest.MapFS{"vocab.json": {Data: b}, "merges.txt": {Data: []byte("#version: 0.2\na b\n")}}
	for name, text := range files {
		if text == "" {
			delete(fsys, name)
			continue
		}
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func TestBrokenFoldersAreErrors(t *testing.T) {
	if _, err := LoadTokenizer(folderOf(nil)); err != nil {
		t.Fatalf("the sound folder: %v", err)
	}
	for _, c := range []struct{ file, text, want string }{
		{"vocab.json", "", "neither tokenizer.json nor vocab.json"},
		{"vocab.json", "{}", "empty"},
		{"vocab.json", `{"a": -1}`, "-1"},
		{"vocab.json", `{"a": 1e99}`, "vocab.json"},
		{"vocab.json", `[`, "vocab.json"},
		{"vocab.json", `{"a": 0, "b": 1}`, "unknown token"},
		{"merges.txt", "", "merges.txt"},
		{"merges.txt", "a b\nab\n", "line 2"},
		{"merges.txt", "a b c\n", "line 1"},
		{"merges.txt", "a c\n", `"ac" is not in the vocabulary`},
		{"tokenizer.json", `{"model": {"type": "Unigram"}}`, "only BPE"},
		{"tokenizer.json", `{"model": {}}`, "model.vocab"},
		{"tokenizer.json", `{"model": {"vocab": {"a": 0}, "merges": [["a"]]}}`, "merge 1"},
		{"tokenizer.json", `{"model": {"vocab": {"a": 0}}, "added_tokens": [{"content": "b"}]}`, "no id"},
		{"tokenizer_config.json", `{"tokenizer_class": "T5Tokenizer"}`, "T5Tokenizer"},
		{"tokenizer_config.json", `{"model_max_length": 2}`, "model_max_length"},
		{"tokenizer_config.json", `{"model_max_length": 7.5}`, "model_max_length"},
		{"tokenizer_config.json", `{"bos_token": {"content": 3}}`, "bos_token"},
		{"special_tokens_map.json", `{"pad_token": {"content": 3}}`, "pad_token"},
		{"added_tokens.json", `{"x": "y"}`, "added_tokens.json"},
	} {
		_, err := LoadTokenizer(folderOf(map[string]string{c.file: c.text}))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s = %q: error %v, want one that names %q", c.file, c.text, err, c.want)
		}
	}
}

func FuzzEncode(f *testing.F) {
	for _, s := range []string{"", "a red apple", "É\xff<|endoftext|>'s", "\u0301\u0345Å ̈́", "x  y\u2028"} {
		f.Add(s)
	}
	toks := []*Tokenizer{goldenTokenizer(f, "decoder"), goldenTokenizer(f, "gaps")}
	f.Fuzz(func(t *testing.T, s string) {
		for _, tok := range toks {
			ids := tok.Encode(s)
			for _, id := range ids {
				if tok.Token(id) == "" {
					t.Fatalf("%+q: id %d is not in the vocabulary", s, id)
				}
			}
			if utf8.ValidString(s) && !slices.Equal(ids, tok.Encode(strings.ToValidUTF8(s, "\uFFFD"))) {
				t.Fatalf("%+q: two answers", s)
			}
			tok.Decode(ids)
		}
	})
}

func FuzzLoadTokenizer(f *testing.F) {
	f.Add(`{"a": 0, "<|endoftext|>": 1}`, "a b", `{"bos_token": "a"}`)
	f.Add(`{"<|endoftext|>": 2147483647}`, "", `{"added_tokens_decoder": {"3": {"content": "x", "lstrip": true}}}`)
	f.Add(`{"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 5}`, "#version\na b\r\n", `{"extra_special_tokens": ["", "q"], "split_special_tokens": true}`)
	f.Fuzz(func(t *testing.T, vocab, merges, config string) {
		tok, err := LoadTokenizer(fstest.MapFS{"vocab.json": {Data: []byte(vocab)}, "merges.txt": {Data: []byte(merges)}, "tokenizer_config.json": {Data: []byte(config)}})
		if err == nil {
			tok.Decode(tok.Encode("a bab q x <|endoftext|>"))
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	tok := goldenTokenizer(b, "default")
	for _, n := range []int{1, 100} {
		prompt := strings.Repeat("a red apple on a wooden table, studio light, highly detailed ", n)
		b.Run(fmt.Sprint(len(prompt)), func(b *testing.B) {
			for b.Loop() {
				tok.Encode(prompt)
			}
		})
	}
}
