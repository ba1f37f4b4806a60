package checkpoint

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// TextKind is a kind of text encoder.
type TextKind string

// The kinds that models name by themselves.
const (
	Qwen3 TextKind = "Qwen3"
	T5    TextKind = "T5"
	CLIPL TextKind = "CLIP-L"
	CLIPG TextKind = "CLIP-G"
)

// TextModel is a text encoder by itself, with its tokenizer's files.
type TextModel struct {
	Kind      TextKind
	Config    *Config
	Set       *Set
	Tokenizer fs.FS
}

// OpenTextModels opens text encoders by path, several with semicolons between: a model's folder with text_encoder and tokenizer in
// it, and their like with _2 and _3, of which all are opened, a folder of one encoder, or a file. A file is GGUF, which holds the
// tokenizer, or safetensors with the tokenizer's files beside it, or in a folder "tokenizer" there; CLIP's the program has.
func OpenTextModels(paths, hashCache string) (all []*TextModel, err error) {
	defer func() {
		if err != nil {
			for _, m := range all {
				m.Set.Close()
			}
			all = nil
		}
	}()
	for _, path := range strings.Split(paths, ";") {
		if path = strings.TrimSpace(path); path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return all, fmt.Errorf("opening the text encoder: %w", err)
		}
		if info.IsDir() {
			found, err := textFolder(path, hashCache)
			all = append(all, found...)
			if err != nil {
				return all, err
			}
			continue
		}
		m, err := textFile(path, hashCache)
		if err != nil {
			return all, err
		}
		all = append(all, m)
	}
	return all, nil
}

// textFolder opens the encoders of a folder.
func textFolder(path, hashCache string) (all []*TextModel, err error) {
	folder := &Folder{fsys: os.DirFS(path), name: filepath.Clean(path), dir: path, HashCache: hashCache}
	parts := map[string]string{} // part → tokenizer
	for _, number := range []string{"", "_2", "_3"} {
		if folder.Exists("text_encoder" + number + "/config.json") {
			parts["text_encoder"+number] = "tokenizer" + number
		}
	}
	if len(parts) == 0 {
		parts["."] = "."
	}
	for part, tokenizer := range parts {
		m := &TextModel{Tokenizer: folder.Sub(tokenizer)}
		if m.Config, err = folder.Config(part); err != nil {
			return all, err
		}
		switch kind := m.Config.String("model_type", ""); {
		case kind == "qwen3":
			m.Kind = Qwen3
		case kind == "t5":
			m.Kind = T5
		case strings.HasPrefix(kind, "clip") && (part == "text_encoder_2" || m.Config.Int("hidden_size", 0) == wideCLIP):
			m.Kind = CLIPG
		case strings.HasPrefix(kind, "clip"):
			m.Kind = CLIPL
		default:
			return all, fmt.Errorf("%s: the text encoder is a %q: only Qwen3, T5 and CLIP are supported", path, kind)
		}
		if m.Set, err = folder.Weights(part); err != nil {
			return all, err
		}
		all = append(all, m)
	}
	return all, nil
}

// wideCLIP is the width of CLIP-G.
const wideCLIP = 1280

// textFile opens the encoder of a file.
func textFile(path, hashCache string) (*TextModel, error) {
	s, err := OpenSource(path)
	if err != nil {
		return nil, err
	}
	m, err := textModelOf(s)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	m.Set.hashCache = hashCache
	if beside := tokenizerBeside(path, m.Kind); beside != nil {
		m.Tokenizer = beside
	}
	if m.Tokenizer == nil {
		s.Close()
		what := "tokenizer.json"
		if m.Kind == T5 {
			what = "spiece.model or tokenizer.json"
		}
		return nil, fmt.Errorf("%s has no tokenizer: put the model's %s beside it, or its folder tokenizer", path, what)
	}
	return m, nil
}

