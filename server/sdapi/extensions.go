package sdapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"darkroom/imagefile"
	"darkroom/models/library"
	"darkroom/preprocess"
	"darkroom/server/ask"
	"darkroom/server/openai"
	"darkroom/server/web"
	"darkroom/server/wire"
)

// extensions are places beside /sdapi/v1: those of the ControlNet extension, and the ping of the web interface.
func (a *API) extensions() []web.Route {
	const tag = "sdapi"
	return []web.Route{
		{Method: "GET", Path: "/controlnet/version", Handle: controlVersion, Tag: tag, Summary: "ControlNet: the version of this API", Answer: map[string]int{}},
		{Method: "GET", Path: "/controlnet/settings", Handle: controlSettings, Tag: tag, Summary: "ControlNet: how many units clients show", Answer: map[string]int{}},
		{Method: "GET", Path: "/controlnet/model_list", Handle: controlModels, Tag: tag, Summary: "ControlNet: networks", Answer: map[string][]string{}},
		{Method: "GET", Path: "/controlnet/module_list", Handle: controlModules, Tag: tag, Summary: "ControlNet: preprocessors", Answer: ControlModules{}},
		{Method: "GET", Path: "/controlnet/control_types", Handle: controlTypes, Tag: tag, Summary: "ControlNet: kinds of networks", Answer: map[string]map[string]ControlType{}},
		{Method: "POST", Path: "/controlnet/detect", Handle: a.detect, Tag: tag, Summary: "ControlNet: what a preprocessor makes of pictures", Body: DetectRequest{}, Answer: Detected{}, Lax: true},
		{Method: "GET", Path: "/internal/ping", Handle: nothing, Tag: tag, Summary: "AUTOMATIC1111: an answer while the server runs", Answer: struct{}{}},
	}
}

// refused are places for what this server does not do, with what it says.
var refused = map[string]string{
	"interrogate":    "this server has no network that describes pictures: send png-info the file, if a program has written its prompt there",
	"server-stop":    "the server is not stopped over the network",
	"server-kill":    "the server is not stopped over the network",
	"server-restart": "the server is not restarted over the network",
}

func refuse(text string) func(http.ResponseWriter, *http.Request) error {
	return func(http.ResponseWriter, *http.Request) error {
		return &wire.Error{Status: http.StatusForbidden, Type: "invalid_request_error", Message: text} // no client sends it again
	}
}

func controlVersion(w http.ResponseWriter, _ *http.Request) error {
	web.JSON(w, http.StatusOK, map[string]int{"version": 3})
	return nil
}

// controlUnits is how many units clients show. More are taken.
const controlUnits = 3

func controlSettings(w http.ResponseWriter, _ *http.Request) error {
	web.JSON(w, http.StatusOK, map[string]int{"control_net_unit_count": controlUnits, "control_net_max_models_num": controlUnits})
	return nil
}

func controlNames() []string {
	all := []string{}
	for _, path := range library.Parts(library.Controls) {
		all = append(all, library.PartName(path))
	}
	return all
}

func controlModels(w http.ResponseWriter, _ *http.Request) error {
	web.JSON(w, http.StatusOK, map[string][]string{"model_list": controlNames()})
	return nil
}

// ControlModules is the answer of module_list.
type ControlModules struct {
	List   []string                 `json:"module_list"`
	Detail map[string]ControlModule `json:"module_detail"`
}

// ControlModule is what clients show of a preprocessor.
type ControlModule struct {
	ModelFree bool            `json:"model_free"`
	Sliders   []ControlSlider `json:"sliders"`
}

// ControlSlider is one of its numbers.
type ControlSlider struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Min   float64 `json:"min"`
	Max   float64 `json:"max"`
	Step  float64 `json:"step"`
}

