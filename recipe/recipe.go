// Package recipe describes a picture completely: every setting that determines its pixels, and the hashes of
// the results. An image file carries its recipe twice, as JSON that this program reads (MarshalJSON) and
// as the "parameters" text that other programs read and write (Parameters, ParseParameters).
//
// The package also holds the table of settings (All): everything a user can say about a picture, written once for flags,
// job files, sweeps, recipes and help. It knows the names of samplers but nothing about models.
package recipe

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// Recipe is one picture's recipe. It holds no time and no path, so that the same settings give the same file,
// byte for byte. Image i of a request of several has seed + i as its own seed and knows nothing of the others.
type Recipe struct {
	// Version is the version of Darkroom that made the picture, for people to read. Numerics names the
	// arithmetic: two programs with the same numerics id promise the same bits from the same recipe
	// on the same kind of machine.
	Version  string `json:"version"`
	Numerics string `json:"numerics"`

	Prompt       string `json:"prompt"`
	Negative     string `json:"negative"`
	PromptSyntax string `json:"prompt_syntax"` // weighted or plain
	ClipSkip     int    `json:"clip_skip"`     // layers left off the text encoder's end; 0: as the model says

	Seed   uint64 `json:"seed"`
	Noise  string `json:"noise"`  // torch-cpu or torch-cuda
	Width  int    `json:"width"`  // pixels
	Height int    `json:"height"` // pixels

	Steps     int       `json:"steps"`
	Scheduler string    `json:"scheduler"`
	Sigmas    string    `json:"sigmas"`               // how sigmas are spaced; "": the scheduler's own way
	SigmaList []float64 `json:"sigma_list,omitempty"` // explicit sigmas, which stand above Sigmas
	Eta       float64   `json:"eta"`
	CFG       float64   `json:"cfg"`              // classifier-free guidance scale; 1: no guidance
	Rescale   float64   `json:"guidance_rescale"` // φ of Lin et al. 2023, sec. 3.4; 0: off

	// Guidance is how cfg is applied, NAME[:key=value,…] without a key rescale; "": uncond + cfg·(cond − uncond).
	Guidance string `json:"guidance,omitempty"`
	// SDENoise is where stochastic samplers take their noise from; "": a draw a step; brownian: a path of the seed.
	SDENoise string `json:"sde_noise,omitempty"`

	// Cache is which calls of the denoiser take their inner layers from an earlier one; "": none. WholeCalls are those
	// that do not, counted from 0, of Calls.
	Cache      string `json:"cache,omitempty"`
	WholeCalls []int  `json:"whole_calls,omitempty"`
	Calls      int    `json:"calls,omitempty"`
	// TokenMerging is the share of tokens that were merged in the U-Net's largest self-attention.
	TokenMerging float64 `json:"token_merging,omitempty"`

	LoRA      string `json:"lora,omitempty"`      // adapters with their weights: see ParseUses
	Embedding string `json:"embedding,omitempty"` // textual inversions, likewise
	// Files are the adapters, embeddings and pictures that the picture was made with beside the model.
	Files []File `json:"files,omitempty"`

	// The picture to start from and its mask, by the names of their files; their hashes are in Files.
	Init       string   `json:"init,omitempty"`
	Strength   *float64 `json:"strength,omitempty"`
	Resize     string   `json:"resize,omitempty"`
	Mask       string   `json:"mask,omitempty"`
	MaskBlur   int      `json:"mask_blur,omitempty"`
	InvertMask bool     `json:"invert_mask,omitempty"`

	Variation string `json:"variation,omitempty"` // seeds whose noise is mixed in: see ParseVariation
	Hires     string `json:"hires,omitempty"`     // a second pass: see ParseHires; Width and Height are the first's
	Inpaint   string `json:"inpaint,omitempty"`   // masked: only that was painted, at Width×Height, and put back
	Outpaint  string `json:"outpaint,omitempty"`  // see ParseSides
	Regions   string `json:"regions,omitempty"`   // see ParseRegions; files by their names
	Toward    string `json:"toward,omitempty"`    // see ParseToward
	Move      string `json:"move,omitempty"`      // see ParseMove
	Watermark bool   `json:"watermark,omitempty"` // an invisible mark is in the pixels
	Motion    string `json:"motion,omitempty"`    // a film by a motion module: see ParseMotion
	Windows   string `json:"windows,omitempty"`   // see ParseWindows
	Tile      string `json:"tile,omitempty"`      // x, y or both: sides that fit each other

	// Pictures that steer and their networks, the depth map, and what keeps an instruction's editing close to Init.
	Control   string   `json:"control,omitempty"`
	Depth     string   `json:"depth,omitempty"`
	Reference string   `json:"reference,omitempty"` // pictures shown beside the prompt
	ImageCFG  *float64 `json:"image_cfg,omitempty"`

	// Upscale is how many times an upscaler (in Files) enlarged the picture that the recipe makes; 0: it did not.
	Upscale int `json:"upscale,omitempty"`

	VAE             string `json:"vae,omitempty"`              // another autoencoder than the model's own
	TextModel       string `json:"text_encoder,omitempty"`     // another text encoder
	Parts           string `json:"parts,omitempty"`            // a model that lent what the model's file lacks
	Refiner         string `json:"refiner,omitempty"`          // a model that makes the last steps, NAME:start=0.8
	PredictionAsked string `json:"prediction_asked,omitempty"` // --prediction, where it was given

	Model      string `json:"model"`      // name, not a path
	ModelHash  string `json:"model_hash"` // SHA-256 of the weights, 64 hex digits
	Prediction string `json:"prediction"` // epsilon, v_prediction, sample, flow_prediction or edm
	// PredictionWhy reports which rule decided that, of a model in a single file, for people to read.
	PredictionWhy string `json:"prediction_why,omitempty"`

	VAETiling bool `json:"vae_tiling,omitempty"` // decoded in overlapping tiles

	// Convolution is winograd or plain where the backend had the choice, else "".
	Convolution string `json:"convolution,omitempty"`

	DType   string `json:"dtype"`   // fp32, tf32, bf16, fp16 or int8: never auto
	Backend string `json:"backend"` // cpu, cuda or ref: never auto
	Device  string `json:"device"`  // what computed it, for people to read
	// DecodeDType is the type that the latents were decoded in, where they overflowed DType; "": in DType.
	DecodeDType string `json:"decode_dtype,omitempty"`

	Result Result `json:"result"`

	// Extra are the settings that have a row in the table and no field here, by the setting's name.
	Extra map[string]any `json:"-"`

	// Unknown holds fields of a recipe that this version does not know, so that rewriting keeps them. They may affect
	// pixels: a picture cannot be made again without them.
	Unknown Fields `json:"-"`
}

