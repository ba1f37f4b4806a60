// Package openai speaks OpenAI's images API (as openai-python and openai-go send it), with every setting of the table as a field
// beside its own.
package openai

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"darkroom/batch/jobs"
	"darkroom/imagefile"
	"darkroom/server/ask"
	"darkroom/server/dispatch"
	"darkroom/server/gallery"
	"darkroom/server/trace"
	"darkroom/server/web"
	"darkroom/server/wire"
)

// API is the handlers' state.
type API struct {
	Jobs      *dispatch.Dispatcher
	Read      *ask.Reader
	Catalogue *ask.Catalogue
	Uploads   *gallery.Uploads
	MaxBody   int64
	Link      func(r *http.Request, picture string) string // the address of a picture's file

	mu     sync.Mutex
	recent map[string]recent // by the hash of a request
}

// recent is a job that a client may ask for again, when its connection broke.
type recent struct {
	job     string
	at      time.Time
	waiting int // requests that wait for it
}

// Routes are the API's places.
func (a *API) Routes() []web.Route {
	routes := []web.Route{
		{Method: "POST", Path: "/v1/images/generations", Handle: a.generations, Summary: "OpenAI: pictures from a prompt", Body: Generation{}, Answer: Answer{}, Lax: true,
			Example: map[string]any{"prompt": "a red apple", "n": 1, "size": "auto", "seed": 7, "num_inference_steps": 20}},
		{Method: "POST", Path: "/v1/images/edits", Handle: a.edits, Summary: "OpenAI: change a picture", Body: Edit{}, Answer: Answer{}, Lax: true, Media: []string{"multipart/form-data", "application/json"}},
		{Method: "POST", Path: "/v1/images/variations", Handle: a.variations, Summary: "OpenAI: a picture like another", Body: Edit{}, Answer: Answer{}, Lax: true, Media: []string{"multipart/form-data"}},
	}
	for i := range routes {
		routes[i].Tag = "openai"
	}
	return routes
}

// Generation is the body of POST /v1/images/generations. Settings of the table stand beside these fields.
type Generation struct {
	Prompt            string `json:"prompt"`
	Model             string `json:"model,omitempty" doc:"a name of GET /v1/models; OpenAI's own names stand for the server's model"`
	N                 *int   `json:"n,omitempty" doc:"pictures, 1 to 10"`
	Size              string `json:"size,omitempty" doc:"WIDTHxHEIGHT, or auto, the model's own size"`
	Quality           string `json:"quality,omitempty" doc:"a number is a JPEG's or WebP's quality; OpenAI's words are ignored"`
	Background        string `json:"background,omitempty" enum:"auto,opaque,transparent" doc:"transparent is refused: no model here makes it"`
	OutputFormat      string `json:"output_format,omitempty" enum:"png,jpeg,webp"`
	OutputCompression *int   `json:"output_compression,omitempty" doc:"0 to 100, the quality of JPEG and WebP"`
	ResponseFormat    string `json:"response_format,omitempty" enum:"b64_json,url" doc:"b64_json is the default; without it, answers for dall-e-2 and dall-e-3 have both"`
	Stream            bool   `json:"stream,omitempty"`
	PartialImages     *int   `json:"partial_images,omitempty" doc:"previews of each picture in a stream, 0 to 3"`
	Style             string `json:"style,omitempty" doc:"ignored"`
	Moderation        string `json:"moderation,omitempty" doc:"ignored"`
	User              string `json:"user,omitempty" doc:"ignored"`
}

// Edit is the body of POST /v1/images/edits.
type Edit struct {
	Generation
	Images        []EditImage `json:"images,omitempty" doc:"in JSON, instead of the form's image"`
	Image         string      `json:"image,omitempty" doc:"the picture: a file in the form, image or image[]"`
	Mask          string      `json:"mask,omitempty" doc:"repainted where it is transparent or, if it has no transparency, white"`
	InputFidelity string      `json:"input_fidelity,omitempty" doc:"ignored: strength is the setting"`
}

// EditImage is a picture of an edit in JSON.
type EditImage struct {
	FileID   string `json:"file_id,omitempty" doc:"of POST /v1/files"`
	ImageURL string `json:"image_url,omitempty" doc:"a data: URL; others are refused"`
}

