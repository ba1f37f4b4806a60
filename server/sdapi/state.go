package sdapi

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"darkroom/atomicfile"
	"darkroom/machine"
	"darkroom/models/library"
	"darkroom/server/ask"
	"darkroom/server/web"
	"darkroom/server/wire"
)

type adder func(method, path, summary string, handle func(http.ResponseWriter, *http.Request) error, body, answer any)

func (a *API) addState(add adder) {
	add("GET", "progress", "progress of the picture being rendered", a.progress, nil, Progress{})
	add("POST", "interrupt", "cancel the client's job", a.interrupt, nil, struct{}{})
	add("POST", "skip", "cancel the picture being rendered for the client", a.skip, nil, struct{}{})
	add("GET", "options", "settings of the server", a.getOptions, nil, map[string]any{})
	add("POST", "options", "change them; unknown ones are kept", a.postOptions, nil, struct{}{})
	add("GET", "memory", "memory", memory, nil, Memory{})
	add("GET", "cmd-flags", "flags of the server", a.flags, nil, map[string]any{})
	for _, path := range []string{"refresh-checkpoints", "refresh-vae", "refresh-loras", "refresh-embeddings"} {
		add("POST", path, "look for new files", a.refresh, nil, nil)
	}
	add("POST", "unload-checkpoint", "close all models", a.unload, nil, struct{}{})
	add("POST", "reload-checkpoint", "does nothing: models are opened on first use", nothing, nil, struct{}{})
}

func nothing(w http.ResponseWriter, _ *http.Request) error {
	web.JSON(w, http.StatusOK, struct{}{})
	return nil
}

// Progress is the answer of progress.
type Progress struct {
	Progress     float64 `json:"progress" doc:"0 to 1; 0 when nothing is being rendered"`
	ETA          float64 `json:"eta_relative" doc:"seconds"`
	State        State   `json:"state"`
	CurrentImage *string `json:"current_image" doc:"the latest preview in base64"`
	TextInfo     *string `json:"textinfo"`
	CurrentTask  *string `json:"current_task"`
}

// State is its state.
type State struct {
	Skipped      bool   `json:"skipped"`
	Interrupted  bool   `json:"interrupted"`
	Stopping     bool   `json:"stopping_generation"`
	Job          string `json:"job"`
	JobCount     int    `json:"job_count"`
	JobTimestamp string `json:"job_timestamp"`
	JobNo        int    `json:"job_no"`
	Step         int    `json:"sampling_step"`
	Steps        int    `json:"sampling_steps"`
}

// progress reports the oldest running job of this API: the client's own, if it has one.
func (a *API) progress(w http.ResponseWriter, r *http.Request) error {
	out := Progress{State: State{JobTimestamp: "0"}}
	if me, job, ok := a.current(web.Client(r)); ok {
		out.State = State{Job: job.ID, JobCount: job.Count, JobTimestamp: started(job), JobNo: len(job.Pictures)}
		done := float64(len(job.Pictures))
		if p := job.Progress; p != nil {
			out.State.Step, out.State.Steps = p.Step, p.Steps
			if p.Steps > 0 {
				done += float64(p.Step) / float64(p.Steps)
			}
		}
		out.Progress = min(max(done/float64(job.Count), 0.001), 1)
		if job.Started != nil && done > 0 {
			out.ETA = time.Since(*job.Started).Seconds() * (float64(job.Count) - done) / done
		}
		if me.task != "" {
			out.CurrentTask = &me.task
		}
		if skip := r.URL.Query().Get("skip_current_image"); skip != "true" && skip != "True" && skip != "1" {
			if data := a.Jobs.Latest(job.ID); data != nil {
				text := base64.StdEncoding.EncodeToString(data)
				out.CurrentImage = &text
			}
		}
	}
	web.JSON(w, http.StatusOK, out)
	return nil
}

// current is the client's oldest job that has not ended, one at work before one that waits, or else that of anybody.
func (a *API) current(client string) (active, wire.Job, bool) {
	a.mu.Lock()
	all := slices.Clone(a.active)
	a.mu.Unlock()
	own := slices.DeleteFunc(slices.Clone(all), func(c active) bool { return c.client != client })
	for _, list := range [][]active{own, all} {
		ids := make([]string, len(list))
		for i, c := range list {
			ids[i] = c.job
		}
		if at := a.Jobs.First(ids); at >= 0 {
			job, ok := a.Jobs.Get(list[at].job)
			return list[at], job, ok && !wire.Ended(job.State)
		}
	}
	return active{}, wire.Job{}, false
}

// mine calls f with the oldest job of the client that is at work: nobody ends another's.
func (a *API) mine(r *http.Request, f func(id string)) {
	client := web.Client(r)
	if c, _, ok := a.current(client); ok && c.client == client {
		f(c.job)
	}
}

func (a *API) interrupt(w http.ResponseWriter, r *http.Request) error {
	a.mine(r, func(id string) { a.Jobs.Cancel(id) })
	return nothing(w, r)
}

