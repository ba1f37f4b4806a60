package checkpoint

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"darkroom/tensor"
)

// Adapter is a file of changes to a model's weights: LoRA and similar methods, with the names that trainers use.
type Adapter struct {
	source  *Source
	modules map[string]*module // by the name that the file has, without suffixes
	alphas  peftAlphas
}

// module is the arrays of an adapter that change one layer, by their part: "down", "up", "alpha", "hada_w1_a", "diff".
type module map[string]tensor.Array

// adapterSuffixes say which part of a module an array is: the first that a name ends in.
var adapterSuffixes = []struct{ suffix, part string }{
	{".lora_down.weight", "down"}, {".lora_up.weight", "up"}, {".lora_mid.weight", "mid"}, // kohya
	{".lora_A.default.weight", "down"}, {".lora_B.default.weight", "up"}, {".lora_A.weight", "down"}, {".lora_B.weight", "up"}, // PEFT
	{"_lora.down.weight", "down"}, {"_lora.up.weight", "up"}, {".lora.down.weight", "down"}, {".lora.up.weight", "up"}, // diffusers
	{".lora_linear_layer.down.weight", "down"}, {".lora_linear_layer.up.weight", "up"},
	{".lora_magnitude_vector.default.weight", "magnitude"}, {".lora_magnitude_vector.weight", "magnitude"}, {".lora_magnitude_vector", "magnitude"},
	{".dora_scale", "dora"}, {".alpha", "alpha"},
	{".hada_w1_a", "hada_w1_a"}, {".hada_w1_b", "hada_w1_b"}, {".hada_w2_a", "hada_w2_a"}, {".hada_w2_b", "hada_w2_b"},
	{".hada_t1", "hada_t1"}, {".hada_t2", "hada_t2"},
	{".lokr_w1_a", "lokr_w1_a"}, {".lokr_w1_b", "lokr_w1_b"}, {".lokr_w2_a", "lokr_w2_a"}, {".lokr_w2_b", "lokr_w2_b"},
	{".lokr_w1", "lokr_w1"}, {".lokr_w2", "lokr_w2"}, {".lokr_t1", "lokr_t1"}, {".lokr_t2", "lokr_t2"},
	{".diff_b", "diff_b"}, {".diff", "diff"}, {".set_weight", "set"}, {".w_norm", "diff"}, {".b_norm", "diff_b"},
	{".on_input", "on_input"},
	{".oft_blocks", "oft"}, {".oft_diag", "oft"}, {".oft_R.weight", "oft"}, {".rescale", "oft"},
	{".a1.weight", "glora"}, {".a2.weight", "glora"}, {".b1.weight", "glora"}, {".b2.weight", "glora"},
	{".reshape_weight", "reshape"}, {".lora_up.bias", "bias"}, {".lora_B.bias", "bias"},
}

// IsAdapter reports whether a file is one.
func IsAdapter(s *Source) bool {
	for _, name := range s.Names() {
		base, part := adapterPart(name)
		switch part {
		case "", "alpha":
		case "diff", "diff_b": // a common word: it takes a prefix that trainers write
			if slices.ContainsFunc(adapterPrefixes, func(p adapterPrefix) bool { return strings.HasPrefix(base, p.prefix) }) {
				return true
			}
		default:
			return true
		}
	}
	return false
}

func adapterPart(name string) (base, part string) {
	if base, part := xlabsPart(name); part != "" {
		return base, part
	}
	for _, s := range adapterSuffixes {
		if base, ok := strings.CutSuffix(name, s.suffix); ok {
			if strings.HasPrefix(s.suffix, "_lora.") { // ….attn1.processor.to_q_lora
				base = strings.Replace(base, ".processor.", ".", 1)
				if strings.HasSuffix(base, ".to_out") {
					base += ".0"
				}
			}
			return base, s.part
		}
	}
	return name, ""
}

// ReadAdapter sorts a file's arrays by the layers that they change.
func ReadAdapter(s *Source) (*Adapter, error) {
	a := &Adapter{source: s, modules: map[string]*module{}}
	for _, name := range s.Names() {
		base, part := adapterPart(name)
		if part == "" || strings.HasPrefix(name, "bundle_emb.") {
			continue
		}
		m := a.modules[base]
		if m == nil {
			m = &module{}
			a.modules[base] = m
		}
		(*m)[part] = s.arrays[name]
	}
	for base, m := range a.modules {
		if (*m)["on_input"] != nil { // IA3's weight has no suffix of its own
			(*m)["ia3"] = s.arrays[base+".weight"]
		}
	}
	if len(a.modules) == 0 {
		return nil, fmt.Errorf("%s: %w", s.Name(), wrongKind(Describe(s), "a LoRA or one of its relatives"))
	}
	var err error
	if a.alphas, err = readAlphas(s); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name(), err)
	}
	return a, nil
}

// Name is the file's.
func (a *Adapter) Name() string { return a.source.Name() }

// Source is the file.
func (a *Adapter) Source() *Source { return a.source }

// Modules are the names of the layers that the file changes, as it spells them.
func (a *Adapter) Modules() []string { return slices.Sorted(maps.Keys(a.modules)) }

// Matched is an adapter matched to an open model: what it changes, by part and array.
type Matched struct {
	Adapter   *Adapter
	Unmatched []string // modules that the model has no layer for, sorted
	changes   map[string]map[string]*change
}