// Answer is what all three answer.
type Answer struct {
	Created      int64     `json:"created"`
	Data         []Picture `json:"data"`
	Background   string    `json:"background"`
	OutputFormat string    `json:"output_format"`
	Quality      string    `json:"quality"`
	Size         string    `json:"size"`
	Usage        Usage     `json:"usage"`
	Job          string    `json:"job"`
}

// Picture is a picture of an answer, with what made it.
type Picture struct {
	B64JSON       string          `json:"b64_json,omitempty"`
	URL           string          `json:"url,omitempty"`
	RevisedPrompt string          `json:"revised_prompt"`
	ID            string          `json:"id"`
	Seed          uint64          `json:"seed"`
	Recipe        json.RawMessage `json:"recipe" doc:"everything needed to make it again"`
}

// Usage counts tokens: of the prompt, and of pictures a token for each 16×16 pixels.
type Usage struct {
	InputTokens   int     `json:"input_tokens"`
	InputDetails  Details `json:"input_tokens_details"`
	OutputTokens  int     `json:"output_tokens"`
	OutputDetails Details `json:"output_tokens_details"`
	TotalTokens   int     `json:"total_tokens"`
}

// Details part tokens into those of texts and of pictures.
type Details struct {
	ImageTokens int `json:"image_tokens"`
	TextTokens  int `json:"text_tokens"`
}

// request is a request that was read.
type request struct {
	body     Generation
	requests []jobs.Request
	edit     bool
	format   string // png, jpeg or webp
	width    int    // of the picture that came with it
	height   int    // likewise
	key      string // hash of all that was sent
	drawn    bool   // the seed was
}

func (a *API) generations(w http.ResponseWriter, r *http.Request) error {
	data, err := web.ReadBody(w, r, min(a.MaxBody, 1<<20))
	if err != nil {
		return err
	}
	fields, err := web.Fields(data)
	if err != nil {
		return err
	}
	q := &request{key: keyOf(r, data)}
	if err := a.read(q, fields, nil); err != nil {
		return err
	}
	return a.answer(w, r, q)
}

func keyOf(r *http.Request, data []byte) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "%s\x00%s\x00", r.URL.Path, web.Client(r))
	sum.Write(data)
	return hex.EncodeToString(sum.Sum(nil))
}

// own are the fields of this API that are not settings, or are read before them.
var own = []string{
	"model", "n", "size", "quality", "background", "output_format", "output_compression", "response_format", "stream", "partial_images",
	"style", "moderation", "user", "input_fidelity", "image", "images", "mask",
}

// ownModels are OpenAI's names of models, which stand for the server's.
var ownModels = regexp.MustCompile(`^(gpt-image|dall-e|chatgpt-image|gpt-4o|gpt-5)`)

// read reads the fields of a request. init and mask are the ids of pictures, by those names, that came with it.
func (a *API) read(q *request, fields map[string]json.RawMessage, pictures map[string]string) error {
	own, rest := split(fields)
	if err := decode(own, &q.body); err != nil {
		return err
	}
	if name, ok := fields["prompt"]; ok && pictures == nil && string(name) == `""` {
		return ask.Invalid("prompt", "it is empty")
	}
	asked, err := ask.Settings(rest) // fields that are not known are other servers': they are ignored
	if err != nil {
		return err
	}
	for name, text := range pictures {
		asked.Set(name, text)
	}
	if err := a.model(&asked, q.body.Model); err != nil {
		return err
	}
	if err := q.size(&asked, q.body.Size); err != nil {
		return err
	}
	if pictures != nil && !asked.Has("width") && !asked.Has("height") {
		a.shrink(&asked, q.width, q.height)
	}
	if err := q.output(&asked); err != nil {
		return err
	}
	n := 1
	if q.body.N != nil {
		n = *q.body.N
	}
	if n < 1 || n > 10 {
		return ask.Invalid("n", "%d pictures: it must be from 1 to 10", n)
	}
	asked.Count = n
	if p := q.body.PartialImages; p != nil && (*p < 0 || *p > 3) {
		return ask.Invalid("partial_images", "%d: it must be from 0 to 3", *p)
	}
	q.drawn = asked.RandomSeed || !asked.Has("seed")
	q.requests, err = a.Read.Requests(asked)
	return err
}

