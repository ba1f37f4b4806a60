package jobs

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestBadFiles: each mistake is found before anything is rendered, and its message says where, what, and what to do.
func TestBadFiles(t *testing.T) {
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	for _, c := range []struct{ name, notation, text, want string }{
		{"unknown field", YAML, "- prompt: a\n  sede: 1\n", `f:2: unknown field "sede"; nearest: seed`},
		{"unknown field of JSON", JSONLines, "\n{\"promt\": \"a\"}", `f:2: unknown field "promt"; nearest: prompt`},
		{"unknown field of CSV", CSV, "prompt,widht\na,8\n", `f:1: unknown field "widht"; nearest: width`},
		{"unknown field of the file", YAML, "default: {steps: 3}\njobs:\n- prompt: a\n", `f:1: unknown field "default" of the file; nearest: defaults`},
		{"field in the wrong place", YAML, "steps: 3\njobs:\n- prompt: a\n", `f:1: unknown field "steps" of the file: put it under "defaults:" or into a job`},
		{"field of the command line", YAML, "- {prompt: a, device: 1}\n", `f:1: a job has no field "device": which GPU runs a job is decided where it runs: darkroom batch --device, darkroom worker --device`},
		{"field twice", JSONLines, `{"prompt": "a", "prompt": "b"}`, `f:1: field "prompt" appears twice`},
		{"prompt is missing", YAML, "- seed: 3\n", `f:1: the prompt is missing`},
		{"text for a number", YAML, "- prompt: a\n  steps: many\n", `f:2: steps: "many" is text, but a whole number is needed, without quotes, or a range such as "1..100"`},
		{"number for text", JSONLines, `{"prompt": 12}`, `f:1: prompt: 12 is a number, but text is needed: put quotes around it`},
		{"fraction for a whole number", YAML, "- {prompt: a, steps: 2.5}", `f:1: steps: 2.5 is not a whole number`},
		{"true for a number", YAML, "- {prompt: a, cfg: true}", `f:1: cfg: true is true or false, but a number is needed`},
		{"object for a number", JSONLines, `{"prompt": "a", "seed": {}}`, `f:1: seed: it is an object, but a whole number from 0 to 18446744073709551615 is needed`},
		{"null", JSONLines, `{"prompt": "a", "seed": null}`, `f:1: seed: it is empty: give a whole number from 0 to 18446744073709551615 or leave the field out`},
		{"negative seed", YAML, "- {prompt: a, seed: -2}", `f:1: seed: -2 is not a whole number from 0 to 18446744073709551615`},
		{"seed beyond 64 bits", YAML, "- {prompt: a, seed: 18446744073709551616}", `f:1: seed: 18446744073709551616 is not a whole number from 0 to 18446744073709551615`},
		{"not a number", YAML, "- {prompt: a, cfg: .nan}", `f:1: cfg: .nan is not a finite number`},
		{"number beyond float64", JSONLines, `{"prompt": "a", "cfg": 1e999}`, `f:1: cfg: 1e999 is not a finite number`},
		{"huge range", YAML, "- {prompt: a, seed: 0..18446744073709551615}", `f:1: seed: range "0..18446744073709551615" has more than 1000000 values`},
		{"huge product", YAML, "- {prompt: a, seed: 1..2000, cfg: 1..1000}", `f:1: the sweep makes more than 1000000 pictures`},
		{"falling range", YAML, "- {prompt: a, seed: 9..1}", `f:1: seed: range "9..1": it falls: write the smaller number first`},
		{"range without a step", YAML, "- {prompt: a, cfg: 1..2 by 0}", `f:1: cfg: range "1..2 by 0": the step must be above 0`},
		{"half a range", CSV, "prompt,seed\na,1..\n", `f:2: seed: "1.." is not a range such as "1..100":  is not a whole number from 0 to 18446744073709551615`},
		{"count beyond the last seed", YAML, "- {prompt: a, seed: 18446744073709551615, count: 2}", `f:1: seed 18446744073709551615 with count 2: the last seed would exceed 18446744073709551615`},
		{"zip of different lengths", YAML, "- {prompt: [a, b], seed: 1..3, sweep: zip}", `f:1: sweep: zip pairs values one by one, and prompt has 2, seed 3`},
		{"empty list", YAML, "- {prompt: []}", `f:1: prompt: the list is empty`},
		{"list of sigmas", YAML, "- {prompt: a, sigmas: [14.6, 6.1]}", `f:1: sigmas: a list is tried one by one; the noise levels of one picture are one text: "14.6,6.1,0.03"`},
		{"no steps", YAML, "- {prompt: a, steps: 0}", `f:1: steps: 0: it must be from 1 to 10000`},
		{"huge picture", YAML, "- {prompt: a, width: 100000}", `f:1: width: 100000: it must be from 1 to 16384`},
		{"unknown scheduler", YAML, "- {prompt: a, scheduler: eulr}", `f:1: scheduler: no sampler is called "eulr"; nearest: euler, k-euler, euler-a`},
		{"unknown guidance", YAML, "- {prompt: a, guidance: agp}", `f:1: guidance: no guidance is called "agp": there are cfg, cfg-zero, apg, dynamic, perp-neg`},
		{"unknown key of guidance", YAML, "- {prompt: a, guidance: 'apg:etta=0'}", `f:1: guidance: guidance apg: no key "etta": there are eta, norm, momentum, scale, start, stop, low, high, rescale`},
		{"guidance out of range", YAML, "- {prompt: a, guidance: 'cfg:start=2'}", `f:1: guidance: guidance cfg: start = "2": want a number from 0 to 1`},
		{"two rescales", YAML, "- {prompt: a, guidance: 'cfg:rescale=0.5', guidance-rescale: 0.7}", `f:1: guidance: cfg:rescale=0.5: its rescale is not the 0.7 of guidance-rescale: give one of them`},
		{"guidance by steps that are not known", YAML, "- {prompt: a, guidance: 'cfg:stop=0.5', scheduler: dpm-adaptive}", `f:1: guidance: cfg:stop=0.5: dpm-adaptive chooses its own steps: use low and high, which are noise levels, instead of start and stop`},
		{"empty guidance", YAML, "- {prompt: a, guidance: ''}", `f:1: guidance: it is empty: leave the field out for the default`},
		{"unknown noise of steps", YAML, "- {prompt: a, sde-noise: brownain}", `f:1: sde-noise: "brownain": choose torch, brownian; nearest: brownian`},
		{"unknown format", YAML, "- {prompt: a, format: pgn}", `f:1: format: "pgn": choose png, jpg, webp; nearest: png`},
		{"quality of PNG", YAML, "- {prompt: a, quality: 90}", `f:1: quality: 90: PNG has no quality: set format: jpg or webp, or leave it out`},
		{"unknown priority", YAML, "- {prompt: a, priority: hihg}", `f:1: priority: "hihg": choose high, normal, low; nearest: high`},
		{"cycle in wildcards", YAML, "- prompt: x __loop__", `f:1: prompt: a cycle: __loop__ → __loop__`},
		{"cycle through a variable", YAML, "variables: {cycle: __one__}\njobs:\n- prompt: __one__", `f:3: prompt: a cycle: __one__ → __two__ → ${cycle} → __one__`},
		{"missing wildcard file", YAML, "- prompt: __nothing__", `f:1: prompt: in __nothing__: there is no nothing.txt in wildcards`},
		{"empty wildcard file", YAML, "- prompt: __empty__", `f:1: prompt: in __empty__: empty.txt in wildcards has no lines`},
		{"wildcard file in Latin-1", YAML, "- prompt: __latin1__", `f:1: prompt: in __latin1__: latin1.txt in wildcards is not UTF-8 text`},
		{"mistake in a wildcard file", YAML, "- prompt: __unbalanced__", `f:1: prompt: in __unbalanced__: line 2: a { without its } (write \{ for the character itself)`},
		{"wildcard out of the folder", YAML, "- prompt: __../secret__", `f:1: prompt: __../secret__: a wildcard is a name such as __animal__ or __sub/animal__, inside the folder of wildcards`},
		{"absolute wildcard", YAML, "- prompt: __/etc/passwd__", `f:1: prompt: __/etc/passwd__: a wildcard is a name such as __animal__ or __sub/animal__, inside the folder of wildcards`},
		{"unbalanced brace", YAML, "- prompt: 'a {b|c'", `f:1: prompt: a { without its } (write \{ for the character itself)`},
		{"unknown variable", YAML, "variables: {style: x}\njobs:\n- prompt: ${stlye}", `f:3: prompt: there is no variable "stlye"; nearest: style`},
		{"name out of the folder", YAML, "- {prompt: a, name: ../a}", `f:1: name "../a": it leads out of the output folder`},
		{"name out in the middle", YAML, "- {prompt: a, name: 'x/../../{seed}'}", `f:1: name "x/../../{seed}": it leads out of the output folder`},
		{"absolute name", YAML, "- {prompt: a, name: /etc/cron.d/a}", `f:1: name "/etc/cron.d/a": it is absolute: name a file below the output folder`},
		{"name for Windows", YAML, `- {prompt: a, name: '..\a'}`, `f:1: name "..\\a": the characters \ : * ? " < > | are not allowed in file names`},
		{"name of a device", YAML, "- {prompt: a, name: nul}", `f:1: name "nul": "nul" is a Windows device name`},
		{"hidden name", YAML, "- {prompt: a, name: .ssh/a}", `f:1: name ".ssh/a": ".ssh" begins with a dot, as unfinished files do`},
		{"unknown part of a name", YAML, "- {prompt: a, name: '{sed}'}", `f:1: name "{sed}": there is no {sed}; nearest: seed (there are {index}, {seed}, {slug}, {hash}, {job}, {model}, {scheduler}, {steps}, {cfg}, {width}, {height}, {prompt}, {negative}, {date}, {init})`},
		{"prompt that YAML takes for an object", YAML, "- prompt: {red|green} apple", "f:1: this is not YAML: value is not allowed in this context (quote the prompt in line 1, as it begins with {)"},
		{"prompt that is an object", YAML, "- prompt: {red|green}", "f:1: prompt: it is an object, but text is needed: quote the prompt, because it begins with {"},
		{"option without a value", Prompts, "a\nb --steps", "f:2: --steps has no value"},
		{"unknown option", Prompts, "a --setps 3", "f:1: unknown option --setps; nearest: steps"},
		{"wrong option", Prompts, "a --steps many", "f:1: steps: many is not a whole number"},
		{"two words", Prompts, "a --sampler Euler a --steps 3", "f:1: \"a\" is where an option such as --steps is expected: put quotes around a value of several words"},
		{"open quote", Prompts, "--prompt \"a", "f:1: a quote \" does not end"},
		{"second directive", YAML, "%TAG ! x\n---\n- prompt: a\n- prompt: !a b", "f:3: a second YAML document: put all jobs under one \"jobs:\""},
		{"bad UTF-8", YAML, "- prompt: a\n- prompt: caf\xe9\n", `f:2: byte 14 (0xe9) is not UTF-8: save the file as UTF-8`},
		{"UTF-16", YAML, "\xff\xfe-\x00", `f: the file is UTF-16: save it as UTF-8`},
		{"binary", YAML, "- prompt: a\x00b", `f:1: byte 12 is NUL: this is not a text file`},
		{"NUL in JSON", JSONLines, `{"prompt": "a\u0000b"}`, `f:1: prompt: it has a NUL character`},
		{"YAML with a tab", YAML, "- prompt: a\n\tseed: 1", `f:2: this is not YAML: found character '	' that cannot start any token`},
		{"anchor", YAML, "- &a {prompt: x}\n- *a", `f:1: anchors and aliases (&, *, <<) are not read: put what jobs share under "defaults:"; a text that begins with & or * needs quotes`},
		{"deep YAML", YAML, "- prompt: " + deep, `f:1: more than 32 lists and objects within each other`},
		{"deep JSON", JSONLines, `{"prompt": ` + deep + `}`, `f:1: more than 32 lists and objects within each other`},
		{"a job that is a text", YAML, "- a red apple", `f:1: a job is an object with fields such as "prompt:", but this is text`},
		{"JSON over several lines", JSONLines, "{\n\"prompt\": \"a\"}", "f:1: this is not JSON: the line ends within an object: each object must be on one line\nf:2: something follows the object: write one object per line"},
		{"two objects on a line", JSONLines, `{"prompt": "a"} {"prompt": "b"}`, `f:1: something follows the object: write one object per line`},
		{"CSV with too many cells", CSV, "prompt,seed\na, b,1\n", `f:2: 3 cells, but the header has 2: a text with commas or line breaks needs "quotes" around it`},
		{"CSV with an open quote", CSV, "prompt,seed\n\"a,1\nb,2\n", `f:2: a quoted cell does not end, or text follows its end: a quote within quotes is written ""`},
		{"CSV with a bare quote", CSV, "prompt\na 5\" disk\n", `f:2: a quote within a cell that is not quoted: put quotes around the cell and write "" for the one inside`},
		{"empty file", YAML, "# nothing\n", `f: there are no jobs in it`},
		{"header alone", CSV, "prompt,seed\n", `f: there are no jobs in it`},
		{"two mistakes", YAML, "- prompt: a\n  sede: 1\n- prompt: b\n  steps: -1\n", "f:2: unknown field \"sede\"; nearest: seed\nf:3: steps: -1: it must be from 1 to 10000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := Parse("f", []byte(c.text), testWildcards(), Options{Notation: c.notation})
			if err == nil {
				t.Fatalf("no error, but %d images", len(l.Images))
			}
			if err.Error() != c.want {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
			if !errors.As(err, new(Errors)) {
				t.Errorf("the error is a %T", err)
			}
		})
	}
}

