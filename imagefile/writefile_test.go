package imagefile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
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

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "new", "folder", "a.png")
	for _, text := range []string{"one", "another"} {
		if err := WriteFile(path, writeText(text)); err != nil {
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

func TestWriteFileLeavesNothingWhenItFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.png")
	save(t, path, []byte("before"))
	err := WriteFile(path, func(w io.Writer) error {
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
		_ = WriteFile(path, func(io.Writer) error { panic("x") })
	}()
	if got, _ := os.ReadFile(path); string(got) != "before" {
		t.Errorf("the old file became %.10q", got)
	}
	only(t, dir, "a.png")
}

func TestWriteFileToAFolder(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{WriteFile(dir, writeText("x")), CheckWritable(dir)} {
		if err == nil || err.Error() != "cannot write "+dir+": it is a folder: name a file in it" {
			t.Errorf("error %v", err)
		}
	}
	file := filepath.Join(dir, "file")
	save(t, file, nil)
	if err := WriteFile(filepath.Join(file, "a.png"), writeText("x")); err == nil || !strings.Contains(err.Error(), "is a file, not a folder") {
		t.Errorf("error %v", err)
	}
	only(t, dir, "file")
}

func TestCheckWritable(t *testing.T) {
	dir := t.TempDir()
	if err := CheckWritable(filepath.Join(dir, "a.png")); err != nil {
		t.Error(err)
	}
	only(t, dir)
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
