package sdapi

import (
	"encoding/json"

	"darkroom/batch/jobs"
	"darkroom/imagefile"
	"darkroom/pipeline"
	"darkroom/recipe"
	"darkroom/server/dispatch"
	"darkroom/server/wire"
)

// Info is what the answer's info holds, as a JSON text.
type Info struct {
	Prompt                      string         `json:"prompt"`
	AllPrompts                  []string       `json:"all_prompts"`
	NegativePrompt              string         `json:"negative_prompt"`
	AllNegativePrompts          []string       `json:"all_negative_prompts"`
	Seed                        uint64         `json:"seed"`
	AllSeeds                    []uint64       `json:"all_seeds"`
	Subseed                     uint64         `json:"subseed"`
	AllSubseeds                 []uint64       `json:"all_subseeds"`
	SubseedStrength             float64        `json:"subseed_strength"`
	Width                       int            `json:"width"`
	Height                      int            `json:"height"`
	SamplerName                 string         `json:"sampler_name"`
	CFGScale                    float64        `json:"cfg_scale"`
	Steps                       int            `json:"steps"`
	BatchSize                   int            `json:"batch_size"`
	RestoreFaces                bool           `json:"restore_faces"`
	FaceRestorationModel        *string        `json:"face_restoration_model"`
	ModelName                   string         `json:"sd_model_name"`
	ModelHash                   string         `json:"sd_model_hash"`
	VAEName                     *string        `json:"sd_vae_name"`
	VAEHash                     *string        `json:"sd_vae_hash"`
	SeedResizeFromW             int            `json:"seed_resize_from_w"`
	SeedResizeFromH             int            `json:"seed_resize_from_h"`
	DenoisingStrength           *float64       `json:"denoising_strength"`
	ExtraGenerationParams       map[string]any `json:"extra_generation_params"`
	IndexOfFirstImage           int            `json:"index_of_first_image"`
	Infotexts                   []string       `json:"infotexts"`
	Styles                      []string       `json:"styles"`
	JobTimestamp                string         `json:"job_timestamp"`
	ClipSkip                    int            `json:"clip_skip"`
	IsUsingInpaintingConditions bool           `json:"is_using_inpainting_conditioning"`
	Version                     string         `json:"version"`
	Job                         string         `json:"job"`
	Warnings                    []string       `json:"warnings,omitempty"`
}

// info is a job's info. Every picture's infotext is the one in its file.
func info(a *API, fields map[string]json.RawMessage, job wire.Job, asked []jobs.Request, made []dispatch.Result) (string, error) {
	out := Info{
		Prompt: asked[0].Prompt, NegativePrompt: asked[0].Negative, Seed: asked[0].Seed, BatchSize: int(number(fields, "batch_size", 1)),
		ExtraGenerationParams: map[string]any{}, Infotexts: []string{}, Styles: []string{}, AllPrompts: []string{}, AllNegativePrompts: []string{}, AllSeeds: []uint64{},
		AllSubseeds: []uint64{}, SeedResizeFromW: -1, SeedResizeFromH: -1, ClipSkip: asked[0].ClipSkip + 1, JobTimestamp: started(job), Version: "darkroom " + pipeline.Version(), Job: job.ID,
		SamplerName: text(fields, "sampler_name"), CFGScale: asked[0].CFG, Steps: asked[0].Steps, Width: asked[0].Width, Height: asked[0].Height,
		DenoisingStrength: asked[0].Strength, IsUsingInpaintingConditions: false, Warnings: job.Warnings,
	}
	if asked[0].VAE != "" {
		out.VAEName = &asked[0].VAE
	}
	out.ModelName = a.Catalogue.Default()
	if asked[0].Model != "" {
		out.ModelName = asked[0].Model
	}
	for i, m := range made {
		data, err := a.Jobs.File(m.Record)
		if err != nil {
			return "", err
		}
		file, err := imagefile.InspectData(data)
		if err != nil {
			return "", err
		}
		if file.Recipe == nil {
			continue
		}
		c := file.Recipe
		if i == 0 {
			out.take(c)
			out.SamplerName = recipe.ForeignSampler(c.Scheduler, c.Sigmas)
		}
		out.AllPrompts = append(out.AllPrompts, c.Prompt)
		out.AllNegativePrompts = append(out.AllNegativePrompts, c.Negative)
		out.AllSeeds = append(out.AllSeeds, c.Seed)
		out.AllSubseeds = append(out.AllSubseeds, 0)
		out.Infotexts = append(out.Infotexts, c.Parameters())
	}
	if scale, ok := distilledScale(a.Catalogue.Facts(out.ModelName), fields); ok { // as clients may send them again
		out.CFGScale, out.ExtraGenerationParams["Distilled CFG Scale"] = number(fields, "cfg_scale", 1), scale
	}
	data, err := json.Marshal(out)
	return string(data), err
}

// take takes what the first picture was made with.
func (i *Info) take(c *recipe.Recipe) {
	i.NegativePrompt, i.Seed, i.Width, i.Height, i.Steps, i.CFGScale = c.Negative, c.Seed, c.Width, c.Height, c.Steps, c.CFG
	i.ModelHash = c.ModelHash[:min(10, len(c.ModelHash))]
	if c.Eta != 0 {
		i.ExtraGenerationParams["Eta"] = c.Eta
	}
}
