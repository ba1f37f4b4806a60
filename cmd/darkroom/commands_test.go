package main

import (
	"bytes"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"darkroom/imagefile"
	"darkroom/recipe"

	"github.com/urfave/cli/v2"
)

func TestTokenizeLines(t *testing.T) {
	in := "\"a red apple\"\n\"\"\n  \"a\\nred\\u0020apple\"\r\n\"A RED APPLE\""
	code, out, errs := command(t, in, "tokenize", "--model", tiny, "--json", "-")
	lines := strings.Split(out, "\n")
	if code != 0 || errs != "" || len(lines) != 5 {
		t.Fatalf("exit code %d, stdout %q, stderr %q", code, out, errs)
	}
	var ids []int32
	if err := json.Unmarshal([]byte(lines[0]), &ids); err != nil || len(ids) < 3 {
		t.Errorf("line 1: %s", lines[0])
	}
	if lines[1] != "[]" || lines[2] != lines[0] || lines[3] != lines[0] {
		t.Errorf("stdout %q", out)
	}
	code, out, errs = command(t, "\"a\"\nb\n", "tokenize", "--model", tiny, "--json", "-")
	if code != 1 || strings.Count(out, "\n") != 1 || !strings.HasPrefix(errs, `darkroom: stdin, line 2: "b\n" is not a JSON string: `) {
		t.Errorf("a line that is no JSON: exit code %d, stdout %q, stderr %q", code, out, errs)
	}
}

