package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// foreignFiles are pictures and texts as other programs write them: what the recipe of a picture made from each must
// have, and what the warnings must name.
var foreignFiles = []struct {
	file     string
	want     string // JSON of the recipe's fields
	warnings []string
}{
	{"brace-emphasis.png", `{"prompt":"{{a clay jug}}, on a shelf","negative":"text","seed":5201,"steps":6,"scheduler":"euler-a","sigmas":"","cfg":5,"width":64,"height":64}`, nil},
	{"brace-choice.txt", `{"prompt":"{red|green} mill by a river","negative":"text","seed":5202,"steps":6,"scheduler":"euler-a"}`, []string{`"{red|green}" is encoded as words`}},
	{"json-prompt.png", `{"prompt":"{\"scene\": \"a mill\", \"light\": \"dusk\"}","negative":"text","seed":5203,"steps":6}`, nil},
	{"sdcpp.png", `{"prompt":"a lamp on a desk","negative":"text","seed":5204,"noise":"torch-cuda","width":64,"height":64,"steps":6,"scheduler":"dpm++2m","sigmas":"karras","cfg":5,"guidance":null}`,
		[]string{"ignored: Guidance: 3.500000", `the model "river"`}},
	{"llamabox.png", `{"seed":5205,"steps":6,"scheduler":"euler-a","sigmas":"karras","cfg":5,"noise":"torch-cuda","guidance":null}`, []string{"ignored: Guidance: 3.500000"}},
	{"capital-cfg.png", `{"prompt":"a mill","seed":5210,"steps":6,"scheduler":"euler-a","cfg":5,"noise":"torch-cpu"}`, []string{`the model "river", which is not here`}},
	{"horde.png", `{"prompt":"a paper lantern","negative":"text, b&w","seed":5207,"steps":6,"scheduler":"dpm++2s-a","sigmas":"","cfg":5,"width":64,"height":64}`, nil},
	{"horde.jpg", `{"prompt":"a paper lantern","seed":5209,"scheduler":"euler","sigmas":""}`, nil},
	{"comfyui.png", `{"prompt":"a lamp on a desk","negative":"text, watermark","seed":156680208700286,"steps":6,"cfg":5,"scheduler":"dpm++2m","sigmas":"karras","width":64,"height":64,"noise":"torch-cpu"}`,
		[]string{`the model "river"`}},
	{"invokeai.png", `{"prompt":"a lamp on a desk","negative":"text","seed":2507332253,"steps":6,"cfg":5,"scheduler":"dpm++2m","sigmas":"karras","width":64,"height":64,"noise":"torch-cpu","clip_skip":0}`,
		[]string{`the model "river"`}},
	{"swarmui.png", `{"prompt":"a lamp on a desk","negative":"text","seed":581626448,"steps":6,"cfg":5,"scheduler":"dpm++2m","sigmas":"karras","width":64,"height":64,"noise":"torch-cpu"}`, nil},
	{"lora.png", `{"prompt":"a mill, <lora:old_paint:0.7>night","negative":"text","seed":5206}`, []string{`"<lora:old_paint:0.7>" is left out: there is no such file`}},
	{"utf8-in-text.png", `{"prompt":"a clay jug 壺, café","negative":"text","seed":5211}`, nil},
}

