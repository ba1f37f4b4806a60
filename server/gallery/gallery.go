// Package gallery shows the pictures that were made on this machine, by this server or by other commands, and keeps those that
// were uploaded. Pictures and uploads go by ids: no path comes from outside.
package gallery

import (
	"bytes"
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"image/jpeg"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/disintegration/imaging"

	"darkroom/batch/history"
	"darkroom/batch/jobs"
	"darkroom/batch/manifest"
	"darkroom/imagefile"
	"darkroom/models/library"
	"darkroom/recipe"
	"darkroom/server/dispatch"
	"darkroom/server/wire"
)

// Gallery is the pictures of a history.
type Gallery struct {
	history *history.History
	folder  string // of this server's own pictures, absolute

	mu       sync.Mutex
	mark     history.Mark
	pictures []picture // as the history has them: the latest last
	byID     map[string]int
	thumbs   *cache
	decoding chan struct{} // at work on thumbnails
}

// picture is what is kept in memory of a history's entry.
type picture struct {
	id, file, sha256 string
	prompt, model    string
	at               time.Time
	width, height    int
	seed             uint64
	bytes            int64
	seconds          float64
	settings         json.RawMessage
}

// Open opens the gallery over a history. folder is where the server's own pictures are.
func Open(h *history.History, folder string) (*Gallery, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	g := &Gallery{history: h, folder: folder, byID: map[string]int{}, thumbs: newCache(1000), decoding: make(chan struct{}, 2)}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g, g.read()
}

// read takes in what was added to the history. The caller holds mu.
func (g *Gallery) read() (err error) {
	g.mark, err = g.history.After(g.mark, func(e history.Entry) {
		if len(e.SHA256) != 64 || !filepath.IsAbs(e.File) { // a picture in a bucket
			return
		}
		p := picture{
			id: dispatch.PictureID(e.SHA256), file: e.File, sha256: e.SHA256, prompt: e.Request.Prompt, model: library.NameOf(e.Model), at: e.At,
			width: e.Width, height: e.Height, seed: e.Request.Seed, bytes: e.Bytes, seconds: e.Seconds, settings: dispatch.Settings(outside(e.Request).Given),
		}
		if at, twice := g.byID[p.id]; twice { // the latest counts
			g.pictures[at].id = ""
		}
		g.byID[p.id] = len(g.pictures)
		g.pictures = append(g.pictures, p)
	})
	return err
}

