package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"darkroom/batch"
	"darkroom/batch/jobs"
	"darkroom/batch/manifest"
)

// inFolder runs the test in a folder of its own, with a history of its own, and writes a job file there. It returns the
// path of the tiny model, which the job file calls MODEL.
func inFolder(t *testing.T, name, text string) (model string) {
	t.Helper()
	model, err := filepath.Abs(tiny)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	t.Setenv("DARKROOM_HISTORY", filepath.Join(t.TempDir(), "history.jsonl"))
	if err := os.WriteFile(name, []byte(strings.ReplaceAll(text, "MODEL", model)), 0o666); err != nil {
		t.Fatal(err)
	}
	return model
}

const twoApples = `
defaults: {model: MODEL, steps: 2}
jobs:
- {prompt: a red apple, seed: 1..2, name: "{seed}"}
`

// TestBatch renders, renders nothing the second time, and gives the very files that generate gives.
func TestBatch(t *testing.T) {
	inFolder(t, "jobs.yaml", twoApples)
	code, out, errs := command(t, "", "batch", "jobs.yaml", "-o", "out", "--quiet")
	lines := strings.Fields(out) // in the order in which they were written, which is not always the jobs'
	slices.Sort(lines)
	if code != 0 || strings.Join(lines, " ") != "1.png 2.png" || errs != "" {
		t.Fatalf("exit code %d, stdout %q, stderr %q", code, out, errs)
	}
	code, out, errs = command(t, "", "batch", "jobs.yaml", "-o", "out")
	if code != 0 || out != "" || !strings.HasPrefix(errs, "2 pictures: 0 rendered, 2 kept in ") {
		t.Errorf("again: exit code %d, stdout %q, stderr %q", code, out, errs)
	}
	records, _, err := manifest.Read("out")
	if err != nil {
		t.Fatal(err)
	}
	var model string
	for _, r := range records {
		model = r.Request.Model
	}
	code, _, errs = command(t, "", "generate", "a red apple", "--model", model, "--steps", "2", "--seed", "2", "-o", "alone.png", "--quiet")
	if code != 0 {
		t.Fatal(errs)
	}
	if string(read(t, "alone.png")) != string(read(t, "out/2.png")) {
		t.Error("batch and generate give different files")
	}
	code, out, _ = command(t, "", "history", "--text", "apple red", "--json")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); code != 0 || len(lines) != 3 {
		t.Errorf("exit code %d, history %q", code, out)
	}
	code, out, _ = command(t, "", "history", "show", "1")
	written := func(seed string) bool {
		return strings.Contains(out, "darkroom generate '--prompt=a red apple' --seed "+seed+" --steps 2 --model "+model)
	}
	if code != 0 || !written("1") && !written("2") {
		t.Errorf("exit code %d, %q", code, out)
	}
	code, out, _ = command(t, "", "batch", "jobs.yaml", "--dry-run")
	if code != 0 || !strings.HasPrefix(out, "1.png\ta red apple\n2.png\ta red apple\n2 pictures of 1 prompt, about ") || !strings.Contains(out, "(measured on 3 pictures)") {
		t.Errorf("exit code %d, %q", code, out)
	}
}

// TestDryRunAsksModels: sizes that a job file leaves to its models are theirs, also before anything was rendered.
func TestDryRunAsksModels(t *testing.T) {
	inFolder(t, "jobs.yaml", "- {prompt: a, seed: 1..5}\n- {prompt: b, model: MODEL, seed: 1..5}\n")
	code, out, errs := command(t, "", "batch", "jobs.yaml", "--dry-run")
	// 1.6 bytes a pixel: 5 of 256×256 and 5 of 32×32 are 520 KiB
	const want = "10 pictures of 2 prompts; no earlier renders on this machine to estimate the time from, about 520 KiB of disk space\n"
	if code != 0 || !strings.HasSuffix(out, want) {
		t.Errorf("exit code %d, %q, %s", code, out, errs)
	}
}

// TestBatchRate: pictures that are rendered together count by their steps, before the first of them is finished.
func TestBatchRate(t *testing.T) {
	var errs bytes.Buffer
	p := newBatchProgress(&env{stdout: io.Discard, stderr: &errs}, false, false, 8)
	images := make([]jobs.Image, 4)
	for i := range images {
		images[i].Hash = fmt.Sprint(i)
		p.event(batch.Event{Kind: batch.Started, Image: &images[i], Steps: 2, Summary: batch.Summary{Total: 8}})
		p.event(batch.Event{Kind: batch.Step, Image: &images[i], Step: 1, Steps: 2, Summary: batch.Summary{Total: 8}})
	}
	p.first = time.Now().Add(-time.Minute)
	if got := p.rate(); got != "2.0/min, ETA 3m0s" {
		t.Errorf("4 pictures of 8 half done after a minute: %s", got)
	}
	for i := range images {
		p.event(batch.Event{Kind: batch.Finished, Image: &images[i], Summary: batch.Summary{Total: 8, Finished: i + 1}})
	}
	p.first = time.Now().Add(-time.Minute)
	if got := p.rate(); got != "4.0/min, ETA 1m0s" {
		t.Errorf("4 pictures of 8 done after a minute: %s", got)
	}
}

