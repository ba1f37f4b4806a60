package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"darkroom/atomicfile"
)

// Folder is a folder, perhaps one that several machines share. Links that lead out of it are not followed.
type Folder struct {
	dir  string
	root *os.Root
}

// OpenFolder opens a folder, and makes it if it is missing.
func OpenFolder(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("the output folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("the output folder: %w", err)
	}
	return &Folder{dir, root}, nil
}

// String is the folder's path.
func (f *Folder) String() string { return f.dir }

// Close gives back the folder's handle.
func (f *Folder) Close() error { return f.root.Close() }

// Put writes beside, syncs, renames without replacing, syncs the folder and reads back.
func (f *Folder) Put(_ context.Context, name string, data []byte) error {
	if same, err := f.same(name, data); err != nil || same {
		return err
	}
	// Two workers with different images of one name cannot both win.
	if err := atomicfile.Create(f.root, name, data); err != nil && !errors.Is(err, fs.ErrExist) {
		return atomicfile.ExplainIn(f.dir, name, err)
	}
	same, err := f.same(name, data)
	if err == nil && !same {
		err = damaged(name, f.dir)
	}
	return err
}

// same reports whether the file is there with this content. Another one is a TakenError.
func (f *Folder) same(name string, data []byte) (bool, error) {
	old, err := f.root.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, atomicfile.ExplainIn(f.dir, name, err)
	case !bytes.Equal(old, data):
		return false, &TakenError{name, f.dir}
	}
	return true, nil
}

// Sum reads the file.
func (f *Folder) Sum(_ context.Context, name string) (string, error) {
	file, err := f.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", ErrMissing
	}
	if err != nil {
		return "", fmt.Errorf("reading %s in %s: %w", name, f.dir, err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", fmt.Errorf("reading %s in %s: %w", name, f.dir, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Sweep removes what crashed programs left half written: partial files older than age.
func (f *Folder) Sweep(age time.Duration) {
	limit := time.Now().Add(-age)
	_ = fs.WalkDir(f.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !atomicfile.Unfinished(d.Name()) {
			return nil
		}
		if info, err := d.Info(); err == nil && info.ModTime().Before(limit) {
			f.root.Remove(name)
		}
		return nil
	})
}
