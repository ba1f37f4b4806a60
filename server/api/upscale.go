package api

import (
	"net/http"
	"os"
	"strings"
	"time"

	"darkroom/imagefile"
	"darkroom/server/ask"
	"darkroom/server/enlarge"
	"darkroom/server/gallery"
	"darkroom/server/web"
)

// UpscaleRequest is the body of upscale.
type UpscaleRequest struct {
	Picture  string `json:"picture" doc:"picture:ID of one in the gallery, or upload:ID"`
	Upscaler string `json:"upscaler" doc:"its name: GET /v1/upscalers lists them"`
}

// upscale enlarges a picture. The large one is in the gallery, and in the history.
func (a *API) upscale(w http.ResponseWriter, r *http.Request) error {
	var q UpscaleRequest
	if err := web.Read(w, r, 1<<16, &q); err != nil {
		return err
	}
	var path string
	var err error
	if id, ok := strings.CutPrefix(q.Picture, "picture:"); ok {
		path, err = a.Read.Picture(id)
	} else if id, ok := strings.CutPrefix(q.Picture, "upload:"); ok {
		path, err = a.Read.Upload(id)
	} else {
		return ask.Invalid("picture", "%.40q: picture:ID of one in the gallery, or upload:ID of one that was sent (POST /v1/files), is needed", q.Picture)
	}
	if err != nil {
		return ask.Invalid("picture", "%v", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return gone(gallery.ErrMissing)
	}
	img, err := imagefile.LoadData(data)
	if err != nil {
		return ask.Invalid("picture", "%v", err)
	}
	info, err := imagefile.InspectData(data)
	if err != nil {
		info = imagefile.Info{} // it has no recipe to keep
	}
	begun := time.Now()
	larger, by, err := a.Enlarger.By(r.Context(), q.Upscaler, img)
	if err != nil {
		return ask.Invalid("upscaler", "%v", err)
	}
	out, c, err := enlarge.Encode(larger, info, by, imagefile.PNG)
	if err != nil {
		return err
	}
	size := larger.Bounds().Size()
	p, err := a.Gallery.AddEnlarged(r.Context(), gallery.Enlarged{
		Data: out, Width: size.X, Height: size.Y, Scale: by.Scale, Seconds: time.Since(begun).Seconds(), From: path, Upscaler: by.Path, Recipe: c,
	})
	if err != nil {
		return err
	}
	web.JSON(w, http.StatusCreated, p)
	return nil
}