// TestBatchDevices renders on two devices at once: the files are those of one.
func TestBatchDevices(t *testing.T) {
	inFolder(t, "jobs.yaml", twoApples)
	for _, devices := range []string{"0", "0,1"} {
		if code, _, errs := command(t, "", "batch", "jobs.yaml", "-o", devices, "--devices", devices, "--backend", "ref", "--quiet"); code != 0 {
			t.Fatal(errs)
		}
	}
	for _, file := range []string{"1.png", "2.png"} {
		if string(read(t, "0/"+file)) != string(read(t, "0,1/"+file)) {
			t.Errorf("%s differs", file)
		}
	}
}

// TestBatchSizes: the files do not depend on how many pictures are rendered at once.
func TestBatchSizes(t *testing.T) {
	inFolder(t, "jobs.yaml", "defaults: {model: MODEL, steps: 3}\njobs:\n- {prompt: [a, two dogs], scheduler: [euler-a, dpm++2m], seed: 1..3, name: '{index}'}\n")
	sizes := []string{"1", "auto", "5"}
	for _, size := range sizes {
		if code, _, errs := command(t, "", "batch", "jobs.yaml", "-o", size, "--batch-size", size, "--quiet"); code != 0 {
			t.Fatal(errs)
		}
	}
	for i := range 12 {
		for _, size := range sizes[1:] {
			if file := fmt.Sprintf("/%d.png", i+1); string(read(t, sizes[0]+file)) != string(read(t, size+file)) {
				t.Errorf("%s%s differs", size, file)
			}
		}
	}
}

// TestBatchOneFails: a model whose weights are damaged fails alone, and the next run tries it again.
func TestBatchOneFails(t *testing.T) {
	model := inFolder(t, "jobs.jsonl", `{"prompt": "a", "model": ["MODEL", "./broken"], "steps": 1, "name": "{model}"}`)
	if err := os.CopyFS("broken", os.DirFS(model)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("broken/unet/config.json", []byte("{"), 0o666); err != nil {
		t.Fatal(err)
	}
	code, out, errs := command(t, "", "batch", "jobs.jsonl", "-o", "out", "--json")
	if code != 1 || !strings.HasSuffix(errs, "darkroom: 1 of 2 pictures failed: out/manifest.jsonl says why; run the same command to try them again\n") {
		t.Errorf("exit code %d, stderr %q", code, errs)
	}
	kinds := map[string]int{}
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		var e batchEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		kinds[e.Event]++
		if e.Event == "failed" && !strings.Contains(e.Record.Error, "broken/unet/config.json") {
			t.Errorf("the error is %q", e.Record.Error)
		}
	}
	if kinds["finished"] != 1 || kinds["failed"] != 1 {
		t.Errorf("events: %v", kinds)
	}
	if got := files(t, "out"); got != "manifest.jsonl zsnr.png" {
		t.Errorf("files: %s", got)
	}
}

// TestBatchAsksModels: what only the models know of a mistake is found before anything is rendered, of each model that
// the file names, in lines of the file, also by a dry run.
func TestBatchAsksModels(t *testing.T) {
	inFolder(t, "jobs.yaml", `
defaults: {steps: 2, name: "{index}"}
jobs:
- {prompt: a, model: MODEL, width: [32, 33]}
- {prompt: b, width: 36}
- {prompt: c, model: MODEL, clip-skip: 2}
- {prompt: "(((((((((((((((((((((((((x:9999999):9999999):9999999):9999999):9999999):9999999):9999999)"}
- {prompt: e, model: nosuch}
- {prompt: f, model: MODEL, dtype: fp16, backend: ref}
`)
	want := `darkroom: jobs.yaml:4: 33×32 pixels: this model's sizes are multiples of 2 pixels; the nearest size is 34×32
jobs.yaml:5: 36×256 pixels: this model's sizes are multiples of 16 pixels; the nearest size is 32×256
jobs.yaml:6: clip skip 2: the text encoder has 1 layers
`
	for _, line := range []string{"batch|jobs.yaml|-o|out", "batch|jobs.yaml|--dry-run", "batch|jobs.yaml|-o|out|--workers|2"} {
		code, out, errs := command(t, "", strings.Split(line, "|")...)
		if code != 2 || out != "" || !strings.HasPrefix(errs, want) {
			t.Errorf("%s: exit code %d, stdout %q, stderr\n%s", line, code, out, errs)
		}
		for _, also := range []string{"\njobs.yaml:7: the prompt: the brackets around \"x\"", "\njobs.yaml:8: --model nosuch: there is no such folder", "\njobs.yaml:9: --dtype fp16: the ref backend computes in"} {
			if !strings.Contains(errs, also) {
				t.Errorf("%s: %q is not in\n%s", line, also, errs)
			}
		}
	}
	if got := files(t, "."); got != "jobs.yaml" {
		t.Errorf("files: %s", got)
	}
}

