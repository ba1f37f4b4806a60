package recipe

import (
	"slices"
	"strings"

	"darkroom/guidance"
	"darkroom/noise"
	"darkroom/option"
	"darkroom/scheduler"
	"darkroom/stepcache"
)

// Settings holds everything a user can say about a picture. A zero field means the default, unless its row in the table
// says that zero is an ordinary value (Setting.Zero).
type Settings struct {
	Prompt, Negative string
	Syntax           string // Weighted (A1111's emphasis, any length) or Plain (diffusers, cut at the window)
	ClipSkip         int    // how many of the text encoder's last layers to skip; 0: as the model says

	Seed   uint64
	Noise  string // noise.Kinds
	Width  int    // pixels
	Height int    // pixels

	Steps     int
	Scheduler string   // "" is the model's own
	Sigmas    string   // "" is the scheduler's own way; a name or a falling list
	Eta       *float64 // nil is the scheduler's own
	// CFG is the scale of classifier-free guidance (Ho & Salimans 2022): uncond + CFG·(cond − uncond).
	// At 1 and below there is no guidance, as in diffusers: the prompt's prediction is used unchanged.
	CFG     float64
	Rescale float64 // φ of Lin et al. 2023, sec. 3.4; 0 is off
	// Guidance is how that scale is applied, NAME[:key=value,…] as package guidance reads it; "" is cfg. Its key rescale
	// means the same as Rescale.
	Guidance string `json:",omitempty"`
	// SDENoise is where stochastic samplers get their noise. SDETorch or "": a fresh draw per step from the generator of
	// the initial noise, as in diffusers. SDEBrownian: one Brownian path per seed, as in k-diffusion, so that any number
	// of steps sees the same noise.
	SDENoise string `json:",omitempty"`
	// Cache reports which calls of the denoiser reuse the inner layers of an earlier call, NAME[:key=value,…] as package
	// stepcache reads it; "" is none.
	Cache string `json:",omitempty"`
	// TokenMerging is the share of tokens that are merged in the U-Net's largest self-attention; 0 is off.
	TokenMerging float64 `json:",omitempty"`
	// Tiled decodes pictures larger than the autoencoder was trained on in overlapping tiles.
	Tiled bool

	// LoRA lists adapters with their weights, and Embedding textual inversions: see ParseUses.
	LoRA      string `json:",omitempty"`
	Embedding string `json:",omitempty"`

	// Init is the picture to start from, a file's path; "" starts from noise. Mask is where it is repainted.
	Init       string   `json:",omitempty"`
	Strength   *float64 `json:",omitempty"` // share of the steps that are run; nil: 0.8, or 1 with a mask
	Resize     string   `json:",omitempty"` // Resizes; "" is the first
	Mask       string   `json:",omitempty"`
	MaskBlur   int      `json:",omitempty"` // pixels
	InvertMask bool     `json:",omitempty"`

	// Variation lists seeds whose noise is mixed into the picture's own: see ParseVariation.
	Variation string `json:",omitempty"`
	// Hires is a second pass over the enlarged picture: see ParseHires.
	Hires string `json:",omitempty"`
	// Tile makes opposite edges of the picture match: TileOff, or an axis of TileModes.
	Tile string `json:",omitempty"`
	// Inpaint is InpaintWhole or "", or InpaintMasked; Outpaint are Sides.
	Inpaint  string `json:",omitempty"`
	Outpaint string `json:",omitempty"`
	// Move is how Init is moved before it is repainted: see ParseMove.
	Move string `json:",omitempty"`
	// Watermark puts an invisible mark into the picture: see imagefile.Mark.
	Watermark bool `json:",omitempty"`
	// Motion is a film by a motion module: see ParseMotion.
	Motion string `json:",omitempty"`
	// Windows are parts of a large picture that the denoiser sees one at a time: see ParseWindows.
	Windows string `json:",omitempty"`
	// Regions are parts of the picture with prompts of their own. Toward is another prompt to blend towards. See
	// ParseRegions and ParseToward.
	Regions string `json:",omitempty"`
	Toward  string `json:",omitempty"`

	// Control lists pictures that steer the result and the networks that read them: see ParseControls. Depth is the map
	// for a depth model. ImageCFG is how closely an instruction-editing model keeps to Init; nil: 1.5.
	Control string `json:",omitempty"`
	Depth   string `json:",omitempty"`
	// Reference lists pictures to show the model beside the prompt, separated by ;.
	Reference string   `json:",omitempty"`
	ImageCFG  *float64 `json:",omitempty"`

	// Convolution is how 3×3 convolutions are summed where the backend has a choice: Convolutions; "" is the first.
	Convolution string `json:",omitempty"`

	// Which model, where it computes, and how the file is written. An open pipeline ignores these: they are already fixed.
	Model      string `json:",omitempty"` // a folder, a file or a name; "" is the embedded model
	VAE        string `json:",omitempty"` // likewise; "" is the model's own
	TextModel  string `json:",omitempty"` // likewise: a language model that encodes the prompt
	Parts      string `json:",omitempty"` // a model that lends what a single file lacks; "": look for one that fits
	Refiner    string `json:",omitempty"` // a model that takes over the last steps: see ParseRefiner
	Prediction string `json:",omitempty"` // Predictions; "" is as the model says
	Backend    string `json:",omitempty"` // Backends
	DType      string `json:",omitempty"` // DTypes
	Format     string `json:",omitempty"` // Formats; "" is png
	Quality    int    `json:",omitempty"` // 1 to 100; 0 is the format's own

	// Extra holds, by name, the settings that have a row in the table but no field here. It is never changed in place.
	Extra map[string]any `json:",omitempty"`
}

