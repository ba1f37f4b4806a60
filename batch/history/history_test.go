package history

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"darkroom/batch/jobs"
	"darkroom/recipe"

	"github.com/google/go-cmp/cmp"
)

func opened(t *testing.T, path string) *History {
	t.Helper()
	h, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func TestFind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a folder?", "history.jsonl")
	h := opened(t, path)
	day := func(d int) time.Time { return time.Date(2026, 1, d, 12, 0, 0, 0, time.Local) }
	for i, prompt := range []string{"a Red apple", "a green apple", "100% wool", "snake_case"} {
		e := Entry{At: day(i + 1), File: fmt.Sprint(i), Model: []string{"sd15", "sd21"}[i%2], Backend: "cpu", Steps: 10, Width: 8, Height: 8, Seconds: float64(i), Request: jobs.Request{Given: recipe.NewGiven(map[string]any{"prompt": prompt, "seed": uint64(18446744073709551615)})}}
		if err := h.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		q    Query
		want string
	}{
		{Query{}, "4 3 2 1"}, {Query{Limit: 2}, "4 3"}, {Query{Text: "APPLE"}, "2 1"}, {Query{Text: "apple red"}, "1"}, {Query{Text: "0%"}, "3"}, {Query{Text: "e_c"}, "4"},
		{Query{Text: "%"}, "3"}, {Query{Model: "sd2"}, "4 2"}, {Query{Since: day(2), Until: day(4)}, "3 2"}, {Query{Text: "'; DROP TABLE images"}, ""},
	} {
		list, err := h.Find(c.q)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, e := range list {
			ids = append(ids, fmt.Sprint(e.ID))
		}
		if got := strings.Join(ids, " "); got != c.want {
			t.Errorf("%+v: %q, not %q", c.q, got, c.want)
		}
	}
	e, err := h.Get(1)
	if err != nil || e.Request.Seed != 18446744073709551615 || !e.At.Equal(day(1)) {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := h.Get(9); err == nil || err.Error() != "history: there is no picture 9" {
		t.Error(err)
	}
	s, err := h.Speed("", "cpu") // medians of 0, 1, 2, 3 seconds for 10 steps of 64 pixels
	if err != nil || s.Pictures != 4 || s.Seconds(10, 8, 8) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestTwoPrograms writes through two handles at once: nothing is lost.
func TestTwoPrograms(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	var wg sync.WaitGroup
	for range 2 {
		h := opened(t, path)
		wg.Go(func() {
			for range 50 {
				if err := h.Add(Entry{At: time.Now()}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	list, err := opened(t, path).Find(Query{})
	if err != nil || len(list) != 100 {
		t.Errorf("%d entries, %v", len(list), err)
	}
}

// TestCutLine: a line cut by a crash is skipped and damages no other entry; a foreign file is not touched.
func TestCutLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	h := opened(t, path)
	if err := h.Add(Entry{File: "one"}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.file.WriteString(`{"file": "cu`); err != nil {
		t.Fatal(err)
	}
	h = opened(t, path)
	if err := h.Add(Entry{File: "three"}); err != nil {
		t.Fatal(err)
	}
	list, err := h.Find(Query{})
	if err != nil || len(list) != 2 || list[0].File != "three" || list[0].ID != 3 || list[1].File != "one" || list[1].ID != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := h.Get(2); err == nil {
		t.Error("a cut line is an entry")
	}
	for text, want := range map[string]string{"SQLite format 3\x00": "it is not a darkroom history", "": "it is not a darkroom history", `{"darkroom_history":2}` + "\n": "it is from a newer darkroom (version 2; this one knows 1)"} {
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// TestLimit: a limit gives the latest of a history that is longer than what is held in memory.
func TestLimit(t *testing.T) {
	h := opened(t, filepath.Join(t.TempDir(), "history.jsonl"))
	const n = 2500
	for i := range n {
		if err := h.Add(Entry{At: time.Unix(int64(i*7919%n), 0)}); err != nil { // in no order: 7919 is prime
			t.Fatal(err)
		}
	}
	list, err := h.Find(Query{Limit: 3})
	if err != nil || len(list) != 3 {
		t.Fatalf("%d entries, %v", len(list), err)
	}
	for i, e := range list {
		if e.At.Unix() != int64(n-1-i) {
			t.Errorf("entry %d is of %d", i, e.At.Unix())
		}
	}
}

// TestCommand lets a shell take the command apart again.
func TestCommand(t *testing.T) {
	negative := "it's $HOME `ls` \"x\"\n"
	e := Entry{Backend: "cpu", Request: jobs.Request{Given: recipe.NewGiven(map[string]any{"prompt": "-a 'red' apple; ls", "negative": negative, "seed": uint64(7), "steps": 20,
		"cfg": 7.5, "eta": 0.0, "scheduler": "ddim", "width": 64, "format": "jpg", "quality": 90})}}
	out, err := exec.Command("sh", "-c", `darkroom() { printf '%s\0' "$@"; }; `+e.Command()).Output()
	if err != nil {
		t.Skip("no shell: ", err)
	}
	want := []string{"generate", "--prompt=-a 'red' apple; ls", "--negative=" + negative, "--seed", "7", "--steps", "20", "--cfg", "7.5", "--scheduler", "ddim", "--eta", "0", "--width", "64", "--backend", "cpu", "--format", "jpg", "--quality", "90"}
	if d := cmp.Diff(want, strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")); d != "" {
		t.Error(d)
	}
}
