package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"darkroom/family"
	"darkroom/guidance"
	"darkroom/kernels"
	"darkroom/noise"
	"darkroom/recipe"
	"darkroom/scheduler"
	"darkroom/stepcache"
)

// Request is one image to make. The zero value of a setting that has a default means that default only
// where recipe.Settings says so; build requests with Pipeline.NewRequest, which fills in the model's own.
type Request struct {
	recipe.Settings
	// DistilledCFG is the default guidance scale when a distilled model's sampler is chosen; 0: the usual default.
	DistilledCFG float64 `json:",omitempty"`
}

// Give applies what somebody wrote down, and what follows from it. With lcm and tcd, which are for models and adapters that were
// distilled with guidance in them, there is no further guidance unless it is asked for; models that read the scale keep it.
func (r *Request) Give(g *recipe.Given) {
	g.Apply(&r.Settings)
	name, _, _ := strings.Cut(r.Scheduler, "-")
	if r.DistilledCFG != 0 && g.Has("scheduler") && !g.Has("cfg") && (name == "lcm" || name == "tcd") {
		r.CFG = r.DistilledCFG
	}
}

// The sources of noise for stochastic samplers.
const (
	SDETorch    = recipe.SDETorch
	SDEBrownian = recipe.SDEBrownian
)

// Default values where a model's folder does not say otherwise.
const (
	DefaultSteps = family.DefaultSteps
	DefaultCFG   = family.DefaultCFG
)

// plan is a request checked against the model: everything that is known before the first number.
type plan struct {
	Request
	schedule     *scheduler.Schedule
	method       guidance.Method // Guidance and Rescale together
	cache        stepcache.Method
	adaptation   *adaptation
	edit         *edit       // nil without a picture to start from
	depth        *depth      // nil without a depth map
	references   *references // shown beside the prompt; nil for none
	controls     *controls   // nil without pictures that steer, and the networks that read them
	ownControl   *ownControl // nil but for a model that reads a picture that steers itself
	film         *film       // nil for a picture
	guided       bool        // the unconditional prediction is needed
	scale        float64     // of guidance; 1 where the model reads --cfg itself
	warnings     []string
	sampling     scheduler.Options // that the schedule was made with
	refined      *plan             // the last steps, by another model; nil without
	offset       int               // steps that another model made before
	sizes        family.PictureSizes
	tracks       tracks // what the rows of the denoiser read
	latentH      int
	latentW      int
	latentValues int // C·h·w of one image

	windows    *windows      // nil: the network sees the whole picture
	winograd   bool          // convolutions multiply less where that pays
	wrap       [2]bool       // rows and columns: the picture's sides fit each other
	hires      *recipe.Hires // nil without a second pass
	second     *plan         // that pass
	upscaler   string        // of the second pass: a network's file
	hiresFiles []recipe.File
}

// MaxPrompt is the length of the longest prompt, in bytes. Every 75 tokens cost a run of the text encoder.
const MaxPrompt = 64 << 10

