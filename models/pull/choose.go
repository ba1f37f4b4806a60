package pull

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// plain is the variant that has no word in its files' names: usually float32.
const plain = "fp32"

// unused are the parts of pipelines that this program has no use for.
var unused = []string{"safety_checker", "feature_extractor", "image_encoder"}

// choose picks the files of a repository that a model needs: the configurations, tokenizers and one set of weights of each part
// that its model_index.json names. index is the text of that file, nil where the repository is one network alone.
func choose(all []File, index []byte, variant string) ([]File, error) {
	if index == nil {
		return chooseNetwork(all, variant)
	}
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(index, &parts); err != nil {
		return nil, fmt.Errorf("model_index.json: %w", err)
	}
	var chosen []File
	found := variant == "" || variant == plain
	for _, f := range all {
		if path.Dir(f.Path) == "." && (slices.Contains([]string{"model_index.json", "darkroom.json"}, f.Path) || isLicence(f.Path)) {
			chosen = append(chosen, f)
		}
	}
	for name, raw := range parts {
		var pair []*string
		if json.Unmarshal(raw, &pair) != nil || len(pair) != 2 || pair[0] == nil || pair[1] == nil || slices.Contains(unused, name) {
			continue
		}
		of := below(all, name)
		chosen = append(chosen, small(of)...)
		weights, has := chooseWeights(of, variant)
		chosen, found = append(chosen, weights...), found || has
	}
	if !found {
		return nil, noVariant(all, variant)
	}
	return sorted(chosen), nil
}

// chooseNetwork picks from the root alone: a network with its config.json, or the only file of weights that there is.
func chooseNetwork(all []File, variant string) ([]File, error) {
	root := slices.DeleteFunc(slices.Clone(all), func(f File) bool { return path.Dir(f.Path) != "." })
	weights, has := chooseWeights(root, variant)
	if len(weights) > 0 && slices.ContainsFunc(root, func(f File) bool { return f.Path == "config.json" }) {
		if variant != "" && variant != plain && !has {
			return nil, noVariant(root, variant)
		}
		return sorted(append(small(root), weights...)), nil
	}
	var singles []File
	for _, f := range all {
		if weightEnding(f.Path) {
			singles = append(singles, f)
		}
	}
	if len(singles) == 1 {
		return singles, nil
	}
	if len(singles) == 0 {
		return nil, fmt.Errorf("this repository has no weights")
	}
	var names []string
	for _, f := range singles[:min(len(singles), 20)] {
		names = append(names, f.Path)
	}
	return nil, fmt.Errorf("this is not a model in the diffusers layout; name one of its files after a colon: %s", strings.Join(names, ", "))
}

func below(all []File, folder string) (files []File) {
	for _, f := range all {
		if path.Dir(f.Path) == folder {
			files = append(files, f)
		}
	}
	return files
}

// small are configurations and tokenizers.
func small(files []File) (chosen []File) {
	for _, f := range files {
		ext := path.Ext(f.Path)
		if (ext == ".json" || ext == ".txt" || ext == ".model" || isLicence(f.Path)) && !strings.Contains(f.Path, ".index.") {
			chosen = append(chosen, f)
		}
	}
	return chosen
}

func isLicence(name string) bool { return strings.HasPrefix(strings.ToUpper(path.Base(name)), "LICEN") }

// weightName takes the names of weights apart: stem, variant, shard, kind, with the indexes in both spellings.
var weightName = regexp.MustCompile(`^(diffusion_pytorch_model|model|pytorch_model)(?:\.([\w]+))??(-\d{5}-of-\d{5})?(?:\.([\w]+))??\.(safetensors|bin)(?:\.index(?:\.([\w]+))?\.json)?$`)

// chooseWeights picks one set of weights of a folder: the variant that is asked for, or else fp16, or else what there is;
// safetensors before .bin. has says whether the variant is there.
func chooseWeights(files []File, variant string) (chosen []File, has bool) {
	sets := map[[2]string][]File{} // by kind and variant
	for _, f := range files {
		m := weightName.FindStringSubmatch(path.Base(f.Path))
		if m == nil {
			continue
		}
		v := cmp.Or(m[2], m[4], m[6], plain)
		key := [2]string{m[5], v}
		sets[key] = append(sets[key], f)
	}
	want := cmp.Or(variant, "fp16")
	rank := func(key [2]string) int {
		r := 0
		if key[0] == "bin" {
			r += 100
		}
		switch order := slices.Index([]string{want, plain, "bf16", "fp16"}, key[1]); {
		case order >= 0:
			r += order
		case strings.Contains(key[1], "ema"): // for training
			r += 1000
		default:
			r += 10
		}
		return r
	}
	var best *[2]string
	for key, set := range sets {
		has = has || key[1] == variant
		if !slices.ContainsFunc(set, func(f File) bool { return !strings.HasSuffix(f.Path, ".json") }) {
			continue // an index without its shards
		}
		if best == nil || rank(key) < rank(*best) {
			best = &key
		}
	}
	if best == nil {
		return nil, has
	}
	return oneLayout(sets[*best]), has
}

// oneLayout leaves shards out where the whole is there too.
func oneLayout(set []File) []File {
	whole := func(f File) bool {
		return !strings.HasSuffix(f.Path, ".json") && !strings.Contains(path.Base(f.Path), "-of-")
	}
	if i := slices.IndexFunc(set, whole); i >= 0 {
		return set[i : i+1]
	}
	return set
}

func noVariant(all []File, variant string) error {
	var variants []string
	for _, f := range all {
		if m := weightName.FindStringSubmatch(path.Base(f.Path)); m != nil {
			variants = append(variants, cmp.Or(m[2], m[4], m[6], plain))
		}
	}
	slices.Sort(variants)
	return fmt.Errorf("there is no variant %q: the repository has %s", variant, strings.Join(slices.Compact(variants), ", "))
}

func sorted(files []File) []File {
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return slices.CompactFunc(files, func(a, b File) bool { return a.Path == b.Path })
}
