// Package sdapi speaks the API of AUTOMATIC1111's web interface and of Forge, as the clients that were written for them send and
// read it.
package sdapi

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"darkroom/server/ask"
	"darkroom/server/dispatch"
	"darkroom/server/enlarge"
	"darkroom/server/gallery"
	"darkroom/server/web"
)

// API is the handlers' state.
type API struct {
	Jobs      *dispatch.Dispatcher
	Read      *ask.Reader
	Catalogue *ask.Catalogue
	Uploads   *gallery.Uploads
	Enlarger  *enlarge.Enlarger
	MaxBody   int64
	Folder    string // where the options are kept

	mu      sync.Mutex
	options map[string]json.RawMessage // that clients have set
	active  []active                   // jobs of this API, in the order in which they came
}

// active is a job of this API that has not ended.
type active struct{ client, job, task string }

// Routes are the API's places.
func (a *API) Routes() []web.Route {
	var routes []web.Route
	add := func(method, path, summary string, handle func(http.ResponseWriter, *http.Request) error, body, answer any) {
		routes = append(routes, web.Route{Method: method, Path: "/sdapi/v1/" + path, Handle: handle, Tag: "sdapi", Summary: "AUTOMATIC1111: " + summary, Body: body, Answer: answer, Lax: body != nil})
	}
	add("POST", "txt2img", "pictures from a prompt", a.txt2img, Generation{}, Answer{})
	add("POST", "img2img", "pictures from a picture", a.img2img, ImageGeneration{}, Answer{})
	a.addState(add)
	a.addLists(add)
	a.addExtras(add)
	for _, path := range slices.Sorted(maps.Keys(refused)) {
		add("POST", path, "is refused", refuse(refused[path]), struct{}{}, nil)
	}
	return append(routes, a.extensions()...)
}

// failure is how this API tells errors.
type failure struct {
	Error  string `json:"error"`
	Detail string `json:"detail"`
	Body   string `json:"body"`
	Errors string `json:"errors"`
}

// names are its kinds of errors, by status.
var names = map[int]string{
	http.StatusBadRequest: "RequestValidationError", http.StatusNotFound: "HTTPException", http.StatusUnprocessableEntity: "RequestValidationError",
	http.StatusInternalServerError: "RuntimeError",
}

// Error answers with an error.
func Error(w http.ResponseWriter, err error) {
	e := web.Failure(err)
	status := e.Status
	if status == http.StatusBadRequest {
		status = http.StatusUnprocessableEntity
	}
	name := names[status]
	if name == "" {
		name = "HTTPException"
	}
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "2")
	}
	web.JSON(w, status, failure{name, e.Error(), "", e.Error()})
}

// begin notes a job while it runs.
func (a *API) begin(client, job, task string) (end func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	me := active{client, job, task}
	a.active = append(a.active, me)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		for i, o := range a.active {
			if o == me {
				a.active = append(a.active[:i:i], a.active[i+1:]...)
				return
			}
		}
	}
}

// fields reads the body of a request.
func (a *API) fields(w http.ResponseWriter, r *http.Request) (map[string]json.RawMessage, error) {
	data, err := web.ReadBody(w, r, a.MaxBody)
	if err != nil {
		return nil, err
	}
	return web.Fields(data)
}

// text is a field that is text, "" if it is not there.
func text(fields map[string]json.RawMessage, name string) string {
	var s string
	if raw, ok := fields[name]; ok {
		_ = json.Unmarshal(raw, &s) // something else is as good as nothing
	}
	return s
}

// number is a field that is a number, or otherwise the usual one.
func number(fields map[string]json.RawMessage, name string, usual float64) float64 {
	f := usual
	if raw, ok := fields[name]; ok && string(raw) != "null" {
		if json.Unmarshal([]byte(strings.Trim(string(raw), `"`)), &f) != nil {
			return usual
		}
	}
	return f
}

// truth is a field that is true or false.
func truth(fields map[string]json.RawMessage, name string) bool {
	raw := string(fields[name])
	return raw == "true" || raw == "1"
}
