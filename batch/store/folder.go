package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Folder is a folder, perhaps one that several machines share. Links that lead out of it are not followed.
type Folder struct {
	dir  string
	root *os.Root
}

// partial ends the names of files that are being written. They begin with a dot, which no image's name does.
const partial = ".part"

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
	if dir := path.Dir(name); dir != "." {
		if err := f.root.MkdirAll(dir, 0o777); err != nil {
			return f.explain(name, err)
		}
	}
	beside := path.Join(path.Dir(name), "."+rand.Text()[:12]+partial)
	if err := f.write(beside, data); err != nil {
		f.root.Remove(beside)
		return f.explain(name, err)
	}
	// A link, unlike a rename, does not replace: two workers with different images of one name cannot both win.
	err := f.root.Link(beside, name)
	switch {
	case err == nil:
		f.root.Remove(beside)
	case errors.Is(err, fs.ErrExist):
		f.root.Remove(beside)
	default: // a file system without links
		if same, err := f.same(name, data); err != nil || same {
			f.root.Remove(beside)
			return err
		}
		if err := f.root.Rename(beside, name); err != nil {
			f.root.Remove(beside)
			return f.explain(name, err)
		}
	}
	if err := f.syncFolder(path.Dir(name)); err != nil {
		return f.explain(name, err)
	}
	same, err := f.same(name, data)
	if err == nil && !same {
		err = damaged(name, f.dir)
	}
	return err
}

// same says whether the file is there with this content. Another one is a TakenError.
func (f *Folder) same(name string, data []byte) (bool, error) {
	old, err := f.root.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, f.explain(name, err)
	case !bytes.Equal(old, data):
		return false, &TakenError{name, f.dir}
	}
	return true, nil
}

func (f *Folder) write(name string, data []byte) error {
	file, err := f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// syncFolder makes a new name last. Windows has no such thing, and some file systems refuse it.
func (f *Folder) syncFolder(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := f.root.Open(dir)
	if err != nil {
		return nil // a folder may be writable and not readable
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// Sum reads the file.
func (f *Folder) Sum(_ context.Context, name string) (string, error) {
	file, err := f.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", ErrMissing
	}
	if err != nil {
		return "", f.explain(name, err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", f.explain(name, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Sweep removes what crashed programs left half written: partial files older than age.
func (f *Folder) Sweep(age time.Duration) {
	limit := time.Now().Add(-age)
	_ = fs.WalkDir(f.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasPrefix(d.Name(), ".") || !strings.HasSuffix(d.Name(), partial) {
			return nil
		}
		if info, err := d.Info(); err == nil && info.ModTime().Before(limit) {
			f.root.Remove(name)
		}
		return nil
	})
}

// explain says what to do about an error of the file system.
func (f *Folder) explain(name string, err error) error {
	var inner *fs.PathError
	var link *os.LinkError
	if errors.As(err, &inner) {
		err = inner.Err
	} else if errors.As(err, &link) {
		err = link.Err
	}
	advice := ""
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		advice = ": the disk is full: free some space"
	case errors.Is(err, syscall.EFBIG):
		advice = ": the file would be larger than the system allows (ulimit -f): raise the limit"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		advice = ": the folder may not be written to: change its permissions"
	}
	return fmt.Errorf("cannot write %s in %s: %w%s", name, f.dir, err, advice)
}
