package config

import (
	"fmt"
	"math"
	"os"
	"testing"
)

func TestIntTable(t *testing.T) {
	for text, want := range map[string]string{
		`{"depth": [1, [2, 3], [4, 5, 6]]}`: "[[1 1] [2 3] [4 5 6]] <nil>",
		`{"depth": 7}`:                      "[[7 7] [7 7] [7 7 7]] <nil>",
		`{}`:                                "[[9 9] [9 9] [9 9 9]] <nil>",
		`{"depth": null}`:                   "[[9 9] [9 9] [9 9 9]] <nil>",
		`{"depth": [1, 2]}`:                 "[[9 9] [9 9] [9 9 9]] unet/config.json: depth is [1,2]: rows of [2 2 3] whole numbers are needed, or one number for a row",
		`{"depth": [1, [2], 3]}`:            "[[1 1] [9 9] [9 9 9]] unet/config.json: depth is [1,[2],3]: rows of [2 2 3] whole numbers are needed, or one number for a row",
		`{"depth": [1, null, 3]}`:           "[[1 1] [9 9] [9 9 9]] unet/config.json: depth is [1,null,3]: rows of [2 2 3] whole numbers are needed, or one number for a row",
		`{"depth": "x"}`:                    "[[9 9] [9 9] [9 9 9]] unet/config.json: depth is \"x\": rows of [2 2 3] whole numbers are needed, or one number for a row",
	} {
		c := parsed(t, text)
		got := fmt.Sprint(c.IntTable("depth", []int{2, 2, 3}, 9))
		if got += fmt.Sprint(" ", c.Done()); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

func parsed(t *testing.T, text string) *Object {
	t.Helper()
	c, err := Parse([]byte(text), "unet/config.json")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestGetters(t *testing.T) {
	c := parsed(t, `{"_class_name": "X", "in": 4, "whole": 4.0, "eps": 1e-5, "linear": true, "act": "silu", "none": null,
		"head": 8, "heads": [5, 10], "types": ["A", "B"], "only": [true, false], "betas": [0.5, 1], "one": "A", "low": -Infinity,
		"high": Infinity, "text": "Infinity \" NaN", "fixed": 1.0, "harmless": {"a": [1]}, "off": false, "gone": null}`)
	for _, x := range []struct{ got, want any }{
		{c.Int("in"), 4}, {c.Int("whole"), 4}, {c.Int("absent", 7), 7}, {c.Int("none", 3), 3},
		{c.Float("eps"), 1e-5}, {c.Float("in"), 4.0}, {c.Float("absent", 0.5), 0.5},
		{c.Float("low"), math.Inf(-1)}, {c.Float("high"), math.Inf(1)},
		{c.Bool("linear"), true}, {c.Bool("absent", true), true},
		{c.String("act"), "silu"}, {c.String("absent", "x"), "x"}, {c.String("text"), `Infinity " NaN`},
		{c.OneOf("act", "gelu", "silu"), "silu"}, {c.OneOf("absent", "gelu", "silu"), "gelu"}, {c.OneOf("none", "gelu"), "gelu"},
		{fmt.Sprint(c.Ints("heads", 2)), "[5 10]"}, {fmt.Sprint(c.Ints("head", 3)), "[8 8 8]"}, {fmt.Sprint(c.Ints("heads", 0)), "[5 10]"},
		{fmt.Sprint(c.Ints("absent", 2, 8)), "[8 8]"}, {fmt.Sprint(c.Ints("absent", 0, 1, 2)), "[1 2]"}, {fmt.Sprint(c.Ints("head", 0)), "[8]"},
		{fmt.Sprint(c.Strings("types", 2)), "[A B]"}, {fmt.Sprint(c.Strings("one", 2)), "[A A]"},
		{fmt.Sprint(c.Bools("only", 2)), "[true false]"}, {fmt.Sprint(c.Bools("linear", 2)), "[true true]"},
		{fmt.Sprint(c.Floats("betas", 0)), "[0.5 1]"}, {c.IntIn("in", 1, 4), 4}, {c.IntIn("absent", 1, 4, 9), 9}, {c.FloatIn("low", math.Inf(-1), 0), math.Inf(-1)},
		{c.FloatIn("eps", 0, 1), 1e-5}, {c.OneOf("absent", "", "x"), ""}, {c.OneOf("act", "", "silu"), "silu"}, {c.Has("heads"), true}, {c.Has("none"), false}, {c.Has("absent"), false},
	} {
		if x.got != x.want {
			t.Errorf("got %v, want %v", x.got, x.want)
		}
	}
	c.Fixed("fixed", 1)
	c.Fixed("off", false)
	c.Fixed("none", "anything")
	c.Fixed("act", "silu")
	c.Ignore("harmless")
	if c.Raw("heads") == nil || c.Raw("absent") != nil {
		t.Errorf("raw values are %s and %s", c.Raw("heads"), c.Raw("absent"))
	}
	if err := c.Done(); err != nil {
		t.Error(err)
	}
}

// Everything wrong, each with its exact message, all at once and in the order of asking, then of the file.
func TestGettersRefuse(t *testing.T) {
	c := parsed(t, `{"in": 4.5, "big": 3000000000, "eps": "small", "linear": "yes", "act": "mish", "name": 3, "heads": [5, 10], "types": ["A", null],
		"fixed": 2, "mode": "x", "class_embed_type": "timestep", "null": null, "false": false, "zero": 0, "_hidden": 1, "five": 5, "nan": NaN, "blank": "",
		"long": ["0123456789", "0123456789", "0123456789", "0123456789", "0123456789", "0123456789"]}`)
	if v := c.Int("in", 4); v != 4 {
		t.Errorf("a wrong value gave %d, want the default", v)
	}
	c.Int("big")
	c.Float("eps", 1)
	c.Bool("linear", false)
	if v := c.OneOf("act", "silu", "gelu"); v != "silu" {
		t.Errorf("an unsupported value gave %q, want the default", v)
	}
	c.String("name")
	if v := c.Ints("heads", 3); len(v) != 3 {
		t.Errorf("%v, want three numbers to go on with", v)
	}
	c.Strings("types", 0)
	c.Fixed("fixed", 1)
	c.Fixed("mode", false)
	c.Int("absent")
	c.Bools("absent", 2)
	c.Floats("absent", 0)
	if v := c.IntIn("five", 1, 4, 3); v != 3 {
		t.Errorf("a number out of range gave %d, want the default", v)
	}
	c.FloatIn("nan", 0, 1)
	c.OneOf("blank", "", "a", "b")
	want := `unet/config.json: in is 4.5: a whole number is needed
unet/config.json: big is 3000000000: a whole number is needed
unet/config.json: eps is "small": a number is needed
unet/config.json: linear is "yes": true or false is needed
unet/config.json: act is "mish": not supported, only "silu", "gelu"
unet/config.json: name is 3: a text is needed
unet/config.json: heads is [5,10]: 3 whole numbers or one for all are needed
unet/config.json: types is ["A",null]: a list of texts is needed
unet/config.json: fixed is 2: not supported, only 1
unet/config.json: mode is "x": not supported, only false
unet/config.json: absent is missing: a whole number is needed
unet/config.json: absent is missing: 2 true or false or one for all are needed
unet/config.json: absent is missing: a list of numbers is needed
unet/config.json: five is 5: a whole number from 1 to 4 is needed
unet/config.json: nan is "NaN": a number from 0 to 1 is needed
unet/config.json: blank is "": not supported, only "a", "b"
unet/config.json: class_embed_type is "timestep": not supported, the key is unknown here
unet/config.json: zero is 0: not supported, the key is unknown here
unet/config.json: long is ["0123456789","0123456789","0123456789","0123456789","012345…: not supported, the key is unknown here`
	if err := c.Done(); err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestObject(t *testing.T) {
	c := parsed(t, `{"vision": {"size": 7, "eps": -Infinity, "new": 1}, "none": null, "list": [1]}`)
	v := c.Object("vision")
	if n, eps := v.Int("size"), v.Float("eps"); n != 7 || !math.IsInf(eps, -1) {
		t.Errorf("size %d, eps %v", n, eps)
	}
	if err := v.Done(); err == nil || err.Error() != "unet/config.json: vision: new is 1: not supported, the key is unknown here" {
		t.Error(err)
	}
	for _, key := range []string{"none", "absent"} {
		if o := c.Object(key); len(o.Keys()) != 0 || o.Int("size", 3) != 3 {
			t.Errorf("%s has %v", key, o.Keys())
		}
	}
	c.Object("list")
	if err := c.Done(); err == nil || err.Error() != "unet/config.json: list is [1]: an object is needed" {
		t.Error(err)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		``:                 `unet/config.json: not JSON: unexpected end of JSON input`,
		`[1]`:              `unet/config.json: is [1], not an object`,
		`{"a": 1, "a": 2}`: `unet/config.json: "a" appears twice`,
		`{"a": 1,}`:        `unet/config.json: not JSON: invalid character '}' looking for beginning of object key string`,
		`{"a": +Infinity}`: `unet/config.json: not JSON: invalid character '+' looking for beginning of value`,
	} {
		if _, err := Parse([]byte(text), "unet/config.json"); err == nil || err.Error() != want {
			t.Errorf("%s:\ngot  %v\nwant %s", text, err, want)
		}
	}
}

// Whatever the bytes, a getter returns something of its kind, and nothing panics.
func FuzzParse(f *testing.F) {
	real, err := os.ReadFile("../checkpoint/testdata/model/vae/config.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(real)
	f.Add([]byte(`{"a": [1, null, "NaN"], "b": NaN, "c": -Infinity, "d": "\"NaN"}`))
	f.Add([]byte(`{"a": 1e999, "b": [[[]]], "c": {"c": 1}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(text, "m")
		if err != nil {
			return
		}
		for _, k := range c.Keys() {
			c.Int(k, 1)
			c.Float(k)
			c.Bool(k)
			c.OneOf(k, "x")
			if n := len(c.Ints(k, 3)); n != 3 {
				t.Fatalf("Ints gave %d of 3", n)
			}
			c.Strings(k, 0)
			c.Fixed(k, 1)
		}
		_ = c.Done()
	})
}