func TestTokenize(t *testing.T) {
	code, out, errs := command(t, "", "tokenize", "a (red:1.5) apple")
	if code != 0 || errs != "" {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	for _, want := range []string{"<|startoftext|>", "red</w>", "1.5", "<|endoftext|>"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	code, out, errs = command(t, "", "tokenize", "--prompt-syntax", "plain", "--json", strings.Repeat("apple ", 200))
	var all struct{ Tokens []struct{ Weight float32 } }
	if code != 0 || json.Unmarshal([]byte(out), &all) != nil || len(all.Tokens) < 3 {
		t.Errorf("exit code %d, stdout %s", code, out)
	}
	if !strings.HasPrefix(errs, "warning: the last ") || !strings.Contains(errs, "were cut off: apple") {
		t.Errorf("stderr %q", errs)
	}
}

func TestLists(t *testing.T) {
	models := t.TempDir()
	if err := os.CopyFS(filepath.Join(models, "small"), os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DARKROOM_MODELS", filepath.Join(models, "missing")+string(os.PathListSeparator)+models)
	for line, wants := range map[string][]string{
		"schedulers":             {"ddim", "dpm++2m ", "karras", "arXiv"},
		"schedulers|--json":      {`{"name":"ddim","about":`, `"stochastic":true`},
		"guidance":               {"apg ", "momentum", "arXiv", "∞"},
		"guidance|--json":        {`{"name":"cfg","about":`, `"high":null`},
		"models":                 {"default", "in the program", "small", filepath.Join(models, "small"), "StableDiffusionPipeline"},
		"models|--json":          {`{"name":"default","path":""`, `{"name":"small"`},
		"devices":                {"ref", "plain Go", "cuda"},
		"devices|--json":         {`"threads":`, `"cuda":[]`},
		"selftest|--backend|ref": {"conv2d", "attention", "good"},
		"version":                {"darkroom ", "numerics "},
		"version|--json":         {`"numerics":"`},
		"inspect|small":          {"UNet2DConditionModel", "F16", "for a picture of that size", "hash"},
		"inspect|" + filepath.Join(models, "small", "vae", "diffusion_pytorch_model.safetensors"): {"tensors", "F16", "SHA-256"},
	} {
		code, out, errs := command(t, "", strings.Split(line, "|")...)
		if code != 0 || errs != "" {
			t.Errorf("%s: exit code %d, %s", line, code, errs)
		}
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %q is not in\n%s", line, want, out)
			}
		}
	}
	code, out, _ := command(t, "", "inspect", "--json", "small")
	var m modelFacts
	if code != 0 || json.Unmarshal([]byte(out), &m) != nil || len(m.Parts) != 3 || len(m.Hash) != 64 || m.Memory == 0 || m.Problem != "" {
		t.Errorf("exit code %d, %+v", code, m)
	}
	sum := int64(0)
	for _, p := range m.Parts {
		sum += p.Parameters
	}
	if sum != m.Parameters || sum == 0 {
		t.Errorf("%d parameters, and the parts have %d", m.Parameters, sum)
	}
}

// A model that cannot be run is described all the same, with the reason.
func TestInspectUnsupportedModel(t *testing.T) {
	dir := damaged(t, "unet/config.json", func(b []byte) []byte {
		return bytes.Replace(b, []byte(`"act_fn": "silu"`), []byte(`"act_fn": "mish"`), 1)
	})
	code, out, errs := command(t, "", "inspect", dir)
	if code != 0 || errs != "" || !strings.Contains(out, "cannot be run") || !strings.Contains(out, `act_fn is "mish"`) || !strings.Contains(out, "SHA-256") {
		t.Errorf("exit code %d, stderr %s\n%s", code, errs, out)
	}
}

func TestInspectImage(t *testing.T) {
	file := render(t, "--negative", "a pear")
	code, out, errs := command(t, "", "inspect", file)
	if code != 0 || errs != "" {
		t.Fatal(errs)
	}
	for _, want := range []string{"PNG, 32×32 pixels", "a red apple", "a pear", "scheduler         ", "pixels hash"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	code, out, _ = command(t, "", "inspect", "../../imagefile/testdata/piexif.webp")
	if code != 0 || !strings.Contains(out, "another program") || !strings.Contains(out, "DPM++ 2M Karras") || !strings.Contains(out, "--scheduler dpm++2m-karras") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// A prompt must not be able to steer the terminal of who looks at it.
func TestInspectHostileText(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.png")
	r := inspected(t, render(t))
	r.Prompt, r.Device = "a\x1b]0;title\x07 \u009bred\napple \x00", "\x1b[2J"
	write(t, path, picture8(), r)
	code, out, errs := command(t, "", "inspect", path)
	if code != 0 || errs != "" || strings.ContainsAny(out, "\x1b\x07\u009b\x00") || !strings.Contains(out, `a\x1b]0;title\x07 \x9bred`) {
		t.Errorf("exit code %d, %s\n%q", code, errs, out)
	}
}

func picture8() *image.NRGBA { return image.NewNRGBA(image.Rect(0, 0, 8, 8)) }

func TestVerify(t *testing.T) {
	file := render(t)
	code, out, errs := command(t, "", "verify", file, "--model", tiny, "-q")
	if code != 0 || errs != "" || strings.Count(out, "agree") != 4 {
		t.Errorf("exit code %d, %s\n%s", code, errs, out)
	}
	// A hash that is another's: the first seam is named.
	picture := decoded(t, file)
	r := inspected(t, file)
	for _, c := range []struct {
		change func(*recipe.Recipe)
		first  string
	}{
		{func(r *recipe.Recipe) { r.Result.Noise = strings.Repeat("0", 64); r.Result.Pixels = r.Result.Noise }, "noise"},
		{func(r *recipe.Recipe) { r.Seed++ }, "noise"},
		{func(r *recipe.Recipe) { r.Steps++ }, "latents"},
		{func(r *recipe.Recipe) { r.Result.Pixels = strings.Repeat("0", 64) }, "pixels"},
		{func(r *recipe.Recipe) { r.ModelHash = strings.Repeat("0", 64) }, "weights"},
	} {
		changed := r
		c.change(&changed)
		path := filepath.Join(t.TempDir(), "changed.png")
		write(t, path, picture, changed)
		code, out, errs := command(t, "", "verify", path, "--model", tiny, "-q", "--json")
		var v verdict
		if err := json.Unmarshal([]byte(out), &v); err != nil || code != 1 || v.First != c.first || !strings.Contains(errs, "the first difference is in the "+c.first) {
			t.Errorf("%s: exit code %d, %s\n%s", c.first, code, errs, out)
		}
	}
	// A file that was painted over.
	picture.SetNRGBA(3, 3, color.NRGBA{1, 2, 3, 255})
	path := filepath.Join(t.TempDir(), "edited.png")
	write(t, path, picture, r)
	code, out, errs = command(t, "", "verify", path, "--model", tiny, "-q")
	if code != 1 || !strings.Contains(out, "1 of 1024 pixels of the file differ") || !strings.Contains(errs, "it was edited") {
		t.Errorf("edited: exit code %d, %s\n%s", code, errs, out)
	}
}

func decoded(t *testing.T, path string) *image.NRGBA {
	t.Helper()
	data := read(t, path)
	img, err := imagefile.Decode(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func write(t *testing.T, path string, img *image.NRGBA, r recipe.Recipe) {
	t.Helper()
	var buf bytes.Buffer
	if err := imagefile.Encode(&buf, img, r, imagefile.Options{}); err != nil {
		t.Fatal(err)
	}
	save(t, path, buf.Bytes())
}

func TestVerifyForeign(t *testing.T) {
	code, _, errs := command(t, "", "verify", "../../imagefile/testdata/text.png")
	if code != 1 || !strings.Contains(errs, "the file has no hashes to compare with") {
		t.Errorf("exit code %d, %s", code, errs)
	}
}

func TestBench(t *testing.T) {
	code, out, errs := command(t, "", "bench", "unet", "vae", "image", "--model", tiny, "--runs", "1", "--json")
	var r benchReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
		t.Fatalf("exit code %d, %s, %v", code, errs, err)
	}
	var names []string
	for _, p := range r.Whole {
		names = append(names, p.Name)
		if p.Millis <= 0 {
			t.Errorf("%s took %v ms", p.Name, p.Millis)
		}
	}
	if got := strings.Join(names, "; "); got != "unet; vae; image, first; image, best after" {
		t.Errorf("programs %s", got)
	}
	if code, out, errs := command(t, "", "bench", "vae", "--model", tiny, "--runs", "1", "--width", "16", "--height", "16"); code != 0 || !strings.Contains(out, "16×16 pixels") {
		t.Errorf("exit code %d, %s\n%s", code, errs, out)
	}
}

func TestComplete(t *testing.T) {
	for line, want := range map[string]string{
		"gen":                                    "generate",
		"generate|--sche":                        "--scheduler",
		"generate|--scheduler|unip":              "unipc",
		"generate|x|--backend|":                  "auto cpu cuda ref",
		"generate|--guidance|c":                  "cfg cfg-zero",
		"generate|--sde-noise|":                  "torch brownian",
		"generate|x|--steps|":                    "",
		"completion|":                            "bash fish zsh",
		"verify|":                                "",
		"generate|--scheduler=unip":              "--scheduler=unipc",
		"generate|--scheduler|=|unip":            "unipc",
		"generate|--backend|=":                   "auto cpu cuda ref",
		"generate|--sampler|unip":                "unipc",
		"generate|--cfg_scale=":                  "",
		"generate|--quiet=t":                     "",
		"generate|--scheduler|dpm++2m-k":         "dpm++2m-karras dpm++2m-kl-optimal",
		"generate|--sde-noise=b":                 "--sde-noise=brownian",
		"compare|--schedulers|ddim,unip":         "ddim,unipc",
		"compare|--schedulers=ddim,dpm++2m-k":    "--schedulers=ddim,dpm++2m-karras --schedulers=ddim,dpm++2m-kl-optimal",
		"compare|--sigmas|karras,expo":           "karras,exponential",
		"compare|--dtype|fp32,bf":                "fp32,bf16",
		"batch|s":                                "status schema",
		"batch|status|":                          "",
		"history|":                               "show",
		"nothing|--":                             "",
		"models|":                                "show rm",
		"models|show|def":                        "default",
		"models|rm|def":                          "",
		"generate|--cache|deepcache:ev":          "deepcache:every=",
		"generate|--cache=deepcache:every=2,lay": "--cache=deepcache:every=2,layers=",
		"generate|--cache|deepcache:every=2,f":   "deepcache:every=2,first=",
		"generate|x|--quiet|--prompt-syn":        "--prompt-syntax",
	} {
		code, out, errs := command(t, "", append([]string{"__complete"}, strings.Split(line, "|")...)...)
		if got := strings.Join(strings.Fields(out), " "); code != 0 || got != want || errs != "" {
			t.Errorf("%s: %q, want %q; %s", line, got, want, errs)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		code, script, _ := command(t, "", "completion", shell)
		if code != 0 || !strings.Contains(script, "darkroom __complete") {
			t.Errorf("%s: exit code %d, %q", shell, code, script)
		}
		if path, err := exec.LookPath(shell); err == nil {
			cmd := exec.Command(path, "-n")
			cmd.Stdin = strings.NewReader(script)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v %s", shell, err, out)
			}
		}
	}
}

func TestArrange(t *testing.T) {
	cmd := &cli.Command{Name: "x", Flags: []cli.Flag{&cli.BoolFlag{Name: "on", Aliases: []string{"n"}}, &cli.Float64Flag{Name: "value", Aliases: []string{"v"}}}}
	for line, want := range map[string]string{
		"":                    "--",
		"a b":                 "-- a b",
		"a -n b":              "-n -- a b",
		"a --value -1 b":      "--value -1 -- a b",
		"a -v=-1 --on=false":  "-v=-1 --on=false -- a",
		"a -- -n --value":     "-- a -n --value",
		"- -v - -":            "-v - -- - -",
		"a --value -- b":      "--value -- -- a b",
		"--help a":            "--help",
		"a --value":           "error",
		"a --value -n":        "error",
		"a --value --value=1": "error",
		"a --valu 1":          "error",
		"a ---n":              "error",
		"-1":                  "error",
	} {
		args, err := arrange(cmd, strings.Fields(line))
		got := strings.Join(args, " ")
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: %q (%v), want %q", line, got, err, want)
		}
	}
}

func TestProgressLines(t *testing.T) {
	var buf bytes.Buffer
	p := &lines{w: &buf, every: time.Hour}
	p.start("x", 5)
	for n := range 5 {
		p.step(n + 1)
	}
	out := strings.Split(strings.TrimSpace(buf.String()), "\n")
	if len(out) != 2 || !strings.HasPrefix(out[0], "x: step 1/5, ") || !strings.Contains(out[0], "ETA") || !strings.HasPrefix(out[1], "x: step 5/5, ") || strings.Contains(out[1], "ETA") {
		t.Errorf("%q", out)
	}
}

func TestProgressBar(t *testing.T) {
	var buf bytes.Buffer
	p := &bar{w: &buf, auto: true}
	p.start("picture 1 of 1", 3)
	p.note("a note")
	for n := range 3 {
		p.step(n + 1)
		time.Sleep(time.Millisecond)
	}
	p.end()
	p.end() // of a picture that is over: nothing
	for _, want := range []string{"picture 1 of 1 3/3", "it/s", "a note"} {
		if !strings.Contains(buf.String(), want) {
			t.Errorf("%q is not in %q", want, buf.String())
		}
	}
	p.start("broken off", 3)
	p.end() // must not wait for the steps that do not come
}

func TestPace(t *testing.T) {
	for _, c := range []struct {
		ago         time.Duration
		steps, done int
		want        string
	}{
		{0, 10, 0, "…"},
		{2 * time.Second, 10, 5, "2.50 it/s, ETA 2s"},
		{20 * time.Second, 10, 5, "4.00 s/it, ETA 20s"},
		{2 * time.Second, 10, 10, "5.00 it/s"},
	} {
		got := pace{c.ago, c.steps, c.done}.String()
		if got != c.want {
			t.Errorf("%v: %q, want %q", c, got, c.want)
		}
	}
}

func TestDiffer(t *testing.T) {
	a, b := image.NewNRGBA(image.Rect(0, 0, 2, 1)), image.NewNRGBA(image.Rect(0, 0, 2, 1))
	b.Pix[5] = 6 // one channel of one pixel: MSE = 36/6
	d := differ(a, b)
	if d.Pixels != 1 || d.Of != 2 || d.Max != 6 || d.PSNR < 40.34 || d.PSNR > 40.36 { // 10·log₁₀(255²/6) = 40.35
		t.Errorf("%+v", d)
	}
	if d := differ(a, image.NewNRGBA(image.Rect(0, 0, 1, 1))); d.Pixels != 1 || d.Max != 255 {
		t.Errorf("another size: %+v", d)
	}
}

// Other programs' readers must be able to read what we write to stdout.
func TestStdoutIsAPicture(t *testing.T) {
	code, out, _ := command(t, "", "generate", "x", "--model", tiny, "--steps", "1", "-o", "-")
	img, err := png.Decode(strings.NewReader(out))
	if code != 0 || err != nil || img.Bounds().Dx() != 32 {
		t.Errorf("exit code %d, %v", code, err)
	}
}