// tokenizerBeside finds the files of a kind's tokenizer beside a file, or in a folder there; nil where there are none.
func tokenizerBeside(path string, kind TextKind) fs.FS {
	folders := []string{"tokenizer", ""}
	files := []string{"vocab.json"}
	switch kind {
	case Qwen3:
		files = []string{"tokenizer.json", "vocab.json"}
	case T5:
		folders, files = []string{"tokenizer_3", "tokenizer_2", "tokenizer", ""}, []string{"spiece.model", "tokenizer.json"}
	case CLIPG:
		folders = []string{"tokenizer_2"}
	}
	for _, name := range files {
		for _, folder := range folders {
			beside := os.DirFS(filepath.Join(filepath.Dir(path), folder))
			if _, err := fs.Stat(beside, name); err == nil {
				return beside
			}
		}
	}
	return nil
}

// textModelOf finds the encoder of a file. The tokenizer is nil where neither the file nor the program has one.
func textModelOf(s *Source) (*TextModel, error) {
	kind, t, c, err := textIn(s.arrays, "", s)
	if err != nil {
		return nil, err
	}
	if kind == "" {
		return nil, wrongKind(Describe(s), "a text encoder of the kinds Qwen3, T5 and CLIP")
	}
	m := &TextModel{Kind: kind, Set: newSourceSet("text_encoder", s, t)}
	if m.Config, err = ParseConfig([]byte(c.text()), s.Name()); err != nil {
		return nil, err
	}
	if m.Tokenizer, err = tokenizerIn(s, kind, c); err != nil {
		return nil, err
	}
	return m, nil
}

// tokenizerIn are the files of a tokenizer that a GGUF file or, for CLIP, the program has; nil where there are none.
func tokenizerIn(s *Source, kind TextKind, c object) (fs.FS, error) {
	switch {
	case kind == CLIPL:
		return Embedded{"tokenizer_config.json": tokenizerConfig(c["max_position_embeddings"].(int), "<|endoftext|>").text()}, nil
	case kind == CLIPG:
		return Embedded{"tokenizer_config.json": tokenizerConfig(c["max_position_embeddings"].(int), "!").text()}, nil
	case len(s.texts["tokenizer.ggml.tokens"]) == 0:
		return nil, nil
	case kind == T5:
		return ggufPieces(s)
	}
	return ggufTokenizer(s)
}

// textIn finds the kind of a text encoder, its arrays by transformers' names, and its configuration. hint is what the file calls
// it, if it does; kind is "" where the arrays are of none that is known.
func textIn(t table, hint string, s *Source) (kind TextKind, named table, c object, err error) {
	fact := func(name string, def float64) float64 {
		if v, err := strconv.ParseFloat(s.meta[s.meta["general.architecture"]+"."+name], 64); err == nil {
			return v
		}
		return def
	}
	if pieces := t5Names(t); pieces[t5First+"SelfAttention.q.weight"] != nil {
		c, err = t5Config(pieces, fact)
		return T5, pieces, c, err
	}
	if t["text_model.embeddings.token_embedding.weight"] != nil || t["embeddings.token_embedding.weight"] != nil {
		t = textHF(t)
		kind = CLIPL
		if strings.Contains(hint, "clip_g") || t.axis("text_model.embeddings.token_embedding.weight", 1) == wideCLIP {
			kind = CLIPG
		}
		c, err = textConfig(t, kind == CLIPG)
		return kind, t, c, err
	}
	if t["token_embedding.weight"] != nil && t["positional_embedding"] != nil {
		if t, err = textOpenCLIP(t); err != nil {
			return "", nil, nil, err
		}
		c, err = textConfig(t, true)
		return CLIPG, t, c, err
	}
	t = qwenNames(t)
	prefix := "model."
	if t["model.layers.0.self_attn.q_norm.weight"] == nil {
		prefix = ""
	}
	first := prefix + "layers.0."
	if t[first+"self_attn.q_norm.weight"] == nil {
		return "", nil, nil, nil
	}
	head := max(t.axis(first+"self_attn.q_norm.weight", 0), 1)
	return Qwen3, t, object{
		"model_type": "qwen3", "vocab_size": t.axis(prefix+"embed_tokens.weight", 0), "hidden_size": t.axis(prefix+"embed_tokens.weight", 1),
		"intermediate_size": t.axis(first+"mlp.gate_proj.weight", 0), "num_hidden_layers": len(indices(t.Names(), prefix+"layers.")), "head_dim": head,
		"num_attention_heads": t.axis(first+"self_attn.q_proj.weight", 0) / head, "num_key_value_heads": t.axis(first+"self_attn.k_proj.weight", 0) / head,
		"rms_norm_eps": roundedTo32(fact("attention.layer_norm_rms_epsilon", 1e-6)), "rope_theta": fact("rope.freq_base", 1e6),
	}, nil
}

