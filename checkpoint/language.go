package checkpoint

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// LanguageModel is a text encoder that is a language model, with its tokenizer's files.
type LanguageModel struct {
	Config    *Config
	Set       *Set
	Tokenizer fs.FS
}

// OpenLanguageModel opens one by path: a model's folder with text_encoder and tokenizer in it, a folder of one language model,
// or a file, safetensors with tokenizer.json (or vocab.json and merges.txt) or a folder "tokenizer" beside it, or GGUF, which
// holds the tokenizer.
func OpenLanguageModel(path, hashCache string) (*LanguageModel, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("opening the text encoder: %w", err)
	}
	if info.IsDir() {
		folder := &Folder{fsys: os.DirFS(path), name: filepath.Clean(path), dir: path, HashCache: hashCache}
		part, tokenizer := ".", "."
		if folder.Exists("text_encoder") {
			part, tokenizer = "text_encoder", "tokenizer"
		}
		m := &LanguageModel{Tokenizer: folder.Sub(tokenizer)}
		if m.Config, err = folder.Config(part); err != nil {
			return nil, err
		}
		m.Set, err = folder.Weights(part)
		return m, err
	}
	s, err := OpenSource(path)
	if err != nil {
		return nil, err
	}
	m, err := languageModelOf(s)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	m.Set.hashCache = hashCache
	if m.Tokenizer != nil {
		return m, nil
	}
	for _, dir := range []string{filepath.Dir(path), filepath.Join(filepath.Dir(path), "tokenizer")} {
		beside := os.DirFS(dir)
		for _, name := range []string{"tokenizer.json", "vocab.json"} {
			if _, err := fs.Stat(beside, name); err == nil {
				m.Tokenizer = beside
				return m, nil
			}
		}
	}
	s.Close()
	return nil, fmt.Errorf("%s has no tokenizer: put the model's tokenizer.json beside it, or its folder tokenizer", path)
}

// languageModelOf finds Qwen3 in a file. The tokenizer is nil where the file has none.
func languageModelOf(s *Source) (*LanguageModel, error) {
	t := qwenNames(s.arrays)
	prefix := "model."
	if t["model.layers.0.self_attn.q_norm.weight"] == nil {
		prefix = ""
	}
	first := prefix + "layers.0."
	if t[first+"self_attn.q_norm.weight"] == nil {
		return nil, wrongKind(Describe(s), "Qwen3")
	}
	fact := func(name string, def float64) float64 {
		if v, err := strconv.ParseFloat(s.meta["qwen3."+name], 64); err == nil {
			return v
		}
		return def
	}
	head := t.axis(first+"self_attn.q_norm.weight", 0)
	c := object{
		"model_type": "qwen3", "vocab_size": t.axis(prefix+"embed_tokens.weight", 0), "hidden_size": t.axis(prefix+"embed_tokens.weight", 1),
		"intermediate_size": t.axis(first+"mlp.gate_proj.weight", 0), "num_hidden_layers": len(indices(t.Names(), prefix+"layers.")), "head_dim": head,
		"num_attention_heads": t.axis(first+"self_attn.q_proj.weight", 0) / head, "num_key_value_heads": t.axis(first+"self_attn.k_proj.weight", 0) / head,
		"rms_norm_eps": roundedTo32(fact("attention.layer_norm_rms_epsilon", 1e-6)), "rope_theta": fact("rope.freq_base", 1e6),
	}
	m := &LanguageModel{Set: newSourceSet("text_encoder", s, t)}
	var err error
	if m.Config, err = ParseConfig([]byte(c.text()), s.Name()); err != nil {
		return nil, err
	}
	if len(s.texts["tokenizer.ggml.tokens"]) > 0 {
		if m.Tokenizer, err = ggufTokenizer(s); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// roundedTo32 takes back what writing a number as float32 added to it: 9.99999997e-07 is 1e-06.
func roundedTo32(v float64) float64 {
	short, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 7, 32), 64)
	return short
}

// Types of tokens in GGUF.
const (
	ggufControl = 3 // special
	ggufOwn     = 4 // added, and found in the text too
	ggufUnused  = 5 // fills the table up
)

// ggufTokenizer are the files that a tokenizer's folder has, of the facts of a GGUF file.
func ggufTokenizer(s *Source) (fs.FS, error) {
	if model := s.meta["tokenizer.ggml.model"]; model != "gpt2" {
		return nil, fmt.Errorf("its tokenizer is of the kind %q, not byte pair encoding", model)
	}
	vocab, added := map[string]int{}, map[string]object{}
	kinds := s.texts["tokenizer.ggml.token_type"]
	pad, tokens := "<|endoftext|>", s.texts["tokenizer.ggml.tokens"]
	for id, token := range tokens {
		kind := 0
		if id < len(kinds) {
			kind, _ = strconv.Atoi(kinds[id])
		}
		if kind == ggufControl || kind == ggufOwn {
			added[strconv.Itoa(id)] = object{"content": token, "special": kind == ggufControl, "normalized": false, "lstrip": false, "rstrip": false, "single_word": false}
		}
		if kind != ggufUnused {
			vocab[token] = id
		}
	}
	if id, err := strconv.Atoi(s.meta["tokenizer.ggml.padding_token_id"]); err == nil && id >= 0 && id < len(tokens) {
		pad = tokens[id]
	}
	text, err := json.Marshal(vocab)
	if err != nil {
		return nil, err
	}
	var merges []byte
	for _, m := range s.texts["tokenizer.ggml.merges"] {
		merges = append(append(merges, m...), '\n')
	}
	config := object{"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added, "pad_token": pad}
	return Embedded{"vocab.json": string(text), "merges.txt": string(merges), "tokenizer_config.json": config.text()}, nil
}
