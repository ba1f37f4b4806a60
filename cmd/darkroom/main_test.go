package main

import (
	"bytes"
	"context"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// tiny is a random model of a few thousand parameters.
const tiny = "../../pipeline/testdata/models/zsnr"

// command runs a command line as main does.
func command(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(context.Background(), &env{stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs}, args)
	return code, out.String(), slow.ReplaceAllString(errs.String(), "")
}

// slow is the warning of a build without cgo, which the tests are not about.
var slow = regexp.MustCompile(`(?m)^warning: this build has no kernels .*\n`)

// render makes a picture of the tiny model and returns its path.
func render(t *testing.T, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "picture.png")
	args = append([]string{"generate", "a red apple", "-o", path, "--model", tiny, "--steps", "3", "--seed", "7", "--quiet"}, args...)
	code, out, errs := command(t, "", args...)
	if code != 0 || out != path+"\n" || errs != "" {
		t.Fatalf("exit code %d, stdout %q, stderr %q", code, out, errs)
	}
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// files lists a folder.
func files(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// Every wrong command line: exit code 2, nothing on stdout, and these words on stderr.
func TestWrongUsage(t *testing.T) {
	const help = "\nSee: darkroom generate --help"
	const see = `. A text that begins with a dash goes after "--", or into --prompt=TEXT` + help
	for _, c := range []struct{ line, want string }{
		{"generate", `the prompt is missing: darkroom generate "a red apple"` + help},
		{"generate|a|red|apple", `the prompt must be one argument, and there are 3 ("a" "red" "apple"): put quotes around it` + help},
		{"generate|a|--prompt|b", `two prompts: --prompt "b" and the argument "a": give one` + help},
		{"generate|a\xff", `the prompt "a\xff" is not UTF-8 text` + help},
		{"generate|a|--stpes|3", `--stpes is not a flag of generate; nearest: --steps` + see},
		{"generate|-5", `-5 is not a flag of generate` + see},
		{"generate|--steps", `--steps needs a value` + help},
		{"generate|a|-o|--steps|3", `-o needs a value, and --steps follows it: if that is the value, write -o=--steps` + help},
		{"generate|a|--steps|many", `--steps "many": it must be a whole number` + help},
		{"generate|a|--steps|9999999999999999999999", `--steps "9999999999999999999999": it must be a whole number` + help},
		{"generate|a|--seed|-2", `--seed "-2": it must be a whole number from 0 to 18446744073709551615` + help},
		{"generate|a|--cfg|big", `--cfg "big": it must be a number` + help},
		{"generate|a|--quiet=maybe", `--quiet "maybe": it must be true or false` + help},
		{"generate|a|--threads|0", `--threads 0: it must be at least 1; leave it out to use all processors` + help},
		{"generate|a|--device|-1", `--device -1: devices count from 0` + help},
		{"generate|a|--device|0,0", `--device 0,0: 0 is listed twice` + help},
		{"generate|a|--device|1,all", `--device "1,all": it must be a whole number, several with commas between, or all` + help},
		{"generate|a|--device|0,1|--backend|cpu", `--device 0,1 --backend cpu: --device lists GPUs: leave one of the two out` + help},
		{"selftest|now", `selftest takes no arguments, but got "now"` + "\nSee: darkroom selftest --help"},
		{"selftest|--backend|gpu", `--backend "gpu": choose auto, cpu, cuda or ref`},
		{"selftest|--dtype|fp8", `--dtype "fp8": choose auto, fp32, tf32, bf16, fp16 or int8`},
		{"generate|a|--model|", `--model is empty: name a folder or a model, or leave it out for the embedded one` + help},
		{"generate|a|--count|0", `--count 0: it must be at least 1`},
		{"generate|a|--count|2|--seed|18446744073709551615", `--seed 18446744073709551615 --count 2: the last seed would exceed 18446744073709551615`},
		{"generate|a|--preview|-1", `--preview -1: it must not be negative; 0 is none`},
		{"generate|a|--preview|1|-o|-", `--preview writes a file beside the picture: -o must not be -`},
		{"generate|a|--json|-o|-", `--json and -o - would both write to stdout: leave one out`},
		{"generate|a|--count|2|-o|-", `-o - writes one picture, and --count asks for 2: name a folder`},
		{"generate|a|-o|", `-o is empty: name a file or a folder`},
		{"generate|a|-o|x.gif", `-o x.gif: cannot write ".gif" files: use .png, .jpg or .webp, or name a folder with a / at the end`},
		{"generate|a|-o|x", `-o x: a name without an extension does not say which format: end it with .png, .jpg or .webp, or name a folder with a / at the end`},
		{"generate|a|-o|x.png|--format|jpg", `-o x.png and --format jpg contradict each other`},
		{"generate|a|--format|bmp", `--format "bmp": choose png, jpg or webp`},
		{"generate|a|--quality|0|-o|x.jpg", `--quality 0: it must be from 1 to 100`},
		{"generate|a|--quality|9|-o|x.png", `--quality 9: PNG has no quality: write .jpg or .webp, or leave it out`},
		{"generate|a|--steps|0", `--steps 0: it must be at least 1`},
		{"generate|a|--steps|-3", `--steps -3: it must be at least 1`},
		{"generate|a|--width|33|--height|64", `33×64 pixels: this model's sizes are multiples of 2 pixels; the nearest size is 34×64`},
		{"generate|a|--width|0", `--width 0 --height 32: both must be positive`},
		{"generate|a|--height|-8", `--width 32 --height -8: both must be positive`},
		{"generate|a|--cfg|nan", `--cfg NaN: it must be a finite number`},
		{"generate|a|--scheduler|eulr", `scheduler: no sampler is called "eulr"; nearest: euler, k-euler, euler-a`},
		{"generate|a|--guidance|agp", `--guidance: no guidance is called "agp": there are cfg, cfg-zero, apg, dynamic, perp-neg`},
		{"generate|a|--guidance|apg:eta=x", `--guidance: guidance apg: eta = "x": want a number from -10 to 10`},
		{"generate|a|--guidance|cfg:low=-1", `--guidance: guidance cfg: low = "-1": want a number of at least 0`},
		{"generate|a|--sde-noise|white", `--sde-noise "white": choose torch or brownian`},
		{"generate|a|--noise|white", `--noise: unknown noise "white": choose torch-cpu or torch-cuda`},
		{"generate|a|--prompt-syntax|fancy", `--prompt-syntax: unknown prompt syntax "fancy": choose weighted or plain`},
		{"generate|a|--backend|gpu", `--backend "gpu": choose auto, cpu, cuda or ref`},
		{"generate|a|--dtype|int4", `--dtype "int4": choose auto, fp32, tf32, bf16, fp16 or int8`},
		{"generat|a", `no command is called "generat"; nearest: generate`},
		{"a red apple", `no command is called "a red apple"; to make a picture: darkroom generate "a red apple"`},
		{"--steps|3|generate|a", `--steps stands before the command: write darkroom COMMAND --steps …`},
		{"schedulers|x", "schedulers takes no arguments, but got \"x\"\nSee: darkroom schedulers --help"},
		{"tokenize", "the text is missing\nSee: darkroom tokenize --help"},
		{"completion|tcsh", `completion "tcsh": choose bash, zsh or fish`},
		{"bench|vea", `bench "vea": choose kernels, unet, vae, image, or leave it out for all; nearest: vae`},
		{"bench|--runs|0", `--runs 0: it must be at least 1`},
	} {
		args := strings.Split(c.line, "|")
		if args[0] == "generate" && !strings.Contains(c.line, "--model") {
			args = append(args, "--model", tiny, "--quiet")
			if strings.HasSuffix(c.line, "--steps") {
				args = args[:2] // the missing value must stay last
			}
		}
		code, out, errs := command(t, "", args...)
		if code != 2 || out != "" || errs != "darkroom: "+c.want+"\n" {
			t.Errorf("%s: exit code %d, stdout %q, stderr\n%s\nwant\ndarkroom: %s", c.line, code, out, errs, c.want)
		}
	}
}

// What the world can do wrong: exit code 1.
func TestFailures(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.txt")
	save(t, text, []byte("no picture at all, but a text"))
	t.Setenv("DARKROOM_MODELS", dir)
	plain := filepath.Join(dir, "plain.png")
	img, err := png.Decode(bytes.NewReader(read(t, render(t))))
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := png.Encode(&buf, img); err != nil {
		t.Fatal(err)
	}
	save(t, plain, buf.Bytes())
	for _, c := range []struct{ line, want string }{
		{"generate|a|--model|nowhere", "--model nowhere: there is no such folder, and no model of that name in " + dir},
		{"generate|a|--model|flux1-canny", "--model flux1-canny: there is no such folder, and no model of that name in " + dir + "; darkroom pull flux1-canny fetches it (FLUX.1 that follows edges: --control; licence: FLUX.1 [dev] Non-Commercial)"},
		{"generate|a|--model|" + text, "opening model: " + text + ": this is not a safetensors file, a torch.save file or a GGUF file"},
		{"generate|a|-o|" + text + "/x.png", "cannot write " + text + "/x.png: not a directory: a part of the path " + text + " is a file, not a folder"},
		{"generate|--from|" + filepath.Join(dir, "none.png"), filepath.Join(dir, "none.png") + ": no such file or directory"},
		{"generate|--from|" + text, text + ": this is neither an image with a recipe, nor a recipe as JSON, nor a parameters text"},
		{"generate|--from|" + plain, plain + ": this PNG file has no recipe: nothing says how the picture was made"},
		{"verify|" + plain, plain + ": this PNG file has no recipe: nothing says how the picture was made"},
		{"inspect|" + filepath.Join(dir, "none"), filepath.Join(dir, "none") + ": no such file or directory"},
	} {
		args := strings.Split(c.line, "|")
		if args[0] == "generate" && !strings.Contains(c.line, "--model") {
			args = append(args, "--model", tiny)
		}
		code, out, errs := command(t, "", args...)
		if code != 1 || out != "" || errs != "darkroom: "+c.want+"\n" {
			t.Errorf("%s: exit code %d, stdout %q, stderr\n%s\nwant\ndarkroom: %s", c.line, code, out, errs, c.want)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{}, {"--help"}, {"help"}, {"-h"}} {
		if code, out, errs := command(t, "", args...); code != 0 || errs != "" || !strings.Contains(out, `darkroom generate "a red apple" -o apple.png`) {
			t.Errorf("%v: exit code %d, %q, %q", args, code, out, errs)
		}
	}
	for _, args := range [][]string{{"generate", "--help"}, {"help", "generate"}, {"generate", "x", "-h", "y"}} {
		code, out, errs := command(t, "", args...)
		if code != 0 || errs != "" {
			t.Errorf("%v: exit code %d, %q", args, code, errs)
		}
		// The names that scripts rely on.
		for _, flag := range strings.Fields("model negative seed steps cfg scheduler sigmas eta width height count out dtype backend device noise prompt-syntax threads quiet json from preview prompt") {
			if !strings.Contains(out, "--"+flag+" ") && !strings.Contains(out, "--"+flag+",") {
				t.Errorf("%v: --%s is not in the help", args, flag)
			}
		}
	}
	for _, c := range newApp(&env{}).cli.Commands {
		if !c.Hidden && c.Usage == "" {
			t.Errorf("%s has no line of help", c.Name)
		}
	}
}

func save(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}
