package openai

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"

	"darkroom/imagefile"
	"darkroom/recipe"
	"darkroom/server/ask"
	"darkroom/server/web"
)

func (a *API) edits(w http.ResponseWriter, r *http.Request) error {
	q, fields, pictures, err := a.form(w, r)
	if err != nil {
		return err
	}
	if q.edit = true; len(pictures) == 0 {
		return ask.Invalid("image", "it is missing: send the picture to change as image or image[]")
	}
	if err := a.read(q, fields, pictures); err != nil {
		return err
	}
	return a.answer(w, r, q)
}

// variations start from a picture without a prompt.
func (a *API) variations(w http.ResponseWriter, r *http.Request) error {
	q, fields, pictures, err := a.form(w, r)
	if err != nil {
		return err
	}
	if q.edit = true; pictures["init"] == "" {
		return ask.Invalid("image", "it is missing: send the picture to vary as image")
	}
	if fields["prompt"] == nil {
		fields["prompt"] = json.RawMessage(`""`)
	}
	delete(pictures, "mask")
	if err := a.read(q, fields, pictures); err != nil {
		return err
	}
	return a.answer(w, r, q)
}

// maxFields is how many parts a form may have.
const maxFields = 200

// form reads a form, or the same as JSON. pictures are the ids of those that came with it, by setting.
func (a *API) form(w http.ResponseWriter, r *http.Request) (*request, map[string]json.RawMessage, map[string]string, error) {
	data, err := web.ReadBody(w, r, a.MaxBody)
	if err != nil {
		return nil, nil, nil, err
	}
	q := &request{}
	kind, parameters, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	var fields map[string]json.RawMessage
	files := map[string][][]byte{}
	if strings.HasPrefix(kind, "multipart/") {
		if parameters["boundary"] == "" {
			return nil, nil, nil, ask.Invalid("", "the form has no boundary")
		}
		fields, files, err = readForm(multipart.NewReader(bytes.NewReader(data), parameters["boundary"]))
		parts := strings.ReplaceAll(string(data), parameters["boundary"], "") // which is drawn anew for each try
		q.key = keyOf(r, []byte(parts))
	} else {
		if fields, err = web.Fields(data); err == nil {
			err = jsonFiles(fields, files)
		}
		q.key = keyOf(r, data)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	pictures, err := a.keep(q, files)
	return q, fields, pictures, err
}

// readForm reads a form's fields as JSON texts, and its files by name.
func readForm(m *multipart.Reader) (map[string]json.RawMessage, map[string][][]byte, error) {
	fields, files := map[string]json.RawMessage{}, map[string][][]byte{}
	for range maxFields {
		p, err := m.NextPart()
		if errors.Is(err, io.EOF) {
			return fields, files, nil
		}
		if err != nil {
			return nil, nil, ask.Invalid("", "the form is damaged: %v", err)
		}
		data, err := io.ReadAll(p)
		if err != nil {
			return nil, nil, ask.Invalid("", "the form is damaged: %v", err)
		}
		name := strings.TrimSuffix(p.FormName(), "[]")
		switch {
		case name == "":
		case p.FileName() != "" || name == "image" || name == "mask":
			files[name] = append(files[name], data)
		default:
			text, err := json.Marshal(string(data))
			if err != nil {
				return nil, nil, err
			}
			fields[name] = text
		}
	}
	return nil, nil, ask.Invalid("", "the form has more than %d parts", maxFields)
}

// jsonFiles takes pictures out of a JSON body: data URLs, or ids of uploads.
func jsonFiles(fields map[string]json.RawMessage, files map[string][][]byte) error {
	take := func(name string, text string) error {
		if id, ok := strings.CutPrefix(text, "upload:"); ok {
			files[name] = append(files[name], []byte(uploadMark+id))
			return nil
		}
		if strings.HasPrefix(text, "http:") || strings.HasPrefix(text, "https:") {
			return ask.Invalid(name, "addresses of pictures are not followed: send the picture as a data: URL or with POST /v1/files")
		}
		data, err := FromBase64(text)
		if err != nil {
			return ask.Invalid(name, "%v", err)
		}
		files[name] = append(files[name], data)
		return nil
	}
	var body struct {
		Images []EditImage     `json:"images"`
		Image  json.RawMessage `json:"image"`
		Mask   json.RawMessage `json:"mask"`
	}
	for name, to := range map[string]any{"images": &body.Images, "image": &body.Image, "mask": &body.Mask} {
		if raw := fields[name]; raw != nil {
			if err := json.Unmarshal(raw, to); err != nil {
				return ask.Invalid(name, "%v", err)
			}
		}
	}
	for _, i := range body.Images {
		text := i.ImageURL
		if i.FileID != "" {
			text = "upload:" + i.FileID
		}
		if err := take("image", text); err != nil {
			return err
		}
	}
	for name, raw := range map[string]json.RawMessage{"image": body.Image, "mask": body.Mask} {
		if raw == nil || string(raw) == "null" {
			continue
		}
		var texts []string
		var text string
		var object EditImage
		switch {
		case json.Unmarshal(raw, &text) == nil:
			texts = []string{text}
		case json.Unmarshal(raw, &texts) == nil:
		case json.Unmarshal(raw, &object) == nil && object.FileID != "":
			texts = []string{"upload:" + object.FileID}
		case object.ImageURL != "":
			texts = []string{object.ImageURL}
		default:
			return ask.Invalid(name, "it must be a data: URL")
		}
		for _, t := range texts {
			if err := take(name, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// uploadMark stands before the id of a picture that was sent before.
const uploadMark = "\x00upload:"

var errNoBase64 = errors.New("it is not a picture in base64")

// FromBase64 reads base64, of a data: URL or alone.
func FromBase64(text string) ([]byte, error) {
	if rest, ok := strings.CutPrefix(text, "data:"); ok {
		_, text, ok = strings.Cut(rest, ",")
		if !ok {
			return nil, errNoBase64
		}
	}
	text = strings.Map(func(c rune) rune {
		switch c {
		case ' ', '\n', '\r', '\t':
			return -1
		case '-':
			return '+'
		case '_':
			return '/'
		}
		return c
	}, text)
	data, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(data) == 0 {
		return nil, errNoBase64
	}
	return data, nil
}

// keep puts pictures among the uploads, and gives the values of the settings that name them. Without a mask, a picture's own transparent parts are one.
func (a *API) keep(q *request, files map[string][][]byte) (map[string]string, error) {
	ids := map[string]string{}
	for name, setting := range map[string]string{"image": "init", "mask": "mask"} {
		list := files[name]
		if len(list) == 0 {
			continue
		}
		if len(list) > 1 {
			return nil, ask.Invalid(name, "%d pictures: models here start from one", len(list))
		}
		if id, ok := strings.CutPrefix(string(list[0]), uploadMark); ok {
			ids[setting] = "upload:" + id
			continue
		}
		u, err := a.Uploads.Put(list[0])
		if err != nil {
			return nil, ask.Invalid(name, "%v", err)
		}
		ids[setting] = "upload:" + u.ID
		if name != "image" {
			continue
		}
		q.width, q.height = u.Width, u.Height
		if len(files["mask"]) == 0 && transparent(list[0]) {
			ids["mask"] = recipe.MaskOfAlpha
		}
	}
	if ids["mask"] != "" && ids["init"] == "" {
		return nil, ask.Invalid("image", "there is a mask but no picture to change")
	}
	return ids, nil
}

func transparent(data []byte) bool {
	img, err := imagefile.LoadData(data)
	return err == nil && !img.Opaque()
}