// split parts this API's fields from settings. Sizes and qualities may be given as settings too.
func split(fields map[string]json.RawMessage) (mine, rest map[string]json.RawMessage) {
	mine, rest = map[string]json.RawMessage{}, map[string]json.RawMessage{}
	for name, raw := range fields {
		rest[name] = raw
	}
	for _, name := range own {
		if raw, ok := fields[name]; ok {
			mine[name] = raw
			delete(rest, name)
		}
	}
	for _, name := range []string{"init", "init_image"} { // pictures come as files here
		delete(rest, name)
	}
	delete(rest, "count")
	return mine, rest
}

// decode reads fields into v; a number may be a text, as forms have it, and a quality a number.
func decode(fields map[string]json.RawMessage, v *Generation) error {
	number := func(name string) (*int, error) {
		raw := strings.Trim(string(fields[name]), `"`)
		if raw == "" || raw == "null" {
			return nil, nil
		}
		f, err := strconv.ParseFloat(raw, 64)
		if err != nil || f != float64(int(f)) {
			return nil, ask.Invalid(name, "%.20s: it must be a whole number", raw)
		}
		n := int(f)
		return &n, nil
	}
	var err error
	for name, to := range map[string]**int{"n": &v.N, "output_compression": &v.OutputCompression, "partial_images": &v.PartialImages} {
		if *to, err = number(name); err != nil {
			return err
		}
	}
	for name, to := range map[string]*string{
		"model": &v.Model, "size": &v.Size, "quality": &v.Quality, "background": &v.Background, "output_format": &v.OutputFormat, "response_format": &v.ResponseFormat,
	} {
		raw := fields[name]
		if raw == nil || string(raw) == "null" {
			continue
		}
		if err := json.Unmarshal(raw, to); err != nil {
			var n json.Number
			if json.Unmarshal(raw, &n) != nil {
				return ask.Invalid(name, "it must be text")
			}
			*to = n.String()
		}
	}
	switch raw := strings.Trim(string(fields["stream"]), `"`); raw {
	case "", "null", "false", "False":
	case "true", "True":
		v.Stream = true
	default:
		return ask.Invalid("stream", "it must be true or false")
	}
	return nil
}

func (a *API) model(asked *ask.Asked, name string) error {
	switch {
	case name == "" || a.Catalogue.Has(name):
	case ownModels.MatchString(name):
		return nil
	}
	if name != "" {
		asked.Set("model", name)
	}
	return nil
}

// size reads WIDTHxHEIGHT. auto is the model's own size, or that of the picture that is changed.
func (q *request) size(asked *ask.Asked, text string) error {
	if text == "" || text == "auto" {
		return nil
	}
	w, h, ok := strings.Cut(strings.ToLower(text), "x")
	width, err1 := strconv.Atoi(w)
	height, err2 := strconv.Atoi(h)
	if !ok || err1 != nil || err2 != nil || width < 1 || height < 1 {
		return ask.Invalid("size", "%.40q: it must be WIDTHxHEIGHT in pixels, as in 512x512, or auto", text)
	}
	asked.Set("width", width)
	asked.Set("height", height)
	return nil
}

// shrink makes the picture smaller than the one that it starts from, where that is too large for this server.
func (a *API) shrink(asked *ask.Asked, width, height int) {
	most := a.Read.Limits.MaxPixels()
	if width == 0 || height == 0 || width <= most/height {
		return
	}
	factor := max(a.Catalogue.Facts(cmp.Or(asked.Model, a.Catalogue.Default())).Factor, 8)
	scale := math.Sqrt(float64(most) / (float64(width) * float64(height)))
	asked.Set("width", max(int(float64(width)*scale)/factor, 1)*factor)
	asked.Set("height", max(int(float64(height)*scale)/factor, 1)*factor)
}

