package t5

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"unicode"

	"darkroom/clip"
)

// Tokenizer turns text into token ids exactly as Hugging Face's T5Tokenizer does (transformers 5, built on the tokenizers library):
//
//	added tokens → the map of characters → words at white space, each with ▁ before it → pieces of a unigram model
//
// A Tokenizer may be used by several goroutines at once.
type Tokenizer struct {
	End, Pad int32

	unigram     *unigram
	chars       *charsmap
	raw, cooked clip.Splitter // added tokens in the text as it was written, and in normalized text
	added       map[int32]string
}

const space = "▁" // what stands for the space before a word

// tokenizerJSON is what is read of tokenizer.json.
type tokenizerJSON struct {
	Model struct {
		Type    string  `json:"type"`
		Unknown *int32  `json:"unk_id"`
		Vocab   []piece `json:"vocab"`
	} `json:"model"`
	Normalizer normalizer `json:"normalizer"`
	Added      []struct {
		ID int32 `json:"id"`
	} `json:"added_tokens"`
}

func (p *piece) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&p.text, &p.score})
}

// normalizer is one of tokenizer.json: of those that T5's files have, all but the map of characters change nothing here, as words
// are taken apart at white space.
type normalizer struct {
	Type     string       `json:"type"`
	Charsmap []byte       `json:"precompiled_charsmap"`
	List     []normalizer `json:"normalizers"`
}

func (n normalizer) charsmap() ([]byte, error) {
	switch n.Type {
	case "", "Strip", "Replace":
		return nil, nil
	case "Precompiled":
		return n.Charsmap, nil
	case "Sequence":
		var found []byte
		for _, inner := range n.List {
			c, err := inner.charsmap()
			if err != nil {
				return nil, err
			}
			if len(c) > 0 {
				found = c
			}
		}
		return found, nil
	}
	return nil, fmt.Errorf("the normalizer %q is not T5's: only Precompiled is supported", n.Type)
}

// LoadTokenizer reads the folder fsys of a T5 tokenizer in the diffusers layout: tokenizer.json, or spiece.model with 100 tokens
// <extra_id_N> after it, and tokenizer_config.json with the added tokens, which may be missing. The error is of files that are
// missing or not understood.
func LoadTokenizer(fsys fs.FS) (*Tokenizer, error) {
	t, err := loadTokenizer(fsys)
	if err != nil {
		return nil, fmt.Errorf("T5's tokenizer: %w", err)
	}
	return t, nil
}

func loadTokenizer(fsys fs.FS) (*Tokenizer, error) {
	t := &Tokenizer{added: map[int32]string{}}
	tokens := map[int32]clip.AddedToken{}
	var chars []byte
	text, err := clip.ReadFile(fsys, "tokenizer.json")
	switch {
	case err == nil:
		chars, err = t.readJSON(text, tokens)
	case errors.Is(err, fs.ErrNotExist):
		if text, err = clip.ReadFile(fsys, "spiece.model"); errors.Is(err, fs.ErrNotExist) {
			return nil, errors.New("there is neither tokenizer.json nor spiece.model")
		}
		if err == nil {
			chars, err = t.readPieces(text)
		}
	}
	if err != nil {
		return nil, err
	}
	if t.chars, err = readCharsmap(chars); err != nil {
		return nil, err
	}
	if err := t.unigram.index(); err != nil {
		return nil, err
	}
	if err := t.readConfig(fsys, tokens); err != nil {
		return nil, err
	}
	for id, token := range tokens {
		if token.Content == "" || id < 0 || int(id) > len(t.unigram.pieces)+len(tokens) {
			return nil, fmt.Errorf("the added token %q has the number %d", token.Content, id)
		}
		t.added[id] = token.Content
		if token.LooksIn() {
			t.cooked.Add(t.chars.normalize(token.Content), id, token)
		} else {
			t.raw.Add(token.Content, id, token)
		}
	}
	return t, nil
}

func (t *Tokenizer) readJSON(text []byte, tokens map[int32]clip.AddedToken) (chars []byte, err error) {
	var whole tokenizerJSON
	var added struct {
		List []clip.AddedToken `json:"added_tokens"`
	}
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	if err := json.Unmarshal(text, &added); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	if whole.Model.Type != "Unigram" {
		return nil, fmt.Errorf("tokenizer.json: model.type is %q; only Unigram, T5's, is supported", whole.Model.Type)
	}
	t.unigram = &unigram{pieces: whole.Model.Vocab, unknown: defaultUnknown}
	if whole.Model.Unknown != nil {
		t.unigram.unknown = *whole.Model.Unknown
	}
	for i, a := range whole.Added {
		tokens[a.ID] = added.List[i]
	}
	if chars, err = whole.Normalizer.charsmap(); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	return chars, nil
}

// The numbers of T5's first pieces, and how many sentinels of its training follow the vocabulary.
const (
	defaultUnknown = 2
	sentinels      = 100
)

func (t *Tokenizer) readPieces(b []byte) (chars []byte, err error) {
	if t.unigram, chars, err = readPieces(b); err != nil {
		return nil, fmt.Errorf("spiece.model: %w", err)
	}
	t.unigram.unknown = defaultUnknown
	for i := sentinels - 1; i >= 0; i-- {
		t.unigram.pieces = append(t.unigram.pieces, piece{text: sentinel(i)})
	}
	return chars, nil
}

