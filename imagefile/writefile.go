package imagefile

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// WriteFile creates or replaces the file at path with what write writes, whole or not at all: it is written beside
// its place under a name of its own, synced and renamed. When write fails (as it does when cancelled), nothing is left. Folders that are
// missing are made. A link is followed. What is not a plain file (a pipe, /dev/stdout) is written to directly.
//
// Errors say what to do about a full disk, a folder that may not be written to and a path that is a folder.
func WriteFile(path string, write func(io.Writer) error) error {
	place, plain, err := resolve(path)
	if err != nil {
		return err
	}
	if !plain {
		f, err := os.OpenFile(place, os.O_WRONLY, 0)
		if err != nil {
			return explain(path, err)
		}
		return explain(path, errors.Join(buffered(f, write), f.Close()))
	}
	f, err := createBeside(place)
	if err != nil {
		return explain(path, err)
	}
	done := false
	defer func() {
		if !done { // also when write panics
			f.Close()
			_ = os.Remove(f.Name()) // the error that brought us here matters more
		}
	}()
	if err := buffered(f, write); err != nil {
		return explain(path, err)
	}
	if err := f.Sync(); err != nil {
		return explain(path, err)
	}
	if err := f.Close(); err != nil {
		return explain(path, err)
	}
	if err := os.Rename(f.Name(), place); err != nil {
		return explain(path, err)
	}
	done = true
	return explain(path, syncFolder(filepath.Dir(place)))
}

// CheckWritable finds out whether WriteFile could write to path, before hours are spent on what is to be written. It makes
// the folders that are missing and leaves no file.
func CheckWritable(path string) error {
	place, plain, err := resolve(path)
	if err != nil || !plain {
		return err
	}
	f, err := createBeside(place)
	if err != nil {
		return explain(path, err)
	}
	return explain(path, errors.Join(f.Close(), os.Remove(f.Name())))
}

// resolve follows links, refuses folders, and says whether the file is, or will be, a plain one.
func resolve(path string) (place string, plain bool, err error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	st, err := os.Stat(path)
	switch {
	case err == nil && st.IsDir():
		return "", false, fmt.Errorf("cannot write %s: it is a folder: name a file in it", path)
	case err == nil:
		return path, st.Mode().IsRegular(), nil
	case errors.Is(err, fs.ErrNotExist):
		return path, true, nil
	}
	return "", false, explain(path, err)
}

func createBeside(path string) (*os.File, error) {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return nil, err
	}
	// Not os.CreateTemp: its files are for their owner only, and a picture has the rights that the umask gives.
	name := fmt.Sprintf(".%.100s.%s.part", filepath.Base(path), rand.Text()[:10])
	return os.OpenFile(filepath.Join(folder, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
}

func buffered(w io.Writer, write func(io.Writer) error) error {
	b := bufio.NewWriterSize(w, 1<<16)
	if err := write(b); err != nil {
		return err
	}
	return b.Flush()
}

// syncFolder makes a rename last. Windows has no such thing, and some file systems refuse it.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return nil // a folder may be writable and not readable
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// explain says what to do about an error that the file system gave.
func explain(path string, err error) error {
	if err == nil {
		return nil
	}
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err // the path in it is that of the file beside, which means nothing to the reader
	}
	advice := ""
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		advice = ": the disk is full: free some space or choose another place"
	case errors.Is(err, syscall.EFBIG):
		advice = ": the file would be larger than the system allows (ulimit -f): raise the limit"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		advice = fmt.Sprintf(": the folder %s may not be written to: choose another place or change its permissions", filepath.Dir(path))
	case errors.Is(err, syscall.ENOTDIR):
		advice = fmt.Sprintf(": a part of the path %s is a file, not a folder", filepath.Dir(path))
	case errors.Is(err, syscall.ENAMETOOLONG):
		advice = ": choose a shorter name"
	}
	return fmt.Errorf("cannot write %s: %w%s", path, err, advice)
}
