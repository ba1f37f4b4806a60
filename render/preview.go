package render

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"darkroom/atomicfile"
)

// Preview is a temporary file without a recipe for a viewer to watch: NAME.preview.png, or the first free name of
// NAME.preview-2.png, … The file is complete at any time. Show and Remove never touch a file that is not the preview's own,
// and follow no links.
type Preview struct {
	base string

	mu   sync.Mutex
	path string
	own  os.FileInfo // the file as it was last written; nil: there is none
}

// Show writes a picture.
func (p *Preview) Show(picture *image.NRGBA) error {
	var buf bytes.Buffer
	if err := png.Encode(&buf, picture); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isOwn() {
		beside := filepath.Join(filepath.Dir(p.path), "."+rand.Text()[:10]+".part")
		if err := write(beside, buf.Bytes()); err != nil {
			_ = os.Remove(beside)
			return atomicfile.Explain(p.path, err)
		}
		if err := os.Rename(beside, p.path); err != nil {
			_ = os.Remove(beside)
			return atomicfile.Explain(p.path, err)
		}
	} else if err := p.create(buf.Bytes()); err != nil {
		return err
	}
	var err error
	p.own, err = os.Lstat(p.path)
	return err
}

// create takes the first free name.
func (p *Preview) create(data []byte) error {
	p.own = nil
	for n := 1; ; n++ {
		if p.path = p.base + ".png"; n > 1 {
			p.path = fmt.Sprintf("%s-%d.png", p.base, n)
		}
		err := atomicfile.Create(atomicfile.OS{}, p.path, data)
		if !errors.Is(err, fs.ErrExist) {
			return atomicfile.Explain(p.path, err)
		}
	}
}

func write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// isOwn reports whether the file that has the name is the one that was last written.
func (p *Preview) isOwn() bool {
	if p.own == nil {
		return false
	}
	now, err := os.Lstat(p.path)
	// Numbers of files are used again, so that a new file may look like the old one but for its time.
	return err == nil && os.SameFile(now, p.own) && now.Size() == p.own.Size() && now.ModTime().Equal(p.own.ModTime())
}

// Remove removes the file, if there is one. Later calls of Show do nothing.
func (p *Preview) Remove() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isOwn() {
		_ = os.Remove(p.path)
	}
	p.own = nil
}