// output reads the file's format and quality.
func (q *request) output(asked *ask.Asked) error {
	if q.body.Background == "transparent" {
		return ask.Invalid("background", "transparent pictures cannot be made: leave it out, or say opaque")
	}
	switch q.format = strings.ToLower(q.body.OutputFormat); q.format {
	case "":
		if q.format = asked.Format; q.format == "" {
			q.format = "png"
		}
	case "png", "webp":
		asked.Set("format", q.format)
	case "jpeg", "jpg":
		asked.Set("format", "jpg")
	default:
		return ask.Invalid("output_format", "%.20q: choose png, jpeg or webp", q.body.OutputFormat)
	}
	if asked.Format == "jpg" {
		q.format = "jpeg"
	}
	if n, err := strconv.Atoi(q.body.Quality); err == nil && q.format != "png" {
		if n < 1 || n > 100 {
			return ask.Invalid("quality", "%d: it must be from 1 to 100", n)
		}
		asked.Set("quality", n)
	}
	if c := q.body.OutputCompression; c != nil {
		if *c < 0 || *c > 100 {
			return ask.Invalid("output_compression", "%d: it must be from 0 to 100", *c)
		}
		if q.format != "png" {
			asked.Set("quality", max(*c, 1))
		}
	}
	switch q.body.ResponseFormat {
	case "", "b64_json", "url":
		return nil
	}
	return ask.Invalid("response_format", "%.20q: choose b64_json or url", q.body.ResponseFormat)
}

// answer has the pictures made and answers with them.
func (a *API) answer(w http.ResponseWriter, r *http.Request, q *request) error {
	listen := func(id string) (<-chan wire.Event, func()) {
		return a.Jobs.Subscribe(id, q.body.PartialImages != nil && *q.body.PartialImages > 0)
	}
	first := dispatch.NewID()
	var events <-chan wire.Event
	stop := func() {}
	if q.body.Stream {
		events, stop = listen(first) // before its first preview
	}
	id, err := a.submit(r, q, first)
	defer func() { stop() }()
	if err != nil {
		return err
	}
	defer a.leave(q, id)
	w.Header().Set("X-Job", id)
	if q.body.Stream {
		if id != first {
			stop()
			events, stop = listen(id)
		}
		return a.stream(w, r, q, id, events)
	}
	if _, err := a.Jobs.Wait(r.Context(), id); err != nil {
		return err
	}
	data, failed := a.pictures(r, q, id)
	if failed != nil {
		return failed
	}
	out := a.envelope(q, id)
	out.Data = data
	w.Header().Set("X-Seed", strconv.FormatUint(data[0].Seed, 10))
	web.JSON(w, http.StatusOK, out)
	return nil
}

// retryTime is how long a broken connection's job goes on and is found again by the same request.
const retryTime = 30 * time.Second

// submit submits the job, or finds the one that the same request began before its connection broke, as OpenAI's clients say.
func (a *API) submit(r *http.Request, q *request, first string) (string, error) {
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		if n := r.Header.Get("X-Stainless-Retry-Count"); n != "" && n != "0" {
			a.mu.Lock()
			last, ok := a.recent[q.key]
			if ok && time.Since(last.at) < 15*time.Minute {
				last.waiting++
				a.recent[q.key] = last
				a.mu.Unlock()
				if job, ok := a.Jobs.Get(last.job); ok && job.State != wire.Cancelled && job.State != wire.Failed {
					return last.job, nil
				}
			} else {
				a.mu.Unlock()
			}
		}
	}
	s := dispatch.Submission{Trace: trace.From(r.Context()).String(), ID: first, Requests: q.requests, Origin: "openai", Client: web.Client(r), Key: key, Body: q.key}
	if q.body.Stream && q.body.PartialImages != nil {
		s.Partials = *q.body.PartialImages
	}
	id, _, err := a.Jobs.Submit(s)
	if err != nil {
		return "", err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.recent == nil {
		a.recent = map[string]recent{}
	}
	for k, v := range a.recent {
		if time.Since(v.at) > 15*time.Minute {
			delete(a.recent, k)
		}
	}
	a.recent[q.key] = recent{id, time.Now(), 1}
	return id, nil
}

