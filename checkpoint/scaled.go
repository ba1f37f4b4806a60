package checkpoint

import (
	"encoding/json"
	"fmt"
	"strings"

	"darkroom/tensor"
)

// scale puts 8-bit weights and their scales together, as ComfyUI stores them beside each other:
//
//	X.weight of F8 with X.scale_weight    "scaled_fp8"
//	X.weight of F8 or I8 with X.weight_scale, and X.comfy_quant, JSON that names the format
//
// The scales leave the list of arrays, as what belongs to activations does. F8 without a scale is what it says.
func (c *contents) scale() error {
	var aside []string
	for name := range c.arrays {
		base, last := name, ""
		if i := strings.LastIndexByte(name, '.'); i >= 0 {
			base, last = name[:i], name[i+1:]
		}
		switch last {
		case "comfy_quant", "scale_weight", "scale_input", "weight_scale", "input_scale":
			if c.arrays[base+".weight"] != nil {
				aside = append(aside, name)
			}
		}
		if name == "scaled_fp8" || strings.HasSuffix(name, ".scaled_fp8") {
			aside = append(aside, name)
		}
	}
	for name, a := range c.arrays {
		base, isWeight := strings.CutSuffix(name, ".weight")
		if !isWeight {
			continue
		}
		scaled, err := c.scaled(base, a)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		c.arrays[name] = scaled
	}
	for _, name := range aside {
		delete(c.arrays, name)
	}
	return nil
}

// quantised is what X.comfy_quant says.
type quantised struct {
	Format  string `json:"format"`
	Convrot bool   `json:"convrot"`
	Group   int    `json:"convrot_groupsize"`
}

func (c *contents) scaled(base string, a tensor.Array) (tensor.Array, error) {
	var q quantised
	if note := c.arrays[base+".comfy_quant"]; note != nil {
		text, err := noteText(note)
		if err == nil {
			err = json.Unmarshal(text, &q)
		}
		if err != nil {
			return nil, fmt.Errorf("its comfy_quant is not understood: %w", err)
		}
		switch q.Format {
		case "int8_tensorwise", "float8_e4m3fn", "float8_e5m2":
		default:
			return nil, fmt.Errorf("quantised as %q, which is not supported; float8_e4m3fn, float8_e5m2 and int8_tensorwise are", q.Format)
		}
	}
	switch a.Type() {
	case "F8_E4M3", "F8_E5M2", "I8":
	default:
		return a, nil
	}
	scale := c.arrays[base+".weight_scale"]
	if scale == nil {
		scale = c.arrays[base+".scale_weight"]
	}
	if scale == nil {
		if q.Format != "" {
			return nil, fmt.Errorf("quantised as %q, but %s.weight_scale is missing", q.Format, base)
		}
		return a, nil
	}
	shape := a.Shape()
	if len(shape) == 0 || shape.Len() == 0 {
		return a, nil
	}
	n := scale.Shape().Len()
	if n != 1 && n != shape[0] {
		return nil, fmt.Errorf("%d scales for %d rows", n, shape[0])
	}
	s := &scaledArray{Array: a, scales: make([]float32, n), row: shape.Len() / shape[0]}
	if err := scale.Decode(s.scales, 0); err != nil {
		return nil, err
	}
	if q.Convrot {
		s.group = q.Group
		power := s.group
		for power > 1 && power%4 == 0 {
			power /= 4
		}
		if power != 1 || s.group < 4 || s.group > 1<<16 || len(shape) != 2 || s.row%s.group != 0 {
			return nil, fmt.Errorf("rotated in groups of %d, which must be a power of 4 that divides its rows of %d", q.Group, s.row)
		}
	}
	return s, nil
}

// noteText is a text that is stored as an array of bytes.
func noteText(a tensor.Array) ([]byte, error) {
	n := a.Shape().Len()
	if a.Type() != "U8" || n > 1<<16 {
		return nil, fmt.Errorf("%d elements of %s", n, a.Type())
	}
	values, text := make([]float32, n), make([]byte, n)
	if err := a.Decode(values, 0); err != nil {
		return nil, err
	}
	for i, v := range values {
		text[i] = byte(v)
	}
	return text, nil
}

// scaledArray is q·s, with one scale for all or one a row. With a group, rows are stored rotated: W·R, where R is the
// Kronecker power of H₄ below, over groups of columns. R is its own inverse.
type scaledArray struct {
	tensor.Array
	scales []float32
	row    int // elements of one
	group  int // 0: not rotated
}

func (s *scaledArray) Plain() (t tensor.Tensor, ok bool) { return t, false }

func (s *scaledArray) Decode(dst []float32, start int) error {
	if s.group == 0 {
		return s.rows(dst, start)
	}
	whole := make([]float32, s.group)
	for len(dst) > 0 {
		skip := start % s.group
		group := whole
		if skip == 0 && len(dst) >= s.group {
			group = dst[:s.group]
		}
		if err := s.rows(group, start-skip); err != nil {
			return err
		}
		unrotate(group)
		n := min(len(dst), s.group-skip)
		copy(dst[:n], group[skip:])
		dst, start = dst[n:], start+n
	}
	return nil
}

func (s *scaledArray) rows(dst []float32, start int) error {
	if err := s.Array.Decode(dst, start); err != nil {
		return err
	}
	for at := 0; at < len(dst); {
		row := (start + at) / s.row
		end := min(len(dst), (row+1)*s.row-start)
		scale := s.scales[0]
		if len(s.scales) > 1 {
			scale = s.scales[row]
		}
		for i := at; i < end; i++ {
			dst[i] *= scale
		}
		at = end
	}
	return nil
}

// unrotate multiplies x by the regular Hadamard matrix of its length 4ⁿ, one power at a time:
//
//	     ⎡ 1  1  1 -1⎤
//	H₄ = ⎢ 1  1 -1  1⎥ / 2
//	     ⎢ 1 -1  1  1⎥
//	     ⎣-1  1  1  1⎦
func unrotate(x []float32) {
	for step := 1; step < len(x); step *= 4 {
		for i := range x {
			if i/step%4 != 0 {
				continue
			}
			a, b, c, d := x[i], x[i+step], x[i+2*step], x[i+3*step]
			x[i], x[i+step] = (a+b+c-d)/2, (a+b-c+d)/2
			x[i+2*step], x[i+3*step] = (a-b+c+d)/2, (-a+b+c+d)/2
		}
	}
}
