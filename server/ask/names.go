package ask

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"darkroom/batch/jobs"
	defaultmodel "darkroom/models/default"
	"darkroom/models/library"
	"darkroom/recipe"
	"darkroom/server/wire"
	"darkroom/similar"
)

// resolvers turn what a setting names into paths of files here. A setting whose text may be a path and that is not among them
// cannot be given.
var resolvers = map[string]func(r *Reader, text string) (string, error){
	"model":        (*Reader).model,
	"vae":          part(library.VAEs),
	"lora":         uses(library.LoRAs),
	"embedding":    (*Reader).embeddings,
	"init":         (*Reader).picture,
	"mask":         (*Reader).mask,
	"hires":        (*Reader).hires,
	"refiner":      (*Reader).refiner,
	"depth":        (*Reader).picture,
	"control":      (*Reader).control,
	"parts":        (*Reader).model,
	"text-encoder": parts(library.TextModels),
	"regions":      (*Reader).regions,
	"reference":    (*Reader).references,
	"motion":       (*Reader).motion,
}

// plain are settings whose texts do not name files, though the table does not list all of their values.
var plain = map[string]bool{
	"prompt": true, "negative": true, "toward": true, "cache": true, "guidance": true, "move": true, "outpaint": true, "scheduler": true, "sigmas": true, "variation": true, "windows": true,
}

// Resolve is a request with the paths of what it names. The error is a *wire.Error.
func (r *Reader) Resolve(q *jobs.Request) (jobs.Request, error) {
	out := *q
	var failed error
	q.Each(func(s *recipe.Setting, v any) {
		text, isText := v.(string)
		if failed != nil || !isText || text == "" {
			return
		}
		resolve := resolvers[s.Name]
		switch {
		case resolve != nil:
			path, err := resolve(r, text)
			if err != nil {
				failed = named(s.JSON(), err)
				return
			}
			out.Set(s.Name, path)
		case plain[s.Name], s.Choices != nil && !s.Open:
		default:
			failed = Invalid(s.JSON(), "this setting cannot be given over the network")
		}
	})
	return out, failed
}

// named is err with the field that it is about.
func named(param string, err error) error {
	var e *wire.Error
	if !errors.As(err, &e) {
		return Invalid(param, "%v", err)
	}
	with := *e
	with.Param = param
	return &with
}

func (r *Reader) model(name string) (string, error) {
	if path, ok := r.Catalogue.path(name); ok {
		return path, nil
	}
	return "", &wire.Error{
		Status: http.StatusNotFound, Type: "invalid_request_error", Code: "model_not_found",
		Message: fmt.Sprintf("there is no model %.60q%s: GET /v1/models lists them", name, similar.Hint(name, r.Catalogue.names())),
	}
}

// isName reports whether a text can be a name, and no path.
func isName(text string) bool {
	return text != "" && text != "." && text != ".." && !strings.ContainsAny(text, "/\\\x00")
}

func part(k library.Kind) func(*Reader, string) (string, error) {
	return func(_ *Reader, name string) (string, error) {
		if !isName(name) {
			return "", fmt.Errorf("%.60q: it must be the name of a %s, not a path", name, k.Name)
		}
		return library.NamedPart(k, name)
	}
}

// parts are several of a kind, with semicolons between.
func parts(k library.Kind) func(*Reader, string) (string, error) {
	return func(r *Reader, text string) (string, error) {
		return each(text, "the "+k.Name, func(name string) (string, error) { return part(k)(r, name) })
	}
}

// each is a list of names, with semicolons between, as paths.
func each(text, what string, find func(string) (string, error)) (string, error) {
	list := strings.Split(text, ";")
	for i, name := range list {
		path, err := find(strings.TrimSpace(name))
		if err != nil {
			return "", err
		}
		if strings.Contains(path, ";") {
			return "", fmt.Errorf("%s's path has ;, which separates them: rename it", what)
		}
		list[i] = path
	}
	return strings.Join(list, ";"), nil
}