// moduleNames are the names of that extension's preprocessors that are here, none first.
func moduleNames() []string {
	all := []string{}
	for name := range modules {
		if name != "" && name != "none" {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return append([]string{"none"}, all...)
}

func controlModules(w http.ResponseWriter, _ *http.Request) error {
	out := ControlModules{moduleNames(), map[string]ControlModule{}}
	for _, name := range out.List {
		m := ControlModule{Sliders: []ControlSlider{}}
		if modules[name] == "canny" { // the resolution is the picture's own; clients count sliders
			m.Sliders = []ControlSlider{{"Resolution", 512, 64, 2048, 8}, {"Canny Low Threshold", 100, 1, 255, 1}, {"Canny High Threshold", 200, 1, 255, 1}}
		}
		out.Detail[name] = m
	}
	web.JSON(w, http.StatusOK, out)
	return nil
}

// ControlType is a kind of networks with what fits it.
type ControlType struct {
	Modules       []string `json:"module_list"`
	Models        []string `json:"model_list"`
	DefaultOption string   `json:"default_option"`
	DefaultModel  string   `json:"default_model"`
}

func controlTypes(w http.ResponseWriter, _ *http.Request) error {
	all := ControlType{moduleNames(), append([]string{"None"}, controlNames()...), "none", "None"}
	types := map[string]ControlType{"All": all}
	for kind, own := range map[string]string{"Canny": "canny", "Tile": "tile_resample", "Scribble": "scribble_xdog", "SoftEdge": "softedge_pidinet", "Recolor": "recolor_luminance"} {
		t := ControlType{[]string{"none"}, []string{"None"}, own, "None"}
		for _, name := range all.Modules[1:] {
			if modules[name] == modules[own] {
				t.Modules = append(t.Modules, name)
			}
		}
		for _, name := range all.Models[1:] {
			if strings.Contains(strings.ToLower(name), strings.ToLower(kind)) {
				t.Models = append(t.Models, name)
			}
		}
		t.DefaultModel = t.Models[len(t.Models)-1]
		types[kind] = t
	}
	web.JSON(w, http.StatusOK, map[string]map[string]ControlType{"control_types": types})
	return nil
}

// DetectRequest is the body of detect.
type DetectRequest struct {
	Module string   `json:"controlnet_module"`
	Images []string `json:"controlnet_input_images"`
	Low    float64  `json:"controlnet_threshold_a,omitempty"`
	High   float64  `json:"controlnet_threshold_b,omitempty"`
}

// Detected is its answer.
type Detected struct {
	Images []string `json:"images"`
	Info   string   `json:"info"`
}

func (a *API) detect(w http.ResponseWriter, r *http.Request) error {
	fields, err := a.fields(w, r)
	if err != nil {
		return err
	}
	pre, err := module(text(fields, "controlnet_module"))
	if err != nil {
		return ask.Invalid("controlnet_module", "%v", err)
	}
	var images []string
	if json.Unmarshal(fields["controlnet_input_images"], &images) != nil || len(images) == 0 {
		return ask.Invalid("controlnet_input_images", "it must be a list of pictures in base64")
	}
	low, high := thresholds(pre, number(fields, "controlnet_threshold_a", 0), number(fields, "controlnet_threshold_b", 0))
	out := Detected{[]string{}, "Success"}
	for _, b64 := range images {
		data, err := openai.FromBase64(b64)
		if err == nil {
			err = a.Uploads.Check(data)
		}
		if err != nil {
			return ask.Invalid("controlnet_input_images", "%v", err)
		}
		img, err := imagefile.LoadData(data)
		if err != nil {
			return ask.Invalid("controlnet_input_images", "%v", err)
		}
		if pre != "" {
			if img, err = preprocess.Apply(pre, img, preprocess.Options{Low: low, High: high}); err != nil {
				return err
			}
		}
		var buf bytes.Buffer
		if err := imagefile.EncodePlain(&buf, img, imagefile.Options{}); err != nil {
			return err
		}
		out.Images = append(out.Images, base64.StdEncoding.EncodeToString(buf.Bytes()))
	}
	web.JSON(w, http.StatusOK, out)
	return nil
}