// How prompts are read.
const (
	Weighted = "weighted"
	Plain    = "plain"
)

// How 3×3 convolutions are summed: with fewer multiplications where that pays, or term by term.
const (
	Winograd  = "winograd"
	PlainSums = "plain"
)

// The sources of noise for stochastic samplers.
const (
	SDETorch    = "torch"
	SDEBrownian = "brownian"
)

// Syntaxes, SDENoises, Backends, DTypes and Formats list the names that these settings accept, the default first.
func Syntaxes() []string  { return []string{Weighted, Plain} }
func SDENoises() []string { return []string{SDETorch, SDEBrownian} }
func Backends() []string  { return []string{"auto", "cpu", "cuda", "ref"} }
func DTypes() []string    { return []string{"auto", "fp32", "tf32", "bf16", "fp16", "int8"} }
func Convolutions() []string {
	return []string{Winograd, PlainSums}
}
func Formats() []string     { return []string{"png", "jpg", "webp"} }
func Resizes() []string     { return []string{"fill", "fit", "stretch"} }
func TileModes() []string   { return []string{"off", "x", "y", "both"} }
func Predictions() []string { return []string{"auto", "epsilon", "v", "flow"} }

// Schedulers, SigmaNames and GuidanceNames list the names that values of these settings start with.
func Schedulers() []string {
	return namesOf(scheduler.Names(), func(i scheduler.Info) string { return i.Name })
}
func SigmaNames() []string {
	return namesOf(scheduler.SigmaSchedules(), func(s [2]string) string { return strings.TrimSpace(s[0]) })
}
func GuidanceNames() []string {
	return namesOf(guidance.Methods(), func(i guidance.Info) string { return i.Name })
}

func CacheNames() []string {
	return namesOf(stepcache.Methods(), func(i option.Info) string { return i.Name })
}

func namesOf[T any](list []T, name func(T) string) (names []string) {
	for _, v := range list {
		names = append(names, name(v))
	}
	return names
}

// Limits on single values, far above what any model needs.
const (
	maxSteps  = 10_000
	maxPrompt = 64 << 10 // bytes
)