func (p *Pipeline) plan(r Request) (*plan, error) {
	if err := p.checkReading(&r); err != nil {
		return nil, err
	}
	film, err := p.loadMotion(&r)
	if err != nil {
		return nil, err
	}
	e, err := p.loadEdit(&r)
	if err != nil {
		return nil, err
	}
	f := p.model.Latent.Step()
	switch {
	case len(r.Prompt) > MaxPrompt || len(r.Negative) > MaxPrompt:
		return nil, usagef("a prompt of %d bytes: at most %d are allowed", max(len(r.Prompt), len(r.Negative)), MaxPrompt)
	case r.Steps < 1 && !(r.Steps == 0 && stepless(r)):
		return nil, usagef("--steps %d: it must be at least 1", r.Steps)
	case r.Width < 1 || r.Height < 1:
		return nil, usagef("--width %d --height %d: both must be positive", r.Width, r.Height)
	case r.Width%f != 0 || r.Height%f != 0:
		return nil, usagef("%d×%d pixels: this model's sizes are multiples of %d pixels; the nearest size is %d×%d",
			r.Width, r.Height, f, nearest(r.Width, f), nearest(r.Height, f))
	case r.Width > recipe.MaxSide || r.Height > recipe.MaxSide:
		return nil, usagef("%d×%d pixels: at most %d per side", r.Width, r.Height, recipe.MaxSide)
	case r.CFG != r.CFG || r.CFG-r.CFG != 0:
		return nil, usagef("--cfg %v: it must be a finite number", r.CFG)
	case !(r.Rescale >= 0 && r.Rescale <= 1):
		return nil, usagef("guidance rescale %v: it must be from 0 to 1", r.Rescale)
	case r.ClipSkip < 0 || r.ClipSkip >= p.model.Text.Layers():
		return nil, usagef("clip skip %d: the text encoder has %d layers", r.ClipSkip, p.model.Text.Layers())
	}
	if err := checkSyntax(r.Syntax); err != nil {
		return nil, err
	}
	if _, err := recipe.ParseVariation(r.Variation); err != nil {
		return nil, usagef("--variation %w", err)
	}
	if _, err := noise.New(r.Noise, r.Seed); err != nil {
		return nil, usagef("--noise: %w", err)
	}
	sampling := scheduler.Options{Name: r.Scheduler, Steps: r.Steps, Sigmas: r.Sigmas, Eta: r.Eta, Strength: p.strength(r),
		Tokens: p.model.Latent.Tokens(r.Width, r.Height)}
	s, err := scheduler.New(film.sampling(p.model.Sampling), sampling)
	if err != nil {
		return nil, &UsageError{err}
	}
	d, err := p.loadDepth(&r, e)
	if err != nil {
		return nil, err
	}
	refs, err := p.loadReferences(&r)
	if err != nil {
		return nil, err
	}
	own, err := p.loadOwnControl(&r, e)
	if err != nil {
		return nil, err
	}
	c, err := p.loadControls(&r, e, film)
	if err != nil {
		return nil, err
	}
	if c != nil && c.bySteps() && s.Steps() < 0 {
		return nil, usagef("--control: %s chooses its own steps, so a share of the steps is not known in advance: leave start and end out", s.Name())
	}
	h, w := r.Height/p.model.Latent.Factor, r.Width/p.model.Latent.Factor
	pl := &plan{Request: r, edit: e, depth: d, controls: c, ownControl: own, film: film, references: refs, adaptation: &adaptation{}, guided: p.guided(r), scale: p.scale(r), schedule: s, sampling: sampling, latentH: h, latentW: w, latentValues: p.model.Latent.Channels * h * w * film.count()}
	pl.warnings = slices.Clone(s.Warnings())
	if err := p.settleTracks(pl, 0); err != nil {
		return nil, err
	}
	if err := pl.settleGuidance(p.model.Sampling.PredictionType); err != nil {
		return nil, err
	}
	if err := pl.settleNoise(); err != nil {
		return nil, err
	}
	if err := pl.settleCache(p.model.Denoiser); err != nil {
		return nil, err
	}
	if err := p.checkMerging(r); err != nil {
		return nil, err
	}
	if err := p.settleConvolution(pl); err != nil {
		return nil, err
	}
	if err := pl.settleTile(p.model.Denoiser.Layers()); err != nil {
		return nil, err
	}
	if err := pl.settleInstruct(); err != nil {
		return nil, err
	}
	pl.sizes = sizes(r)
	p.warnSizes(pl)
	if err := p.settleWindows(pl); err != nil {
		return nil, err
	}
	p.warnTrained(pl)
	if err := p.planHires(pl); err != nil {
		return nil, err
	}
	return pl, p.settleRefiner(pl)
}

// settleConvolution reads Convolution, for backends that have a choice.
func (p *Pipeline) settleConvolution(pl *plan) error {
	switch pl.Convolution {
	case "", recipe.Winograd:
		pl.winograd = p.device.Backend.Info().Winograd
	case recipe.PlainSums:
	default:
		return usagef("--convolution %.40q: choose %s", pl.Convolution, strings.Join(recipe.Convolutions(), " or "))
	}
	return nil
}

