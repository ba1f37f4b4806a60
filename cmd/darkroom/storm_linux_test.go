package main

import (
	"bytes"
	"errors"
	"fmt"
	"image/png"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"darkroom/batch/manifest"
)

// storm is how much longer than in make test: DARKROOM_STORM=100 is make storm.
func storm(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("DARKROOM_STORM"))
	if err != nil || n < 1 {
		n = 1
	}
	if testing.Short() {
		t.Skip("SKIPPED: -short")
	}
	return n
}

// mutate damages a file's bytes: bits, runs, cuts, repeats, numbers at their limits.
func mutate(r *rand.Rand, data []byte) []byte {
	b := bytes.Clone(data)
	for range 1 + r.IntN(4) {
		if len(b) == 0 {
			return b
		}
		at := r.IntN(len(b))
		n := min(len(b)-at, 1<<r.IntN(9))
		switch r.IntN(8) {
		case 0:
			b[at] ^= 1 << r.IntN(8)
		case 1:
			b = b[:at]
		case 2:
			b = append(b[:at:at], b[at+n:]...)
		case 3:
			b = append(b[:at+n:at+n], b[at:]...)
		case 4:
			for i := range n {
				b[at+i] = byte(r.Uint32())
			}
		case 5:
			for i := range min(n, 8) {
				b[at+i] = [2]byte{0, 0xff}[r.IntN(2)]
			}
		case 6:
			words := []string{"{", "\"", "-1", "1e999", "null", "9223372036854775808", "\x1b[2J", "\u202e", "${", "..", "(((((", "\n", ": ", "[", "NaN"}
			b = append(b[:at:at], append([]byte(words[r.IntN(len(words))]), b[at:]...)...)
		case 7:
			if i := bytes.IndexAny(b[at:], "0123456789"); i >= 0 {
				b = append(b[:at+i:at+i], append([]byte(strconv.FormatUint(r.Uint64()>>r.IntN(64), 10)), b[at+i+1:]...)...)
			}
		}
	}
	return b
}

