package checkpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// peftAlphas are the alphas that PEFT keeps outside the arrays, and the ranks, which LoKr's arrays do not always show.
type peftAlphas struct {
	alpha, rank peftValues
	rsLoRA      map[string]bool // by the part's prefix
}

// peftValues are one value for all layers, by the part's prefix ("unet.", ""), and some by names.
type peftValues struct {
	all      map[string]float64
	patterns []peftPattern
}

type peftPattern struct {
	prefix, key string // of its part; a name's end, or a regular expression for it
	expression  *regexp.Regexp
	value       float64
}

// readAlphas reads diffusers' metadata, or the adapter_config.json beside a file of PEFT's own.
func readAlphas(s *Source) (peftAlphas, error) {
	p := peftAlphas{peftValues{all: map[string]float64{}}, peftValues{all: map[string]float64{}}, map[string]bool{}}
	text, what := []byte(s.Metadata()["lora_adapter_metadata"]), "lora_adapter_metadata"
	if len(text) == 0 && s.path != "" {
		what = filepath.Join(filepath.Dir(s.path), "adapter_config.json")
		info, err := os.Stat(what)
		if err != nil || info.Size() > 1<<20 || !strings.HasPrefix(filepath.Base(s.path), "adapter_model.") {
			return p, nil
		}
		if text, err = os.ReadFile(what); err != nil {
			return p, err
		}
	}
	if len(text) == 0 {
		return p, nil
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(text, &values); err != nil {
		return p, fmt.Errorf("%s: %w", what, err)
	}
	for key, raw := range values {
		if string(raw) == "null" {
			continue
		}
		prefix, last := "", key
		if i := strings.LastIndexByte(key, '.'); i >= 0 {
			prefix, last = key[:i+1], key[i+1:]
		}
		var err error
		switch last {
		case "lora_alpha", "alpha": // LoRA's; LoHa's and LoKr's
			err = p.alpha.read(prefix, raw)
		case "alpha_pattern":
			err = p.alpha.readPatterns(prefix, raw)
		case "r":
			err = p.rank.read(prefix, raw)
		case "rank_pattern":
			err = p.rank.readPatterns(prefix, raw)
		case "use_rslora":
			var stabilised bool
			err = json.Unmarshal(raw, &stabilised)
			p.rsLoRA[prefix] = stabilised
		}
		if err != nil {
			return p, fmt.Errorf("%s: %s: %w", what, key, err)
		}
	}
	return p, nil
}

func (p *peftValues) read(prefix string, raw json.RawMessage) error {
	var v float64
	err := json.Unmarshal(raw, &v)
	p.all[prefix] = v
	return err
}

// readPatterns keeps the file's order, as the first pattern that matches counts.
func (p *peftValues) readPatterns(prefix string, raw json.RawMessage) error {
	var list map[string]float64
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	for {
		token, err := d.Token()
		if err != nil {
			return nil // its end
		}
		key, isKey := token.(string)
		if !isKey {
			continue
		}
		expression, _ := regexp.Compile(`^(.*\.)?(` + key + `)$`) // as PEFT matches; what is none is a name
		p.patterns = append(p.patterns, peftPattern{prefix, key, expression, list[key]})
	}
}

// of is the value of a module, if it is known.
func (p *peftValues) of(name string) (float64, bool) {
	name = peftName(name)
	for _, x := range p.patterns {
		rest, ok := strings.CutPrefix(name, x.prefix)
		if ok && (rest == x.key || strings.HasSuffix(rest, "."+x.key) || x.expression != nil && x.expression.MatchString(rest)) {
			return x.value, true
		}
	}
	return ofPart(p.all, name)
}

// stabilised reports whether a module is scaled by the root of its rank.
func (p *peftAlphas) stabilised(name string) bool {
	yes, _ := ofPart(p.rsLoRA, peftName(name))
	return yes
}

func peftName(module string) string { return strings.TrimPrefix(module, "base_model.model.") }

// ofPart is what is given for the part that a name's prefix names, or for all.
func ofPart[V any](byPrefix map[string]V, name string) (V, bool) {
	for prefix, v := range byPrefix {
		if prefix != "" && strings.HasPrefix(name, prefix) {
			return v, true
		}
	}
	v, ok := byPrefix[""]
	return v, ok
}