// TestBatchModelGone: pictures that are finished are kept without their model; others need it.
func TestBatchModelGone(t *testing.T) {
	model := inFolder(t, "jobs.yaml", "- {prompt: a, model: ./copy, steps: 1, name: a}")
	if err := os.CopyFS("copy", os.DirFS(model)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		code int
		errs string
	}{{0, "1 picture: 1 rendered in "}, {0, "1 picture: 0 rendered, 1 kept in "}, {2, "darkroom: jobs.yaml:1: --model ./copy: there is no such folder"}} {
		code, _, errs := command(t, "", "batch", "jobs.yaml", "-o", "out")
		if code != want.code || !strings.Contains(errs, want.errs) {
			t.Errorf("exit code %d, stderr %q, not %d and %q", code, errs, want.code, want.errs)
		}
		os.RemoveAll("copy")
		if strings.Contains(errs, "kept") {
			os.Remove("out/manifest.jsonl")
		}
	}
}

// TestBatchWrongUsage: exit code 2, and not even the folder is made.
func TestBatchWrongUsage(t *testing.T) {
	inFolder(t, "jobs.csv", "prompt,sede\na,1\n")
	for _, c := range []struct{ line, want string }{
		{"batch|jobs.csv|-o|out", "jobs.csv:1: unknown field \"sede\"; nearest: seed\n"},
		{"batch|-o|out", "the job file is missing\n"},
		{"batch|jobs.csv", "-o is missing: name a folder for the pictures\n"},
		{"batch|jobs.csv|-o|out|--batch-size|0", "--batch-size \"0\": it must be auto or a number from 1 to 1024"},
		{"batch|jobs.csv|-o|out|--batch-size|all", "--batch-size \"all\": it must be auto or a number from 1 to 1024"},
		{"batch|jobs.csv|-o|out|--retry|-1", "--retry -1: it must not be negative\n"},
		{"batch|jobs.csv|-o|out|--name|../x", "jobs.csv: name \"../x\": it leads out of the output folder\n"},
		{"batch|jobs.csv|-o|out|--devices|0,x", "--device \"0,x\": it must be a whole number, several with commas between, or all"},
		{"batch|status", "batch status takes the ID of a batch: darkroom queue lists them (a job file of this name: ./status)\n"},
		{"batch|jobs.csv|-o|out|--workers|2|--queue|nats://x", "--workers starts processes with their own queue, but --queue names another: give only one"},
		{"worker", "-o is missing: name the folder that workers and submitters share, or s3://BUCKET/PREFIX\n"},
		{"worker|-o|out|--embedded|--queue|nats://x", "--embedded starts its own queue, but --queue names another: give only one"},
		{"history|--since|monday", "--since \"monday\": it must be a day, such as 2026-01-31"},
		{"history|show|x", "history show \"x\": the ID is a number: darkroom history lists them"},
	} {
		code, out, errs := command(t, "", strings.Split(c.line, "|")...)
		if code != 2 || out != "" || !strings.HasPrefix(errs, "darkroom: "+c.want) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", c.line, code, out, errs)
		}
	}
	if _, err := os.Stat("out"); err == nil {
		t.Error("the output folder was made")
	}
}

// TestJobFieldsAreFlagsOfGenerate: every flag of generate is a field of a job, or says why not.
func TestJobFieldsAreFlagsOfGenerate(t *testing.T) {
	e := &env{}
	for _, f := range generateCommand(e).Flags {
		name := f.Names()[0]
		if slices.Contains(jobs.Fields(), name) {
			continue
		}
		_, err := jobs.Parse("f", []byte("- {prompt: a, "+name+": 1}"), nil, jobs.Options{Notation: jobs.YAML})
		if err == nil || !strings.Contains(err.Error(), "a job has no field") {
			t.Errorf("--%s: %v", name, err)
		}
	}
}