// convolution is what a recipe says of it.
func (pl *plan) convolution(p *Pipeline) string {
	switch {
	case !p.device.Backend.Info().Winograd:
		return ""
	case pl.winograd:
		return recipe.Winograd
	}
	return recipe.PlainSums
}

// settleTile reads Tile, for a denoiser whose way up has so many layers.
func (pl *plan) settleTile(layers int) error {
	switch pl.Tile {
	case "", "off":
		pl.Tile = ""
	case "x", "y", "both":
		if layers == 0 {
			return usagef("--tile %s: it is for models with a U-Net, which this one does not have", pl.Tile)
		}
		pl.wrap = [2]bool{pl.Tile != "x", pl.Tile != "y"}
	default:
		return usagef("--tile %.40q: choose %s", pl.Tile, strings.Join(recipe.TileModes(), ", "))
	}
	return nil
}

// checkMerging refuses TokenMerging where it cannot be had.
func (p *Pipeline) checkMerging(r Request) error {
	v, b := r.TokenMerging, p.device.Backend
	_, merges := b.(kernels.Merger)
	switch {
	case !(v >= 0 && v <= 0.75):
		return usagef("--token-merging %v: it must be from 0 to 0.75: every fourth token is one that others are merged into", v)
	case v == 0:
	case p.model.Denoiser.Layers() == 0:
		return usagef("--token-merging %v: it is for models with a U-Net, which this one does not have", v)
	case !merges:
		return usagef("--token-merging %v: the backend %s cannot merge tokens: use --backend cpu, or leave the setting out", v, b.Info().Name)
	}
	return nil
}

// settleCache reads Cache, for a denoiser.
func (pl *plan) settleCache(d family.Denoiser) error {
	layers := d.Layers()
	m, err := stepcache.Parse(pl.Cache)
	if err != nil {
		return usagef("--cache: %w", err)
	}
	pl.cache, pl.Cache = m, m.String()
	switch {
	case !m.On():
		pl.Cache = ""
	case layers == 0:
		return usagef("--cache %s: it is for models with a U-Net, which this one does not have", m)
	case m.Gate() > 0 && pl.tracks.composed:
		return usagef("--cache %s: it keeps what one prompt gives, but this picture has several, joined by AND or --regions, or a weight at the end of its prompt", m)
	case m.Gate() > 0 && d.Reading() == family.ReadsPicture:
		return usagef("--cache %s: it leaves out guidance, without which this model would not edit the picture", m)
	case m.Layers() >= layers:
		return usagef("--cache %s: the up path of this model's U-Net has %d layers: give fewer as layers", m, layers)
	case m.BySteps() && pl.schedule.Steps() < 0:
		return usagef("--cache %s: %s chooses its own steps, so the last ones are not known in advance: leave out last", m, pl.schedule.Name())
	case m.Gate() > 0 && pl.schedule.Steps() > 0 && m.Gate() >= pl.schedule.Steps():
		pl.warnings = append(pl.warnings, fmt.Sprintf("--cache %s does nothing in %d steps: gate is how many are left as they are, so give a smaller one", m, pl.schedule.Steps()))
	}
	return nil
}

