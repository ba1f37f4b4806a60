package checkpoint

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
	"unsafe"
)

// Viewer is what a file system may offer besides fs.FS: a file's bytes in place, not to be written to.
type Viewer interface {
	View(name string) ([]byte, error)
}

// Embedded is a file system over texts, by slash-separated name. Nothing is copied, so that what go:embed put into the
// program costs no time and no memory until it is used:
//
//	//go:embed unet/diffusion_pytorch_model.safetensors
//	var unet string
//
//	var files = checkpoint.Embedded{"unet/diffusion_pytorch_model.safetensors": unet}
//
// An embed.FS works as well, but copies each file that is read.
type Embedded map[string]string

// View gives a file's bytes, which are the text's own.
func (e Embedded) View(name string) ([]byte, error) {
	s, ok := e[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return unsafe.Slice(unsafe.StringData(s), len(s)), nil
}

// Open implements fs.FS.
func (e Embedded) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if s, ok := e[name]; ok {
		return &embeddedFile{embeddedInfo{path.Base(name), int64(len(s)), false}, strings.NewReader(s)}, nil
	}
	entries := e.list(name)
	if len(entries) == 0 && name != "." {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &embeddedDir{embeddedInfo{path.Base(name), 0, true}, entries}, nil
}

// list finds what lies directly in a folder, sorted.
func (e Embedded) list(dir string) []fs.DirEntry {
	prefix := dir + "/"
	if dir == "." {
		prefix = ""
	}
	found := map[string]fs.DirEntry{}
	for name, s := range e {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok || rest == "" {
			continue
		}
		if first, _, deeper := strings.Cut(rest, "/"); deeper {
			found[first] = embeddedInfo{first, 0, true}
		} else {
			found[rest] = embeddedInfo{rest, int64(len(s)), false}
		}
	}
	entries := make([]fs.DirEntry, 0, len(found))
	for _, d := range found {
		entries = append(entries, d)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries
}

// embeddedInfo is both a fs.FileInfo and a fs.DirEntry.
type embeddedInfo struct {
	name string
	size int64
	dir  bool
}

func (i embeddedInfo) Name() string               { return i.name }
func (i embeddedInfo) Size() int64                { return i.size }
func (i embeddedInfo) IsDir() bool                { return i.dir }
func (i embeddedInfo) ModTime() time.Time         { return time.Time{} }
func (i embeddedInfo) Sys() any                   { return nil }
func (i embeddedInfo) Type() fs.FileMode          { return i.Mode().Type() }
func (i embeddedInfo) Info() (fs.FileInfo, error) { return i, nil }
func (i embeddedInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o555
	}
	return 0o444
}

type embeddedFile struct {
	embeddedInfo
	*strings.Reader
}

func (f *embeddedFile) Size() int64                { return f.embeddedInfo.size }
func (f *embeddedFile) Stat() (fs.FileInfo, error) { return f.embeddedInfo, nil }
func (f *embeddedFile) Close() error               { return nil }

type embeddedDir struct {
	embeddedInfo
	rest []fs.DirEntry
}

func (d *embeddedDir) Stat() (fs.FileInfo, error) { return d.embeddedInfo, nil }
func (d *embeddedDir) Close() error               { return nil }
func (d *embeddedDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: errors.New("is a directory")}
}

func (d *embeddedDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 || n >= len(d.rest) {
		all := d.rest
		d.rest = nil
		if n > 0 && len(all) == 0 {
			return nil, io.EOF
		}
		return all, nil
	}
	some := d.rest[:n]
	d.rest = d.rest[n:]
	return some, nil
}
