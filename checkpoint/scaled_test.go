package checkpoint

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"
)

// 8-bit weights come out times their scale; the scales are not listed as arrays.
func TestScaled(t *testing.T) {
	for file, want := range readExpected(t, "testdata/scaled/expected.json") {
		s, err := OpenSource(filepath.Join("testdata/scaled", file))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if len(s.Names()) != len(want) {
			t.Errorf("%s: names %v, want %d", file, s.Names(), len(want))
		}
		for name, w := range want {
			a, ok := s.Array(name)
			if !ok {
				t.Errorf("%s is missing", name)
				continue
			}
			if name != "rotated.weight" {
				compareArray(t, name, a, w)
				continue
			}
			// A sum of 64 products in another order, against float64: a few ulp of the largest.
			for _, part := range [][2]int{{0, len(w.Float32)}, {7, 99}, {64, 128}, {100, 101}} {
				got := make([]float32, part[1]-part[0])
				if err := a.Decode(got, part[0]); err != nil {
					t.Fatal(err)
				}
				for i, v := range got {
					if e := math.Float32frombits(w.Float32[part[0]+i]); math.Abs(float64(v-e)) > 2e-6 {
						t.Errorf("%s[%d] = %v, want %v", name, part[0]+i, v, e)
					}
				}
			}
		}
	}
}

func TestScaledRefuses(t *testing.T) {
	// One tensor w.weight [2,4] of I8, scales, and a note.
	parse := func(scales int, note string) error {
		noted := ""
		body := strings.Repeat("\x01", 8) + strings.Repeat("\x00", 4*scales) + note
		if note != "" {
			noted = fmt.Sprintf(`,"w.comfy_quant":{"dtype":"U8","shape":[%d],"data_offsets":[%d,%d]}`, len(note), 8+4*scales, len(body))
		}
		scale := ""
		if scales > 0 {
			scale = fmt.Sprintf(`,"w.weight_scale":{"dtype":"F32","shape":[%d],"data_offsets":[8,%d]}`, scales, 8+4*scales)
		}
		header := `{"w.weight":{"dtype":"I8","shape":[2,4],"data_offsets":[0,8]}` + scale + noted + "}"
		if !json.Valid([]byte(header)) {
			t.Fatal(header)
		}
		_, err := ParseSource(file(header, body), "f")
		return err
	}
	for note, want := range map[string]string{
		`{"format":"nvfp4"}`: `quantised as "nvfp4"`,
		`{"format":`:         "not understood",
		`{"format":"int8_tensorwise","convrot":true,"convrot_groupsize":8}`:  "power of 4",
		`{"format":"int8_tensorwise","convrot":true,"convrot_groupsize":16}`: "power of 4",
		`{"format":"int8_tensorwise","convrot":true}`:                        "power of 4",
		`{"format":"int8_tensorwise"}`:                                       "",
		"":                                                                   "",
	} {
		if err := parse(2, note); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", note, err, want)
		}
	}
	if err := parse(3, ""); err == nil || !strings.Contains(err.Error(), "3 scales for 2 rows") {
		t.Error(err)
	}
	if err := parse(0, `{"format":"int8_tensorwise"}`); err == nil || !strings.Contains(err.Error(), "weight_scale is missing") {
		t.Error(err)
	}
}
