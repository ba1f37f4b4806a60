package sdapi

import (
	"encoding/json"
	"fmt"
	"strings"

	"darkroom/models/library"
	"darkroom/recipe"
	"darkroom/server/ask"
)

// modules are that extension's preprocessors that are here, by its names.
var modules = map[string]string{
	"": "", "none": "", "canny": "canny", "scribble_xdog": "sketch", "scribble_pidinet": "sketch", "invert": "invert", "invert (from white bg & black line)": "invert",
	"tile_resample": "tile", "recolor_luminance": "recolour", "recolor_intensity": "grey", "softedge_hed": "edges", "softedge_pidinet": "edges",
}

// module is the preprocessor that has a name there; "" is none.
func module(name string) (string, error) {
	pre, ok := modules[strings.ToLower(name)]
	if !ok {
		return "", fmt.Errorf("there is no preprocessor %.40q here: send its picture, with the module none", name)
	}
	return pre, nil
}

// thresholds are those of Canny's, where a client has set them; 0 and 0: the usual ones.
func thresholds(pre string, low, high float64) (float64, float64) {
	if pre != "canny" || low <= 1 || high <= 1 {
		return 0, 0
	}
	return low, high
}

// scripts reads what extensions are asked for: ControlNet's units. A script by name is refused; others of the many extensions
// change little, and are passed over.
func (a *API) scripts(asked *ask.Asked, fields map[string]json.RawMessage) error {
	if name := text(fields, "script_name"); name != "" && name != "None" {
		return ask.Invalid("script_name", "Script %.60q not found", name)
	}
	var all map[string]struct {
		Args json.RawMessage `json:"args"`
	}
	if json.Unmarshal(fields["alwayson_scripts"], &all) != nil {
		return nil
	}
	var controls []recipe.Control
	for name, s := range all {
		if !strings.EqualFold(name, "controlnet") {
			continue
		}
		var units []map[string]json.RawMessage // numbers may be texts
		if err := json.Unmarshal(s.Args, &units); err != nil {
			return ask.Invalid("alwayson_scripts", "ControlNet: units are needed: %v", err)
		}
		for _, u := range units {
			if u["enabled"] != nil && !truth(u, "enabled") {
				continue
			}
			if model := text(u, "model"); (model == "" || model == "None") && !a.facts(asked).ReadsControl {
				continue
			}
			c, err := a.control(u, asked.Init)
			if err != nil {
				return err
			}
			controls = append(controls, c)
		}
	}
	if controls != nil {
		asked.Set("control", recipe.FormatControls(controls))
	}
	return nil
}

// control is a unit as a setting; one without a network is for a model that reads a control picture itself. Without a picture of its
// own it reads the one that the request starts from.
func (a *API) control(u map[string]json.RawMessage, init string) (recipe.Control, error) {
	model := text(u, "model")
	if i := strings.LastIndex(model, " ["); i > 0 {
		model = model[:i]
	}
	if model == "None" {
		model = ""
	} else if model != "" {
		model = library.NameOf(model)
	}
	pre, err := module(text(u, "module"))
	if err != nil {
		return recipe.Control{}, ask.Invalid("alwayson_scripts", "ControlNet: %v", err)
	}
	c := recipe.Control{Model: model, Image: init, Scale: number(u, "weight", 1), Start: number(u, "guidance_start", 0), End: number(u, "guidance_end", 1), Pre: pre}
	if low, high := thresholds(pre, number(u, "threshold_a", 0), number(u, "threshold_b", 0)); low > 0 {
		c.Low, c.High = low, high
	}
	for _, raw := range []json.RawMessage{u["image"], u["input_image"]} {
		b64 := pictureText(raw)
		if b64 == "" {
			continue
		}
		var asked ask.Asked
		if err := a.takePicture(&asked, "init", "alwayson_scripts", b64); err != nil {
			return c, err
		}
		c.Image = asked.Init
		break
	}
	if c.Image == "" {
		return c, ask.Invalid("alwayson_scripts", "ControlNet: a unit has no picture")
	}
	return c, nil
}

// pictureText is a picture in base64, alone or in an object.
func pictureText(raw json.RawMessage) string {
	var b64 string
	if json.Unmarshal(raw, &b64) == nil {
		return b64
	}
	var object struct{ Image string }
	_ = json.Unmarshal(raw, &object) // something else is as good as nothing
	return object.Image
}
