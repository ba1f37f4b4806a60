package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestBatchSpeed compares 32 pictures of the embedded model as a batch, by generate --count, and by 32 runs of the program: a batch
// must not be slower than --count, and 1.15 times as fast as single runs. DARKROOM_BINARY names the program that is
// measured; without it, and on a machine that does anything else, the test says nothing.
func TestBatchSpeed(t *testing.T) {
	program := os.Getenv("DARKROOM_BINARY")
	if program == "" {
		t.Skip("DARKROOM_BINARY is not set: no speed is measured")
	}
	t.Setenv("DARKROOM_HISTORY", "off")
	dir := t.TempDir()
	run := func(args ...string) {
		if out, err := exec.Command(program, append(args, "--quiet")...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	const pictures, rounds = 32, 3
	ways := []func(out string){
		func(out string) {
			file := filepath.Join(dir, "jobs.yaml")
			if err := os.WriteFile(file, fmt.Appendf(nil, "- {prompt: a red apple, steps: 8, seed: 0..%d}", pictures-1), 0o666); err != nil {
				t.Fatal(err)
			}
			run("batch", file, "-o", out)
		},
		func(out string) {
			run("generate", "a red apple", "--seed", "0", "--count", fmt.Sprint(pictures), "--steps", "8", "-o", out+"/")
		},
		func(out string) {
			for i := range pictures {
				run("generate", "a red apple", "--seed", fmt.Sprint(i), "--steps", "8", "-o", out+"/")
			}
		},
	}
	best := make([]time.Duration, len(ways)) // of several rounds, since other programs only slow it down
	for round := range rounds {
		for i, way := range ways {
			begun := time.Now()
			way(filepath.Join(dir, fmt.Sprint(i, "-", round)))
			if took := time.Since(begun); best[i] == 0 || took < best[i] {
				best[i] = took
			}
		}
	}
	each := func(d time.Duration) time.Duration { return (d / pictures).Round(100 * time.Microsecond) }
	t.Logf("a picture takes %v in a batch, %v with --count, %v alone", each(best[0]), each(best[1]), each(best[2]))
	if best[0] > best[1]*102/100 { // 2%: the precision of such times
		t.Errorf("a batch is slower than generate --count: %v and %v", best[0], best[1])
	}
	if float64(best[2]) < 1.15*float64(best[0]) {
		t.Errorf("a batch is only %.2f times as fast as single runs", float64(best[2])/float64(best[0]))
	}
}
