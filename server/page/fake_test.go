package page

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is a server with the API that the page speaks, whose pictures are colours. It stands in for package server, which the
// page's tests cannot import; cmd/darkroom tests the two together.
type fake struct {
	t       *testing.T
	address string
	key     string // "": none is asked for

	mu       sync.Mutex
	server   *httptest.Server
	jobs     []*fakeJob
	pictures []map[string]any // newest last
	files    map[string][]byte
	requests []map[string]any // settings of POST /v1/jobs
	keys     map[string]string
	listen   map[chan string]bool
	hosts    map[string]bool
	step     time.Duration
}

type fakeJob struct {
	body map[string]any // as the API tells it
	stop chan struct{}
}

func newFake(t *testing.T) *fake {
	f := &fake{t: t, files: map[string][]byte{}, keys: map[string]string{}, listen: map[chan string]bool{}, hosts: map[string]bool{}, step: 10 * time.Millisecond}
	f.start()
	t.Cleanup(f.halt)
	return f
}

func (f *fake) url() string { return "http://" + f.address }

// start listens, at the address of before if there was one.
func (f *fake) start() {
	f.t.Helper()
	listener, err := net.Listen("tcp", cmp.Or(f.address, "127.0.0.1:0"))
	if err != nil {
		f.t.Fatal(err)
	}
	f.address = listener.Addr().String()
	s := httptest.NewUnstartedServer(f.handler())
	s.Listener.Close()
	s.Listener = listener
	s.Start()
	f.server = s
}

// halt ends the server as a kill does: connections break.
func (f *fake) halt() {
	f.server.CloseClientConnections()
	f.server.Listener.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.listen {
		close(c)
		delete(f.listen, c)
	}
}

func (f *fake) handler() http.Handler {
	m := http.NewServeMux()
	m.Handle("GET /{$}", Handler())
	m.Handle("GET /static/", Handler())
	api := func(pattern string, h func(w http.ResponseWriter, r *http.Request)) {
		m.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			f.hosts[r.Host] = true
			locked := f.key != "" && r.Header.Get("Authorization") != "Bearer "+f.key
			f.mu.Unlock()
			if locked {
				fault(w, 401, "", "this server needs a key")
				return
			}
			h(w, r)
		})
	}
	for path, text := range fakeLists {
		api("GET "+path, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) })
	}
	api("POST /v1/tokenize", f.tokenize)
	api("POST /v1/files", f.upload)
	api("POST /v1/inspect", f.inspect)
	api("POST /v1/jobs", f.submit)
	api("GET /v1/jobs", f.listJobs)
	api("GET /v1/events", f.events)
	api("GET /v1/pictures/{id}", f.onePicture)
	api("DELETE /v1/pictures/{id}", f.deletePicture)
	api("POST /v1/upscale", f.enlarge)
	api("GET /v1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) { f.withJob(w, r, func(*fakeJob) {}) })
	api("PATCH /v1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) { f.withJob(w, r, func(*fakeJob) {}) })
	api("DELETE /v1/jobs/{id}", f.cancel)
	api("GET /v1/pictures", f.listPictures)
	api("GET /v1/pictures/{id}/file", f.picture)
	api("GET /v1/pictures/{id}/thumbnail", f.picture)
	api("GET /v1/reports/{name}/index.html", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "sandbox allow-scripts; frame-ancestors 'self'")
		io.WriteString(w, "<!doctype html><title>Report</title><h1>Report "+r.PathValue("name")+"</h1>")
	})
	return m
}

