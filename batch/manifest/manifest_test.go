package manifest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"darkroom/batch/jobs"
	"darkroom/recipe"

	"github.com/google/go-cmp/cmp"
)

func record(seed uint64) Record {
	r := Record{Status: Done, File: fmt.Sprintf("%d.png", seed), SHA256: "00", Started: time.Unix(int64(seed), 0).UTC(), Attempts: 1, Request: jobs.Request{Given: recipe.NewGiven(map[string]any{"prompt": "a <b>", "seed": seed})}}
	r.Hash = r.Request.Hash()
	return r
}

func open(t *testing.T, dir string) *Manifest {
	t.Helper()
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// TestCrashAnywhere cuts the file at every byte, as a crash may: all whole lines are there after it, and appending
// goes on after them.
func TestCrashAnywhere(t *testing.T) {
	dir := t.TempDir()
	m := open(t, dir)
	var ends []int64
	for i := range uint64(3) {
		if err := m.Append(record(i)); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, m.size)
	}
	m.Close()
	path := filepath.Join(dir, Name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(data) + 1 {
		if err := os.WriteFile(path, data[:cut], 0o666); err != nil {
			t.Fatal(err)
		}
		m := open(t, dir)
		for i, end := range ends {
			got, ok := m.Get(record(uint64(i)).Hash)
			if ok != (int64(cut) >= end) {
				t.Fatalf("cut at byte %d: record %d is there: %v", cut, i, ok)
			}
			if d := cmp.Diff(record(uint64(i)), got); ok && d != "" {
				t.Fatal(d)
			}
		}
		if cut%97 == 0 {
			if err := m.Append(record(9)); err != nil {
				t.Fatal(err)
			}
			m.Close()
			again := open(t, dir)
			if _, ok := again.Get(record(9).Hash); !ok || len(again.Notes()) > 0 {
				t.Fatalf("cut at byte %d: what was appended is lost (%v)", cut, again.Notes())
			}
			again.Close()
		}
		m.Close()
	}
}

func TestDamagedLine(t *testing.T) {
	dir := t.TempDir()
	m := open(t, dir)
	for i := range uint64(3) {
		if err := m.Append(record(i)); err != nil {
			t.Fatal(err)
		}
	}
	m.Close()
	path := filepath.Join(dir, Name)
	data, _ := os.ReadFile(path)
	lines := strings.SplitAfter(string(data), "\n")
	lines[1] = strings.Replace(lines[1], `"seed":1`, `"seed":7`, 1) // the hash no longer fits
	if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o666); err != nil {
		t.Fatal(err)
	}
	m = open(t, dir)
	want := []string{"line 2 of manifest.jsonl is damaged and ignored: its picture is made again if a job asks for it"}
	if d := cmp.Diff(want, m.Notes()); d != "" {
		t.Error(d)
	}
	for seed, there := range map[uint64]bool{0: true, 1: false, 2: true} {
		if _, ok := m.Get(record(seed).Hash); ok != there {
			t.Errorf("record %d is there: %v", seed, ok)
		}
	}
}

func TestLock(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no locks on Windows")
	}
	dir := t.TempDir()
	open(t, dir)
	if _, err := Open(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("a second Open gives %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("{\"hash\": 3}\n{}\n\n{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := parse(data)
		if c.whole > len(data) {
			t.Fatalf("%d bytes of %d", c.whole, len(data))
		}
		for hash, r := range c.records {
			if hash != r.Request.Hash() {
				t.Fatal("a record with a wrong hash")
			}
		}
	})
}

// A manifest that is a link, or that another program takes away, is an error: what is written there is not found again.
func TestNotOurs(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	if err := os.Symlink(filepath.Join(other, "letter"), filepath.Join(dir, Name)); err != nil {
		t.Skip("SKIPPED: no links here")
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "not a plain file") {
		t.Errorf("a link: %v", err)
	}
	for name, harm := range map[string]func(path string) error{
		"removed":  os.Remove,
		"replaced": func(path string) error { return errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o666)) },
		"cut":      func(path string) error { return os.Truncate(path, 10) },
	} {
		dir := t.TempDir()
		m, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Append(Record{Status: Done, File: "a.png"}); err != nil {
			t.Fatal(err)
		}
		if err := harm(filepath.Join(dir, Name)); err != nil {
			t.Fatal(err)
		}
		if err := m.Append(Record{Status: Done, File: "b.png"}); err == nil || !strings.Contains(err.Error(), "another program") {
			t.Errorf("%s: %v", name, err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}