// table lists every setting once, in the order of a request's JSON. The hash of that JSON names pictures in manifests and
// file names, so new rows go at the end.
func table() []Setting {
	return append([]Setting{
		{Name: "model", Group: ModelGroup, Kind: TextKind, MaxBytes: 4096, Default: "the embedded one",
			About: "a folder in the diffusers layout, or a name from darkroom models",
			Field: func(s *Settings) any { return &s.Model }, Recipe: func(r *Recipe) any { return &r.Model }},
		{Name: "backend", Group: ComputeGroup, Kind: TextKind, Default: "auto", Choices: Backends,
			About: "what computes: auto, cpu, cuda or ref",
			Field: func(s *Settings) any { return &s.Backend }, Recipe: func(r *Recipe) any { return &r.Backend }},
		{Name: "dtype", Group: ComputeGroup, Kind: TextKind, Default: "auto", Choices: DTypes,
			About: "type to compute in: auto, fp32, bf16, fp16, tf32 (fp32 with products on tensor cores), or int8 (8-bit weights: on CPUs with bf16, faster; on GPUs with fp16 or bf16, to save memory)",
			Field: func(s *Settings) any { return &s.DType }, Recipe: func(r *Recipe) any { return &r.DType }},

		{Name: "prompt", Group: PromptGroup, Kind: TextKind, Required: true, Zero: true, MaxBytes: maxPrompt, Default: "none",
			About: "the prompt, instead of the argument",
			Field: func(s *Settings) any { return &s.Prompt }, Recipe: func(r *Recipe) any { return &r.Prompt }},
		{Name: "negative", Aliases: []string{"negative-prompt"}, Group: PromptGroup, Kind: TextKind, Zero: true, MaxBytes: maxPrompt, Default: "the model's",
			About: "what the picture should not show",
			Field: func(s *Settings) any { return &s.Negative }, Recipe: func(r *Recipe) any { return &r.Negative }},
		{Name: "seed", Group: PictureGroup, Kind: SeedKind, Required: true, Zero: true, Default: "random",
			About: "seed of the random numbers; picture i of --count gets seed + i",
			Field: func(s *Settings) any { return &s.Seed }, Recipe: func(r *Recipe) any { return &r.Seed }},
		{Name: "steps", Aliases: []string{"num-inference-steps"}, Group: PictureGroup, Kind: WholeKind, Solver: true, Low: 1, High: maxSteps, Default: "the model's",
			About: "number of denoising steps",
			Field: func(s *Settings) any { return &s.Steps }, Recipe: func(r *Recipe) any { return &r.Steps }},
		{Name: "cfg", Aliases: []string{"cfg-scale", "guidance-scale"}, Group: PictureGroup, Kind: NumberKind, Zero: true, Low: -1000, High: 1000, Default: "the model's",
			About: "guidance scale: how closely to follow the prompt; 1 is no guidance",
			Field: func(s *Settings) any { return &s.CFG }, Recipe: func(r *Recipe) any { return &r.CFG }},
		{Name: "guidance-rescale", Group: SamplingGroup, Kind: NumberKind, Low: 0, High: 1, Default: "0",
			About: "how much of the guidance to rescale, 0 to 1",
			Field: func(s *Settings) any { return &s.Rescale }, Recipe: func(r *Recipe) any { return &r.Rescale }},
		{Name: "guidance", Group: SamplingGroup, Kind: TextKind, Default: "cfg", Choices: GuidanceNames, Methods: guidance.Methods, Open: true, Split: splitSpecs,
			Voids: []string{"guidance-rescale"}, // it was the other guidance's own
			About: "how --cfg is applied: NAME[:key=value,…], see darkroom guidance",
			Field: func(s *Settings) any { return &s.Guidance }, Recipe: func(r *Recipe) any { return &r.Guidance }},

		{Name: "scheduler", Aliases: []string{"sampler", "sampler-name", "sampling-method"}, Group: SamplingGroup, Kind: TextKind, Solver: true,
			Default: "the model's", Choices: Schedulers, Open: true,
			Voids: []string{"sigmas", "eta"}, // they mean nothing to another scheduler
			About: "the sampler: see darkroom schedulers",
			Field: func(s *Settings) any { return &s.Scheduler }, Recipe: func(r *Recipe) any { return &r.Scheduler }},
		{Name: "sigmas", Group: SamplingGroup, Kind: TextKind, Solver: true, AllowEmpty: true, MaxBytes: 1 << 16, Default: "the scheduler's", Choices: SigmaNames, Open: true, Split: splitSigmas,
			About: "spacing of noise levels (karras, exponential, …), or a list: 14.6,6.1,0.03",
			Field: func(s *Settings) any { return &s.Sigmas }, Recipe: func(r *Recipe) any { return (*sigmas)(r) }},
		{Name: "eta", Group: SamplingGroup, Kind: NumberKind, Solver: true, Zero: true, Low: 0, High: 1, Default: "the scheduler's",
			About: "share of fresh noise in each step, for schedulers that add noise",
			Field: func(s *Settings) any { return &s.Eta }, Recipe: func(r *Recipe) any { return &r.Eta }},
		{Name: "sde-noise", Group: SamplingGroup, Kind: TextKind, Solver: true, Default: SDETorch, Choices: SDENoises,
			About: "noise of stochastic schedulers: torch (a fresh draw per step, as in diffusers) or brownian (one path per seed, as in k-diffusion)",
			Field: func(s *Settings) any { return &s.SDENoise }, Recipe: func(r *Recipe) any { return &r.SDENoise }},
		{Name: "width", Aliases: []string{"W"}, Group: PictureGroup, Kind: WholeKind, Low: 1, High: MaxSide, Default: "the model's",
			About: "pixels",
			Field: func(s *Settings) any { return &s.Width }, Recipe: func(r *Recipe) any { return &r.Width }},
		{Name: "height", Aliases: []string{"H"}, Group: PictureGroup, Kind: WholeKind, Low: 1, High: MaxSide, Default: "the model's",
			About: "pixels",
			Field: func(s *Settings) any { return &s.Height }, Recipe: func(r *Recipe) any { return &r.Height }},
		{Name: "noise", Group: SamplingGroup, Kind: TextKind, Default: noise.KindTorchCPU, Choices: noise.Kinds,
			About: "whose random numbers to use: torch-cpu or torch-cuda",
			Field: func(s *Settings) any { return &s.Noise }, Recipe: func(r *Recipe) any { return &r.Noise }},
		{Name: "prompt-syntax", Group: PromptGroup, Kind: TextKind, Default: Weighted, Choices: Syntaxes,
			About: "weighted: (word:1.3), [word], BREAK, any length; plain: everything is text, cut at 77 tokens",
			Field: func(s *Settings) any { return &s.Syntax }, Recipe: func(r *Recipe) any { return &r.PromptSyntax }},
		{Name: "clip-skip", Group: PromptGroup, Kind: WholeKind, Low: 0, High: 100, Default: "0",
			About: "how many of the text encoder's last layers to skip",
			Field: func(s *Settings) any { return &s.ClipSkip }, Recipe: func(r *Recipe) any { return &r.ClipSkip }},
		{Name: "vae-tiling", Group: ComputeGroup, Kind: SwitchKind,
			About: "decode pictures larger than the model was trained on in overlapping tiles, to save memory",
			Field: func(s *Settings) any { return &s.Tiled }, Recipe: func(r *Recipe) any { return &r.VAETiling }},

		{Name: "format", Group: OutputGroup, Kind: TextKind, Default: "png", Choices: Formats,
			About: "png, jpg or webp, when writing to a folder or stdout",
			Field: func(s *Settings) any { return &s.Format }},
		{Name: "quality", Group: OutputGroup, Kind: WholeKind, Low: 1, High: 100, Default: "JPEG 95, WebP lossless",
			About: "1 to 100, for JPEG and WebP",
			Field: func(s *Settings) any { return &s.Quality }},

		{Name: "vae", Group: ModelGroup, Kind: TextKind, MaxBytes: 4096, Default: "the model's own",
			About: "another autoencoder: a file, a folder or a name",
			Field: func(s *Settings) any { return &s.VAE }, Recipe: func(r *Recipe) any { return &r.VAE }},
		{Name: "text-encoder", Aliases: []string{"llm"}, Group: ModelGroup, Kind: TextKind, MaxBytes: 4096, Default: "the model's own",
			About: "another text encoder of a transformer, or the one that its file lacks: a file, a folder or a name, or several with ; between",
			Field: func(s *Settings) any { return &s.TextModel }, Recipe: func(r *Recipe) any { return &r.TextModel }},
		{Name: "prediction", Group: ModelGroup, Kind: TextKind, Default: "auto", Choices: Predictions,
			About: "what the denoiser predicts, if the model's files do not say or are wrong: auto, epsilon, v or flow",
			Field: func(s *Settings) any { return &s.Prediction }, Recipe: func(r *Recipe) any { return &r.PredictionAsked }},
		{Name: "lora", Aliases: []string{"loras"}, Group: ModelGroup, Kind: TextKind, MaxBytes: maxPrompt, Repeat: true, Default: "none", Split: splitUses,
			About: "an adapter, FILE or NAME[:WEIGHT[:TEXT_WEIGHT]]; may be repeated",
			Field: func(s *Settings) any { return &s.LoRA }, Recipe: func(r *Recipe) any { return &r.LoRA }},
		{Name: "embedding", Aliases: []string{"embeddings"}, Group: ModelGroup, Kind: TextKind, MaxBytes: maxPrompt, Repeat: true, Default: "none", Split: splitUses,
			About: "a textual inversion, FILE or NAME; prompts can then use its name as a word; may be repeated; auto: each installed one whose name the prompts have as a word",
			Field: func(s *Settings) any { return &s.Embedding }, Recipe: func(r *Recipe) any { return &r.Embedding }},

		{Name: "init", Aliases: []string{"init-image"}, Group: EditingGroup, Kind: TextKind, MaxBytes: 4096, Default: "none",
			About: "a picture to start from: `FILE`",
			Field: func(s *Settings) any { return &s.Init }, Recipe: func(r *Recipe) any { return &r.Init }},
		{Name: "strength", Aliases: []string{"denoising-strength"}, Group: EditingGroup, Kind: NumberKind, Zero: true, Low: 0, High: 1, Default: "0.8; 1 with --mask",
			About: "how much to change --init, above 0 and up to 1: the share of the steps that are run",
			Field: func(s *Settings) any { return &s.Strength }, Recipe: func(r *Recipe) any { return &r.Strength }},
		{Name: "resize", Group: EditingGroup, Kind: TextKind, Default: "fill", Choices: Resizes,
			About: "how to bring --init to the picture's size: fill (crop to the middle), fit (add borders) or stretch",
			Field: func(s *Settings) any { return &s.Resize }, Recipe: func(r *Recipe) any { return &r.Resize }},
		{Name: "mask", Group: EditingGroup, Kind: TextKind, MaxBytes: 4096, Default: "none",
			About: "where to repaint --init, `FILE`: its white or transparent areas; alpha: where --init itself is transparent",
			Field: func(s *Settings) any { return &s.Mask }, Recipe: func(r *Recipe) any { return &r.Mask }},
		{Name: "mask-blur", Group: EditingGroup, Kind: WholeKind, Low: 0, High: 512, Default: "0",
			About: "blur the edge of --mask by this many pixels",
			Field: func(s *Settings) any { return &s.MaskBlur }, Recipe: func(r *Recipe) any { return &r.MaskBlur }},
		{Name: "invert-mask", Group: EditingGroup, Kind: SwitchKind,
			About: "repaint what --mask leaves out",
			Field: func(s *Settings) any { return &s.InvertMask }, Recipe: func(r *Recipe) any { return &r.InvertMask }},
		{Name: "variation", Group: EditingGroup, Kind: TextKind, MaxBytes: 4096, Default: "none", Split: splitVariations,
			About: "mix another seed's noise into the picture's, `SEED:STRENGTH` with a strength from 0 (none) to 1",
			Field: func(s *Settings) any { return &s.Variation }, Recipe: func(r *Recipe) any { return &r.Variation }},
		{Name: "hires", Group: EditingGroup, Kind: TextKind, MaxBytes: 4096, Default: "none", Split: splitHires,
			About: "enlarge the picture and refine it in a second pass: `SCALE[:upscaler=NAME,strength=F,steps=N]`; upscalers are latent, lanczos, or a network's file or name",
			Field: func(s *Settings) any { return &s.Hires }, Recipe: func(r *Recipe) any { return &r.Hires }},
		{Name: "tile", Aliases: []string{"tiling"}, Group: PictureGroup, Kind: TextKind, Default: "off", Choices: TileModes,
			About: "make a seamless texture: opposite edges match along x, y or both",
			Field: func(s *Settings) any { return &s.Tile }, Recipe: func(r *Recipe) any { return &r.Tile }},
		{Name: "cache", Group: SamplingGroup, Kind: TextKind, Solver: true, Default: "none", Choices: CacheNames, Methods: stepcache.Methods, Open: true, Split: splitSpecs,
			About: "leave out part of the denoiser in some steps: none, deepcache[:every=3,layers=2,…], firstblock[:threshold=0.1,…] or tgate[:gate=10]; faster, but the picture differs slightly",
			Field: func(s *Settings) any { return &s.Cache }, Recipe: func(r *Recipe) any { return &r.Cache }},
		{Name: "inpaint", Group: EditingGroup, Kind: TextKind, Default: InpaintWhole, Choices: func() []string { return []string{InpaintWhole, InpaintMasked} },
			About: "what to paint with --mask: the whole picture, or only the masked part, painted at --width × --height and put back in place",
			Field: func(s *Settings) any { return &s.Inpaint }, Recipe: func(r *Recipe) any { return &r.Inpaint }},
		{Name: "padding", Group: EditingGroup, Kind: WholeKind, Zero: true, Low: 0, High: MaxSide, Default: "32",
			About: "with --inpaint masked: pixels around the mask to include as context"},
		{Name: "outpaint", Group: EditingGroup, Kind: TextKind, MaxBytes: 4096, Default: "none", Split: splitSides,
			About: "extend --init beyond its edges: `left=N,right=N,top=N,bottom=N` pixels",
			Field: func(s *Settings) any { return &s.Outpaint }, Recipe: func(r *Recipe) any { return &r.Outpaint }},
		{Name: "regions", Group: PromptGroup, Kind: TextKind, MaxBytes: maxPrompt, Default: "none", Split: oneText,
			About: "give parts of the picture their own prompts, `AREA=PROMPT; …`: an area is left, right, top, bottom, center, x,y,w,h in percent, or a mask file",
			Field: func(s *Settings) any { return &s.Regions }, Recipe: func(r *Recipe) any { return &r.Regions }},
		{Name: "toward", Group: PromptGroup, Kind: TextKind, MaxBytes: maxPrompt, Default: "none", Split: oneText,
			About: "blend from the prompt towards another, `SHARE:PROMPT`",
			Field: func(s *Settings) any { return &s.Toward }, Recipe: func(r *Recipe) any { return &r.Toward }},
		{Name: "move", Group: EditingGroup, Kind: TextKind, MaxBytes: 4096, Default: "none", Split: splitSides,
			About: "move --init before repainting it: `zoom=F,x=N,y=N,rotate=F`: a factor, pixels right and down, degrees clockwise",
			Field: func(s *Settings) any { return &s.Move }, Recipe: func(r *Recipe) any { return &r.Move }},
		{Name: "watermark", Group: PictureGroup, Kind: SwitchKind,
			About: "put an invisible mark into the picture; darkroom inspect finds it, even after compression and scaling",
			Field: func(s *Settings) any { return &s.Watermark }, Recipe: func(r *Recipe) any { return &r.Watermark }},
		{Name: "windows", Group: PictureGroup, Kind: TextKind, MaxBytes: 100, Default: "none",
			About: "draw a picture too large for memory or for the model in overlapping windows, `PIXELS[:overlap=F]` per side (MultiDiffusion)",
			Field: func(s *Settings) any { return &s.Windows }, Recipe: func(r *Recipe) any { return &r.Windows }},

		{Name: "motion", Aliases: []string{"motion-module"}, Group: ModelGroup, Kind: TextKind, MaxBytes: 4096, Default: "none", Split: whole,
			About: "make a film instead of a picture with an AnimateDiff motion module: `MODULE[:frames=16,fps=8,betas=linear]`; written as animated PNG or WebP (darkroom animate: GIF and MP4, too)",
			Field: func(s *Settings) any { return &s.Motion }, Recipe: func(r *Recipe) any { return &r.Motion }},
		{Name: "refiner", Group: ModelGroup, Kind: TextKind, MaxBytes: 4096, Default: "none",
			About: "a model that takes over the last steps, MODEL[:start=0.8], from that share of the steps on",
			Field: func(s *Settings) any { return &s.Refiner }, Recipe: func(r *Recipe) any { return &r.Refiner }},
		{Name: "original-width", Group: PictureGroup, Kind: WholeKind, Low: 1, High: MaxSide, Default: "the width",
			About: "SDXL conditioning: the picture's width before scaling, in pixels"},
		{Name: "original-height", Group: PictureGroup, Kind: WholeKind, Low: 1, High: MaxSide, Default: "the height",
			About: "SDXL conditioning: the picture's height before scaling, in pixels"},
		{Name: "crop-top", Group: PictureGroup, Kind: WholeKind, Low: 0, High: MaxSide, Default: "0",
			About: "SDXL conditioning: pixels cropped off the picture's top"},
		{Name: "crop-left", Group: PictureGroup, Kind: WholeKind, Low: 0, High: MaxSide, Default: "0",
			About: "SDXL conditioning: pixels cropped off the picture's left"},
		{Name: "target-width", Group: PictureGroup, Kind: WholeKind, Low: 1, High: MaxSide, Default: "the width",
			About: "SDXL conditioning: the width the picture is meant for, in pixels"},
		{Name: "target-height", Group: PictureGroup, Kind: WholeKind, Low: 1, High: MaxSide, Default: "the height",
			About: "SDXL conditioning: the height the picture is meant for, in pixels"},
		{Name: "aesthetic-score", Group: PictureGroup, Kind: NumberKind, Zero: true, Low: 0, High: 20, Default: "6",
			About: "SDXL refiner conditioning: how good the picture should look, usually 0 to 10"},
		{Name: "negative-aesthetic-score", Group: PictureGroup, Kind: NumberKind, Zero: true, Low: 0, High: 20, Default: "2.5",
			About: "SDXL refiner conditioning: the same score for the negative prompt"},
		{Name: "parts", Group: ModelGroup, Kind: TextKind, MaxBytes: 4096, Default: "an installed one that fits",
			About: "a model that lends its text encoders and autoencoder to a file that lacks them",
			Field: func(s *Settings) any { return &s.Parts }, Recipe: func(r *Recipe) any { return &r.Parts }},

		{Name: "control", Aliases: []string{"controlnet"}, Group: EditingGroup, Kind: TextKind, MaxBytes: maxPrompt, Repeat: true, Join: ";", Default: "none", Split: whole,
			About: "a picture that steers the result through a ControlNet, a T2I-Adapter or an IP-Adapter: `MODEL=IMAGE`[:scale=F,start=F,end=F,pre=NAME,…]; may be repeated; IMAGE[:pre=NAME] for models that read one themselves (FLUX.1 Canny, FLUX.1 Depth)",
			Field: func(s *Settings) any { return &s.Control }, Recipe: func(r *Recipe) any { return &r.Control }},
		{Name: "reference", Aliases: []string{"ref-image"}, Group: EditingGroup, Kind: TextKind, MaxBytes: maxPrompt, Repeat: true, Join: ";", Default: "none", Split: whole,
			About: "a picture to show the model beside the prompt, to follow or to change, `FILE`; may be repeated (FLUX.2 klein; FLUX.1 Kontext: one)",
			Field: func(s *Settings) any { return &s.Reference }, Recipe: func(r *Recipe) any { return &r.Reference }},
		{Name: "depth", Group: EditingGroup, Kind: TextKind, MaxBytes: 4096, Default: "none",
			About: "the depth map for a depth model, `FILE`: near is bright",
			Field: func(s *Settings) any { return &s.Depth }, Recipe: func(r *Recipe) any { return &r.Depth }},
		{Name: "image-cfg", Aliases: []string{"image-cfg-scale", "image-guidance-scale"}, Group: EditingGroup, Kind: NumberKind, Zero: true, Low: 0, High: 1000, Default: "1.5",
			About: "how closely an instruction-editing model keeps to --init",
			Field: func(s *Settings) any { return &s.ImageCFG }, Recipe: func(r *Recipe) any { return &r.ImageCFG }},
		{Name: "token-merging", Aliases: []string{"tome", "token-merging-ratio"}, Group: SamplingGroup, Kind: NumberKind, Solver: true, Low: 0, High: 0.75, Default: "0",
			About: "share of the tokens to merge in the U-Net's largest self-attention (ToMe), 0 to 0.75: faster for large pictures, which lose detail",
			Field: func(s *Settings) any { return &s.TokenMerging }, Recipe: func(r *Recipe) any { return &r.TokenMerging }},
		{Name: "convolution", Group: ComputeGroup, Kind: TextKind, Default: Winograd, Choices: Convolutions,
			About: "how the CPU computes 3×3 convolutions: winograd (fewer multiplications where that is faster) or plain (as version 1 did)",
			Field: func(s *Settings) any { return &s.Convolution }, Recipe: func(r *Recipe) any { return &r.Convolution }},
	}, added...)
}