func uses(k library.Kind) func(*Reader, string) (string, error) {
	return func(r *Reader, text string) (string, error) {
		list, err := recipe.ParseUses(text)
		if err != nil {
			return "", err
		}
		for i := range list {
			if list[i].Name, err = part(k)(r, list[i].Name); err != nil {
				return "", err
			}
			if strings.Contains(list[i].Name, ",") {
				return "", fmt.Errorf("the %s's path has a comma, which separates them: rename it", k.Name)
			}
		}
		return recipe.FormatUses(list), nil
	}
}

// embeddings are names, or auto.
func (r *Reader) embeddings(text string) (string, error) {
	if strings.TrimSpace(text) == recipe.EmbeddingsByWord {
		return recipe.EmbeddingsByWord, nil
	}
	return uses(library.Embeddings)(r, text)
}

// control resolves the networks, their image encoders and the pictures of controls.
func (r *Reader) control(text string) (string, error) {
	list, err := recipe.ParseControls(text)
	if err != nil {
		return "", err
	}
	for i := range list {
		c := &list[i]
		if c.Model != "" {
			if c.Model, err = part(library.Controls)(r, c.Model); err != nil {
				return "", err
			}
		}
		if c.Encoder != "" {
			if c.Encoder, err = part(library.Visions)(r, c.Encoder); err != nil {
				return "", err
			}
		}
		if c.Image, err = r.picture(c.Image); err != nil {
			return "", err
		}
	}
	out := recipe.FormatControls(list)
	if again, err := recipe.ParseControls(out); err != nil || !slices.Equal(again, list) {
		return "", errors.New("the path of a control has a character that separates controls: rename it")
	}
	return out, nil
}

func (r *Reader) picture(text string) (string, error) {
	if id, ok := strings.CutPrefix(text, "upload:"); ok {
		return r.Upload(id)
	}
	if id, ok := strings.CutPrefix(text, "picture:"); ok {
		return r.Picture(id)
	}
	return "", fmt.Errorf("%.40q: upload:ID of a picture that was sent (POST /v1/files), or picture:ID of one in the gallery, is needed", text)
}

// references are pictures with ; between.
func (r *Reader) references(text string) (string, error) {
	return each(text, "the picture", r.picture)
}

// mask is a picture, or the transparent part of init.
func (r *Reader) mask(text string) (string, error) {
	if text == recipe.MaskOfAlpha {
		return text, nil
	}
	return r.picture(text)
}

// hires may name an upscaler.
func (r *Reader) hires(text string) (string, error) {
	h, err := recipe.ParseHires(text)
	if err != nil || h == nil || h.Upscaler == recipe.HiresLatent || h.Upscaler == recipe.HiresLanczos {
		return text, err
	}
	path, err := part(library.Upscalers)(r, h.Upscaler)
	if strings.Contains(path, ",") {
		return "", fmt.Errorf("the upscaler's path has a comma, which separates settings: rename it")
	}
	h.Upscaler = path
	return h.String(), err
}

// refiner is a model with its share.
func (r *Reader) refiner(text string) (string, error) {
	name, start, err := recipe.ParseRefiner(text)
	if err != nil {
		return "", err
	}
	path, err := r.model(name)
	if err != nil {
		return "", err
	}
	return recipe.FormatRefiner(path, start), nil
}

// regions may be the areas of a mask.
func (r *Reader) regions(text string) (string, error) {
	list, err := recipe.ParseRegions(text)
	if err != nil {
		return "", err
	}
	for i := range list {
		if _, known, err := recipe.Rectangle(list[i].Area); err != nil {
			return "", err
		} else if known {
			continue
		}
		if list[i].Area, err = r.picture(list[i].Area); err != nil {
			return "", err
		}
		if strings.ContainsAny(list[i].Area, ";=") {
			return "", fmt.Errorf("a path has ; or =, which separate settings: rename it")
		}
	}
	return recipe.FormatRegions(list), nil
}

// IsDefault reports whether a name is that of the embedded model, or of none.
func IsDefault(name string) bool { return name == "" || name == defaultmodel.Name }

// motion is a motion module with its options.
func (r *Reader) motion(text string) (string, error) {
	m, err := recipe.ParseMotion(text)
	if err != nil || m == nil {
		return text, err
	}
	m.Model, err = part(library.Motions)(r, m.Model)
	return m.String(), err
}
