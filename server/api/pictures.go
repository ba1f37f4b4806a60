package api

import (
	"net/http"

	"darkroom/family"
	"darkroom/imagefile"
	"darkroom/models/library"
	"darkroom/recipe"
	"darkroom/server/ask"
	"darkroom/server/web"
	"darkroom/server/wire"
)

func (a *API) listPictures(w http.ResponseWriter, r *http.Request) error {
	n, err := limit(r, 50, 500)
	if err != nil {
		return err
	}
	list, err := a.Gallery.Find(r.URL.Query().Get("query"), n, r.URL.Query().Get("before"))
	if err != nil {
		return err
	}
	web.JSON(w, http.StatusOK, list)
	return nil
}

func noPicture(id string) error { return web.NotFound("there is no picture %.40q", id) }

func (a *API) getPicture(w http.ResponseWriter, r *http.Request) error {
	p, ok := a.Gallery.Get(r.PathValue("id"))
	if !ok {
		return noPicture(r.PathValue("id"))
	}
	web.JSON(w, http.StatusOK, p)
	return nil
}

func (a *API) pictureFile(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if _, ok := a.Gallery.Get(id); !ok {
		return noPicture(id)
	}
	data, kind, err := a.Gallery.File(id)
	if err != nil {
		return gone(err)
	}
	a.picture(w, r, id, kind, data)
	return nil
}

func (a *API) thumbnail(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if _, ok := a.Gallery.Get(id); !ok {
		return noPicture(id)
	}
	data, err := a.Gallery.Thumbnail(id)
	if err != nil {
		return gone(err)
	}
	a.picture(w, r, id+"-thumbnail", "image/jpeg", data)
	return nil
}

// gone is the error of a picture whose file is not there any more.
func gone(err error) error {
	return &wire.Error{Status: http.StatusGone, Type: "invalid_request_error", Message: err.Error(), Code: "gone"}
}

// picture answers with a picture, which never changes under its id.
func (a *API) picture(w http.ResponseWriter, r *http.Request, tag, kind string, data []byte) {
	h := w.Header()
	h.Set("ETag", `"`+tag+`"`)
	h.Set("Cache-Control", "private, max-age=31536000, immutable")
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", "inline")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	if r.Header.Get("If-None-Match") == h.Get("ETag") {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	web.Bytes(w, http.StatusOK, data)
}

func (a *API) deletePicture(w http.ResponseWriter, r *http.Request) error {
	p, ok := a.Gallery.Get(r.PathValue("id"))
	switch {
	case !ok:
		return noPicture(r.PathValue("id"))
	case !p.Own:
		return ask.Invalid("id", "the picture was not made by this server, which deletes only its own")
	}
	if err := a.Gallery.Delete(p.ID); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) postFile(w http.ResponseWriter, r *http.Request) error {
	data, err := web.ReadBody(w, r, a.MaxBody)
	if err != nil {
		return err
	}
	u, err := a.Uploads.Put(data)
	if err != nil {
		return ask.Invalid("", "%v", err)
	}
	web.JSON(w, http.StatusCreated, u)
	return nil
}

// Inspected is what a picture of any program says of itself.
type Inspected struct {
	Settings   any      `json:"settings" doc:"by the names of this program, as far as they are known"`
	Parameters string   `json:"parameters" doc:"the text that programs read and write"`
	Warnings   []string `json:"warnings"`
	Program    string   `json:"program"`
	Width      int      `json:"width"`
	Height     int      `json:"height"`
	Complete   bool     `json:"complete" doc:"the picture has this program's own recipe, with every setting"`
}

func (a *API) inspect(w http.ResponseWriter, r *http.Request) error {
	data, err := web.ReadBody(w, r, a.MaxBody)
	if err != nil {
		return err
	}
	info, err := imagefile.InspectData(data)
	if err != nil {
		return ask.Invalid("", "%v", err)
	}
	out := Inspected{Settings: struct{}{}, Warnings: []string{}, Width: info.Width, Height: info.Height, Complete: info.Complete, Parameters: info.Text("parameters")}
	if f := info.Parameters; f != nil && !info.Complete {
		out.Program, out.Warnings = f.Program, append(out.Warnings, f.Notes...)
		for _, u := range f.Unused {
			out.Warnings = append(out.Warnings, u.Key+" is not used: "+u.Value)
		}
		out.Settings = known(f)
	}
	if info.Complete {
		out.Program = "darkroom " + info.Recipe.Version
		s := info.Recipe.Settings()
		s.Backend, s.DType = "", ""
		out.Settings = recipe.Of(s)
	}
	web.JSON(w, http.StatusOK, out)
	return nil
}

// known are the settings that another program's description decides.
func known(f *recipe.Foreign) (g recipe.Given) {
	for _, s := range recipe.All() {
		if v := s.FromRecipe(&f.Recipe); v != nil && f.Knows(s.JSON()) {
			g.Set(s.Name, v)
		}
	}
	var installed []string
	for _, path := range library.Parts(library.Embeddings) {
		installed = append(installed, library.PartName(path))
	}
	if len(family.Mentioned(installed, f.Recipe.Prompt, f.Recipe.Negative)) > 0 { // there, a word is enough
		g.Set("embedding", recipe.EmbeddingsByWord)
	}
	return g
}