// added holds the rows that Add put into the table.
var added []Setting

// Add puts a row at the end of the table until remove is called. Tests use it to show that a setting needs only a row.
// No other goroutine may use the table meanwhile.
func Add(s Setting) (remove func()) {
	before := added
	put := func(list []Setting) {
		added = list
		rows = newRows()
	}
	put(append(slices.Clip(added), s))
	return func() { put(before) }
}

// rows is the table with its index, made once.
var rows = newRows()

type index struct {
	all    []Setting
	byName map[string]int // by name and alias
}

func newRows() index {
	x := index{table(), map[string]int{}}
	for i, s := range x.all {
		for _, name := range append([]string{s.Name}, s.Aliases...) {
			if _, twice := x.byName[name]; twice {
				panic("recipe: two settings are called " + name)
			}
			x.byName[name] = i
		}
	}
	return x
}

// All lists the settings in the order of the table. The caller must not change it.
func All() []Setting { return rows.all }

// Lookup finds a setting by its name or an alias, with _ for - as JSON and other programs spell it.
func Lookup(name string) (*Setting, bool) {
	i, ok := rows.byName[strings.ReplaceAll(name, "_", "-")]
	if !ok {
		return nil, false
	}
	return &rows.all[i], true
}

// LevelList reports whether sigmas is a list of noise levels rather than the name of a spacing. A list sets the number of
// steps.
func LevelList(sigmas string) bool { return strings.Contains(sigmas, ",") }
