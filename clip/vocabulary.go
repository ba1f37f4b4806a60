package clip

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strings"
)

// maxFile bounds the files of a tokenizer, in bytes; CLIP's own are below 2 MiB, T5's below 3 MiB.
const maxFile = 64 << 20

// LoadTokenizer reads the folder fsys of a model in the diffusers layout:
//
//	vocab.json, merges.txt     or tokenizer.json, which wins if there are both
//	tokenizer_config.json      special tokens, model_max_length (may be missing)
//	special_tokens_map.json    special tokens; read, as added_tokens.json is, only where
//	added_tokens.json          tokenizer_config.json has no added_tokens_decoder
//
// In place of a vocabulary tokenizer_config.json may say "vocabulary": "clip", for OpenAI's, which the program has.
// Special tokens that the files do not name are CLIP's: <|startoftext|> starts, <|endoftext|> is all else.
func LoadTokenizer(fsys fs.FS) (*Tokenizer, error) { return load(fsys, &clipStyle) }

func load(fsys fs.FS, s *style) (*Tokenizer, error) {
	f, err := readTokenizerFiles(fsys, s)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	t, err := f.build()
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	return t, nil
}

// The special tokens in the order in which the reference adds them.
var namedTokens = [...]string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// tokenizerFiles is what the files of a folder say, before any of it is checked against the rest.
type tokenizerFiles struct {
	style     *style
	vocab     map[string]int32
	merges    [][2]string
	named     map[string]addedToken // by key, "bos_token"
	extra     []addedToken
	added     map[int32]addedToken // tokens with ids of their own
	maxLength int
	split     bool // special tokens are not looked for in text
}

func readTokenizerFiles(fsys fs.FS, s *style) (*tokenizerFiles, error) {
	f := &tokenizerFiles{style: s, named: map[string]addedToken{}, added: map[int32]addedToken{}}
	whole, err := f.readVocabulary(fsys)
	if err != nil {
		return nil, err
	}
	hasDecoder, err := f.readConfig(fsys)
	if err != nil || hasDecoder {
		return f, err
	}
	if err := f.readSpecialTokens(fsys, "special_tokens_map.json"); err != nil {
		return nil, err
	}
	if err := f.readAddedTokens(fsys); err != nil {
		return nil, err
	}
	for _, t := range whole {
		f.added[t.ID] = t.addedToken
	}
	return f, nil
}

// tokenWithID is an entry of tokenizer.json's added_tokens. The embedded type's UnmarshalJSON would
// hide the id, hence the method.
type tokenWithID struct {
	ID int32
	addedToken
}

func (t *tokenWithID) UnmarshalJSON(b []byte) error {
	var id struct {
		ID *int32 `json:"id"`
	}
	if err := json.Unmarshal(b, &id); err != nil {
		return err
	}
	if id.ID == nil {
		return errors.New("an added token has no id")
	}
	t.ID = *id.ID
	return t.addedToken.UnmarshalJSON(b)
}

// readVocabulary reads tokenizer.json or vocab.json and merges.txt, and returns the former's added tokens.
func (f *tokenizerFiles) readVocabulary(fsys fs.FS) ([]tokenWithID, error) {
	var whole struct {
		Model struct {
			Type   string           `json:"type"`
			Vocab  map[string]int32 `json:"vocab"`
			Merges mergeList        `json:"merges"`
		} `json:"model"`
		AddedTokens  []tokenWithID   `json:"added_tokens"`
		PreTokenizer json.RawMessage `json:"pre_tokenizer"`
	}
	switch found, err := readJSON(fsys, "tokenizer.json", &whole); {
	case err != nil:
		return nil, err
	case found:
		if m := whole.Model.Type; m != "BPE" && m != "" {
			return nil, fmt.Errorf("tokenizer.json: model.type is %q; only BPE is supported", m)
		}
		if err := f.style.check(whole.PreTokenizer); err != nil {
			return nil, fmt.Errorf("tokenizer.json: %w", err)
		}
		f.vocab, f.merges = whole.Model.Vocab, whole.Model.Merges
		if len(f.vocab) == 0 {
			return nil, errors.New("tokenizer.json: model.vocab is missing or empty")
		}
		return whole.AddedTokens, nil
	}
	switch found, err := readJSON(fsys, "vocab.json", &f.vocab); {
	case err != nil:
		return nil, err
	case !found && f.style.builtIn:
		return nil, f.readBuiltIn(fsys)
	case !found:
		return nil, errors.New("there is neither tokenizer.json nor vocab.json")
	case len(f.vocab) == 0:
		return nil, errors.New("vocab.json is empty")
	}
	text, err := ReadFile(fsys, "merges.txt")
	if err != nil {
		return nil, err
	}
	f.merges, err = parseMerges(string(text))
	return nil, err
}

