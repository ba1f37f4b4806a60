package clip

import (
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"
)

// addedToken is a token that is found in the text before any word is: the special tokens, and what
// was added to the vocabulary after training.
type addedToken struct {
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"` // takes the white space on its left along
	RStrip     bool   `json:"rstrip"`
	Normalized *bool  `json:"normalized"` // looked for in normalized text; nil: only if not special
	Special    bool   `json:"special"`

	plain bool // written as a string, not as an object
}

// UnmarshalJSON takes "text" and {"content": "text", …}.
func (t *addedToken) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		t.plain, t.Special = true, true
		return json.Unmarshal(b, &t.Content)
	}
	type object addedToken
	if err := json.Unmarshal(b, (*object)(t)); err != nil {
		return fmt.Errorf("a token is a string or an object with content: %w", err)
	}
	return nil
}

func (t addedToken) normalized() bool {
	if t.Normalized != nil {
		return *t.Normalized
	}
	return !t.Special
}

// same says whether b adds nothing to t.
func (t addedToken) same(b addedToken) bool {
	return t.plain == b.plain && t.Content == b.Content && t.SingleWord == b.SingleWord && t.LStrip == b.LStrip &&
		t.RStrip == b.RStrip && t.normalized() == b.normalized() && t.Special == b.Special
}

// AddedToken is an entry of tokenizer.json's added_tokens, or of tokenizer_config.json's added_tokens_decoder.
type AddedToken = addedToken

// LooksIn reports whether the token is looked for in normalized text, not in the text as it was written.
func (t addedToken) LooksIn() (normalized bool) { return t.normalized() }

// Splitter finds added tokens in text. The zero value finds none.
type Splitter struct{ s splitter }

// Add has a token looked for that is spelled so.
func (s *Splitter) Add(text string, id int32, token AddedToken) { s.s.add(text, id, token) }

// Split yields the parts of text in order, added tokens with their id and what is between them with -1.
func (s *Splitter) Split(text string) iter.Seq2[string, int32] { return s.s.split(text) }

// splitter finds added tokens: leftmost first, then longest.
type splitter struct {
	root   trie
	tokens map[int32]addedToken
}

type trie struct {
	children map[byte]*trie
	id       int32
	final    bool
}

func (s *splitter) add(text string, id int32, token addedToken) {
	if s.tokens == nil {
		s.tokens = map[int32]addedToken{}
	}
	s.tokens[id] = token
	at := &s.root
	for i := range len(text) {
		if at.children == nil {
			at.children = map[byte]*trie{}
		}
		next := at.children[text[i]]
		if next == nil {
			next = new(trie)
			at.children[text[i]] = next
		}
		at = next
	}
	at.id, at.final = id, true
}

// longest is the longest token at the start of s; n is 0 where there is none.
func (s *splitter) longest(text string) (id int32, n int) {
	at := &s.root
	for i := range len(text) {
		if at = at.children[text[i]]; at == nil {
			break
		}
		if at.final {
			id, n = at.id, i+1
		}
	}
	return id, n
}

// split yields the parts of text in order, added tokens with their id and what is between them with -1.
func (s *splitter) split(text string) iter.Seq2[string, int32] {
	return func(yield func(string, int32) bool) {
		done := 0 // what was yielded
		for i := 0; i < len(text) && len(s.tokens) > 0; {
			id, n := s.longest(text[i:])
			if n == 0 {
				i++
				continue
			}
			start, stop := i, i+n
			i = stop
			token := s.tokens[id]
			if token.SingleWord && (endsInWord(text[:start]) || startsWithWord(text[stop:])) {
				continue
			}
			if token.LStrip {
				start = max(len(strings.TrimRightFunc(text[:start], isSpace)), done)
			}
			if token.RStrip {
				stop = len(text) - len(strings.TrimLeftFunc(text[stop:], isSpace))
			}
			if done < start && !yield(text[done:start], -1) {
				return
			}
			if !yield(text[start:stop], id) {
				return
			}
			done = stop
		}
		if done < len(text) {
			yield(text[done:], -1)
		}
	}
}

func endsInWord(s string) bool {
	r, _ := utf8.DecodeLastRuneInString(s)
	return s != "" && isWord(r)
}

func startsWithWord(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return s != "" && isWord(r)
}

// isWord is \w of UTS #18.
func isWord(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic, unicode.Join_Control)
}
