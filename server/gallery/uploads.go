package gallery

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"darkroom/atomicfile"
	"darkroom/imagefile"
)

// Uploads keeps uploaded pictures by the hash of their content. Those unused for long are removed.
type Uploads struct {
	dir    string
	root   *os.Root
	pixels int

	mu     sync.Mutex
	pruned time.Time
}

// Upload is a picture that was sent.
type Upload struct {
	ID     string `json:"id"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

// How long uploads are kept after their last use, and how much room they may take, in bytes.
const (
	keepUploads = 30 * 24 * time.Hour
	mostUploads = 8 << 30
)

// OpenUploads opens the uploads in a folder. Pictures of more pixels are refused before they are decoded.
func OpenUploads(dir string, pixels int) (*Uploads, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder of uploads: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("the folder of uploads: %w", err)
	}
	dir, err = filepath.Abs(dir)
	return &Uploads{dir: dir, root: root, pixels: min(pixels, imagefile.MaxPixels)}, err
}

// Check says what is wrong with a picture's size, without decoding it.
func (u *Uploads) Check(data []byte) error {
	_, _, _, err := u.measure(data)
	return err
}

func (u *Uploads) measure(data []byte) (kind string, w, h int, err error) {
	if kind, w, h, err = imagefile.Measure(data); err == nil && w > u.pixels/h {
		err = fmt.Errorf("a picture of %d×%d pixels: this server takes at most %d in all", w, h, u.pixels)
	}
	return kind, w, h, err
}

// Put keeps a picture. The error says what is wrong with it.
func (u *Uploads) Put(data []byte) (Upload, error) {
	kind, w, h, err := u.measure(data)
	if err != nil {
		return Upload{}, err
	}
	if _, err := imagefile.LoadData(data); err != nil { // now, and not when it is used
		return Upload{}, fmt.Errorf("the %s picture: %w", kind, err)
	}
	u.prune()
	sum := sha256.Sum256(data)
	id := hex.EncodeToString(sum[:16])
	if err := atomicfile.Create(u.root, id, data); err != nil && !errors.Is(err, fs.ErrExist) {
		return Upload{}, atomicfile.ExplainIn(u.dir, id, err)
	}
	return Upload{id, w, h}, nil
}

// Path is where an upload is. It counts as a use.
func (u *Uploads) Path(id string) (string, error) {
	if len(id) != 32 {
		return "", fmt.Errorf("there is no upload %.40q", id)
	}
	if _, err := hex.DecodeString(id); err != nil {
		return "", fmt.Errorf("there is no upload %.40q", id)
	}
	st, err := u.root.Lstat(id)
	if err != nil || !st.Mode().IsRegular() {
		return "", fmt.Errorf("there is no upload %s: send the picture again", id)
	}
	if now := time.Now(); now.Sub(st.ModTime()) > time.Hour {
		_ = u.root.Chtimes(id, now, now) // it would go a little sooner
	}
	return filepath.Join(u.dir, id), nil
}

// Size is how large an upload is.
func (u *Uploads) Size(id string) (width, height int, err error) {
	if _, err := u.Path(id); err != nil {
		return 0, 0, err
	}
	data, err := u.root.ReadFile(id)
	if err != nil {
		return 0, 0, err
	}
	_, width, height, err = imagefile.Measure(data)
	return width, height, err
}

// prune removes what was not used for long, once an hour.
func (u *Uploads) prune() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if time.Since(u.pruned) < time.Hour {
		return
	}
	u.pruned = time.Now()
	entries, err := fs.ReadDir(u.root.FS(), ".")
	if err != nil {
		return
	}
	var files []fs.FileInfo
	var total int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			files = append(files, info)
			total += info.Size()
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, f := range files {
		old := time.Since(f.ModTime())
		if old < keepUploads && (total < mostUploads || old < time.Hour) {
			continue
		}
		if u.root.Remove(f.Name()) == nil {
			total -= f.Size()
		}
	}
}

// Close gives back the folder's handle.
func (u *Uploads) Close() error { return u.root.Close() }
