package clip

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// WithWords is the tokenizer with words of textual inversions: each stands for ids of its own, one a vector, wherever it
// stands in a text as a whole word, in upper or lower case. The tokenizer itself stays as it is.
func (t *Tokenizer) WithWords(words map[string][]int32) *Tokenizer {
	c := &Tokenizer{
		Start: t.Start, End: t.End, Pad: t.Pad, Unknown: t.Unknown, Comma: t.Comma, MaxLength: t.MaxLength,
		style: t.style, bpe: t.bpe, raw: t.raw, cooked: t.cooked, text: t.text, symbols: t.symbols, cache: map[string][]int32{}, words: map[string][]int32{},
	}
	for word, ids := range words {
		c.words[strings.ToLower(word)] = ids
		c.longestWord = max(c.longestWord, len(word))
	}
	return c
}

// splitWords calls text for what lies between words, and word for each of them.
func (t *Tokenizer) splitWords(s string, text func(string), word func(ids []int32)) {
	begin := 0
	before := ' ' // the rune before i
	for i := 0; i < len(s); {
		if ids, n := t.wordAt(s[i:]); n > 0 && !partOfWord(before) {
			text(s[begin:i])
			word(ids)
			i += n
			begin, before = i, ' '
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		before = r
	}
	text(s[begin:])
}

// wordAt finds the longest word that s begins with and that ends there.
func (t *Tokenizer) wordAt(s string) (ids []int32, n int) {
	for end := min(len(s), t.longestWord); end > 0; end-- {
		if end < len(s) && !utf8.RuneStart(s[end]) {
			continue
		}
		found, ok := t.words[strings.ToLower(s[:end])]
		if !ok {
			continue
		}
		if next, _ := utf8.DecodeRuneInString(s[end:]); end == len(s) || !partOfWord(next) {
			return found, end
		}
	}
	return nil, 0
}

// HasWord reports whether a word of WithWords would be found in the text.
func HasWord(text, word string) bool {
	if word == "" || len(text) < len(word) {
		return false
	}
	found := false
	t := &Tokenizer{words: map[string][]int32{strings.ToLower(word): nil}, longestWord: len(word)}
	t.splitWords(text, func(string) {}, func([]int32) { found = true })
	return found
}

// partOfWord says whether a rune beside a word makes it a part of another.
func partOfWord(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' || r == '-'
}