func TestForeignFiles(t *testing.T) {
	for _, c := range foreignFiles {
		t.Run(c.file, func(t *testing.T) {
			file := filepath.Join("testdata", "foreign", c.file)
			out := filepath.Join(t.TempDir(), "out.png")
			code, _, errs := command(t, "", "generate", "--from", file, "-o", out, "-q", "--model", tiny)
			if code != 0 {
				t.Fatalf("exit code %d, %s", code, errs)
			}
			r := inspected(t, out)
			got := fieldsOf(t, r)
			for name, want := range fieldsOf(t, json.RawMessage(c.want)) {
				if (string(want) != "null" || got[name] != nil) && !bytes.Equal(want, got[name]) {
					t.Errorf("%s is %s, want %s", name, got[name], want)
				}
			}
			if code, _, errs = command(t, "", "generate", "--from", file, "-o", out+".png", "-q", "--steps", "1", "--width", "16", "--height", "16"); code != 0 {
				t.Errorf("without --model: exit code %d, %s", code, errs)
			}
			for _, w := range append(c.warnings, "made by another program") {
				if !strings.Contains(errs, w) {
					t.Errorf("no warning has %q:\n%s", w, errs)
				}
			}
			// What inspect --json gives, --from takes, with the same warnings.
			code, text, errs := command(t, "", "inspect", "--json", file)
			if code != 0 {
				t.Fatalf("inspect --json: exit code %d, %s", code, errs)
			}
			described := filepath.Join(t.TempDir(), "r.json")
			save(t, described, []byte(text))
			_, _, before := command(t, "", "generate", "--from", file, "-o", out, "-q", "--model", tiny)
			code, _, after := command(t, "", "generate", "--from", described, "-o", out+".webp", "-q", "--model", tiny)
			if code != 0 || strings.ReplaceAll(after, described, file) != before {
				t.Errorf("--from the JSON: exit code %d, %s\n--from the file: %s", code, after, before)
			}
			if second := inspected(t, out+".webp"); second.Result != r.Result {
				t.Errorf("--from %s gives another picture", text)
			}
			code, shown, errs := command(t, "", "inspect", file)
			if code != 0 || !strings.Contains(shown, "another program") || !strings.Contains(shown, "in terms of darkroom") {
				t.Errorf("inspect: exit code %d, %s\n%s", code, errs, shown)
			}
			save(t, described, append([]byte("\xef\xbb\xbf"), text...)) // as Windows' editors save it
			if code, again, _ := command(t, "", "inspect", "--json", described); code != 0 || again != text {
				t.Errorf("inspect --json of its own output: exit code %d, %s", code, again)
			}
		})
	}
}

func fieldsOf(t *testing.T, r json.Marshaler) map[string]json.RawMessage {
	t.Helper()
	text, err := r.MarshalJSON()
	var fields map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

// What a description does not say is not in its JSON, and comes from the model; a seed is drawn, and said.
func TestForeignLeavesOut(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "a.txt")
	save(t, text, []byte("a cat\nSteps: 2, Sampler: Euler, Seed: -1, Size: 33x64, Eta: 0.67, Clip skip: 90"))
	code, out, errs := command(t, "", "inspect", "--json", text)
	if code != 0 {
		t.Fatal(errs)
	}
	for _, name := range []string{`"cfg"`, `"seed"`, `"model"`, `"dtype"`, `"result"`, `"numerics"`} {
		if strings.Contains(out, name) {
			t.Errorf("%s is in %s", name, out)
		}
	}
	seeds := map[uint64]bool{}
	for range 2 {
		path := filepath.Join(dir, "x.png")
		code, _, errs := command(t, "", "generate", "--from", text, "--model", tiny, "-o", path)
		if code != 0 {
			t.Fatal(errs)
		}
		r := inspected(t, path)
		seeds[r.Seed] = true
		if r.CFG != 7.5 || r.Width != 34 || r.Eta != 0 || r.ClipSkip != 0 {
			t.Errorf("%+v", r)
		}
		for _, want := range []string{"names no seed: using a random one", "using 34×64 instead", "default eta", "default clip-skip", "\nseed "} {
			if !strings.Contains(errs, want) {
				t.Errorf("%q is not in\n%s", want, errs)
			}
		}
	}
	if seeds[0] || len(seeds) != 2 {
		t.Errorf("seeds %v", seeds)
	}
}

// A picture that a service left only the text for others is this program's all the same.
func TestOwnTextAlone(t *testing.T) {
	dir := t.TempDir()
	first := filepath.Join(dir, "x.png")
	if code, _, errs := command(t, "", "generate", "--model", tiny, "-q", "-o", first, "--seed", "5", "--steps", "3", "--scheduler", "dpm2-karras-discard", "--width", "32", "--height", "32", "{a|b} mill"); code != 0 {
		t.Fatal(errs)
	}
	r := inspected(t, first)
	stripped := filepath.Join(dir, "stripped.png")
	save(t, stripped, pngWith(t, read(t, first), "parameters", r.Parameters()))
	second := filepath.Join(dir, "again.png")
	code, _, errs := command(t, "", "generate", "--model", tiny, "-q", "-o", second, "--from", stripped)
	if code != 0 || strings.Contains(errs, "another program") || !strings.Contains(errs, "has lost its recipe") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	if again := inspected(t, second); again.Result != r.Result || again.Name() != "dpm2-karras-discard" {
		t.Errorf("%+v became %+v", r, again)
	}
}