var fakeLists = map[string]string{
	"/v1/models": `{"object":"list","data":[{"id":"icons","name":"icons","family":"sd","width":256,"height":256,"steps":12,"cfg":2.5,"scheduler":"ddim","default":true},
		{"id":"large","name":"large","family":"sdxl","width":1024,"height":1024,"steps":30,"cfg":7,"scheduler":"euler","default":false},
		{"id":"broken","name":"broken","family":"","width":0,"height":0,"problem":"the text encoder is missing","default":false}]}`,
	"/v1/loras":      `{"data":[{"name":"ink"},{"name":"paper-cut"}]}`,
	"/v1/vaes":       `{"data":[{"name":"soft-vae"}]}`,
	"/v1/embeddings": `{"data":[]}`,
	"/v1/upscalers":  `{"data":[{"name":"4x-soft"}]}`,
	"/v1/schedulers": `{"data":[{"name":"ddim","text":"First order, deterministic."},{"name":"euler","text":"Euler's method."},{"name":"dpm++2m","text":"Second order, multistep."}]}`,
	"/v1/reports":    `{"data":[{"name":"schedulers","url":"/v1/reports/schedulers/"}]}`,
	"/v1/settings": `{"data":[
		{"name":"model","kind":"text","group":"Model","default":"the embedded one","help":"a name"},
		{"name":"prompt","kind":"text","group":"Prompt","default":"none","help":"the prompt"},
		{"name":"negative","kind":"text","group":"Prompt","default":"the model's","help":"what the picture should not show"},
		{"name":"seed","kind":"seed","group":"Picture","default":"random","help":"start of the random numbers"},
		{"name":"steps","kind":"whole","group":"Picture","default":"the model's","min":1,"max":10000,"help":"steps of denoising"},
		{"name":"cfg","kind":"number","group":"Picture","default":"the model's","min":-1000,"max":1000,"help":"guidance scale"},
		{"name":"scheduler","kind":"text","group":"Sampling","default":"the model's","choices":["ddim","euler","dpm++2m"],"open":true,"help":"the sampler"},
		{"name":"sigmas","kind":"text","group":"Sampling","default":"the scheduler's","choices":["karras","exponential"],"open":true,"help":"spacing of noise levels"},
		{"name":"eta","kind":"number","group":"Sampling","default":"the scheduler's","min":0,"max":1,"help":"share of fresh noise in each step"},
		{"name":"width","kind":"whole","group":"Picture","default":"the model's","min":1,"max":16384,"help":"pixels"},
		{"name":"height","kind":"whole","group":"Picture","default":"the model's","min":1,"max":16384,"help":"pixels"},
		{"name":"prompt_syntax","kind":"text","group":"Prompt","default":"weighted","choices":["weighted","plain"],"help":"weighted, or plain text"},
		{"name":"vae_tiling","kind":"switch","group":"Where it computes","help":"decode in overlapping tiles"},
		{"name":"lora","kind":"text","group":"Model","default":"none","repeat":true,"help":"an adapter"},
		{"name":"depth","kind":"text","group":"Editing","default":"none","help":"the depth map that a depth model reads, ` + "`FILE`" + `"},
		{"name":"init","kind":"text","group":"Editing","default":"none","help":"a picture to start from"},
		{"name":"strength","kind":"number","group":"Editing","default":"0.8","min":0,"max":1,"help":"how much is painted anew"},
		{"name":"resize","kind":"text","group":"Editing","default":"fill","choices":["fill","fit","stretch"],"help":"how it comes to the size"},
		{"name":"mask","kind":"text","group":"Editing","default":"none","help":"where it is painted anew"},
		{"name":"mask_blur","kind":"whole","group":"Editing","default":"0","min":0,"max":512,"help":"pixels"},
		{"name":"invert_mask","kind":"switch","group":"Editing","help":"paint what the mask leaves"}]}`,
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func fault(w http.ResponseWriter, status int, param, message string) {
	answer(w, status, map[string]any{"error": map[string]any{"message": message, "type": "invalid_request_error", "param": param, "code": nil}})
}

// tokenize takes each word for a token, and reads at most 75 of them in plain syntax.
func (f *fake) tokenize(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Prompt string
		Syntax string `json:"prompt_syntax"`
	}
	json.NewDecoder(r.Body).Decode(&ask)
	pieces, at, cut := []map[string]any{}, 0, ""
	for _, word := range strings.Fields(ask.Prompt) {
		start := at + strings.Index(ask.Prompt[at:], word)
		at = start + len(word)
		pieces = append(pieces, map[string]any{"text": word, "start": start, "end": at, "chunk": len(pieces) / 75})
	}
	tokens, chunks := len(pieces), max(1, (len(pieces)+74)/75)
	if ask.Syntax == "plain" && len(pieces) > 75 {
		pieces, cut, chunks = pieces[:75], "the rest", 1
	}
	answer(w, 200, map[string]any{"tokens": tokens, "limit": 75, "chunks": chunks, "pieces": pieces, "cut": cut, "warnings": []string{}})
}

func (f *fake) upload(w http.ResponseWriter, r *http.Request) {
	data, _ := io.ReadAll(r.Body)
	c, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		fault(w, 400, "", "this is not a picture")
		return
	}
	sum := sha256.Sum256(data)
	id := hex.EncodeToString(sum[:8])
	f.mu.Lock()
	f.files[id] = data
	f.mu.Unlock()
	answer(w, 201, map[string]any{"id": id, "width": c.Width, "height": c.Height})
}

func (f *fake) inspect(w http.ResponseWriter, r *http.Request) {
	data, _ := io.ReadAll(r.Body)
	if !bytes.Contains(data, []byte("parameters")) {
		answer(w, 200, map[string]any{"settings": map[string]any{}, "parameters": "", "warnings": []string{}, "program": ""})
		return
	}
	answer(w, 200, map[string]any{"settings": map[string]any{"prompt": "a lighthouse at night", "seed": json.Number("18446744073709551615"), "steps": 9, "scheduler": "euler", "lora": "ink:0.7"},
		"parameters": "a lighthouse at night\nSteps: 9", "warnings": []string{"Face restoration is not used: CodeFormer"}, "program": "AUTOMATIC1111"})
}