func (a *API) skip(w http.ResponseWriter, r *http.Request) error {
	a.mine(r, a.Jobs.Skip)
	return nothing(w, r)
}

// optionsFile holds what clients have set.
const optionsFile = "sdapi-options.json"

// loadOptions reads what clients have set. The caller holds mu.
func (a *API) loadOptions() {
	if a.options != nil {
		return
	}
	a.options = map[string]json.RawMessage{}
	if data, err := os.ReadFile(filepath.Join(a.Folder, optionsFile)); err == nil {
		_ = json.Unmarshal(data, &a.options) // a damaged file has no options
	}
}

// getOptions gives the options that clients look at, and those that they have set.
func (a *API) getOptions(w http.ResponseWriter, _ *http.Request) error {
	name := a.Catalogue.Default()
	out := map[string]any{
		"sd_model_checkpoint": a.title(name), "sd_checkpoint_hash": "", "sd_vae": "Automatic", "CLIP_stop_at_last_layers": 1, "samples_format": "png", "jpeg_quality": 95,
		"randn_source": "CPU", "eta_noise_seed_delta": 0, "show_progress_every_n_steps": 1, "live_previews_enable": true, "save_images_add_number": true,
		"grid_save": false, "return_grid": false, "enable_pnginfo": true, "samples_save": true,
	}
	a.mu.Lock()
	a.loadOptions()
	for key, raw := range a.options {
		out[key] = raw
	}
	a.mu.Unlock()
	web.JSON(w, http.StatusOK, out)
	return nil
}

// maxOptions is how much clients may have set, in bytes: some send back all that they were given.
const maxOptions = 1 << 20

func (a *API) postOptions(w http.ResponseWriter, r *http.Request) error {
	fields, err := a.fields(w, r)
	if err != nil {
		return err
	}
	if title := text(fields, "sd_model_checkpoint"); title != "" {
		if _, ok := a.findModel(title); !ok {
			return &wire.Error{Status: http.StatusNotFound, Type: "invalid_request_error", Param: "sd_model_checkpoint", Message: "Checkpoint not found: " + title}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.loadOptions()
	now := map[string]json.RawMessage{}
	for name, raw := range a.options {
		now[name] = raw
	}
	for name, raw := range fields {
		if now[name] = raw; string(raw) == "null" {
			delete(now, name)
		}
	}
	data, err := json.Marshal(now)
	if err != nil {
		return err
	}
	if len(data) > maxOptions {
		return ask.Invalid("", "%d bytes of options: at most %d are kept", len(data), maxOptions)
	}
	if err := atomicfile.WriteData(filepath.Join(a.Folder, optionsFile), data); err != nil {
		return err
	}
	a.options = now
	return nothing(w, r)
}

// title is how that program shows a model.
func (a *API) title(name string) string {
	path := a.Catalogue.Path(name)
	if ask.IsDefault(path) {
		return name
	}
	return filepath.Base(path)
}

// findModel finds a model by its title, which may have a hash after it, its name or its file's name.
func (a *API) findModel(title string) (string, bool) {
	if i := strings.LastIndex(title, " ["); i > 0 && strings.HasSuffix(title, "]") {
		title = title[:i]
	}
	for _, same := range []func(string) bool{
		func(n string) bool { return n == title || a.title(n) == title },
		func(n string) bool { return strings.EqualFold(n, title) || strings.EqualFold(a.title(n), title) },
		func(n string) bool { return strings.EqualFold(n, library.NameOf(title)) },
	} {
		for _, name := range a.Catalogue.Names() {
			if same(name) {
				return name, true
			}
		}
	}
	return "", false
}

// vaeName is an autoencoder's name without its file's ending.
func vaeName(text string) string { return library.NameOf(filepath.Base(text)) }

// Memory is the answer of memory.
type Memory struct {
	RAM  map[string]any `json:"ram"`
	CUDA map[string]any `json:"cuda"`
}

func memory(w http.ResponseWriter, _ *http.Request) error {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	free, _ := machine.FreeMemory()
	out := Memory{RAM: map[string]any{"free": free, "used": m.Sys, "total": free + m.Sys}, CUDA: map[string]any{"error": "not told: see /metrics"}}
	web.JSON(w, http.StatusOK, out)
	return nil
}

// flags are those that clients look for. None of them reveals a path of this machine.
func (a *API) flags(w http.ResponseWriter, _ *http.Request) error {
	web.JSON(w, http.StatusOK, map[string]any{"api": true, "nowebui": true, "listen": false, "share": false, "medvram": false, "lowvram": false, "no_half": false, "ckpt": a.title(a.Catalogue.Default())})
	return nil
}

func (a *API) refresh(w http.ResponseWriter, _ *http.Request) error {
	a.Catalogue.Refresh()
	web.JSON(w, http.StatusOK, nil)
	return nil
}

func (a *API) unload(w http.ResponseWriter, r *http.Request) error {
	go a.Jobs.Unload() // it waits for the pictures in work
	return nothing(w, r)
}