// A picture whose model goes by another name here is made with the weights that it was made with.
func TestFromFindsWeights(t *testing.T) {
	models := t.TempDir()
	if err := os.CopyFS(filepath.Join(models, "renamed"), os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DARKROOM_MODELS", models)
	file := render(t)
	out := filepath.Join(t.TempDir(), "x.png")
	code, _, errs := command(t, "", "generate", "--from", file, "-o", out, "-q")
	if code != 0 || !strings.Contains(errs, "whose weights are here as renamed") {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	if got := inspected(t, out); got.Result.Pixels != inspected(t, file).Result.Pixels || got.Model != "renamed" {
		t.Errorf("%+v", got)
	}
	// Another program's picture takes the model of that name.
	text := filepath.Join(t.TempDir(), "a.txt")
	save(t, text, []byte("a cat\nSteps: 2, Sampler: Euler, CFG scale: 5, Seed: 1, Size: 32x32, Model: dir\\renamed.safetensors"))
	code, _, errs = command(t, "", "generate", "--from", text, "-o", out, "-q")
	if code != 0 || strings.Contains(errs, "not here") || inspected(t, out).Model != "renamed" {
		t.Errorf("exit code %d, %s", code, errs)
	}
}

// A warning names what a prompt asks for and does not get; a tag is not encoded as words.
func TestPromptWarnings(t *testing.T) {
	dir := t.TempDir()
	for i, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"a mill <lora:x:0.8>"}, []string{`warning: "<lora:x:0.8>" is left out: there is no such file`}},
		{[]string{"a mill <lora:x:0.8>", "--prompt-syntax", "plain"}, []string{`"<lora:x:0.8>" is encoded as words`}},
		{[]string{"a [red:blue:0.5] mill AND a [fox|wolf]", "--negative", "{a|b}"}, nil}, // which are done
		{[]string{"a mill", "--negative", "{a|b}", "--prompt-syntax", "plain"}, []string{`warning: the negative prompt: "{a|b}" is encoded as words`}},
		{[]string{"a mill ", "--negative", "AND", "--cfg", "1"}, nil}, // which is not read
	} {
		code, _, errs := command(t, "", append([]string{"generate", "--model", tiny, "--steps", "1", "--seed", "1", "-q", "-o", filepath.Join(dir, fmt.Sprint(i, ".png"))}, c.args...)...)
		if code != 0 || strings.Count(errs, "\n") != len(c.want) {
			t.Errorf("%v: exit code %d, %s", c.args, code, errs)
		}
		for _, w := range c.want {
			if !strings.Contains(errs, w) {
				t.Errorf("%v: %q is not in %s", c.args, w, errs)
			}
		}
	}
	if code, _, errs := command(t, "", "generate", "--model", tiny, "--steps", "1", "--seed", "1", "-q", "-o", filepath.Join(dir, "without.png"), "a mill "); code != 0 {
		t.Fatal(errs)
	}
	without := inspected(t, filepath.Join(dir, "without.png")).Result
	if inspected(t, filepath.Join(dir, "0.png")).Result != without {
		t.Error("the tag was read as text")
	}
	if inspected(t, filepath.Join(dir, "1.png")).Result == without {
		t.Error("the plain syntax left the tag out")
	}
}

// A picture that cannot be understood is shown all the same.
func TestInspectShowsWhatItCannotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.png")
	file := read(t, filepath.Join("testdata", "foreign", "capital-cfg.png"))
	save(t, path, pngWith(t, file, "parameters", "nothing but words"))
	code, out, errs := command(t, "", "inspect", path)
	if code != 0 || !strings.Contains(out, "none that can be read") || !strings.Contains(out, "nothing but words") {
		t.Errorf("exit code %d, %s\n%s", code, errs, out)
	}
	if code, _, errs := command(t, "", "generate", "--from", path, "--model", tiny); code != 1 || !strings.Contains(errs, "this PNG file has no recipe") {
		t.Errorf("exit code %d, %s", code, errs)
	}
}

// pngWith is a PNG with its text chunks replaced by one.
func pngWith(t *testing.T, file []byte, key, text string) []byte {
	t.Helper()
	chunk := func(kind, data string) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
		b = append(append(b, kind...), data...)
		return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
	}
	out := bytes.Clone(file[:8+25]) // signature and IHDR
	out = append(out, chunk("tEXt", key+"\x00"+text)...)
	for at := 8 + 25; at < len(file); {
		n := int(binary.BigEndian.Uint32(file[at:])) + 12
		if kind := string(file[at+4 : at+8]); !strings.HasSuffix(kind, "Xt") {
			out = append(out, file[at:at+n]...)
		}
		at += n
	}
	return out
}