// TestStormFiles damages every kind of file that a command reads. Whatever is in them: a documented exit code, within
// seconds, without a panic, and nothing that steers a terminal.
func TestStormFiles(t *testing.T) {
	runs := 1000 * storm(t)
	dir := t.TempDir()
	kinds := map[string][]byte{}
	for _, ext := range []string{"png", "jpg", "webp"} {
		kinds["x."+ext] = read(t, renderAs(t, ext))
	}
	code, out, errs := command(t, "", "inspect", "--json", renderAs(t, "png"))
	if code != 0 {
		t.Fatal(errs)
	}
	kinds["recipe.json"] = []byte(out)
	kinds["parameters.txt"] = []byte("a (cat:1.2)\nNegative prompt: dog\nSteps: 2, Sampler: DPM++ 2M Karras, CFG scale: 3.5, Seed: 9, Size: 40x32, Model: m, Clip skip: 2")
	kinds["jobs.yaml"] = []byte("defaults: {steps: 1, width: 32, height: 32}\nvariables: {s: [oil, ink]}\njobs:\n- {prompt: '{a|b} ${s}', seed: 1..3, cfg: [1, 2.5], name: '{index:04}-{seed}'}\n")
	kinds["jobs.jsonl"] = []byte("{\"prompt\": \"a\", \"seed\": [1, 2], \"steps\": 1}\n{\"prompt\": \"b\", \"scheduler\": \"euler\"}\n")
	kinds["jobs.csv"] = []byte("prompt,seed,steps\na,1,1\n\"b, c\",2,1\n")
	model := filepath.Join(dir, "model")
	if err := os.CopyFS(model, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, pattern := range []string{"*.json", "*/*.json", "*/*.safetensors", "*/*.txt"} {
		found, _ := filepath.Glob(filepath.Join(model, pattern))
		parts = append(parts, found...)
	}
	for _, p := range parts {
		if err := os.Chmod(p, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for name := range kinds {
		names = append(names, name)
	}
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	codes := map[int]int{}
	for n := range runs {
		var line []string
		var undo func()
		if n%8 == 0 {
			part := parts[r.IntN(len(parts))]
			whole := read(t, part)
			head := len(whole)
			if strings.HasSuffix(part, ".safetensors") {
				head = min(head, 2000) // the header is worth more than the numbers
			}
			save(t, part, append(mutate(r, whole[:head]), whole[head:]...))
			undo = func() { save(t, part, whole) }
			line = []string{"inspect", model}
			if n%64 == 0 {
				line = []string{"generate", "x", "--model", model, "--steps", "1", "-q", "-o", filepath.Join(dir, "out.png")}
			}
		} else {
			name := names[r.IntN(len(names))]
			path := filepath.Join(dir, name)
			save(t, path, mutate(r, kinds[name]))
			undo = func() {}
			switch {
			case strings.HasPrefix(name, "jobs"):
				line = []string{"batch", "--dry-run", path}
			case n%16 == 1:
				line = []string{"generate", "--from", path, "--model", tiny, "--steps", "1", "--width", "32", "--height", "32", "-q", "-o", filepath.Join(dir, "out.png")}
			default:
				line = []string{"inspect", path}
			}
		}
		begun := time.Now()
		code, out, errs := command(t, "", line...)
		took := time.Since(begun)
		codes[code]++
		bad := code < 0 || code > 2 || took > 10*time.Second || strings.Contains(errs, "internal error") || strings.Contains(errs, "goroutine ") ||
			strings.IndexFunc(out+errs, func(c rune) bool { return steers(c) && c != '\n' && c != '\t' }) >= 0
		if bad {
			t.Errorf("seed %d, run %d: %q: exit code %d after %v: %.1000q", seed, n, line, code, took, errs)
		}
		undo()
	}
	if codes[0] == 0 || codes[1]+codes[2] == 0 {
		t.Errorf("exit codes %v: the damage does nothing, or everything", codes)
	}
	t.Logf("%d runs, exit codes %v", runs, codes)
}

func renderAs(t *testing.T, ext string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x."+ext)
	if code, _, errs := command(t, "", "generate", "a red apple", "--model", tiny, "--steps", "1", "--seed", "7", "-q", "-o", path); code != 0 {
		t.Fatal(errs)
	}
	return path
}

// whole counts the pictures of a folder, all of which must be whole.
func whole(t *testing.T, dir string) (n int) {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(dir, "*.png"))
	for _, path := range found {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := png.Decode(f); err != nil {
			t.Errorf("%s is not whole: %v", path, err)
		}
		f.Close()
	}
	return len(found)
}

// TestStormGenerate: programs that write into one folder at once, some of them killed, lose nothing that they have reported
// and leave nothing half.
func TestStormGenerate(t *testing.T) {
	for range storm(t) {
		dir := t.TempDir()
		const programs = 6
		var all sync.WaitGroup
		outputs := make([]bytes.Buffer, programs)
		for n := range programs {
			cmd := program(t, "generate", "x", "--model", tiny, "--steps", fmt.Sprint(2+n), "--seed", "5", "--count", "8", "-q", "-o", dir+"/")
			cmd.Stdout, cmd.Stderr = &outputs[n], io.Discard
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if n%3 == 2 {
				time.AfterFunc(time.Duration(rand.IntN(400))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
			all.Go(func() {
				if err := cmd.Wait(); err != nil && n%3 != 2 {
					t.Errorf("program %d: %v", n, err)
				}
			})
		}
		all.Wait()
		told := map[string]bool{}
		for n := range outputs {
			for _, path := range strings.Fields(outputs[n].String()) {
				if told[path] {
					t.Errorf("two programs wrote %s", path)
				}
				told[path] = true
				if _, err := os.Stat(path); err != nil {
					t.Error(err)
				}
			}
		}
		if n := whole(t, dir); n < len(told) || len(told) < 4*8 {
			t.Errorf("%d pictures, %d were reported", n, len(told))
		}
	}
}

// TestStormBatch kills a batch with workers again and again, by all signals: in the end every picture is there once, with
// the bytes of a batch that nobody disturbed, and no worker is left.
func TestStormBatch(t *testing.T) {
	dir := t.TempDir()
	jobs := filepath.Join(dir, "jobs.yaml")
	save(t, jobs, []byte(fmt.Sprintf("- {prompt: [a, b], model: %s, steps: 3, seed: 1..20, name: '{prompt}-{seed}'}\n", tiny)))
	if code, _, _ := command(t, "", "batch", jobs, "-q", "-o", filepath.Join(dir, "calm")); code != 0 {
		save(t, jobs, []byte(fmt.Sprintf("- {prompt: [a, b], model: %s, steps: 3, seed: 1..20}\n", tiny)))
		if code, _, errs := command(t, "", "batch", jobs, "-q", "-o", filepath.Join(dir, "calm")); code != 0 {
			t.Fatal(errs)
		}
	}
	signals := []os.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGHUP, os.Interrupt}
	for n := range storm(t) {
		out := filepath.Join(dir, fmt.Sprint("storm", n))
		args := []string{"batch", jobs, "-q", "-o", out}
		if n%4 == 3 {
			args = append(args, "--workers", "2")
		}
		for round := 0; ; round++ {
			cmd := program(t, args...)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if round < 5 {
				kill := time.AfterFunc(time.Duration(50+rand.IntN(300))*time.Millisecond, func() { _ = cmd.Process.Signal(signals[rand.IntN(len(signals))]) })
				defer kill.Stop()
			}
			err := cmd.Wait()
			if err == nil {
				break
			}
			var code int
			if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
				code = exit.ExitCode()
			}
			if code != 130 && code != -1 || round > 10 {
				t.Fatalf("round %d: %v: %s", round, err, errs.String())
			}
		}
		found, err := filepath.Glob(filepath.Join(dir, "calm", "*"))
		if err != nil || len(found) != 41 {
			t.Fatalf("%d files of the calm batch, %v", len(found), err)
		}
		for _, path := range found {
			if name := filepath.Base(path); name != manifest.Name && !bytes.Equal(read(t, path), read(t, filepath.Join(out, name))) {
				t.Errorf("%s differs from the picture of the calm batch", name)
			}
		}
		if n := whole(t, out); n != 40 {
			t.Errorf("%d pictures", n)
		}
	}
}

// TestStormCompare kills a comparison again and again: in the end it holds the pictures of one that nobody disturbed, and no
// other file.
func TestStormCompare(t *testing.T) {
	dir := t.TempDir()
	args := func(out string) []string {
		return []string{"compare", "--model", tiny, "--prompt", "a cat", "--schedulers", "ddim,euler,dpm++2m", "--steps", "2,3", "--seeds", "3", "-o", out}
	}
	calm := filepath.Join(dir, "calm")
	if code, _, errs := command(t, "", args(calm)...); code != 0 {
		t.Fatal(errs)
	}
	found, err := filepath.Glob(filepath.Join(calm, "images", "*.png"))
	if err != nil || len(found) < 24 {
		t.Fatalf("%d pictures, %v", len(found), err)
	}
	signals := []os.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGHUP, os.Interrupt}
	for n := range max(storm(t)/4, 1) {
		out := filepath.Join(dir, fmt.Sprint("storm", n))
		for round := 0; ; round++ {
			cmd := program(t, args(out)...)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if round < 6 {
				kill := time.AfterFunc(time.Duration(50+rand.IntN(600))*time.Millisecond, func() { _ = cmd.Process.Signal(signals[rand.IntN(len(signals))]) })
				defer kill.Stop()
			}
			err := cmd.Wait()
			if err == nil {
				break
			}
			if code := cmd.ProcessState.ExitCode(); code != 130 && code != -1 || round > 12 {
				t.Fatalf("round %d: %v: %s", round, err, errs.String())
			}
		}
		for _, path := range found {
			if !bytes.Equal(read(t, path), read(t, filepath.Join(out, "images", filepath.Base(path)))) {
				t.Errorf("%s differs from the picture of the calm comparison", filepath.Base(path))
			}
		}
		if again, _ := filepath.Glob(filepath.Join(out, "images", "*.png")); len(again) != len(found) {
			t.Errorf("%d pictures, want %d", len(again), len(found))
		}
		for _, name := range []string{"index.html", "results.json", "results.csv"} {
			if len(read(t, filepath.Join(out, name))) == 0 {
				t.Errorf("%s is empty", name)
			}
		}
	}
}
