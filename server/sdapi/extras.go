package sdapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"net/http"
	"strings"

	"github.com/disintegration/imaging"

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
	add("POST", "extra-single-image", "enlarge a picture", a.extraSingle, ExtraRequest{}, Extra{})
	add("POST", "extra-batch-images", "enlarge pictures", a.extraBatch, ExtraBatchRequest{}, ExtraBatch{})
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

// ExtraRequest is the body of extra-single-image. Faces are not restored, and a second upscaler is not mixed in.
type ExtraRequest struct {
	Image            string  `json:"image"`
	ResizeMode       int     `json:"resize_mode,omitempty" doc:"0: by upscaling_resize; 1: to upscaling_resize_w and _h"`
	UpscalingResize  float64 `json:"upscaling_resize,omitempty"`
	UpscalingResizeW int     `json:"upscaling_resize_w,omitempty"`
	UpscalingResizeH int     `json:"upscaling_resize_h,omitempty"`
	UpscalingCrop    bool    `json:"upscaling_crop,omitempty"`
	Upscaler1        string  `json:"upscaler_1,omitempty"`
}

// Extra is its answer.
type Extra struct {
	HTMLInfo string `json:"html_info"`
	Image    string `json:"image"`
}

// ExtraBatchRequest is the body of extra-batch-images.
type ExtraBatchRequest struct {
	ExtraRequest
	ImageList []ExtraImage `json:"imageList"`
}

// ExtraImage is one of its pictures.
type ExtraImage struct {
	Data string `json:"data"`
	Name string `json:"name"`
}

// ExtraBatch is its answer.
type ExtraBatch struct {
	HTMLInfo string   `json:"html_info"`
	Images   []string `json:"images"`
}

func (a *API) extraSingle(w http.ResponseWriter, r *http.Request) error {
	fields, err := a.fields(w, r)
	if err != nil {
		return err
	}
	out, err := a.enlarge(r, fields, text(fields, "image"))
	if err != nil {
		return err
	}
	web.JSON(w, http.StatusOK, Extra{"", out})
	return nil
}

func (a *API) extraBatch(w http.ResponseWriter, r *http.Request) error {
	fields, err := a.fields(w, r)
	if err != nil {
		return err
	}
	var list []ExtraImage
	if json.Unmarshal(fields["imageList"], &list) != nil || len(list) == 0 {
		return ask.Invalid("imageList", "it must be a list of pictures")
	}
	out := ExtraBatch{}
	for _, i := range list {
		one, err := a.enlarge(r, fields, i.Data)
		if err != nil {
			return err
		}
		out.Images = append(out.Images, one)
	}
	web.JSON(w, http.StatusOK, out)
	return nil
}

// enlarge enlarges a picture in base64.
func (a *API) enlarge(r *http.Request, fields map[string]json.RawMessage, b64 string) (string, error) {
	data, err := openai.FromBase64(b64)
	if err != nil {
		return "", ask.Invalid("image", "%v", err)
	}
	if err := a.Uploads.Check(data); err != nil {
		return "", ask.Invalid("image", "%v", err)
	}
	img, err := imagefile.LoadData(data)
	if err != nil {
		return "", ask.Invalid("image", "%v", err)
	}
	scale := number(fields, "upscaling_resize", 2)
	width, height := float64(img.Bounds().Dx()), float64(img.Bounds().Dy())
	w, h := math.Round(width*scale), math.Round(height*scale)
	if number(fields, "resize_mode", 0) == 1 {
		w, h = number(fields, "upscaling_resize_w", 512), number(fields, "upscaling_resize_h", 512)
		if fields["upscaling_crop"] == nil || truth(fields, "upscaling_crop") { // the picture fills it, and its middle is kept
			both := max(w/width, h/height)
			img = imaging.CropCenter(img, int(math.Round(w/both)), int(math.Round(h/both)))
		}
	}
	if !(w >= 1 && h >= 1 && w <= recipe.MaxSide && h <= recipe.MaxSide) {
		return "", ask.Invalid("upscaling_resize", "%v×%v pixels: sides must be from 1 to %d", w, h, recipe.MaxSide)
	}
	name := text(fields, "upscaler_1")
	larger, err := a.Enlarger.To(r.Context(), library.NameOf(name), img, int(w), int(h))
	if err != nil {
		return "", ask.Invalid("upscaler_1", "%v", err)
	}
	var buf bytes.Buffer
	if err := imagefile.EncodePlain(&buf, larger, imagefile.Options{}); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(buf.Bytes()), nil
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
