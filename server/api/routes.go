package api

import (
	"net/http"

	"darkroom/models/library"
	"darkroom/server/gallery"
	"darkroom/server/web"
	"darkroom/server/wire"
)

const (
	stream = "text/event-stream"
	bytes  = "application/octet-stream"
)

// Routes are the API's places.
func (a *API) Routes() []web.Route {
	page := []web.Query{{Name: "limit", About: "entries at most"}, {Name: "before", About: "the id that the last answer gave as next"}}
	previews := []web.Query{{Name: "previews", About: "false: no previews are made for this client"}}
	routes := []web.Route{
		{Method: "POST", Path: "/v1/jobs", Handle: a.postJob, Summary: "start a job that makes pictures", Body: JobRequest{}, Answer: wire.Job{}, Status: http.StatusCreated,
			Media: []string{"application/json", "application/yaml", "text/csv", "application/jsonl"}, Headers: []web.Query{{Name: "Idempotency-Key", About: "a job with the same key is accepted once"}},
			Example: map[string]any{"request": map[string]any{"prompt": "a red apple", "seed": 7, "steps": 20}, "priority": 0}},
		{Method: "GET", Path: "/v1/jobs", Handle: a.listJobs, Summary: "list jobs, the latest first", Answer: wire.JobList{},
			Query: append([]web.Query{{Name: "state", About: "queued, running, done, failed or cancelled; several with commas"}}, page...)},
		{Method: "GET", Path: "/v1/jobs/{id}", Handle: a.getJob, Summary: "a job", Answer: wire.Job{}},
		{Method: "DELETE", Path: "/v1/jobs/{id}", Handle: a.cancelJob, Summary: "cancel a job", Answer: wire.Job{}},
		{Method: "PATCH", Path: "/v1/jobs/{id}", Handle: a.changeJob, Summary: "change a job's priority", Body: JobChange{}, Answer: wire.Job{}, Example: map[string]any{"priority": 5}},
		{Method: "GET", Path: "/v1/jobs/{id}/events", Handle: a.jobEvents, Summary: "a job's progress, previews and pictures as they come", AnswerMedia: stream, Query: previews},
		{Method: "GET", Path: "/v1/events", Handle: a.allEvents, Summary: "the same for all jobs", AnswerMedia: stream, Query: previews},

		{Method: "GET", Path: "/v1/pictures", Handle: a.listPictures, Summary: "list pictures that were made on this machine, the latest first", Answer: wire.PictureList{},
			Query: append([]web.Query{{Name: "query", About: "words of the prompt or the model"}}, page...)},
		{Method: "GET", Path: "/v1/pictures/{id}", Handle: a.getPicture, Summary: "a picture's settings", Answer: wire.Picture{}},
		{Method: "GET", Path: "/v1/pictures/{id}/file", Handle: a.pictureFile, Summary: "its file", AnswerMedia: "image/*"},
		{Method: "GET", Path: "/v1/pictures/{id}/thumbnail", Handle: a.thumbnail, Summary: "a small JPEG of it", AnswerMedia: "image/jpeg"},
		{Method: "DELETE", Path: "/v1/pictures/{id}", Handle: a.deletePicture, Summary: "delete a picture of this server", Status: http.StatusNoContent},

		{Method: "POST", Path: "/v1/upscale", Handle: a.upscale, Summary: "enlarge a picture with an upscaler's network", Body: UpscaleRequest{}, Answer: wire.Picture{}, Status: http.StatusCreated,
			Example: map[string]any{"picture": "picture:0123456789abcdef0123456789abcdef", "upscaler": "RealESRGAN_x4plus"}},
		{Method: "POST", Path: "/v1/files", Handle: a.postFile, Summary: "send a picture to start from: settings name it as upload:ID", Media: []string{bytes}, Answer: gallery.Upload{}, Status: http.StatusCreated},
		{Method: "POST", Path: "/v1/inspect", Handle: a.inspect, Summary: "read the settings in a picture of any program", Media: []string{bytes}, Answer: Inspected{}},
		{Method: "POST", Path: "/v1/tokenize", Handle: a.tokenize, Summary: "count a prompt's tokens", Body: TokenizeRequest{}, Answer: Tokens{}, Example: map[string]any{"prompt": "a (red:1.3) apple"}},

		{Method: "GET", Path: "/v1/models", Handle: a.models, Summary: "models", Answer: List[Model]{}},
		{Method: "GET", Path: "/v1/models/{name}", Handle: a.getModel, Summary: "a model", Answer: Model{}},
		{Method: "GET", Path: "/v1/loras", Handle: parts(library.LoRAs), Summary: "adapters", Answer: List[Part]{}},
		{Method: "GET", Path: "/v1/embeddings", Handle: parts(library.Embeddings), Summary: "textual inversions", Answer: List[Part]{}},
		{Method: "GET", Path: "/v1/vaes", Handle: parts(library.VAEs), Summary: "autoencoders", Answer: List[Part]{}},
		{Method: "GET", Path: "/v1/controls", Handle: parts(library.Controls), Summary: "ControlNets and adapters for pictures", Answer: List[Part]{}},
		{Method: "GET", Path: "/v1/upscalers", Handle: parts(library.Upscalers), Summary: "upscalers", Answer: List[Part]{}},
		{Method: "GET", Path: "/v1/schedulers", Handle: schedulers, Summary: "samplers", Answer: List[Scheduler]{}},
		{Method: "GET", Path: "/v1/settings", Handle: settings, Summary: "the settings of a picture", Answer: List[Setting]{}},
		{Method: "GET", Path: "/v1/reports", Handle: a.reports, Summary: "reports of darkroom compare", Answer: List[Report]{}},
		{Method: "GET", Path: "/v1/reports/{name}/{file...}", Handle: a.report, Summary: "a report's page and files", AnswerMedia: "*/*"},
	}
	for i := range routes {
		routes[i].Tag = "darkroom"
	}
	return routes
}
