// Package clip holds the text half of a latent diffusion model: the tokenizer of CLIP (Radford et al.
// 2021, https://arxiv.org/abs/2103.00020), the prompt syntax with its weights and chunks, and the
// transformer that turns token ids into hidden states.
package clip

import (
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	encoding "golang.org/x/text/encoding/unicode"
)

// Tokenizer turns text into token ids exactly as Hugging Face's CLIPTokenizer does (transformers 5,
// where the class is one, built on the tokenizers library; StableDiffusionPipeline loads that one):
//
//	added tokens that match as written → NFC, white space, lower case → added tokens that match
//	normalized → words → bytes → byte pair encoding
//
// A word is a run of letters, one numeral, an English contraction's ending, or a run of anything else
// but white space. The versions of Unicode are the reference's: 9 for NFC, 16 for what letters and
// numerals are, 17 for lower case. Transformers 4 had a second, slow class that differed in rare
// letters (a final Σ became ς, ſ counted as s after an apostrophe); it is not followed.
//
// A Tokenizer may be used by several goroutines at once.
type Tokenizer struct {
	// Ids of the special tokens: what a sequence starts and ends with, what fills it up, and what
	// stands for bytes that the vocabulary lacks.
	Start, End, Pad, Unknown int32
	// Comma is the id of ",</w>", -1 if the vocabulary lacks it.
	Comma int32
	// MaxLength is model_max_length, the number of ids with Start and End that the encoder takes; 0 if
	// the files do not say.
	MaxLength int

	style   *style
	bpe     *bpe
	raw     splitter // tokens found in the text as it was written
	cooked  splitter // tokens found in normalized text
	text    map[int32]string
	symbols map[rune]byte // inverse of byteSymbols

	words       map[string][]int32 // of textual inversions, in lower case: see WithWords
	longestWord int                // in bytes

	mu    sync.RWMutex
	cache map[string][]int32 // ids of words
}

// Words longer than cachedWord bytes, and all after the first cachedWords, are encoded each time.
const (
	cachedWord  = 64
	cachedWords = 1 << 14
)

// Encode returns the ids of text alone: no Start or End is added and nothing is cut off. Bytes that are
// not UTF-8 count as U+FFFD.
func (t *Tokenizer) Encode(text string) []int32 {
	if len(t.words) == 0 {
		return t.encode(text)
	}
	var ids []int32
	t.splitWords(text, func(s string) { ids = append(ids, t.encode(s)...) }, func(word []int32) { ids = append(ids, word...) })
	return ids
}

func (t *Tokenizer) encode(text string) []int32 {
	ids := make([]int32, 0, len(text)/4+1)
	for part, id := range t.raw.split(strings.ToValidUTF8(text, "\uFFFD")) {
		if id >= 0 {
			ids = append(ids, id)
			continue
		}
		for part, id := range t.cooked.split(t.style.normalize(part)) {
			if id >= 0 {
				ids = append(ids, id)
				continue
			}
			for word := range t.style.words(part) {
				ids = t.appendWord(ids, word)
			}
		}
	}
	return ids
}

// words yields the matches of the two regular expressions that the reference applies one after the other,
//
//	<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// of which the second does nothing but take the first's two special tokens apart again.
func words(s string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for len(s) > 0 {
			parts, n := nextWords(s)
			for _, p := range parts {
				if p != "" && !yield(p) {
					return
				}
			}
			s = s[n:]
		}
	}
}

// nextWords returns what the first match at the start of s gives, and its length in bytes.
func nextWords(s string) (parts [3]string, n int) {
	switch s[0] {
	case '<':
		for _, name := range [...]string{"startoftext", "endoftext"} {
			if strings.HasPrefix(s[1:], "|"+name+"|>") {
				return [3]string{"<|", name, "|>"}, len("<||>") + len(name)
			}
		}
	case '\'':
		for _, ending := range [...]string{"s", "t", "re", "ve", "m", "ll", "d"} {
			if strings.HasPrefix(s[1:], ending) {
				return [3]string{s[:1+len(ending)]}, 1 + len(ending)
			}
		}
	}
	r, n := utf8.DecodeRuneInString(s)
	class := classOf(r)
	switch class {
	case space:
		return parts, n
	case number:
		return [3]string{s[:n]}, n
	}
	for n < len(s) {
		r, size := utf8.DecodeRuneInString(s[n:])
		if classOf(r) != class {
			break
		}
		n += size
	}
	return [3]string{s[:n]}, n
}

type class uint8

const (
	space class = iota
	letter
	number
	other
)

func classOf(r rune) class {
	switch {
	case unicode.Is(letters, r):
		return letter
	case unicode.Is(numbers, r):
		return number
	case isSpace(r):
		return space
	}
	return other
}

func (t *Tokenizer) appendWord(ids []int32, word string) []int32 {
	if len(word) > cachedWord {
		return t.bpe.encode(ids, word)
	}
	t.mu.RLock()
	known, ok := t.cache[word]
	t.mu.RUnlock()
	if ok {
		return append(ids, known...)
	}
	n := len(ids)
	ids = t.bpe.encode(ids, word)
	t.mu.Lock()
	if len(t.cache) < cachedWords {
		t.cache[strings.Clone(word)] = append([]int32(nil), ids[n:]...)
	}
	t.mu.Unlock()
	return ids
}

// Size is one more than the highest id: the rows that the text encoder's table must have.
func (t *Tokenizer) Size() int {
	n := 0
	for id := range t.text {
		n = max(n, int(id)+1)
	}
	return n
}

// Token returns an id's entry in the vocabulary, such as "apple</w>", or "" if there is none.
func (t *Tokenizer) Token(id int32) string { return t.text[id] }

// Decode returns readable text for ids, words separated by spaces, as Hugging Face's decode does. It is
// not the inverse of Encode, which forgets case and spacing.
func (t *Tokenizer) Decode(ids []int32) string {
	var b []byte
	for _, id := range ids {
		b = t.appendBytes(b, t.text[id])
	}
	// A character that was cut in two becomes U+FFFD, one for each of its ill-formed parts.
	text, err := encoding.UTF8.NewDecoder().Bytes(b)
	if err != nil {
		panic(err) // it replaces, and never fails
	}
	if t.style.ending == "" {
		return string(text)
	}
	return strings.TrimFunc(strings.ReplaceAll(string(text), t.style.ending, " "), isPythonSpace)
}

// appendBytes undoes byteSymbols; a token with any other character stands for itself.
func (t *Tokenizer) appendBytes(b []byte, token string) []byte {
	n := len(b)
	for _, r := range token {
		c, ok := t.symbols[r]
		if !ok {
			return append(b[:n], token...)
		}
		b = append(b, c)
	}
	return b
}
