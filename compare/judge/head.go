package judge

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"darkroom/checkpoint"
)

// readHead reads head.safetensors: linear layers one after the other, with nothing between them, ending in one
// number. Their names are weight and bias for one layer (LAION's first aesthetic predictor), or layers.N.weight and layers.N.bias in the order
// of N (the second; its dropout does nothing outside training). nil where there is no such file.
func readHead(s Source, width int) ([]linear, error) {
	if _, err := fs.Stat(s.FS, "head.safetensors"); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	file, err := s.open("head.safetensors")
	if err != nil {
		return nil, err
	}
	set, err := checkpoint.NewSet("head", file)
	if err != nil {
		return nil, err
	}
	defer set.Close()
	head, err := headLayers(set, width)
	if err != nil {
		return nil, fmt.Errorf("head.safetensors: %w", err)
	}
	return head, nil
}

func headLayers(set *checkpoint.Set, width int) ([]linear, error) {
	prefixes := map[int]string{}
	for _, name := range set.Names() {
		prefix, ok := strings.CutSuffix(name, "weight")
		if !ok {
			continue
		}
		n := 0
		if words := strings.Split(strings.TrimSuffix(prefix, "."), "."); prefix != "" {
			var err error
			if n, err = strconv.Atoi(words[len(words)-1]); err != nil {
				return nil, fmt.Errorf("weight %q has no number before its last word", name)
			}
		}
		prefixes[n] = prefix
	}
	var order []int
	for n := range prefixes {
		order = append(order, n)
	}
	slices.Sort(order)
	var head []linear
	for _, n := range order {
		bias, ok := set.Tensor(prefixes[n] + "bias")
		if !ok {
			return nil, fmt.Errorf("weight %qbias is missing", prefixes[n])
		}
		l, err := loadLinear(set, strings.TrimSuffix(prefixes[n], "."), width, bias.Len())
		if prefixes[n] == "" {
			l, err = loadPlain(set, width, bias.Len())
		}
		if err != nil {
			return nil, err
		}
		head, width = append(head, l), l.out
	}
	if width != 1 || len(head) == 0 {
		return nil, fmt.Errorf("the layers end in %d numbers: one score is needed", width)
	}
	return head, nil
}

func loadPlain(set *checkpoint.Set, in, out int) (l linear, err error) {
	l = linear{in: in, out: out}
	if l.weight, err = floats(set, "weight", out, in); err != nil {
		return l, err
	}
	l.bias, err = floats(set, "bias", out)
	return l, err
}
