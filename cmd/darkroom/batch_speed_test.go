package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestBatchSpeed compares 32 pictures of the embedded model, at its own settings, made in three ways: as a batch, by
// generate --count, and by 32 runs of the program. A batch must be at least as fast as --count, and 1.15 times as fast as
// single runs. On a machine that does nothing else:
//
//	make batch-speed
//
// The ways are paired: each round runs all three, in a rotating order, and what is judged is the median over the rounds of
// the ratio within a round, so that a machine that grows slower or faster meanwhile does not count. Processor time, of all
// threads, is reported beside it: other programs hardly change it.
func TestBatchSpeed(t *testing.T) {
	if os.Getenv("DARKROOM_SPEED") == "" {
		t.Skip("DARKROOM_SPEED is not set: no speed is measured")
	}
	t.Setenv("DARKROOM_HISTORY", "off")
	dir := t.TempDir()
	program := filepath.Join(dir, "darkroom")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const pictures, rounds = 32, 5
	jobFile := filepath.Join(dir, "jobs.yaml")
	if err := os.WriteFile(jobFile, fmt.Appendf(nil, "- {prompt: a red apple, seed: 0..%d, name: 'a-red-apple-{seed}'}", pictures-1), 0o666); err != nil {
		t.Fatal(err)
	}
	ways := []struct {
		name string
		runs func(out string) [][]string
	}{
		{"batch", func(out string) [][]string { return [][]string{{"batch", jobFile, "-o", out}} }},
		{"generate --count", func(out string) [][]string {
			return [][]string{{"generate", "a red apple", "--seed", "0", "--count", fmt.Sprint(pictures), "-o", out + "/"}}
		}},
		{"single runs", func(out string) (all [][]string) {
			for i := range pictures {
				all = append(all, []string{"generate", "a red apple", "--seed", fmt.Sprint(i), "-o", out + "/"})
			}
			return all
		}},
	}
	type cost struct{ wall, cpu time.Duration }
	costs := make([][]cost, len(ways)) // of each way, by round
	for round := range rounds + 1 {    // the first warms the disk's cache and is not counted
		for k := range ways {
			i := (k + round) % len(ways)
			out := filepath.Join(dir, fmt.Sprint(i, "-", round))
			var c cost
			begun := time.Now()
			for _, args := range ways[i].runs(out) {
				cmd := exec.Command(program, append(args, "--quiet")...)
				if text, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, text)
				}
				c.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
			}
			c.wall = time.Since(begun)
			if round > 0 {
				costs[i] = append(costs[i], c)
			}
		}
	}
	for i := range pictures {
		file := fmt.Sprintf("a-red-apple-%d.png", i)
		want := read(t, filepath.Join(dir, "2-0", file))
		for _, other := range []string{"0-0", "1-0"} {
			if !bytes.Equal(read(t, filepath.Join(dir, other, file)), want) {
				t.Errorf("%s of %s differs from the single run's", file, other)
			}
		}
	}
	middle := func(v []float64) float64 { slices.Sort(v); return v[len(v)/2] }
	each := func(i int, of func(cost) time.Duration) float64 {
		var v []float64
		for _, c := range costs[i] {
			v = append(v, float64(of(c).Milliseconds())/pictures)
		}
		return middle(v)
	}
	wall, cpu := func(c cost) time.Duration { return c.wall }, func(c cost) time.Duration { return c.cpu }
	for i, way := range ways {
		var ratios []float64
		for round := range rounds {
			ratios = append(ratios, float64(costs[i][round].wall)/float64(costs[0][round].wall))
		}
		ratio := middle(ratios)
		t.Logf("%-16s %6.0f ms a picture (%6.0f ms of processors), %.3f times the batch's time (%.3f to %.3f)",
			way.name, each(i, wall), each(i, cpu), ratio, ratios[0], ratios[len(ratios)-1])
		if least := []float64{1, 1, 1.15}[i]; ratio < least {
			t.Errorf("%s takes only %.3f times as long as a batch, not %.2f", way.name, ratio, least)
		}
	}
}
