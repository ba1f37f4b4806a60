package clip

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"iter"
	"strings"
	"unicode/utf8"
)

// style is what one class of tokenizers does otherwise than another: the files, the added tokens and byte pair encoding
// are the same.
type style struct {
	classes   []string // tokenizer_class, the usual one first
	normalize func(string) string
	words     func(string) iter.Seq[string]
	ending    string // of a word's last symbol
	token     func(key string) addedToken
	check     func(preTokenizer json.RawMessage) error
	builtIn   bool // the program has its vocabulary
}

const endOfText = "<|endoftext|>"

var clipStyle = style{
	classes:   []string{"CLIPTokenizer", "CLIPTokenizerFast"},
	normalize: normalize,
	words:     func(s string) iter.Seq[string] { return words(s) },
	ending:    endOfWord,
	token:     defaultToken,
	check:     func(json.RawMessage) error { return nil }, // the class says it, whatever is written there
	builtIn:   true,
}

// byteLevel is Qwen2Tokenizer: text → added tokens → NFC → words with the space before them → bytes → byte pair encoding.
// Case and white space stay.
var byteLevel = style{
	classes:   []string{"Qwen2Tokenizer", "Qwen2TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"},
	normalize: nfc,
	words:     byteLevelWords,
	token: func(key string) addedToken {
		if key == "bos_token" {
			return addedToken{}
		}
		return defaultToken(key)
	},
	check: func(preTokenizer json.RawMessage) error {
		if pattern, _ := json.Marshal(byteLevelPattern); len(preTokenizer) > 0 && !bytes.Contains(unescaped(preTokenizer), unescaped(pattern)) {
			return errors.New("pre_tokenizer takes words apart otherwise than Qwen's: it is not supported")
		}
		return nil
	},
}

// unescaped has one form of the characters that writers of JSON may escape.
func unescaped(text []byte) []byte {
	return []byte(strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(text)))
}

// LoadByteLevel reads the folder fsys of a Qwen tokenizer in the diffusers layout: LoadTokenizer says which files. The ids
// are those of Hugging Face's Qwen2Tokenizer.
func LoadByteLevel(fsys fs.FS) (*Tokenizer, error) { return load(fsys, &byteLevel) }

const byteLevelPattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

// byteLevelWords yields the matches of byteLevelPattern, which leave nothing out.
func byteLevelWords(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for len(s) > 0 {
			n := byteLevelWord(s)
			if !yield(s[:n]) {
				return
			}
			s = s[n:]
		}
	}
}

// byteLevelWord is the length of the first match.
func byteLevelWord(s string) int {
	if n := contraction(s); n > 0 {
		return n
	}
	r, n := utf8.DecodeRuneInString(s)
	class := classOf(r)
	next := space // of what follows
	if n < len(s) {
		follows, _ := utf8.DecodeRuneInString(s[n:])
		next = classOf(follows)
	}
	switch {
	case class == letter, class != number && r != '\r' && r != '\n' && next == letter:
		return n + runOf(s[n:], letter)
	case class == number:
		return n
	case class == other, r == ' ' && next == other:
		n += runOf(s[n:], other)
		return n + len(s[n:]) - len(strings.TrimLeft(s[n:], "\r\n"))
	}
	run := runOf(s, space)
	if at := strings.LastIndexAny(s[:run], "\r\n"); at >= 0 {
		return at + 1
	}
	_, last := utf8.DecodeLastRuneInString(s[:run])
	if run < len(s) && run > last {
		return run - last // the last space belongs to the word after it
	}
	return run
}

// runOf is the length of the run of a class at the start of s.
func runOf(s string, c class) int {
	for i, r := range s {
		if classOf(r) != c {
			return i
		}
	}
	return len(s)
}

// contraction is the length of an English contraction's ending, in any case: ſ is an s too.
func contraction(s string) int {
	if s[0] != '\'' {
		return 0
	}
	for _, ending := range [...]string{"s", "ſ", "t", "re", "ve", "m", "ll", "d"} {
		if n := 1 + len(ending); len(s) >= n && strings.EqualFold(s[1:n], ending) {
			return n
		}
	}
	return 0
}