func (f *fake) submit(w http.ResponseWriter, r *http.Request) {
	d := json.NewDecoder(r.Body)
	d.UseNumber()
	var body struct{ Request map[string]any }
	if err := d.Decode(&body); err != nil || body.Request == nil {
		fault(w, 400, "request", "the settings are missing")
		return
	}
	if n, ok := body.Request["steps"].(json.Number); ok && n.String() == "666" {
		fault(w, 400, "steps", "666 steps: this model likes fewer")
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	if id, twice := f.keys[key]; twice {
		answer(w, 200, f.find(id).body)
		return
	}
	f.requests = append(f.requests, body.Request)
	settings := map[string]any{"model": "icons", "width": json.Number("256"), "height": json.Number("256"), "steps": json.Number("12"), "scheduler": "ddim", "seed": json.Number(strconv.Itoa(1000 + len(f.jobs)))}
	maps.Copy(settings, body.Request)
	delete(settings, "count")
	count, _ := strconv.Atoi(fmt.Sprint(body.Request["count"]))
	before := 0
	for _, j := range f.jobs {
		if s := j.body["state"]; s == "queued" || s == "running" {
			before++
		}
	}
	j := &fakeJob{map[string]any{"id": fmt.Sprintf("j%d", len(f.jobs)+1), "state": "queued", "priority": 0, "position": before, "created": time.Now(), "pictures": []any{},
		"count": max(1, count), "settings": settings, "progress": nil}, make(chan struct{})}
	f.jobs = append(f.jobs, j)
	f.keys[key] = j.body["id"].(string)
	if before == 0 {
		go f.work(j)
	}
	answer(w, 201, j.body)
}

func (f *fake) find(id string) *fakeJob {
	for _, j := range f.jobs {
		if j.body["id"] == id {
			return j
		}
	}
	return nil
}

// work makes the pictures of a job, and then the next job's.
func (f *fake) work(j *fakeJob) {
	settings := j.body["settings"].(map[string]any)
	number := func(name string) int {
		n, _ := strconv.Atoi(fmt.Sprint(settings[name]))
		return n
	}
	f.change(j, "state", "running")
	end := "done"
make:
	for i := range j.body["count"].(int) {
		for s := range number("steps") {
			select {
			case <-j.stop:
				end = "cancelled"
				break make
			case <-time.After(f.step):
			}
			progress := map[string]any{"job": j.body["id"], "picture": i, "step": s + 1, "steps": number("steps"), "seconds_left": 1.5}
			f.mu.Lock()
			j.body["progress"] = progress
			f.mu.Unlock()
			f.tell("progress", progress)
			f.tell("preview", map[string]any{"job": j.body["id"], "picture": i, "image": "data:image/jpeg;base64," + base64.StdEncoding.EncodeToString(drawJPEG(32, 32, float64(s)/float64(number("steps"))))})
		}
		if settings["prompt"] == "fail" {
			f.mu.Lock()
			j.body["error"] = "the device is out of memory: choose a smaller picture"
			f.mu.Unlock()
			end = "failed"
			break
		}
		f.mu.Lock()
		p := f.newPicture(fmt.Sprint(settings["prompt"]), number("width"), number("height"), settings)
		p["job"] = j.body["id"]
		j.body["pictures"] = append(slices.Clone(j.body["pictures"].([]any)), p)
		f.mu.Unlock()
		f.tell("picture", p)
	}
	f.change(j, "state", end)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, next := range f.jobs {
		if next.body["state"] == "queued" {
			go f.work(next)
			break
		}
	}
}

// newPicture puts a picture into the gallery. The caller holds mu.
func (f *fake) newPicture(prompt string, width, height int, settings map[string]any) map[string]any {
	id := fmt.Sprintf("p%d", len(f.pictures)+1)
	p := map[string]any{"id": id, "url": "/v1/pictures/" + id + "/file", "thumbnail": "/v1/pictures/" + id + "/thumbnail", "prompt": prompt, "seed": settings["seed"],
		"width": width, "height": height, "created": time.Now(), "settings": settings, "sha256": strings.Repeat("ab", 32), "own": true, "missing": false}
	f.pictures = append(f.pictures, p)
	return p
}

func (f *fake) change(j *fakeJob, name string, v any) {
	f.mu.Lock()
	j.body[name] = v
	if v == "running" {
		j.body["position"] = 0
	}
	body := maps.Clone(j.body)
	f.mu.Unlock()
	f.tell("state", body)
}

func (f *fake) tell(event string, v any) {
	text, _ := json.Marshal(v)
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.listen {
		select {
		case c <- "event: " + event + "\ndata: " + string(text) + "\n\n":
		default:
		}
	}
}

func (f *fake) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	c := make(chan string, 1000)
	f.mu.Lock()
	for _, j := range f.jobs {
		if s := j.body["state"]; s == "queued" || s == "running" {
			text, _ := json.Marshal(j.body)
			c <- "event: state\ndata: " + string(text) + "\n\n"
		}
	}
	f.listen[c] = true
	f.mu.Unlock()
	io.WriteString(w, ": here\n\n")
	for {
		http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			f.mu.Lock()
			delete(f.listen, c)
			f.mu.Unlock()
			return
		case text, ok := <-c:
			if !ok {
				return
			}
			io.WriteString(w, text)
		}
	}
}

