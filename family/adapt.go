package family

import (
	"cmp"
	"fmt"
	"strings"

	"darkroom/checkpoint"
	"darkroom/kernels"
	"darkroom/tensor"
)

// Adaptation is a change to a model's weights for some pictures. The zero value leaves the model unchanged.
type Adaptation struct {
	Adapters   []Adapter
	Embeddings []*checkpoint.Embedding
}

// Adapter is a LoRA or a similar adapter, with its strengths.
type Adapter struct {
	*checkpoint.Adapter
	Weight, TextWeight float64 // for the denoiser, for the text encoders
}

// Adapt applies an adaptation to the model's own weights and replaces the previous one. Only the arrays that differ are
// packed again, before the next run, so a step costs no more than without. The warnings name layers that the model does not
// have; an adapter that fits nowhere is an error and leaves the model unchanged.
func (m *Model) Adapt(a Adaptation) (warnings []string, err error) {
	parts := map[string]checkpoint.Weights{}
	for name, w := range m.weights {
		parts[name] = w.arrays
	}
	var uses []checkpoint.Use
	for _, adapter := range a.Adapters {
		matched, err := adapter.Match(parts)
		if err != nil {
			return nil, err
		}
		if n := len(matched.Unmatched); n > 0 {
			warnings = append(warnings, fmt.Sprintf("%s: the model has no place for %d of its %d layers, such as %s",
				adapter.Name(), n, n+matched.Count(), strings.Join(matched.Unmatched[:min(n, 3)], ", ")))
		}
		uses = append(uses, checkpoint.Use{Matched: matched, Weight: adapter.Weight, TextWeight: adapter.TextWeight})
	}
	views := map[string]checkpoint.Weights{}
	now := map[string]string{}
	for name, w := range parts {
		views[name] = checkpoint.Patched(w, name, uses...)
		for _, u := range uses {
			strength := u.Weight
			if strings.HasPrefix(name, "text_encoder") {
				strength = u.TextWeight
			}
			if strength == 0 {
				continue
			}
			for _, array := range u.Touched(name) {
				now[name+"/"+array] += fmt.Sprintf("%p:%v;", u.Adapter, strength)
			}
		}
	}
	if err := m.Text.embed(a.Embeddings, views, now); err != nil {
		return nil, err
	}
	m.replace(views, now)
	return warnings, nil
}

// replace gives those weights other arrays whose adaptation differs from what it was.
func (m *Model) replace(views map[string]checkpoint.Weights, now map[string]string) {
	for _, p := range m.Parts {
		w := m.weights[p.Name]
		if w == nil {
			continue
		}
		arrays := map[*kernels.Weight]tensor.Array{}
		for array, loaded := range w.loaded {
			key := p.Name + "/" + array
			if now[key] == m.adapted[key] {
				continue
			}
			for _, use := range loaded {
				if v, ok := use.Array(views[p.Name].Array); ok {
					arrays[use.Weight] = v
				}
			}
		}
		for _, loaded := range w.loaded {
			for _, use := range loaded {
				repack(use.Weight, arrays)
			}
		}
		p.Replace(arrays)
	}
	m.adapted = now
}

// repack adds a matrix to the arrays if its norm, with which it is packed, is among them.
func repack(w *kernels.Weight, arrays map[*kernels.Weight]tensor.Array) {
	n := w.Norm
	if n == nil || arrays[w] != nil {
		return
	}
	if arrays[n.Gamma] != nil || arrays[n.Beta] != nil {
		arrays[w] = w.Host
	}
}

// ReadsEmbedding reports whether textual inversions like this one are made for the model.
func (m *Model) ReadsEmbedding(e *checkpoint.Embedding) bool { return m.Text.reads(e) }

// embed puts the vectors of embeddings after the rows of the encoder's table, and their names into its tokenizer.
func (t *clipText) embed(all []*checkpoint.Embedding, views map[string]checkpoint.Weights, now map[string]string) error {
	return t.embedAs(all, views, now, func(e *checkpoint.Embedding) tensor.Array { return e.Text })
}

func (t *clipText) reads(e *checkpoint.Embedding) bool { return e.Text2 == nil && t.fits(e.Text) } // not SDXL's, one half of which is as wide

// fits reports whether vectors are as wide as the encoder's.
func (t *clipText) fits(vectors tensor.Array) bool {
	return vectors != nil && vectors.Shape()[1] == t.model.Config.HiddenSize
}

func (t *clipText) embedAs(all []*checkpoint.Embedding, views map[string]checkpoint.Weights, now map[string]string, vectors func(*checkpoint.Embedding) tensor.Array) error {
	t.extended = nil
	if len(all) == 0 {
		return nil
	}
	var arrays []tensor.Array
	words := map[string][]int32{}
	next := int32(t.model.Config.VocabSize)
	for _, e := range all {
		v := vectors(e)
		if v == nil {
			return fmt.Errorf("the embedding %s has no vectors for %s: it is for %s", e.Token, t.part.Title, e.Family())
		}
		if s := v.Shape(); !t.fits(v) {
			return fmt.Errorf("the embedding %s has vectors of %d numbers, and %s reads %d: it is for %s", e.Token, s[1], t.part.Title, t.model.Config.HiddenSize, cmp.Or(e.Family(), "another model"))
		}
		for range v.Shape()[0] {
			words[e.Token] = append(words[e.Token], next)
			next++
		}
		arrays = append(arrays, v)
	}
	extended, err := checkpoint.Extended(views[t.part.Name], t.table, arrays...)
	if err != nil {
		return err
	}
	views[t.part.Name] = extended
	for _, e := range all {
		now[t.part.Name+"/"+t.table] += fmt.Sprintf("%s@%p;", e.Token, e)
	}
	t.extended = t.tokenizer.WithWords(words)
	return nil
}
