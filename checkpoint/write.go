package checkpoint

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"darkroom/atomicfile"
	"darkroom/tensor"
)

// Save writes arrays as a safetensors file, whole or not at all. As is the element type, "F16", "BF16" or "F32"; empty
// keeps F16, BF16 and F32 as they are, and makes F16 of what is stored in any other way.
func Save(path string, w Weights, as string, meta map[string]string) error {
	items, header, err := layOut(w, as, meta)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return atomicfile.Write(path, func(out io.Writer) error {
		if err := binary.Write(out, binary.LittleEndian, uint64(len(header))); err != nil {
			return err
		}
		if _, err := out.Write(header); err != nil {
			return err
		}
		for _, item := range items {
			if err := item.write(out); err != nil {
				return fmt.Errorf("tensor %q: %w", item.name, err)
			}
		}
		return nil
	})
}

// item is an array of a file that is written.
type item struct {
	name  string
	array tensor.Array
	dtype tensor.DType
}

// layOut orders the arrays so that each is aligned: the wider types first, as the safetensors library does.
func layOut(w Weights, as string, meta map[string]string) ([]item, []byte, error) {
	var items []item
	for _, name := range w.Names() {
		if strings.HasSuffix(name, "num_batches_tracked") {
			continue // a count of training, and no weight
		}
		a, ok := w.Array(name)
		if !ok {
			return nil, nil, fmt.Errorf("tensor %q is listed but missing", name)
		}
		d, err := tensor.ParseDType(a.Type())
		if err != nil || d != tensor.F32 && d != tensor.BF16 {
			d = tensor.F16
		}
		if as != "" {
			if d, err = tensor.ParseDType(as); err != nil {
				return nil, nil, err
			}
		}
		items = append(items, item{name, a, d})
	}
	slices.SortStableFunc(items, func(a, b item) int {
		if a.dtype.Size() != b.dtype.Size() {
			return b.dtype.Size() - a.dtype.Size()
		}
		return strings.Compare(a.name, b.name)
	})
	type entry struct {
		DType   string `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	all, at := map[string]any{}, 0
	for _, i := range items {
		end := at + i.array.Shape().Len()*i.dtype.Size()
		all[i.name] = entry{i.dtype.String(), append([]int{}, i.array.Shape()...), [2]int{at, end}}
		at = end
	}
	if len(meta) > 0 {
		all["__metadata__"] = meta
	}
	header, err := json.Marshal(all)
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	return items, header, err
}

// write decodes and rounds a piece at a time; what has the type already is copied.
func (i item) write(out io.Writer) error {
	defer i.array.Release()
	if t, ok := i.array.Plain(); ok && t.DType == i.dtype {
		_, err := out.Write(t.Data)
		return err
	}
	n := i.array.Shape().Len()
	values := make([]float32, min(n, 1<<20))
	raw := make([]byte, len(values)*i.dtype.Size())
	for at := 0; at < n; at += len(values) {
		part := values[:min(len(values), n-at)]
		if err := i.array.Decode(part, at); err != nil {
			return err
		}
		b := raw[:len(part)*i.dtype.Size()]
		tensor.Encode(b, i.dtype, part)
		if _, err := out.Write(b); err != nil {
			return err
		}
	}
	return nil
}
