package sdapi

import (
	"encoding/json"
	"strings"

	"darkroom/models/library"
	"darkroom/recipe"
	"darkroom/server/ask"
)

// unit is a unit of the ControlNet extension.
type unit struct {
	Enabled       *bool           `json:"enabled"`
	Module        string          `json:"module"`
	Model         string          `json:"model"`
	Weight        *float64        `json:"weight"`
	Image         json.RawMessage `json:"image"`
	InputImage    json.RawMessage `json:"input_image"`
	ThresholdA    float64         `json:"threshold_a"`
	ThresholdB    float64         `json:"threshold_b"`
	GuidanceStart float64         `json:"guidance_start"`
	GuidanceEnd   *float64        `json:"guidance_end"`
}

// modules are that extension's preprocessors that are here, by its names.
var modules = map[string]string{
	"": "", "none": "", "canny": "canny", "scribble_xdog": "sketch", "scribble_pidinet": "sketch", "invert": "invert", "invert (from white bg & black line)": "invert",
	"tile_resample": "tile", "recolor_luminance": "recolour", "recolor_intensity": "grey", "softedge_hed": "edges", "softedge_pidinet": "edges",
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
		var units []unit
		if err := json.Unmarshal(s.Args, &units); err != nil {
			return ask.Invalid("alwayson_scripts", "ControlNet: units are needed: %v", err)
		}
		for _, u := range units {
			if u.Enabled != nil && !*u.Enabled || u.Model == "" || u.Model == "None" {
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

// control is a unit as a setting. Without a picture of its own it reads the one that the request starts from.
func (a *API) control(u unit, init string) (recipe.Control, error) {
	model := u.Model
	if i := strings.LastIndex(model, " ["); i > 0 {
		model = model[:i]
	}
	pre, ok := modules[strings.ToLower(u.Module)]
	if !ok {
		return recipe.Control{}, ask.Invalid("alwayson_scripts", "ControlNet: there is no preprocessor %.40q here: send its picture, with the module none", u.Module)
	}
	c := recipe.Control{Model: library.NameOf(model), Image: init, Scale: 1, Start: u.GuidanceStart, End: 1, Pre: pre}
	if u.Weight != nil {
		c.Scale = *u.Weight
	}
	if u.GuidanceEnd != nil {
		c.End = *u.GuidanceEnd
	}
	if pre == "canny" && u.ThresholdA > 1 && u.ThresholdB > 1 {
		c.Low, c.High = u.ThresholdA, u.ThresholdB
	}
	for _, raw := range []json.RawMessage{u.Image, u.InputImage} {
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
