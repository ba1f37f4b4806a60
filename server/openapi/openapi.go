// Package openapi describes the server's routes as an OpenAPI 3.1 document, built from their Go request and response types.
package openapi

import (
	"encoding/json"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"darkroom/server/web"
	"darkroom/server/wire"
)

// object is a JSON object.
type object = map[string]any

// Document is the description of routes. settings are the properties that take the place of a request's settings.
func Document(version string, routes []web.Route, settings map[string]any) ([]byte, error) {
	g := &generator{schemas: object{}, names: map[reflect.Type]string{}}
	g.schemas["Settings"] = object{"type": "object", "description": "Settings of a picture, by the names of GET /v1/settings", "properties": settings}
	failure := g.reference(reflect.TypeFor[wire.ErrorBody]())
	paths := object{}
	for _, r := range routes {
		p := template.ReplaceAllString(r.Path, "{$1}")
		at, ok := paths[p].(object)
		if !ok {
			at = object{}
			paths[p] = at
		}
		at[strings.ToLower(r.Method)] = g.operation(r, failure)
	}
	return json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Darkroom", "version": version,
			"description": "Pictures from prompts. Jobs, pictures and choices under /v1; OpenAI's images API under /v1/images; AUTOMATIC1111's under /sdapi/v1.",
		},
		"paths": paths,
		"components": object{
			"schemas": g.schemas,
			"securitySchemes": object{
				"key":   object{"type": "http", "scheme": "bearer", "description": "--api-key"},
				"basic": object{"type": "http", "scheme": "basic", "description": "--api-auth"},
			},
		},
		"security": []any{object{}, object{"key": []any{}}, object{"basic": []any{}}},
	}, "", " ")
}

// template is a part of a path that a handler reads.
var template = regexp.MustCompile(`\{(\w+)(?:\.\.\.)?\}`)

type generator struct {
	schemas object
	names   map[reflect.Type]string
}

func (g *generator) operation(r web.Route, failure any) object {
	op := object{"summary": r.Summary, "tags": []string{r.Tag}, "operationId": operationID(r)}
	var parameters []any
	add := func(in, name, about string, required bool) {
		p := object{"in": in, "name": name, "required": required, "schema": object{"type": "string"}}
		if about != "" {
			p["description"] = about
		}
		parameters = append(parameters, p)
	}
	for _, m := range template.FindAllStringSubmatch(r.Path, -1) {
		add("path", m[1], "", true)
	}
	for _, q := range r.Query {
		add("query", q.Name, q.About, false)
	}
	for _, q := range r.Headers {
		add("header", q.Name, q.About, false)
	}
	if parameters != nil {
		op["parameters"] = parameters
	}
	if body := g.body(r); body != nil {
		op["requestBody"] = body
	}
	status := r.Status
	if status == 0 {
		status = 200
	}
	answer := object{"description": r.Summary}
	switch {
	case r.Answer != nil:
		answer["content"] = object{"application/json": object{"schema": g.schema(reflect.TypeOf(r.Answer))}}
	case r.AnswerMedia != "":
		answer["content"] = object{r.AnswerMedia: object{"schema": object{"type": "string"}}}
	}
	op["responses"] = object{
		strconv.Itoa(status): answer,
		"default":            object{"description": "an error", "content": object{"application/json": object{"schema": failure}}},
	}
	return op
}

func (g *generator) body(r web.Route) object {
	if r.Body == nil && r.Media == nil {
		return nil
	}
	media := r.Media
	if media == nil {
		media = []string{"application/json"}
	}
	content := object{}
	for _, m := range media {
		c := object{}
		switch {
		case r.Body == nil || m != "application/json" && !strings.HasPrefix(m, "multipart/"):
			c["schema"] = object{"type": "string"}
		default:
			c["schema"] = g.schema(reflect.TypeOf(r.Body))
			if r.Lax {
				c["schema"] = object{"allOf": []any{c["schema"], object{"$ref": "#/components/schemas/Settings"}}}
			}
			if r.Example != nil && m == "application/json" {
				c["example"] = r.Example
			}
		}
		content[m] = c
	}
	return object{"required": true, "content": content}
}

func operationID(r web.Route) string {
	words := strings.FieldsFunc(r.Method+" "+r.Path, func(c rune) bool { return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9') })
	id := strings.ToLower(words[0])
	for _, w := range words[1:] {
		id += strings.ToUpper(w[:1]) + w[1:]
	}
	return id
}

// schema is a type's schema; of a struct with a name, a reference.
func (g *generator) schema(t reflect.Type) any {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[json.RawMessage]():
		return object{} // anything
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.schema(t.Elem())
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Int, reflect.Int64, reflect.Int32, reflect.Uint64, reflect.Uint32:
		return object{"type": "integer"}
	case reflect.Float64, reflect.Float32:
		return object{"type": "number"}
	case reflect.Slice, reflect.Array:
		return object{"type": "array", "items": g.schema(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": g.schema(t.Elem())}
	case reflect.Struct:
		if t.Name() == "" {
			return g.structure(t)
		}
		return g.reference(t)
	}
	return object{}
}

// reference is a schema that stands among the components.
func (g *generator) reference(t reflect.Type) any {
	name, ok := g.names[t]
	if !ok {
		name = componentName.ReplaceAllString(t.Name(), "")
		if i := strings.LastIndexByte(t.Name(), '.'); strings.ContainsRune(t.Name(), '[') && i >= 0 { // List[darkroom/…/api.Model]
			name = strings.Trim(t.Name()[i+1:], "[]") + "List"
		}
		for n := 2; g.schemas[name] != nil; n++ {
			name = name + strconv.Itoa(n)
		}
		g.names[t] = name
		g.schemas[name] = object{} // it may hold itself
		g.schemas[name] = g.structure(t)
	}
	return object{"$ref": "#/components/schemas/" + name}
}

var componentName = regexp.MustCompile(`\[.*|\W`)

func (g *generator) structure(t reflect.Type) object {
	properties := object{}
	var required []string
	g.fields(t, properties, &required)
	s := object{"type": "object", "properties": properties}
	if required != nil {
		s["required"] = required
	}
	return s
}

// fields adds the fields of a struct as encoding/json has them. Its tag doc is their description, enum their values.
func (g *generator) fields(t reflect.Type, properties object, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
			continue
		case f.Anonymous && name == "":
			g.fields(f.Type, properties, required)
			continue
		case name == "":
			name = f.Name
		}
		s := g.schema(f.Type)
		about, values := f.Tag.Get("doc"), f.Tag.Get("enum")
		if o, ok := s.(object); ok && (about != "" || values != "") {
			if about != "" {
				o["description"] = about
			}
			if values != "" {
				o["enum"] = strings.Split(values, ",")
			}
		}
		properties[name] = s
		if !strings.Contains(rest, "omitempty") && f.Type.Kind() != reflect.Pointer {
			*required = append(*required, name)
		}
	}
}
