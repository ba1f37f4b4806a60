package atomicfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func writeText(text string) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.WriteString(w, text); return err }
}

// only checks that the folder holds exactly these files.
func only(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the folder holds %v; want %v", got, want)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "new", "folder", "a.png")
	for _, text := range []string{"one", "another"} {
		if err := Write(path, writeText(text)); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("got %q", got)
		}
	}
	only(t, filepath.Dir(path), "a.png")
	if st, _ := os.Stat(path); runtime.GOOS != "windows" && st.Mode().Perm()&0o400 == 0 {
		t.Errorf("mode %v", st.Mode())
	}
}

func TestWriteLeavesNothingWhenItFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.png")
	save(t, path, []byte("before"))
	err := Write(path, func(w io.Writer) error {
		if _, err := w.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil { // more than is buffered
			return err
		}
		return context.Canceled
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was lost")
			}
		}()
		_ = Write(path, func(io.Writer) error { panic("x") })
	}()
	if got, _ := os.ReadFile(path); string(got) != "before" {
		t.Errorf("the old file became %.10q", got)
	}
	only(t, dir, "a.png")
}

func TestWriteToAFolder(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{Write(dir, writeText("x")), Check(dir)} {
		if err == nil || err.Error() != "cannot write "+dir+": it is a folder: name a file in it" {
			t.Errorf("error %v", err)
		}
	}
	file := filepath.Join(dir, "file")
	save(t, file, nil)
	if err := Write(filepath.Join(file, "a.png"), writeText("x")); err == nil || !strings.Contains(err.Error(), "is a file, not a folder") {
		t.Errorf("error %v", err)
	}
	only(t, dir, "file")
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	if err := Check(filepath.Join(dir, "a.png")); err != nil {
		t.Error(err)
	}
	only(t, dir)
}

// TestCreate: in a plain folder and in a root, a file that is there is never replaced.
func TestCreate(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for i, c := range []struct {
		folder Folder
		name   string
	}{{OS{}, filepath.Join(dir, "sub", "0")}, {root, "sub/1"}} {
		if err := Create(c.folder, c.name, []byte("first")); err != nil {
			t.Fatal(err)
		}
		if err := Create(c.folder, c.name, []byte("second")); !errors.Is(err, fs.ErrExist) {
			t.Errorf("a taken name: %v", err)
		}
		if got, _ := os.ReadFile(filepath.Join(dir, "sub", fmt.Sprint(i))); string(got) != "first" {
			t.Errorf("the file became %q", got)
		}
	}
	only(t, filepath.Join(dir, "sub"), "0", "1")
}

// noLinks is a file system that has none.
type noLinks struct{ OS }

func (noLinks) Link(string, string) error {
	return &os.LinkError{Op: "link", Err: errors.ErrUnsupported}
}

func TestCreateWithoutLinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if err := Create(noLinks{}, path, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := Create(noLinks{}, path, []byte("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a taken name: %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "first" {
		t.Errorf("the file became %q", got)
	}
	only(t, filepath.Dir(path), "a")
}

// TestCreateRace: of many that create one name, one succeeds and its file is whole.
func TestCreateRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() { errs[i] = Create(OS{}, path, bytes.Repeat([]byte{'a' + byte(i)}, 1000)) })
	}
	wg.Wait()
	won := -1
	for i, err := range errs {
		if err == nil && won < 0 {
			won = i
		} else if !errors.Is(err, fs.ErrExist) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if got, _ := os.ReadFile(path); won < 0 || !bytes.Equal(got, bytes.Repeat([]byte{'a' + byte(won)}, 1000)) {
		t.Errorf("%d won, and the file holds %.10q", won, got)
	}
	only(t, filepath.Dir(path), "a")
}

// TestSynced: the file has its content before it has its name.
func TestSynced(t *testing.T) {
	dir := t.TempDir()
	before, after := filepath.Join(dir, "a.part"), filepath.Join(dir, "a")
	save(t, after, []byte("old"))
	if err := Synced(before, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if err := Rename(before, after); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(after); string(got) != "new" {
		t.Errorf("got %q", got)
	}
	if err := Rename(before, after); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("renaming what is gone: %v", err)
	}
	only(t, dir, "a")
}

func TestUnfinished(t *testing.T) {
	for name, want := range map[string]bool{".a.png.ABCDEFGHIJ.part": true, "a.part": false, ".hidden": false, "a.png": false} {
		if Unfinished(name) != want {
			t.Errorf("%s: %v", name, !want)
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
