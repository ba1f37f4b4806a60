package main

import (
	"fmt"
	"strings"
	"testing"
)

// A sweep's sheet has a row through the values that change fastest; it is made again from pictures that are kept, and what
// cannot be on one is said before anything is rendered.
func TestBatchGrid(t *testing.T) {
	model := inFolder(t, "jobs.yaml", "prompt: [a cat, a dog]\nsteps: [1, 2, 3]\nseed: 5\nwidth: 64\nheight: 64\nname: '{index}'\n")
	for range 2 { // rendered, kept
		code, out, errs := command(t, "", "batch", "jobs.yaml", "-o", "out", "--model", model, "--grid", "sheet.png", "-q")
		if code != 0 || !strings.HasSuffix(out, "sheet.png\n") {
			t.Fatalf("exit code %d, %q, %s", code, out, errs)
		}
		size := decoded(t, "sheet.png").Rect.Size()
		columns := 3 // steps
		if first, second := inspected(t, "out/1.png"), inspected(t, "out/2.png"); first.Steps == second.Steps {
			columns = 2 // prompts
		}
		if want := columns*(64+sheetGap) + sheetGap; size.X != want || size.Y != 6/columns*(64+sheetGap+sheetLabel)+sheetGap {
			t.Errorf("a sheet of %v, want %d columns", size, columns)
		}
	}
	for args, want := range map[string]string{"--grid sheet.txt": "--grid"} {
		code, _, errs := command(t, "", append([]string{"batch", "jobs.yaml", "-o", "out2", "--model", model}, strings.Fields(args)...)...)
		if code == 0 || !strings.Contains(errs, want) {
			t.Errorf("%s: exit code %d, %s", args, code, errs)
		}
	}
	many := fmt.Sprintf("prompt: a cat\nseed: 1..%d\n", mostOnGrid+1)
	if code, _, errs := command(t, many, "batch", "-", "-o", "out3", "--model", model, "--grid", "s.png"); code != 2 || !strings.Contains(errs, "a sheet holds at most") {
		t.Errorf("exit code %d, %s", code, errs)
	}
}