func sentinel(i int) string { return fmt.Sprintf("<extra_id_%d>", i) }

// readConfig reads the added tokens of tokenizer_config.json, which win over tokenizer.json's. T5's special tokens are found in the
// text in any case.
func (t *Tokenizer) readConfig(fsys fs.FS, tokens map[int32]clip.AddedToken) error {
	const name = "tokenizer_config.json"
	var config struct {
		Class   string                     `json:"tokenizer_class"`
		Decoder map[string]clip.AddedToken `json:"added_tokens_decoder"`
		Pad     *clip.AddedToken           `json:"pad_token"`
		End     *clip.AddedToken           `json:"eos_token"`
		Unknown *clip.AddedToken           `json:"unk_token"`
	}
	text, err := clip.ReadFile(fsys, name)
	if err == nil {
		err = json.Unmarshal(text, &config)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", name, err)
	}
	if c := config.Class; c != "" && c != "T5Tokenizer" && c != "T5TokenizerFast" && c != "PreTrainedTokenizerFast" && c != "TokenizersBackend" {
		return fmt.Errorf("%s: tokenizer_class is %q; only T5Tokenizer is supported", name, c)
	}
	for number, token := range config.Decoder {
		id, err := strconv.ParseInt(number, 10, 32)
		if err != nil {
			return fmt.Errorf("%s: added_tokens_decoder: %q is not a token's number", name, number)
		}
		tokens[int32(id)] = token
	}
	known := map[string]int32{}
	for id, token := range tokens {
		known[token.Content] = id
	}
	special := func(content string) (int32, error) {
		if id, ok := known[content]; ok {
			return id, nil
		}
		id, ok := t.unigram.ids[content]
		if ok {
			tokens[id] = clip.AddedToken{Content: content, Special: true}
			return id, nil
		}
		return 0, fmt.Errorf("the vocabulary has no %s", content)
	}
	named := func(token *clip.AddedToken, usual string) (int32, error) {
		if token == nil || token.Content == "" {
			return special(usual)
		}
		return special(token.Content)
	}
	if t.Pad, err = named(config.Pad, "<pad>"); err != nil {
		return err
	}
	if t.End, err = named(config.End, "</s>"); err != nil {
		return err
	}
	if _, err = named(config.Unknown, "<unk>"); err != nil {
		return err
	}
	for i := range sentinels {
		if _, ok := t.unigram.ids[sentinel(i)]; ok {
			_, _ = special(sentinel(i)) // it is there
		}
	}
	return nil
}

// Encode gives the ids of the text alone: no end is added and nothing is cut off. Bytes that are not UTF-8 count as U+FFFD.
func (t *Tokenizer) Encode(text string) []int32 {
	ids := make([]int32, 0, len(text)/4+1)
	for part, id := range t.raw.Split(strings.ToValidUTF8(text, "\uFFFD")) {
		if id >= 0 {
			ids = append(ids, id)
			continue
		}
		for part, id := range t.cooked.Split(t.chars.normalize(part)) {
			if id >= 0 {
				ids = append(ids, id)
				continue
			}
			for word := range strings.FieldsFuncSeq(part, unicode.IsSpace) {
				ids = t.word(ids, word)
			}
		}
	}
	return ids
}

// word appends the ids of a word, which begins with the mark of a space, as does each part of it that has one inside.
func (t *Tokenizer) word(ids []int32, word string) []int32 {
	if !strings.HasPrefix(word, space) {
		word = space + word
	}
	for {
		next := strings.Index(word[len(space):], space)
		if next < 0 {
			return t.unigram.encode(ids, word)
		}
		ids = t.unigram.encode(ids, word[:len(space)+next])
		word = word[len(space)+next:]
	}
}

// Prompt are the ids of a text with its end, at most that many, cut off before it. cut is what was left out.
func (t *Tokenizer) Prompt(text string, most int) (ids []int32, cut string) {
	if ids = t.Encode(text); len(ids) > most-1 {
		cut = t.Decode(ids[most-1:])
		ids = ids[: most-1 : most-1]
	}
	return append(ids, t.End), cut
}

// Size is one more than the highest id: the rows that the encoder's table must have.
func (t *Tokenizer) Size() int {
	n := len(t.unigram.pieces)
	for id := range t.added {
		n = max(n, int(id)+1)
	}
	return n
}

// Token returns an id's entry in the vocabulary, such as "▁apple", or "" if there is none.
func (t *Tokenizer) Token(id int32) string {
	if text, ok := t.added[id]; ok {
		return text
	}
	if id < 0 || int(id) >= len(t.unigram.pieces) {
		return ""
	}
	return t.unigram.pieces[id].text
}

// Decode returns readable text for ids.
func (t *Tokenizer) Decode(ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(t.Token(id))
	}
	return strings.TrimPrefix(strings.ReplaceAll(b.String(), space, " "), " ")
}

// Check says whether the vocabulary fits a model, whose files are in the folder part.
func (t *Tokenizer) Check(c Config, part string) error {
	if n := t.Size(); n > c.VocabSize {
		return fmt.Errorf("the tokenizer has %d tokens, %s/config.json vocab_size %d: they must agree", n, part, c.VocabSize)
	}
	return nil
}
