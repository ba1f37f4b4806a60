package sdapi

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"darkroom/models/library"
	"darkroom/recipe"
	"darkroom/server/ask"
	"darkroom/server/web"
)

func (a *API) addLists(add adder) {
	add("GET", "samplers", "samplers", samplers, nil, []Sampler{})
	add("GET", "schedulers", "spacings of noise levels", schedulers, nil, []Schedule{})
	add("GET", "sd-models", "models", a.models, nil, []Model{})
	add("GET", "sd-vae", "autoencoders", vaes, nil, []VAE{})
	add("GET", "sd-modules", "autoencoders, as Forge calls them", vaes, nil, []VAE{})
	add("GET", "loras", "adapters", loras, nil, []LoRA{})
	add("GET", "embeddings", "textual inversions", embeddings, nil, Embeddings{})
	add("GET", "upscalers", "upscalers", upscalers, nil, []Upscaler{})
	add("GET", "latent-upscale-modes", "ways to enlarge latents", latentModes, nil, []Named{})
	for _, path := range []string{"hypernetworks", "face-restorers", "realesrgan-models", "prompt-styles", "extensions"} {
		add("GET", path, "none here", empty, nil, []Named{})
	}
	add("GET", "scripts", "extensions that are understood", func(w http.ResponseWriter, _ *http.Request) error {
		web.JSON(w, http.StatusOK, map[string][]string{"txt2img": {"controlnet"}, "img2img": {"controlnet"}})
		return nil
	}, nil, map[string][]string{})
	add("GET", "script-info", "extensions that are understood", func(w http.ResponseWriter, _ *http.Request) error {
		web.JSON(w, http.StatusOK, []Script{{"controlnet", true, false, []any{}}, {"controlnet", true, true, []any{}}})
		return nil
	}, nil, []Script{})
}

// Script is an entry of script-info.
type Script struct {
	Name     string `json:"name"`
	AlwaysOn bool   `json:"is_alwayson"`
	Img2Img  bool   `json:"is_img2img"`
	Args     []any  `json:"args"`
}

func empty(w http.ResponseWriter, _ *http.Request) error {
	web.JSON(w, http.StatusOK, []Named{})
	return nil
}

// Named is an entry of some lists.
type Named struct {
	Name string `json:"name"`
}

// Sampler is an entry of samplers.
type Sampler struct {
	Name    string            `json:"name"`
	Aliases []string          `json:"aliases"`
	Options map[string]string `json:"options"`
}

func samplers(w http.ResponseWriter, _ *http.Request) error {
	all := []Sampler{}
	for _, s := range recipe.ForeignSamplers() {
		all = append(all, Sampler{s.Name, append([]string{s.Own}, s.Aliases...), map[string]string{}})
	}
	web.JSON(w, http.StatusOK, all)
	return nil
}

// Schedule is an entry of schedulers.
type Schedule struct {
	Name           string   `json:"name"`
	Label          string   `json:"label"`
	Aliases        []string `json:"aliases"`
	DefaultRho     float64  `json:"default_rho"`
	NeedInnerModel bool     `json:"need_inner_model"`
}

func schedulers(w http.ResponseWriter, _ *http.Request) error {
	var all []Schedule
	for _, s := range recipe.ForeignSchedules() {
		out := Schedule{Name: s.Own, Label: s.Name, Aliases: s.Aliases, DefaultRho: -1}
		if s.Own == "" {
			out.Name = "automatic"
		}
		out.Name = strings.ReplaceAll(out.Name, "-", "_")
		if out.Aliases == nil {
			out.Aliases = []string{}
		}
		all = append(all, out)
	}
	web.JSON(w, http.StatusOK, all)
	return nil
}

// Model is an entry of sd-models.
type Model struct {
	Title     string  `json:"title"`
	ModelName string  `json:"model_name"`
	Hash      *string `json:"hash"`
	SHA256    *string `json:"sha256"`
	Filename  string  `json:"filename" doc:"the file's name, without its folder"`
	Config    *string `json:"config"`
}

func (a *API) models(w http.ResponseWriter, _ *http.Request) error {
	all := []Model{}
	for _, name := range a.Catalogue.Names() {
		file := name
		if path := a.Catalogue.Path(name); !ask.IsDefault(path) {
			file = filepath.Base(path)
		}
		all = append(all, Model{Title: a.title(name), ModelName: name, Filename: file})
	}
	web.JSON(w, http.StatusOK, all)
	return nil
}

// VAE is an entry of sd-vae.
type VAE struct {
	ModelName string `json:"model_name"`
	Filename  string `json:"filename"`
}

func vaes(w http.ResponseWriter, _ *http.Request) error {
	all := []VAE{}
	for _, path := range library.Parts(library.VAEs) {
		all = append(all, VAE{library.PartName(path), filepath.Base(path)})
	}
	web.JSON(w, http.StatusOK, all)
	return nil
}

// LoRA is an entry of loras.
type LoRA struct {
	Name     string         `json:"name"`
	Alias    string         `json:"alias"`
	Path     string         `json:"path"`
	Metadata map[string]any `json:"metadata"`
}

func loras(w http.ResponseWriter, _ *http.Request) error {
	all := []LoRA{}
	for _, path := range library.Parts(library.LoRAs) {
		name := library.PartName(path)
		all = append(all, LoRA{name, name, filepath.Base(path), map[string]any{}})
	}
	web.JSON(w, http.StatusOK, all)
	return nil
}

// Embeddings is the answer of embeddings.
type Embeddings struct {
	Loaded  map[string]Embedding `json:"loaded"`
	Skipped map[string]Embedding `json:"skipped"`
}

// Embedding is one of them.
type Embedding struct {
	Step             *int    `json:"step"`
	SDCheckpoint     *string `json:"sd_checkpoint"`
	SDCheckpointName *string `json:"sd_checkpoint_name"`
	Shape            int     `json:"shape"`
	Vectors          int     `json:"vectors"`
}

func embeddings(w http.ResponseWriter, _ *http.Request) error {
	out := Embeddings{map[string]Embedding{}, map[string]Embedding{}}
	for _, path := range library.Parts(library.Embeddings) {
		out.Loaded[library.PartName(path)] = Embedding{}
	}
	web.JSON(w, http.StatusOK, out)
	return nil
}

// Upscaler is an entry of upscalers.
type Upscaler struct {
	Name      string  `json:"name"`
	ModelName *string `json:"model_name"`
	ModelPath *string `json:"model_path"`
	ModelURL  *string `json:"model_url"`
	Scale     float64 `json:"scale"`
}

// plainUpscalers enlarge without a network.
var plainUpscalers = []string{"None", "Lanczos", "Nearest"}

func upscalers(w http.ResponseWriter, _ *http.Request) error {
	all := []Upscaler{}
	for _, name := range plainUpscalers {
		all = append(all, Upscaler{Name: name, Scale: 4})
	}
	for _, path := range library.Parts(library.Upscalers) {
		if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() {
			continue
		}
		name, file := library.PartName(path), filepath.Base(path)
		all = append(all, Upscaler{Name: name, ModelName: &name, ModelPath: &file, Scale: 4})
	}
	web.JSON(w, http.StatusOK, all)
	return nil
}

func latentModes(w http.ResponseWriter, _ *http.Request) error {
	all := []Named{}
	for _, name := range []string{"Latent", "Latent (antialiased)", "Latent (bicubic)", "Latent (bicubic antialiased)", "Latent (nearest)", "Latent (nearest-exact)"} {
		all = append(all, Named{name})
	}
	web.JSON(w, http.StatusOK, all)
	return nil
}