// File is a file beside the model that decides the picture.
type File struct {
	Kind   string `json:"kind"` // lora, embedding, vae, refiner, init, mask, upscaler, control, hint, encoder, depth, motion
	Name   string `json:"name"` // without its folder
	SHA256 string `json:"sha256"`
	AutoV3 string `json:"auto_v3,omitempty"` // of a lora: see checkpoint.AutoV3
}

// Result holds SHA-256 hashes, in hex, of what the recipe gave at each seam, so that a second rendering can say
// where it first differs. An empty string: not known.
type Result struct {
	Noise   string `json:"noise"`   // x_T: float32, little-endian, NCHW
	Latents string `json:"latents"` // x_0: likewise
	Pixels  string `json:"pixels"`  // RGB, 8 bits each, row by row; of a film, frame by frame
}

// HashPixels is the hash of a picture, or of a film's frames, that Result.Pixels holds. Alpha is left out: no model makes any.
func HashPixels(frames ...*image.NRGBA) string {
	sum := sha256.New()
	var row []byte
	for _, picture := range frames {
		for y := range picture.Rect.Dy() {
			row = row[:0]
			for x := range picture.Rect.Dx() {
				i := y*picture.Stride + 4*x
				row = append(row, picture.Pix[i:i+3]...)
			}
			sum.Write(row)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// Name is what the recipe's scheduler and sigmas are called on the command line: "dpm++2m-karras".
func (r Recipe) Name() string {
	if r.Sigmas == "" {
		return r.Scheduler
	}
	return r.Scheduler + "-" + r.Sigmas
}

// Validate reports everything that makes r invalid: numbers that are not finite or out of range, text that is not UTF-8,
// malformed hashes. It does not know a model's own rules, such as its size factor.
func (r Recipe) Validate() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(r.Steps >= 1, "steps is %d: must be 1 or more", r.Steps)
	bad(r.Width >= 1 && r.Width <= MaxSide, "width is %d: must be 1 to %d", r.Width, MaxSide)
	bad(r.Height >= 1 && r.Height <= MaxSide, "height is %d: must be 1 to %d", r.Height, MaxSide)
	bad(r.ClipSkip >= 0, "clip_skip is %d: must be 0 or more", r.ClipSkip)
	bad(r.Scheduler != "", "scheduler is missing")
	for _, f := range []struct {
		name  string
		value float64
	}{{"eta", r.Eta}, {"cfg", r.CFG}, {"guidance_rescale", r.Rescale}} {
		bad(finite(f.value), "%s is %v: must be a finite number", f.name, f.value)
	}
	bad(!slices.ContainsFunc(r.SigmaList, func(s float64) bool { return !finite(s) || s < 0 }),
		"sigma_list has a value that is negative or not finite")
	for _, t := range []struct{ name, text string }{{"prompt", r.Prompt}, {"negative", r.Negative}, {"guidance", r.Guidance}, {"sde_noise", r.SDENoise}} {
		bad(utf8.ValidString(t.text), "%s is not valid UTF-8", t.name)
	}
	for _, h := range []struct{ name, hash string }{
		{"model_hash", r.ModelHash}, {"result.noise", r.Result.Noise},
		{"result.latents", r.Result.Latents}, {"result.pixels", r.Result.Pixels},
	} {
		bad(h.hash == "" || isSHA256(h.hash), "%s is %.80q: must be 64 hex digits", h.name, h.hash)
	}
	return errors.Join(errs...)
}

// MaxSide is the largest width or height of a picture, in pixels: what a WebP file or a JPEG file can hold is less
// than four times that, and no model comes near.
const MaxSide = 16384

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

func isSHA256(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