func (f *fake) withJob(w http.ResponseWriter, r *http.Request, do func(*fakeJob)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j := f.find(r.PathValue("id"))
	if j == nil {
		fault(w, 404, "", "there is no such job")
		return
	}
	do(j)
	answer(w, 200, j.body)
}

func (f *fake) cancel(w http.ResponseWriter, r *http.Request) {
	f.withJob(w, r, func(j *fakeJob) {
		if j.body["state"] == "queued" {
			j.body["state"] = "cancelled"
			return
		}
		if j.body["state"] == "running" {
			close(j.stop)
			j.body["state"] = "cancelled"
		}
	})
}

func (f *fake) listJobs(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := []any{}
	for _, j := range slices.Backward(f.jobs) {
		list = append(list, j.body)
	}
	answer(w, 200, map[string]any{"jobs": list})
}

func (f *fake) listPictures(w http.ResponseWriter, r *http.Request) {
	limit, _ := strconv.Atoi(cmp.Or(r.FormValue("limit"), "50"))
	f.mu.Lock()
	defer f.mu.Unlock()
	list, next, skip := []any{}, "", r.FormValue("before") != ""
	for _, p := range slices.Backward(f.pictures) {
		if skip {
			skip = p["id"] != r.FormValue("before")
			continue
		}
		if !strings.Contains(p["prompt"].(string), r.FormValue("query")) {
			continue
		}
		if len(list) == limit {
			next = list[limit-1].(map[string]any)["id"].(string)
			break
		}
		list = append(list, p)
	}
	answer(w, 200, map[string]any{"pictures": list, "next": next})
}

func (f *fake) picture(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, p := range f.pictures {
		if p["id"] == r.PathValue("id") {
			var out bytes.Buffer
			png.Encode(&out, draw(p["width"].(int), p["height"].(int), float64(i)/7))
			w.Header().Set("Content-Type", "image/png")
			w.Write(out.Bytes())
			return
		}
	}
	fault(w, 404, "", "there is no such picture")
}

// onePicture tells the whole recipe, as the file has it.
func (f *fake) onePicture(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.pictures {
		if p["id"] == r.PathValue("id") {
			whole := maps.Clone(p)
			settings := maps.Clone(p["settings"].(map[string]any))
			settings["noise"] = "torch-cpu"
			whole["settings"] = settings
			answer(w, 200, whole)
			return
		}
	}
	fault(w, 404, "", "there is no such picture")
}

func (f *fake) deletePicture(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pictures = slices.DeleteFunc(f.pictures, func(p map[string]any) bool { return p["id"] == r.PathValue("id") })
	w.WriteHeader(204)
}

// enlarge makes a picture of four times the size.
func (f *fake) enlarge(w http.ResponseWriter, r *http.Request) {
	var ask struct{ Picture, Upscaler string }
	json.NewDecoder(r.Body).Decode(&ask)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.pictures {
		if ask.Picture == fmt.Sprint("picture:", p["id"]) && ask.Upscaler == "4x-soft" {
			answer(w, 201, f.newPicture(fmt.Sprint(p["prompt"]), 4*p["width"].(int), 4*p["height"].(int), p["settings"].(map[string]any)))
			return
		}
	}
	fault(w, 400, "picture", "this cannot be enlarged")
}

// draw is a disc before a gradient, whose colours turn with t.
func draw(width, height int, t float64) image.Image {
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	tone := func(phase float64) uint8 { return uint8(150 + 80*math.Sin(2*math.Pi*(t+phase))) }
	for y := range height {
		for x := range width {
			c := color.RGBA{tone(0), tone(.33) - uint8(40*y/height), tone(.66), 255}
			if dx, dy := float64(x)/float64(width)-.5, float64(y)/float64(height)-.55; dx*dx+dy*dy < .08 {
				c = color.RGBA{tone(.5), tone(.8), tone(.1), 255}
			}
			m.Set(x, y, c)
		}
	}
	return m
}

func drawJPEG(width, height int, t float64) []byte {
	var out bytes.Buffer
	jpeg.Encode(&out, draw(width, height, t), nil)
	return out.Bytes()
}

// count is the length of a list of the server.
func count(f *fake, list *[]map[string]any) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(*list)
}
