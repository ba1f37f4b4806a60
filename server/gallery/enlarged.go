package gallery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"darkroom/batch/history"
	"darkroom/batch/jobs"
	"darkroom/batch/store"
	"darkroom/models/library"
	"darkroom/recipe"
	"darkroom/server/dispatch"
	"darkroom/server/wire"
)

// Enlarged is a picture that an upscaler made.
type Enlarged struct {
	Data          []byte // a PNG
	Width, Height int
	Scale         int
	Seconds       float64
	From          string         // the file that was enlarged
	Upscaler      string         // its file
	Recipe        *recipe.Recipe // of the picture that was enlarged; nil: none is known
}

// AddEnlarged keeps an enlarged picture among the server's own, and writes it into the history.
func (g *Gallery) AddEnlarged(ctx context.Context, e Enlarged) (wire.Picture, error) {
	folder, err := store.OpenFolder(g.folder)
	if err != nil {
		return wire.Picture{}, err
	}
	defer folder.Close()
	now := time.Now()
	base := strings.TrimSuffix(filepath.Base(e.From), filepath.Ext(e.From))
	file, err := store.PutFree(ctx, folder, fmt.Sprintf("%s/%s-x%d.png", now.UTC().Format(time.DateOnly), base, e.Scale), e.Data)
	if err != nil {
		return wire.Picture{}, err
	}
	sum := sha256.Sum256(e.Data)
	entry := history.Entry{
		At: now, File: filepath.Join(g.folder, filepath.FromSlash(file)), SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(e.Data)), Seconds: e.Seconds,
		Width: e.Width, Height: e.Height, Enlarged: &history.Enlarged{From: e.From, Upscaler: library.PartName(e.Upscaler)},
	}
	if c := e.Recipe; c != nil {
		entry.Request = jobs.Request{Given: recipe.Of(c.Settings())}
		entry.Request.Set("backend", "")
		entry.Model, entry.ModelHash, entry.Backend, entry.DType = c.Model, c.ModelHash, c.Backend, c.DType
	}
	if err := g.history.Add(entry); err != nil {
		return wire.Picture{}, err
	}
	id := dispatch.PictureID(entry.SHA256)
	p, ok := g.Get(id)
	if !ok {
		return p, fmt.Errorf("the picture %s is not in the history", file)
	}
	return p, nil
}
