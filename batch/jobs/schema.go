package jobs

import (
	"bytes"
	"encoding/json"

	"darkroom/recipe"
)

// Schema is the JSON schema (draft 2020-12) of a job file: editors check and complete YAML with it, too.
func Schema() []byte {
	text := func(about string) map[string]any { return map[string]any{"type": "string", "description": about} }
	properties := map[string]any{
		"count":    several(map[string]any{"type": "integer", "minimum": 1, "maximum": maxCount}, "number of pictures, with consecutive seeds"),
		"name":     text("template for file names: {index:04}, {seed}, {slug}, {hash:8}, …"),
		"priority": map[string]any{"enum": Priorities, "description": "which jobs are rendered first"},
		"expand":   map[string]any{"enum": []string{expandEach, expandAll, expandNone}, "description": "each: the seed chooses among {a|b}; all: every alternative is a picture; none: braces are text"},
		"sweep":    map[string]any{"enum": []string{sweepProduct, sweepZip}, "description": "product: every value with every other; zip: first with first, second with second"},
	}
	for _, s := range recipe.All() {
		property := several(valueSchema(&s), s.About)
		for _, name := range append([]string{s.Name}, s.Aliases...) {
			properties[name] = property
		}
		if s.JSON() != s.Name {
			properties[s.JSON()] = property
		}
	}
	job := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	one := map[string]any{"$ref": "#/$defs/job"}
	list := map[string]any{"type": "array", "items": one}
	schema := map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "Jobs of darkroom batch",
		"$defs":   map[string]any{"job": job},
		"anyOf": []any{list, one, map[string]any{
			"type": "object", "required": []string{"jobs"}, "additionalProperties": false,
			"properties": map[string]any{
				"jobs": list, "defaults": one,
				"variables": map[string]any{"type": "object", "description": "texts for ${name}", "additionalProperties": map[string]any{
					"anyOf": []any{map[string]any{"type": []string{"string", "number"}}, map[string]any{"type": "array", "items": map[string]any{"type": []string{"string", "number"}}}},
				}},
			},
		}},
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(schema); err != nil {
		panic("jobs: " + err.Error())
	}
	return buf.Bytes()
}

// valueSchema is of one value of a setting.
func valueSchema(s *recipe.Setting) map[string]any {
	v := map[string]any{"type": map[recipe.Kind]string{
		recipe.TextKind: "string", recipe.WholeKind: "integer", recipe.NumberKind: "number", recipe.SeedKind: "integer", recipe.SwitchKind: "boolean",
	}[s.Kind]}
	switch {
	case s.Kind == recipe.SeedKind:
		v["minimum"] = 0
	case s.Low != 0 || s.High != 0:
		v["minimum"], v["maximum"] = s.Low, s.High
	case s.Choices != nil && s.Open:
		v["examples"] = s.Choices()
	case s.Choices != nil:
		v["enum"] = s.Choices()
	case s.MaxBytes > 0:
		v["maxLength"] = s.MaxBytes
	}
	return v
}

// several is a value, a list of values that are tried one by one, or a range of numbers.
func several(value map[string]any, about string) map[string]any {
	choices := []any{value}
	items := value
	if t := value["type"]; t == "integer" || t == "number" {
		span := map[string]any{"type": "string", "pattern": `\.\.`}
		choices = append(choices, span)
		items = map[string]any{"anyOf": []any{value, span}}
	}
	return map[string]any{"description": about, "anyOf": append(choices, map[string]any{"type": "array", "minItems": 1, "items": items})}
}
