package jobs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"

	"darkroom/pipeline"
)

// Request is one image to make, as it was asked for: what is not given is the model's default. It decides the image
// alone: no index, no batch and no place is in it. Pointers are nil, and other fields zero, where nothing was given; no
// zero that is left out here would mean anything else than the default.
type Request struct {
	Model    string   `json:"model,omitempty"` // a folder or a name; "": the embedded model
	Backend  string   `json:"backend,omitempty"`
	DType    string   `json:"dtype,omitempty"`
	Prompt   string   `json:"prompt"`
	Negative *string  `json:"negative,omitempty"`
	Seed     uint64   `json:"seed"`
	Steps    int      `json:"steps,omitempty"`
	CFG      *float64 `json:"cfg,omitempty"`
	Rescale  float64  `json:"guidance_rescale,omitempty"`
	Guidance string   `json:"guidance,omitempty"`

	Scheduler string   `json:"scheduler,omitempty"`
	Sigmas    string   `json:"sigmas,omitempty"`
	Eta       *float64 `json:"eta,omitempty"`
	SDENoise  string   `json:"sde_noise,omitempty"`
	Width     int      `json:"width,omitempty"`  // pixels
	Height    int      `json:"height,omitempty"` // pixels
	Noise     string   `json:"noise,omitempty"`
	Syntax    string   `json:"prompt_syntax,omitempty"`
	ClipSkip  int      `json:"clip_skip,omitempty"`

	Tiled bool `json:"vae_tiling,omitempty"` // large pictures are decoded in tiles: --low-memory

	Format  string `json:"format,omitempty"`  // png, jpg or webp; "": png
	Quality int    `json:"quality,omitempty"` // 1 to 100; 0: the format's own
}

// Hash names the request: the SHA-256 of its JSON, in hex. Equal requests have equal hashes in every batch, on
// every machine.
func (q *Request) Hash() string {
	var buf bytes.Buffer
	buf.WriteString("darkroom request 1\n")
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(q); err != nil {
		panic("jobs: a request with a number that is not finite: " + err.Error())
	}
	sum := sha256.Sum256(buf.Bytes())
	return hex.EncodeToString(sum[:])
}

// Fill writes what was asked for over r, a model's own request, as the flags of generate do.
func (q *Request) Fill(r pipeline.Request) pipeline.Request {
	r.Prompt, r.Seed = q.Prompt, q.Seed
	if q.Negative != nil {
		r.Negative = *q.Negative
	}
	if q.Scheduler != "" { // another scheduler: the model's sigmas and eta mean nothing to it
		r.Scheduler, r.Sigmas, r.Eta = q.Scheduler, "", nil
	}
	replace(&r.Steps, q.Steps)
	if q.Sigmas != "" {
		r.Sigmas = q.Sigmas
		if q.Steps == 0 && strings.Contains(q.Sigmas, ",") {
			r.Steps = 0 // the list decides
		}
	}
	if q.CFG != nil {
		r.CFG = *q.CFG
	}
	if q.Eta != nil {
		r.Eta = q.Eta
	}
	replace(&r.Rescale, q.Rescale)
	replace(&r.Guidance, q.Guidance)
	replace(&r.SDENoise, q.SDENoise)
	r.Tiled = r.Tiled || q.Tiled
	replace(&r.Width, q.Width)
	replace(&r.Height, q.Height)
	replace(&r.Noise, q.Noise)
	replace(&r.Syntax, q.Syntax)
	replace(&r.ClipSkip, q.ClipSkip)
	return r
}

func replace[T comparable](field *T, value T) {
	var zero T
	if value != zero {
		*field = value
	}
}

// Extension is the file name's end that the format asks for.
func (q *Request) Extension() string {
	if q.Format == "" {
		return ".png"
	}
	return "." + q.Format
}