// leave ends a request's waiting for its job. A job that nobody waits for is cancelled after a while; one whose seed was given
// goes on, because the same request can have its picture.
func (a *API) leave(q *request, id string) {
	a.mu.Lock()
	last, ok := a.recent[q.key]
	if ok && last.job == id {
		last.waiting--
		a.recent[q.key] = last
	}
	a.mu.Unlock()
	if job, ok := a.Jobs.Get(id); !ok || wire.Ended(job.State) || !q.drawn {
		return
	}
	time.AfterFunc(retryTime, func() {
		a.mu.Lock()
		now := a.recent[q.key]
		a.mu.Unlock()
		if now.job != id || now.waiting <= 0 {
			a.Jobs.Cancel(id)
		}
	})
}

// pictures are the finished pictures of a job, or the error of the first that failed.
func (a *API) pictures(r *http.Request, q *request, id string) ([]Picture, error) {
	var all []Picture
	for _, result := range a.Jobs.Results(id) {
		if result.Err != nil {
			return nil, failure(result.Err)
		}
		p, err := a.picture(r, q, result)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("job %s is no longer remembered", id)
	}
	return all, nil
}

func (a *API) picture(r *http.Request, q *request, result dispatch.Result) (Picture, error) {
	rec := result.Record
	p := Picture{RevisedPrompt: rec.Request.Prompt, ID: dispatch.PictureID(rec.SHA256), Seed: rec.Request.Seed}
	data, err := a.Jobs.File(rec)
	if err != nil {
		return p, err
	}
	info, err := imagefile.InspectData(data)
	if err == nil && info.Recipe == nil {
		err = fmt.Errorf("%s was changed: it has no recipe", rec.File)
	}
	if err != nil {
		return p, err
	}
	if p.Recipe, err = info.Recipe.MarshalJSON(); err != nil {
		return p, err
	}
	// Clients that ask for neither read what OpenAI's model of that name gives: url from DALL·E. Where GPT Image is named there
	// must be none, because Open WebUI prefers it and then refuses addresses of a local network.
	if f := q.body.ResponseFormat; f == "url" || f == "" && strings.HasPrefix(q.body.Model, "dall-e") {
		p.URL = a.Link(r, p.ID)
	}
	if q.body.ResponseFormat == "url" {
		return p, nil
	}
	p.B64JSON = base64.StdEncoding.EncodeToString(data)
	return p, nil
}

// failure is the error of a picture as a client sees it.
func failure(err error) error {
	if dispatch.IsCancelled(err) {
		return &wire.Error{Status: http.StatusConflict, Type: "invalid_request_error", Code: "cancelled", Message: "the picture was cancelled"}
	}
	if dispatch.IsUsage(err) {
		return ask.Invalid("", "%v", err)
	}
	return &wire.Error{Status: http.StatusInternalServerError, Type: "server_error", Code: "rendering_failed", Message: err.Error()}
}

// envelope is the answer without its pictures.
func (a *API) envelope(q *request, id string) Answer {
	out := Answer{Created: time.Now().Unix(), Background: "opaque", OutputFormat: q.format, Quality: "auto", Job: id}
	if q.body.Quality != "" {
		out.Quality = q.body.Quality
	}
	if job, ok := a.Jobs.Get(id); ok {
		out.Created = job.Created.Unix()
		for _, p := range job.Pictures {
			out.Size = fmt.Sprintf("%dx%d", p.Width, p.Height)
			out.Usage.OutputTokens += (p.Width + 15) / 16 * ((p.Height + 15) / 16)
		}
	}
	u := &out.Usage
	u.InputDetails.ImageTokens = (q.width + 15) / 16 * ((q.height + 15) / 16)
	first := &q.requests[0]
	model := first.Model
	if model == "" {
		model = a.Catalogue.Default()
	}
	if t, err := a.Catalogue.Tokens(model, first.Prompt, "plain"); err == nil {
		u.InputDetails.TextTokens = max(len(t.Rows)-2*t.Chunks, 0) + t.NumCut
	}
	u.InputTokens = u.InputDetails.TextTokens + u.InputDetails.ImageTokens
	u.OutputDetails.ImageTokens = u.OutputTokens
	u.TotalTokens = u.InputTokens + u.OutputTokens
	return out
}