// TestBlowUp: short files that stand for more than there is time or memory are refused quickly.
func TestBlowUp(t *testing.T) {
	var nested strings.Builder // every variable is the one before, a hundred times
	nested.WriteString("variables:\n  v0: ''\n")
	for i := 1; i < 16; i++ {
		nested.WriteString("  v" + string(rune('0'+i/10)) + string(rune('0'+i%10)) + ": '" + strings.Repeat("{${v"+prev(i)+"}}", 100) + "'\n")
	}
	nested.WriteString("jobs:\n- prompt: ${v15}\n")
	doubling := "- {expand: all, prompt: '" + strings.Repeat("{a|b}", 64) + "'}"
	for name, text := range map[string]string{"nested": nested.String(), "doubling": doubling} {
		if l, err := Parse("f", []byte(text), nil, Options{Notation: YAML}); err == nil {
			t.Errorf("%s: %d images", name, len(l.Images))
		}
	}
}

func prev(i int) string {
	if i == 1 {
		return "0"
	}
	i--
	return string(rune('0'+i/10)) + string(rune('0'+i%10))
}

// TestBounds: pictures are counted before they are made, and neither the texts of a file nor the work that its templates
// make grows without bounds.
func TestBounds(t *testing.T) {
	fat := strings.Repeat("x", 30_000)
	for name, c := range map[string]struct{ text, want string }{
		"counts":        {"- {prompt: a, count: 1..100000}", "asks for more than 1000000 pictures"},
		"counts twice":  {"- {prompt: a, count: 10}\n- {prompt: a, count: 999991}", "f:2: the file asks for more than 1000000 pictures, counting duplicates"},
		"count and all": {"- {prompt: '{a|b|c}', expand: all, count: 500000}", "asks for more than 1000000 pictures"},
		"texts":         {"- {prompt: '{" + fat + "|y" + fat + "} {a|b}', seed: 1..500000}", "take more than 4 MiB"},
		"work":          {"- {prompt: '" + strings.Repeat("{a|b}", 5000) + "', seed: 1..1000000}", "f:1: "},
		"work of all":   {"- {prompt: '" + strings.Repeat("{a}", 4000) + "', expand: all, seed: 1..1000000}", "f:1: "},
		"large texts":   {"- {expand: all, prompt: '" + fat + strings.Repeat("{a|b}", 14) + "'}", "takes more than 200000 parts"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		begun := time.Now()
		l, err := Parse("f", []byte(c.text), nil, Options{Notation: YAML, MaxTexts: 4 << 20})
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %.300v", name, l != nil, err)
		}
		if took, used := time.Since(begun), (after.TotalAlloc-before.TotalAlloc)>>20; took > 20*time.Second || used > 3000 {
			t.Errorf("%s: %v and %d MiB", name, took, used)
		}
	}
}
