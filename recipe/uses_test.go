package recipe

import (
	"reflect"
	"testing"
)

func TestParseUses(t *testing.T) {
	for text, want := range map[string][]Use{
		"":                             nil,
		"paint":                        {{"paint", 1, 1}},
		"paint:0.8":                    {{"paint", 0.8, 0.8}},
		"paint:0.8:0.25, dir/x.pt:-1":  {{"paint", 0.8, 0.25}, {"dir/x.pt", -1, -1}},
		`C:\\loras\\a.safetensors:0.5`: {{`C:\\loras\\a.safetensors`, 0.5, 0.5}},
		"v1:2:old":                     {{"v1:2:old", 1, 1}},
		"a:1:2:3":                      {{"a:1", 2, 3}},
	} {
		got, err := ParseUses(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
		if again, err := ParseUses(FormatUses(got)); err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%q: written as %q and read as %v, %v", text, FormatUses(got), again, err)
		}
	}
	for _, text := range []string{":0.5", "a:1e999", "a:nan", "a:5000"} {
		if got, err := ParseUses(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