// settleGuidance reads Guidance and brings it and Rescale into the one form that recipes have.
func (pl *plan) settleGuidance(prediction scheduler.PredictionType) error {
	m, err := guidance.Parse(pl.Guidance)
	if err != nil {
		return usagef("--guidance: %w", err)
	}
	if φ, given := m.Get("rescale"); given {
		if pl.Rescale != 0 && pl.Rescale != φ {
			return usagef("--guidance %s: its rescale is not the %v of --guidance-rescale: give one of them", m, pl.Rescale)
		}
		pl.Rescale, m = φ, m.Without("rescale")
	}
	if _, given := m.Get("zero"); m.Name == "cfg-zero" && !given && prediction == scheduler.Flow {
		m = m.With("zero", 1)
	}
	if m.BySteps() && pl.schedule.Steps() < 0 {
		return usagef("--guidance %s: %s chooses its own steps, so a share of the steps is not known in advance: use low and high, which are noise levels, instead of start and stop", m, pl.schedule.Name())
	}
	if !pl.guided && !m.Plain() {
		why := fmt.Sprintf("at --cfg %v: guidance starts above 1", pl.CFG)
		if _, own := m.Get("scale"); own {
			why = fmt.Sprintf("at a scale of %v: guidance starts above 1", pl.scale)
		} else if pl.CFG > 1 {
			why = "here: this model reads --cfg itself. The key scale, as in " + m.With("scale", 2).String() + ", asks for guidance by a second call"
		}
		pl.warnings = append(pl.warnings, fmt.Sprintf("--guidance %s does nothing %s", m, why))
		m = guidance.Method{}
	}
	if pl.Guidance = m.String(); m.Plain() {
		pl.Guidance = ""
	}
	pl.method = m.With("rescale", pl.Rescale)
	return nil
}

func (pl *plan) settleNoise() error {
	switch pl.SDENoise {
	case "", SDETorch:
		pl.SDENoise = ""
	case SDEBrownian:
		if !pl.schedule.Stochastic() {
			pl.warnings = append(pl.warnings, fmt.Sprintf("--sde-noise %s does nothing: %s draws no noise", pl.SDENoise, pl.schedule.Name()))
			pl.SDENoise = ""
		}
	default:
		return usagef("--sde-noise %.40q: choose %s", pl.SDENoise, strings.Join(recipe.SDENoises(), " or "))
	}
	return nil
}

// stepless reports whether something else than the number of steps decides how many there are.
func stepless(r Request) bool {
	_, list := recipe.ParseLevels(r.Sigmas)
	return list || r.Scheduler == "dpm-adaptive"
}

// nearest is the multiple of f closest to n, at least f.
func nearest(n, f int) int { return max((n+f/2)/f, 1) * f }

// scale is that of guidance by a second call of the denoiser: --cfg, which some models read themselves, or what --guidance says.
func (p *Pipeline) scale(r Request) float64 {
	cfg := r.CFG
	if p.model.Denoiser.ReadsGuidance() {
		cfg = 1
	}
	m, err := guidance.Parse(r.Guidance)
	if err != nil { // settleGuidance says what is wrong
		return cfg
	}
	return m.Scale(cfg)
}

// guided reports whether the unconditional prediction is needed.
func (p *Pipeline) guided(r Request) bool { return p.scale(r) > 1 }

// rows is the U-Net's batch where there is guidance: the base rows, and one for each further prompt.
func (pl *plan) rows() int { return pl.baseRows() + len(pl.tracks.conds) - 1 }

// baseRows are the prompt, the negative prompt, and the empty one if the method asks for it and the negative prompt is another.
func (pl *plan) baseRows() int {
	switch {
	case !pl.guided && !pl.tracks.composed:
		return 1
	case pl.instructs():
		return 3
	case pl.guided && pl.method.NeedsEmpty() && pl.Negative != "":
		return 3
	}
	return 2
}

// newGuide is for one picture: some methods remember what they saw in earlier steps. nil without guidance.
func (pl *plan) newGuide() *guidance.Guide {
	if !pl.guided {
		return nil
	}
	return &guidance.Guide{Method: pl.method, Scale: pl.scale, Channels: pl.latentValues / (pl.latentH * pl.latentW)}
}

// checkSyntax says what is wrong with the name of a prompt syntax.
func checkSyntax(name string) error {
	if !slices.Contains(recipe.Syntaxes(), name) {
		return usagef("--prompt-syntax: unknown prompt syntax %.40q: choose %s", name, strings.Join(recipe.Syntaxes(), " or "))
	}
	return nil
}