// outside is a request as others may see it: what it names by a path goes by the file's name, and where it was computed is left
// out.
func outside(q jobs.Request) jobs.Request {
	out := q
	out.Drop("backend")
	out.Drop("dtype")
	q.Each(func(s *recipe.Setting, v any) {
		path, ok := v.(string)
		switch {
		case !ok || s.Group == recipe.PromptGroup || !strings.ContainsAny(path, `/\`):
		case s.Name == "model" || s.Name == "vae":
			out.Set(s.Name, library.NameOf(path))
		case s.Repeat:
			uses, err := recipe.ParseUses(path)
			for i := range uses {
				uses[i].Name = library.PartName(uses[i].Name)
			}
			if out.Set(s.Name, recipe.FormatUses(uses)); err != nil {
				out.Drop(s.Name)
			}
		default:
			out.Set(s.Name, filepath.Base(path))
		}
	})
	return out
}

// Add writes a picture of this server down, with every setting that its recipe tells. resolved is its request with the paths of
// files here.
func (g *Gallery) Add(r manifest.Record, resolved jobs.Request, c recipe.Recipe) error {
	full := jobs.Request{Given: recipe.Of(c.Settings())}
	full.Set("backend", "")
	resolved.Each(func(s *recipe.Setting, v any) {
		if s.Group == recipe.ModelGroup || s.Group == recipe.EditingGroup || s.Group == recipe.OutputGroup {
			full.Set(s.Name, v)
		}
	})
	if full.Model = resolved.Model; full.Model == "" {
		full.Model = c.Model
	}
	return g.history.Add(history.Entry{
		At: r.Finished, File: filepath.Join(g.folder, filepath.FromSlash(r.File)), SHA256: r.SHA256, Bytes: r.Bytes, Seconds: r.Seconds,
		Model: full.Model, ModelHash: r.ModelHash, Backend: r.Backend, DType: r.DType, Steps: r.Steps, Width: r.Width, Height: r.Height, Request: full,
	})
}

// Find lists pictures that have all words of a query in their prompts, the latest first, before the one of that id ("": from
// the latest). Own pictures that were deleted are left out.
func (g *Gallery) Find(query string, limit int, before string) (wire.PictureList, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	found := wire.PictureList{Pictures: []wire.Picture{}}
	if err := g.read(); err != nil {
		return found, err
	}
	from := len(g.pictures)
	if at, ok := g.byID[before]; ok {
		from = at
	}
	words := strings.Fields(strings.ToLower(query))
	for _, p := range slices.Backward(g.pictures[:from]) {
		text := strings.ToLower(p.prompt + " " + p.model)
		if p.id == "" || slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) }) {
			continue
		}
		w := g.view(&p)
		if w.Own && w.Missing {
			continue
		}
		if len(found.Pictures) == limit {
			found.Next = found.Pictures[limit-1].ID
			break
		}
		found.Pictures = append(found.Pictures, w)
	}
	return found, nil
}

// Get returns the picture with that id.
func (g *Gallery) Get(id string) (wire.Picture, bool) {
	p, ok := g.get(id)
	if !ok {
		return wire.Picture{}, false
	}
	return g.view(&p), true
}

func (g *Gallery) get(id string) (picture, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, ok := g.byID[id]
	if !ok {
		if g.read() != nil {
			return picture{}, false
		}
		if at, ok = g.byID[id]; !ok {
			return picture{}, false
		}
	}
	return g.pictures[at], true
}

func (g *Gallery) view(p *picture) wire.Picture {
	st, err := os.Lstat(p.file)
	return wire.Picture{
		ID: p.id, URL: "/v1/pictures/" + p.id + "/file", Thumbnail: "/v1/pictures/" + p.id + "/thumbnail", Prompt: p.prompt, Seed: p.seed,
		Width: p.width, Height: p.height, Created: p.at, Seconds: p.seconds, Settings: p.settings, SHA256: p.sha256, Bytes: p.bytes,
		Own: g.own(p.file), Missing: err != nil || !st.Mode().IsRegular() || st.Size() != p.bytes,
	}
}

func (g *Gallery) own(file string) bool {
	rel, err := filepath.Rel(g.folder, file)
	return err == nil && filepath.IsLocal(rel)
}

// ErrMissing means that a picture's file is gone or was changed.
var ErrMissing = errors.New("the picture's file is gone, or was changed")

// File is a picture's file and its kind, as in image/png. A file that is not what was written is not given out.
func (g *Gallery) File(id string) (data []byte, mediaType string, err error) {
	p, ok := g.get(id)
	if !ok {
		return nil, "", fmt.Errorf("there is no picture %.40q", id)
	}
	if st, err := os.Lstat(p.file); err != nil || !st.Mode().IsRegular() || st.Size() != p.bytes {
		return nil, "", ErrMissing
	}
	if data, err = os.ReadFile(p.file); err != nil {
		return nil, "", ErrMissing
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != p.sha256 {
		return nil, "", ErrMissing
	}
	kind, _, _, err := imagefile.Measure(data)
	if err != nil {
		return nil, "", ErrMissing
	}
	return data, "image/" + kind, nil
}

// Path is where a picture's file is, for pictures that start from it.
func (g *Gallery) Path(id string) (string, error) {
	p, ok := g.get(id)
	if !ok {
		return "", fmt.Errorf("there is no picture %.40q", id)
	}
	if g.view(&p).Missing {
		return "", ErrMissing
	}
	return p.file, nil
}

// Delete deletes the file of one of the server's own pictures.
func (g *Gallery) Delete(id string) error {
	p, ok := g.get(id)
	switch {
	case !ok:
		return fmt.Errorf("there is no picture %.40q", id)
	case !g.own(p.file):
		return fmt.Errorf("picture %s was not made by this server: only its own are deleted", id)
	}
	root, err := os.OpenRoot(g.folder)
	if err != nil {
		return err
	}
	defer root.Close()
	rel, err := filepath.Rel(g.folder, p.file)
	if err != nil {
		return err
	}
	if err := root.Remove(rel); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("deleting picture %s: %w", id, err)
	}
	return nil
}

// thumbnailSide is the longer side of a thumbnail, in pixels.
const thumbnailSide = 320

// Thumbnail is a small JPEG of a picture.
func (g *Gallery) Thumbnail(id string) ([]byte, error) {
	if data, ok := g.thumbs.get(id); ok {
		return data, nil
	}
	g.decoding <- struct{}{}
	defer func() { <-g.decoding }()
	data, _, err := g.File(id)
	if err != nil {
		return nil, err
	}
	img, err := imagefile.LoadData(data)
	if err != nil {
		return nil, ErrMissing
	}
	if b := img.Bounds(); max(b.Dx(), b.Dy()) > thumbnailSide {
		img = imaging.Fit(img, thumbnailSide, thumbnailSide, imaging.Box)
	}
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, img, &jpeg.Options{Quality: 82}); err != nil {
		return nil, err
	}
	g.thumbs.put(id, buf.Bytes())
	return buf.Bytes(), nil
}

// cache keeps what was used last.
type cache struct {
	mu    sync.Mutex
	most  int
	items map[string]*list.Element
	order *list.List
}

type cached struct {
	id   string
	data []byte
}

func newCache(most int) *cache {
	return &cache{most: most, items: map[string]*list.Element{}, order: list.New()}
}

func (c *cache) get(id string) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[id]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(cached).data, true
}

func (c *cache) put(id string, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.items[id]; ok {
		return
	}
	c.items[id] = c.order.PushFront(cached{id, data})
	if c.order.Len() > c.most {
		last := c.order.Back()
		delete(c.items, c.order.Remove(last).(cached).id)
	}
}