// Touched lists the arrays of a part that change, sorted.
func (m *Matched) Touched(part string) []string { return slices.Sorted(maps.Keys(m.changes[part])) }

// Count is the number of arrays that change.
func (m *Matched) Count() int {
	n := 0
	for _, c := range m.changes {
		n += len(c)
	}
	return n
}

// Match finds the model's layers for the adapter's modules. parts are the open model's, by diffusers' names. Modules
// without a layer are listed; it is an error if none of those for the denoiser has a layer.
func (a *Adapter) Match(parts map[string]Weights) (*Matched, error) {
	names := layerNames(parts)
	m := &Matched{Adapter: a, changes: map[string]map[string]*change{}}
	var misfit error
	denoiser := 0 // modules that are for it, by their names
	for _, name := range a.Modules() {
		layers, part, ok := names.find(name)
		if !strings.HasPrefix(part, "text_encoder") {
			denoiser++
		}
		if !ok {
			m.Unmatched = append(m.Unmatched, name)
			continue
		}
		for _, at := range layers {
			err := m.add(name, at, parts[at.part])
			if errors.Is(err, errWider) {
				return nil, fmt.Errorf("%s: %w", a.Name(), err)
			}
			if err != nil {
				m.Unmatched = append(m.Unmatched, name)
				if misfit == nil {
					misfit = err
				}
				break
			}
		}
	}
	// Text encoders are shared by families: what fits them alone, of an adapter that is for more, is of another one.
	if m.Count() > 0 && (denoiser == 0 || len(m.changes["unet"])+len(m.changes["transformer"]) > 0) {
		return m, nil
	}
	d := Describe(a.source)
	if misfit != nil {
		return nil, fmt.Errorf("%s: this is %s, but none of it fits the model: %w", a.Name(), d.What, misfit)
	}
	return nil, fmt.Errorf("%s: this is %s, but %d of its layers are not in the model, such as %s", a.Name(), d.What, len(m.Unmatched), strings.Join(m.Unmatched[:min(3, len(m.Unmatched))], ", "))
}

// add makes the changes of one module: to a layer's weight, and to its bias.
func (m *Matched) add(name string, at layer, w Weights) error {
	parts, err := (*m.Adapter.modules[name]).of(at.ditName)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	put := func(array string, c *change) {
		if m.changes[at.part] == nil {
			m.changes[at.part] = map[string]*change{}
		}
		m.changes[at.part][array] = c
	}
	weight, ok := w.Array(at.name + ".weight")
	if !ok {
		return fmt.Errorf("%s has no weight in the model", name)
	}
	if diff := parts["diff_b"]; diff != nil {
		bias, ok := w.Array(at.name + ".bias")
		if !ok || bias.Shape().Len() != diff.Shape().Len() {
			return fmt.Errorf("%s changes a bias of %v, which the model does not have", name, diff.Shape())
		}
		put(at.name+".bias", &change{shape: bias.Shape(), kind: fullChange, parts: module{"diff": diff}, scale: 1})
		if len(parts) == 1 {
			return nil
		}
	}
	if err := checkWidth(at.name, parts, weight.Shape()); err != nil {
		return err
	}
	c, err := newChange(parts, weight.Shape())
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	c.scale = c.rankScale(m.Adapter.alphas, name)
	put(at.name+".weight", c)
	return nil
}

// errWider ends matching: the rest of such an adapter would work blindly.
var errWider = errors.New("an adapter cannot add inputs to a model here. Use a model that has them, such as FLUX.1 Canny or FLUX.1 Depth (darkroom pull flux1-canny, flux1-depth)")

// checkWidth refuses an adapter that gives a transformer's first layer further inputs, for a control picture: FLUX.1-Canny-dev-lora.
func checkWidth(layer string, parts module, shape tensor.Shape) error {
	if down, up := parts["down"], parts["up"]; layer == "x_embedder" && down != nil && up != nil && len(shape) == 2 && len(down.Shape()) == 2 && down.Shape()[1] > shape[1] {
		return fmt.Errorf("this LoRA is for models that read a picture beside the latents: it has %d inputs for %s, the model has %d, and %w", down.Shape()[1], layer, shape[1], errWider)
	}
	return nil
}

// Use is an adapter with its strengths, for the denoiser and for the text encoders.
type Use struct {
	*Matched
	Weight, TextWeight float64
}

// Patched returns the weights of a part with adapters applied: W + Σ s·ΔW, computed when an array is decoded.
func Patched(w Weights, part string, uses ...Use) Weights {
	p := &patched{Weights: w, by: map[string][]scaledChange{}}
	for _, u := range uses {
		s := u.Weight
		if strings.HasPrefix(part, "text_encoder") {
			s = u.TextWeight
		}
		if s == 0 {
			continue
		}
		for name, c := range u.changes[part] {
			p.by[name] = append(p.by[name], scaledChange{c, s})
		}
	}
	return p
}

type scaledChange struct {
	*change
	s float64
}

type patched struct {
	Weights
	by map[string][]scaledChange
}

func (p *patched) Array(name string) (tensor.Array, bool) {
	a, ok := p.Weights.Array(name)
	if changes := p.by[name]; ok && len(changes) > 0 {
		return &patchedArray{Array: a, changes: changes}, true
	}
	return a, ok
}
