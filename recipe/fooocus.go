package recipe

import (
	"encoding/json"
	"slices"
	"strings"
)

// parseFooocus reads the JSON that Fooocus writes in place of the parameters text.
func parseFooocus(text string) (Foreign, error) {
	var values map[string]any
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber() // a seed has more digits than a float64
	if err := dec.Decode(&values); err != nil {
		return Foreign{}, ErrNoParameters
	}
	var f Foreign
	f.Recipe.Prompt, _ = values["prompt"].(string)
	f.Recipe.Negative, _ = values["negative_prompt"].(string)
	f.learn("prompt", "negative")
	delete(values, "prompt")
	delete(values, "negative_prompt")
	for key, value := range values {
		var v string
		switch value := value.(type) {
		case string:
			v = value
		case json.Number:
			v = value.String()
		default:
			continue
		}
		if name := fooocusKeys[key]; name != "" {
			key = name
		}
		f.Fields = append(f.Fields, Field{key, v})
	}
	slices.SortFunc(f.Fields, func(a, b Field) int { return strings.Compare(a.Key, b.Key) })
	if !f.Has("Steps") || !f.Has("Seed") {
		return Foreign{}, ErrNoParameters
	}
	f.translate()
	return f, nil
}

// fooocusKeys are the keys of Fooocus's own JSON form of the parameters, and the keys that they have in the text.
var fooocusKeys = map[string]string{
	"steps": "Steps", "sampler": "Sampler", "scheduler": "Schedule type", "guidance_scale": "CFG scale",
	"seed": "Seed", "resolution": "Size", "base_model": "Model", "base_model_hash": "Model hash",
	"clip_skip": "Clip skip", "version": "Version",
}