const t5First = "encoder.block.0.layer.0."

// t5Config is the configuration of T5's encoder.
func t5Config(t table, fact func(name string, def float64) float64) (object, error) {
	const bias, mlp = t5First + "SelfAttention.relative_attention_bias.weight", "encoder.block.0.layer.1.DenseReluDense."
	heads, buckets := t.axis(bias, 1), t.axis(bias, 0)
	if heads == 0 {
		return nil, fmt.Errorf("T5's text encoder has no %s", bias)
	}
	if t[mlp+"wi_0.weight"] == nil {
		return nil, fmt.Errorf("this is a T5 text encoder without gates (%swi_0 is missing): only T5 v1.1, such as T5-XXL's, is supported", mlp)
	}
	return object{
		"model_type": "t5", "vocab_size": max(t.axis("shared.weight", 0), t.axis("encoder.embed_tokens.weight", 0)), "d_model": t.axis("encoder.final_layer_norm.weight", 0),
		"d_kv": t.axis(t5First+"SelfAttention.q.weight", 0) / heads, "d_ff": t.axis(mlp+"wi_0.weight", 0), "num_layers": len(indices(t.Names(), "encoder.block.")),
		"num_heads": heads, "relative_attention_num_buckets": buckets, "relative_attention_max_distance": 128, "feed_forward_proj": "gated-gelu",
		"layer_norm_epsilon": roundedTo32(fact("attention.layer_norm_rms_epsilon", 1e-6)),
	}, nil
}

// ggufPieces are the files that a T5 tokenizer's folder has, of the facts of a GGUF file.
func ggufPieces(s *Source) (fs.FS, error) {
	if model := s.meta["tokenizer.ggml.model"]; model != "t5" {
		return nil, fmt.Errorf("its tokenizer is of the kind %q, not T5's", model)
	}
	pieces, scores := s.texts["tokenizer.ggml.tokens"], s.texts["tokenizer.ggml.scores"]
	if len(scores) != len(pieces) {
		return nil, fmt.Errorf("its tokenizer has %d pieces and %d scores", len(pieces), len(scores))
	}
	vocab := make([][2]any, len(pieces))
	for i, text := range pieces {
		score, err := strconv.ParseFloat(scores[i], 64)
		if err != nil {
			return nil, fmt.Errorf("its tokenizer's score of %q: %w", text, err)
		}
		vocab[i] = [2]any{text, score}
	}
	var chars []byte
	for _, b := range s.texts["tokenizer.ggml.precompiled_charsmap"] {
		v, err := strconv.Atoi(b)
		if err != nil {
			return nil, fmt.Errorf("its tokenizer's map of characters: %w", err)
		}
		chars = append(chars, byte(v))
	}
	whole := object{"model": object{"type": "Unigram", "unk_id": 2, "vocab": vocab}}
	if len(chars) > 0 {
		whole["normalizer"] = object{"type": "Precompiled", "precompiled_charsmap": base64.StdEncoding.EncodeToString(chars)}
	}
	return Embedded{"tokenizer.json": whole.text()}, nil
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
