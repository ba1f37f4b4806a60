// Package atomicfile writes files whole or not at all: beside their place under a name of their own, synced, and only
// then under their name. A crash, a full disk or a cancelled writer leaves the old file, or none.
package atomicfile

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// Folder is where names are looked up: an *os.Root, which no link leads out of, or OS.
type Folder interface {
	OpenFile(name string, flag int, perm os.FileMode) (*os.File, error)
	MkdirAll(name string, perm os.FileMode) error
	Lstat(name string) (os.FileInfo, error)
	Link(old, new string) error
	Rename(old, new string) error
	Remove(name string) error
}

// OS takes names as the operating system does.
type OS struct{}

func (OS) OpenFile(name string, flag int, perm os.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, perm)
}
func (OS) MkdirAll(name string, perm os.FileMode) error { return os.MkdirAll(name, perm) }
func (OS) Lstat(name string) (os.FileInfo, error)       { return os.Lstat(name) }
func (OS) Link(old, new string) error                   { return os.Link(old, new) }
func (OS) Rename(old, new string) error                 { return os.Rename(old, new) }
func (OS) Remove(name string) error                     { return os.Remove(name) }

// Write creates or replaces the file at path with what write writes. When write fails (as it does when cancelled),
// nothing is left. Folders that are missing are made. A link is followed, also one whose target does not exist yet. What
// is not a plain file (a pipe, /dev/stdout) is written to directly.
//
// Errors say what to do about a full disk, a folder that may not be written to and a path that is a folder.
func Write(path string, write func(io.Writer) error) error {
	place, plain, err := resolve(path)
	if err != nil {
		return err
	}
	if !plain {
		f, err := os.OpenFile(place, os.O_WRONLY, 0)
		if err != nil {
			return Explain(path, err)
		}
		return Explain(path, errors.Join(buffered(f, write), f.Close()))
	}
	return Explain(path, put(OS{}, place, write, os.Rename))
}

// WriteData is Write for what is in memory already.
func WriteData(path string, data []byte) error {
	return Write(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Create writes a new file and never replaces one: where the name is taken, the error is fs.ErrExist. Of several that
// create one name at once, exactly one succeeds.
func Create(folder Folder, name string, data []byte) error {
	write := func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(data))
		return err
	}
	return put(folder, name, write, func(beside, place string) error { return rename(folder, beside, place) })
}

// rename gives a file its name, without replacing another.
func rename(folder Folder, beside, place string) error {
	err := folder.Link(beside, place) // a link, unlike a rename, does not replace
	switch {
	case err == nil:
		return folder.Remove(beside)
	case errors.Is(err, fs.ErrExist):
		return fs.ErrExist
	}
	// A file system without links.
	if _, err := folder.Lstat(place); err == nil {
		return fs.ErrExist
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return folder.Rename(beside, place)
}

// put writes beside place, syncs, and lets finish give the file its name.
func put(folder Folder, place string, write func(io.Writer) error, finish func(beside, place string) error) error {
	f, beside, err := createBeside(folder, place)
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done { // also when write panics
			f.Close()
			_ = folder.Remove(beside) // the error that brought us here matters more
		}
	}()
	if err := buffered(f, write); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := finish(beside, place); err != nil {
		return err
	}
	done = true
	return syncFolder(folder, filepath.Dir(place))
}

// Check finds out whether Write could write to path, before hours are spent on what is to be written. It makes
// the folders that are missing and leaves no file.
func Check(path string) error {
	place, plain, err := resolve(path)
	if err != nil || !plain {
		return err
	}
	f, beside, err := createBeside(OS{}, place)
	if err != nil {
		return Explain(path, err)
	}
	return Explain(path, errors.Join(f.Close(), os.Remove(beside)))
}

// Synced writes a file under the name that it is given, and returns when it lies on the disk. It is for protocols that
// rename it themselves, with Rename.
func Synced(path string, data []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return Explain(path, err)
	}
	_, err = io.Copy(f, bytes.NewReader(data))
	return Explain(path, errors.Join(err, f.Sync(), f.Close()))
}

// Rename renames within a folder, replacing what had the name, and makes it last.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncFolder(OS{}, filepath.Dir(to))
}

// Unfinished says whether a file's name is one that files have while they are written. Where one is old, a program
// crashed.
func Unfinished(name string) bool {
	return strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".part")
}

// resolve follows links, refuses folders, and says whether the file is, or will be, a plain one.
func resolve(path string) (place string, plain bool, err error) {
	place = path
	for range 40 { // as many links as Linux follows
		if end, err := filepath.EvalSymlinks(place); err == nil {
			place = end
			break
		}
		target, err := os.Readlink(place) // a link to what is not there yet
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			dir, err := filepath.EvalSymlinks(filepath.Dir(place))
			if err != nil {
				return "", false, Explain(path, err)
			}
			target = filepath.Join(dir, target)
		}
		place = target
	}
	st, err := os.Stat(place)
	switch {
	case err == nil && st.IsDir():
		return "", false, fmt.Errorf("cannot write %s: it is a folder: name a file in it", path)
	case err == nil:
		return place, st.Mode().IsRegular(), nil
	case errors.Is(err, fs.ErrNotExist):
		return place, true, nil
	}
	return "", false, Explain(path, err)
}

func createBeside(folder Folder, path string) (f *os.File, beside string, err error) {
	dir := filepath.Dir(path)
	if dir != "." {
		if err := folder.MkdirAll(dir, 0o777); err != nil {
			return nil, "", err
		}
	}
	// Not os.CreateTemp: its files are for their owner only, and a picture has the rights that the umask gives.
	beside = filepath.Join(dir, fmt.Sprintf(".%.100s.%s.part", filepath.Base(path), rand.Text()[:10]))
	f, err = folder.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	return f, beside, err
}

func buffered(w io.Writer, write func(io.Writer) error) error {
	b := bufio.NewWriterSize(w, 1<<16)
	if err := write(b); err != nil {
		return err
	}
	return b.Flush()
}

// syncFolder makes a new name last. Windows has no such thing, and some file systems refuse it.
func syncFolder(folder Folder, path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := folder.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil // a folder may be writable and not readable
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// Explain says what to do about an error that the file system gave when path was to be written.
func Explain(path string, err error) error {
	if err == nil {
		return nil
	}
	cause, advice := advise(filepath.Dir(path), err)
	return fmt.Errorf("cannot write %s: %w%s", path, cause, advice)
}

// ExplainIn is Explain for a name in a folder that the user chose.
func ExplainIn(folder, name string, err error) error {
	if err == nil {
		return nil
	}
	cause, advice := advise(folder, err)
	return fmt.Errorf("cannot write %s in %s: %w%s", name, folder, cause, advice)
}

// advise finds the error below the path in it, which is that of the file beside and means nothing to the reader.
func advise(folder string, err error) (cause error, advice string) {
	var inner *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &inner):
		err = inner.Err
	case errors.As(err, &link):
		err = link.Err
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		advice = ": the disk is full: free some space or choose another place"
	case errors.Is(err, syscall.EFBIG):
		advice = ": the file would be larger than the system allows (ulimit -f): raise the limit"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		advice = fmt.Sprintf(": the folder %s may not be written to: choose another place or change its permissions", folder)
	case errors.Is(err, syscall.ENOTDIR):
		advice = fmt.Sprintf(": a part of the path %s is a file, not a folder", folder)
	case errors.Is(err, syscall.ENAMETOOLONG):
		advice = ": choose a shorter name"
	}
	return err, advice
}