// parseMerges reads one pair of tokens a line, in the order of their ranks.
func parseMerges(text string) ([][2]string, error) {
	var merges [][2]string
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if line == "" || strings.HasPrefix(line, "#version") {
			continue
		}
		left, right, ok := strings.Cut(line, " ")
		if !ok || strings.Contains(right, " ") {
			return nil, fmt.Errorf("merges.txt, line %d: %q is not two tokens with a space between", number, line)
		}
		merges = append(merges, [2]string{left, right})
	}
	return merges, nil
}

// mergeList is tokenizer.json's: "a b" in older files, ["a", "b"] in newer ones.
type mergeList [][2]string

func (m *mergeList) UnmarshalJSON(b []byte) error {
	var pairs [][]string
	if json.Unmarshal(b, &pairs) != nil {
		var lines []string
		if err := json.Unmarshal(b, &lines); err != nil {
			return fmt.Errorf("merges are neither pairs nor lines: %w", err)
		}
		pairs = nil
		for _, line := range lines {
			pairs = append(pairs, strings.Split(line, " "))
		}
	}
	for i, p := range pairs {
		if len(p) != 2 {
			return fmt.Errorf("merge %d has %d tokens, not 2", i+1, len(p))
		}
		*m = append(*m, [2]string{p[0], p[1]})
	}
	return nil
}

// readConfig reads tokenizer_config.json and says whether it has an added_tokens_decoder.
func (f *tokenizerFiles) readConfig(fsys fs.FS) (hasDecoder bool, err error) {
	const name = "tokenizer_config.json"
	var config struct {
		Class    string                `json:"tokenizer_class"`
		Max      *float64              `json:"model_max_length"` // 1e30 means none
		OldMax   *float64              `json:"max_len"`
		Decoder  *map[int32]addedToken `json:"added_tokens_decoder"`
		SplitAll bool                  `json:"split_special_tokens"`
	}
	if _, err := readJSON(fsys, name, &config); err != nil {
		return false, err
	}
	if config.Class != "" && !slices.Contains(f.style.classes, config.Class) {
		return false, fmt.Errorf("%s: tokenizer_class is %q; only %s is supported", name, config.Class, f.style.classes[0])
	}
	if config.Max == nil {
		config.Max = config.OldMax
	}
	if m := config.Max; m != nil && *m < math.MaxInt32 {
		if *m < 3 || *m != math.Trunc(*m) {
			return false, fmt.Errorf("%s: model_max_length is %v; it must be a whole number of at least 3", name, *m)
		}
		f.maxLength = int(*m)
	}
	f.split = config.SplitAll
	if config.Decoder != nil {
		f.added = *config.Decoder
	}
	return config.Decoder != nil, f.readSpecialTokens(fsys, name)
}

// readSpecialTokens takes every key that names a token from a file that may be missing.
func (f *tokenizerFiles) readSpecialTokens(fsys fs.FS, name string) error {
	var values map[string]json.RawMessage
	if _, err := readJSON(fsys, name, &values); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		raw := values[key]
		var err error
		switch isText, isObject := bytes.HasPrefix(raw, []byte(`"`)), bytes.HasPrefix(raw, []byte(`{`)); {
		case key == "additional_special_tokens" || key == "extra_special_tokens":
			err = f.readExtra(raw)
		case strings.HasSuffix(key, "_token") && (isText || isObject):
			var t addedToken
			err = json.Unmarshal(raw, &t)
			t.Special = true // before it is asked whether it is normalized
			if t.Content != "" {
				f.named[key] = t
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %s: %w", name, key, err)
		}
	}
	return nil
}

// readExtra takes a list of tokens, or an object from names to tokens.
func (f *tokenizerFiles) readExtra(raw json.RawMessage) error {
	if bytes.HasPrefix(raw, []byte(`{`)) {
		var named map[string]addedToken
		if err := json.Unmarshal(raw, &named); err != nil {
			return err
		}
		for key, t := range named {
			t.Special = true
			f.named[key] = t
		}
		return nil
	}
	var list []addedToken
	err := json.Unmarshal(raw, &list)
	f.extra = append(f.extra, list...)
	return err
}

// readAddedTokens reads added_tokens.json: {"token": id}.
func (f *tokenizerFiles) readAddedTokens(fsys fs.FS) error {
	var ids map[string]int32
	if _, err := readJSON(fsys, "added_tokens.json", &ids); err != nil {
		return err
	}
	special := map[string]bool{}
	for _, t := range f.named {
		special[t.Content] = true
	}
	for _, t := range f.extra {
		special[t.Content] = true
	}
	for content, id := range ids {
		f.added[id] = addedToken{Content: content, Special: special[content]}
	}
	return nil
}

