package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// sumABC is the SHA-256 of "abc", example B.1 of FIPS 180-2.
const sumABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

// testStore runs the contract of Store.
func testStore(t *testing.T, s Store) {
	ctx := context.Background()
	if _, err := s.Sum(ctx, "sub/a.png"); !errors.Is(err, ErrMissing) {
		t.Errorf("a missing file: %v", err)
	}
	for range 2 { // saving the same again is allowed
		if err := s.Put(ctx, "sub/a.png", []byte("abc")); err != nil {
			t.Fatal(err)
		}
	}
	if sum, err := s.Sum(ctx, "sub/a.png"); sum != sumABC || err != nil {
		t.Errorf("sum %s, %v", sum, err)
	}
	var taken *TakenError
	if err := s.Put(ctx, "sub/a.png", []byte("abd")); !errors.As(err, &taken) {
		t.Errorf("a different file under the name: %v", err)
	}
	if sum, _ := s.Sum(ctx, "sub/a.png"); sum != sumABC {
		t.Error("the file was replaced")
	}
}

func TestFolder(t *testing.T) {
	f, err := OpenFolder(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	testStore(t, f)
}

// TestFolderRace: of many different files put under one name at once, one wins and the others are told so.
func TestFolderRace(t *testing.T) {
	dir := t.TempDir()
	f, _ := OpenFolder(dir)
	defer f.Close()
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() {
			errs[i] = f.Put(context.Background(), "x.png", []byte(strings.Repeat(string(rune('a'+i)), 1000)))
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		var taken *TakenError
		if err == nil {
			won++
		} else if !errors.As(err, &taken) {
			t.Error(err)
		}
	}
	if entries, _ := os.ReadDir(dir); won != 1 || len(entries) != 1 {
		t.Errorf("%d won, %d files", won, len(entries))
	}
}

func TestFolderKeepsInside(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "sub")); err != nil {
		t.Skip("no links here")
	}
	f, _ := OpenFolder(dir)
	defer f.Close()
	for _, name := range []string{"sub/a.png", "../a.png"} {
		if err := f.Put(context.Background(), name, []byte("abc")); err == nil || !strings.Contains(err.Error(), "path escapes from parent") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if entries, _ := os.ReadDir(outside); len(entries) > 0 {
		t.Error("a file was written through a link out of the folder")
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	f, _ := OpenFolder(dir)
	defer f.Close()
	for _, name := range []string{".OLD.part", ".NEW.part", "kept.png"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-time.Hour)
	os.Chtimes(filepath.Join(dir, ".OLD.part"), old, old)
	os.Chtimes(filepath.Join(dir, "kept.png"), old, old)
	f.Sweep(time.Minute)
	entries, _ := os.ReadDir(dir)
	if len(entries) != 2 || entries[0].Name() != ".NEW.part" || entries[1].Name() != "kept.png" {
		t.Errorf("left: %v", entries)
	}
}

func TestIsFree(t *testing.T) {
	for given, want := range map[string]bool{"a/b.png": true, "a/b-2.png": true, "a/b-17.png": true, "a/b-1.png": false, "a/b-02.png": false, "a/b--2.png": false, "a/c.png": false, "a/b.php": false, "b.png": false, "a/b-2": false, "": false} {
		if got := IsFree("a/b.png", given); got != want {
			t.Errorf("%s: %v", given, got)
		}
	}
}
