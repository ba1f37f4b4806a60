package sdapi

import (
	"encoding/json"
	"net/http"
	"strings"

	"darkroom/imagefile"
	"darkroom/models/library"
	"darkroom/recipe"
	"darkroom/server/ask"
	"darkroom/server/openai"
	"darkroom/server/web"
	"darkroom/server/wire"
)

func (a *API) addExtras(add adder) {
	add("POST", "png-info", "the parameters in a picture", a.pngInfo, PNGInfoRequest{}, PNGInfo{})
}

// PNGInfoRequest is the body of png-info.
type PNGInfoRequest struct {
	Image string `json:"image"`
}

// PNGInfo is its answer.
type PNGInfo struct {
	Info       string            `json:"info" doc:"the parameters text"`
	Items      map[string]string `json:"items" doc:"the other texts in the file"`
	Parameters map[string]string `json:"parameters" doc:"the parameters taken apart, by their names there"`
}

func (a *API) pngInfo(w http.ResponseWriter, r *http.Request) error {
	fields, err := a.fields(w, r)
	if err != nil {
		return err
	}
	data, err := openai.FromBase64(text(fields, "image"))
	if err != nil {
		return &wire.Error{Status: http.StatusNotFound, Type: "invalid_request_error", Message: "Image not found"}
	}
	file, err := imagefile.InspectData(data)
	if err != nil {
		return ask.Invalid("image", "%v", err)
	}
	out := PNGInfo{Items: map[string]string{}, Parameters: map[string]string{}, Info: file.Text("parameters")}
	if out.Info == "" && file.Recipe != nil {
		out.Info = file.Recipe.Parameters() // of a description in another form
	}
	for _, t := range file.Texts {
		out.Items[t.Key] = t.Value
	}
	if f, err := recipe.ParseParameters(out.Info); err == nil {
		out.Parameters["Prompt"], out.Parameters["Negative prompt"] = f.Recipe.Prompt, f.Recipe.Negative
		for _, x := range f.Fields {
			out.Parameters[x.Key] = x.Value
		}
	}
	web.JSON(w, http.StatusOK, out)
	return nil
}

// hires asks for a second, larger pass.
func hires(asked *ask.Asked, fields map[string]json.RawMessage, width, height int) error {
	h := recipe.Hires{Scale: number(fields, "hr_scale", 2), Upscaler: recipe.HiresLatent, Strength: number(fields, "denoising_strength", 0.75), Steps: int(number(fields, "hr_second_pass_steps", 0))}
	if x, y := number(fields, "hr_resize_x", 0), number(fields, "hr_resize_y", 0); x > 0 || y > 0 {
		h.Scale = max(x/float64(max(width, 1)), y/float64(max(height, 1)))
	}
	switch name := text(fields, "hr_upscaler"); {
	case name == "" || strings.HasPrefix(name, "Latent"):
	case strings.EqualFold(name, "lanczos"), strings.EqualFold(name, "none"), strings.EqualFold(name, "nearest"):
		h.Upscaler = recipe.HiresLanczos
	default:
		h.Upscaler = library.NameOf(name)
	}
	if h.Scale <= 1 { // as good as no second pass
		return nil
	}
	h.Strength = min(max(h.Strength, 0.01), 1)
	if _, err := recipe.ParseHires(h.String()); err != nil {
		return ask.Invalid("hr_scale", "%v", err)
	}
	asked.Set("hires", h.String())
	return nil
}