// readJSON decodes a file and says whether it is there.
func readJSON(fsys fs.FS, name string, v any) (found bool, err error) {
	b, err := ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	return true, nil
}

// ReadFile reads a tokenizer's file of at most 64 MiB.
func ReadFile(fsys fs.FS, name string) ([]byte, error) {
	file, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d MiB: not a tokenizer's file", name, maxFile>>20)
	}
	return b, nil
}

// build puts the parts together in the reference's order, on which the ids of new tokens depend.
func (f *tokenizerFiles) build() (*Tokenizer, error) {
	for token, id := range f.vocab {
		if id < 0 {
			return nil, fmt.Errorf("the vocabulary gives %q the id %d", token, id)
		}
	}
	tokens := f.tokensToAdd()
	t := &Tokenizer{style: f.style, text: make(map[int32]string, len(f.vocab)), cache: map[string][]int32{}, symbols: map[rune]byte{}}
	for b, r := range byteSymbols() {
		t.symbols[r] = byte(b)
	}
	for token, id := range f.vocab {
		t.text[id] = token
	}
	ids, err := t.add(f, tokens)
	if err != nil {
		return nil, err
	}
	unknown, ok := f.vocab[f.name("unk_token")]
	if !ok {
		unknown = -1
	}
	if t.bpe, err = newBPE(f.vocab, f.merges, unknown, f.style.ending); err != nil {
		return nil, err
	}
	t.Start, t.End = ids[f.name("bos_token")], ids[f.name("eos_token")]
	t.Pad, t.Unknown = ids[f.name("pad_token")], ids[f.name("unk_token")]
	t.Comma, t.MaxLength = -1, f.maxLength
	if id, ok := f.vocab[","+endOfWord]; ok {
		t.Comma = id
	}
	return t, nil
}

// name is the text of a special token.
func (f *tokenizerFiles) name(key string) string { return f.named[key].Content }

// tokensToAdd lists the added tokens in the order in which the reference adds them; a later one
// with the same text replaces an earlier one.
func (f *tokenizerFiles) tokensToAdd() []addedToken {
	known := map[string]addedToken{}
	var tokens []addedToken
	contents := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(f.added)) {
		t := f.added[id]
		known[t.Content], contents[t.Content] = t, true
		tokens = append(tokens, t)
	}
	add := func(t addedToken) {
		if !contents[t.Content] && !slices.ContainsFunc(tokens, t.same) {
			tokens = append(tokens, t)
		}
	}
	special := map[string]bool{}
	for _, key := range f.tokenKeys() {
		t, ok := f.named[key]
		if !ok {
			t = f.style.token(key)
			if t.Content == "" {
				continue
			}
		}
		if k, ok := known[t.Content]; ok {
			t = k
		}
		f.named[key] = t
		special[t.Content] = true
		add(t)
	}
	for _, t := range f.extra {
		add(t)
	}
	for i := range tokens {
		tokens[i].Special = tokens[i].Special || special[tokens[i].Content]
	}
	return tokens
}

// tokenKeys lists the keys of special tokens: the usual ones in their order, then the model's own.
func (f *tokenizerFiles) tokenKeys() []string {
	keys := slices.Clone(namedTokens[:])
	for _, key := range slices.Sorted(maps.Keys(f.named)) {
		if !slices.Contains(namedTokens[:], key) {
			keys = append(keys, key)
		}
	}
	return keys
}

func defaultToken(key string) addedToken {
	switch key {
	case "bos_token":
		return addedToken{Content: "<|startoftext|>", Special: true, plain: true}
	case "eos_token", "unk_token", "pad_token":
		return addedToken{Content: endOfText, Special: true, plain: true}
	}
	return addedToken{}
}

// add gives each token its id, that of the vocabulary or the next free one, and has it looked for.
func (t *Tokenizer) add(f *tokenizerFiles, tokens []addedToken) (ids map[string]int32, err error) {
	ids = map[string]int32{}
	flags := map[int32]addedToken{}
	next := int32(len(f.vocab))
	for _, token := range tokens {
		if token.Content == "" {
			continue
		}
		id, ok := ids[token.Content]
		if !ok {
			id, ok = f.vocab[token.Content]
		}
		if !ok {
			if next == math.MaxInt32 {
				return nil, errors.New("too many tokens")
			}
			id = next
			next++
		}
		ids[token.Content] = id
		flags[id] = token
	}
	for id, token := range flags {
		in, text := &t.raw, token.Content
		if token.normalized() {
			in, text = &t.cooked, f.style.normalize(text)
		}
		t.text[id] = text
		if !f.split || !token.Special {
			in.add(text, id, token)
		}
	}
	return ids, nil
}
