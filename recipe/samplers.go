package recipe

import (
	"fmt"
	"strings"
	"sync"
)

// samplers are the schedulers' names here, and what other programs call them. The first alias is what Parameters
// writes (the name that AUTOMATIC1111's interface shows); the others are read only. Spelling is compared without case,
// spaces, '_' and '-', and without k-diffusion's "k_"; see fold.
var samplers = []struct {
	name    string
	aliases []string
	instead string // what is taken where this program has no such sampler; "": it has
}{
	{"ddim", []string{"DDIM", "ddim_v3", "DDIM Parallel"}, ""},
	{"ddpm", []string{"DDPM"}, ""},
	{"pndm", []string{"PNDM"}, ""},
	{"plms", []string{"PLMS"}, ""},
	{"ipndm", []string{"IPNDM"}, ""},
	{"lms", []string{"LMS", "LMSD"}, ""},
	{"euler", []string{"Euler", "Euler EDM"}, ""},
	{"euler-a", []string{"Euler a", "Euler ancestral"}, ""},
	{"heun", []string{"Heun"}, ""},
	{"dpm2", []string{"DPM2", "kdpm_2"}, ""},
	{"dpm2-a", []string{"DPM2 a", "dpm_2_ancestral", "kdpm_2_a", "kdpm2 ancestral"}, ""},
	{"dpm-fast", []string{"DPM fast"}, ""},
	{"dpm-adaptive", []string{"DPM adaptive", "dpm_ad"}, ""},
	{"deis", []string{"DEIS"}, ""},
	{"dpm++2m", []string{"DPM++ 2M", "dpmpp_2m", "DPM++", "DPM-Solver++", "dpmsolver", "dpmpp_2"}, ""},
	{"dpm++2m-sde", []string{"DPM++ 2M SDE", "dpmpp_2m_sde_gpu"}, ""},
	{"dpm++2m-sde-heun", []string{"DPM++ 2M SDE Heun", "dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu"}, "dpm++2m-sde"},
	{"dpm++2s", []string{"DPM++ 2S", "dpmpp_2s"}, ""},
	{"dpm++2s-a", []string{"DPM++ 2S a", "dpmpp_2s_ancestral", "dpmpp_2_a"}, ""},
	{"dpm++sde", []string{"DPM++ SDE", "dpmpp_sde", "dpmpp_sde_gpu", "DPM SDE"}, ""},
	{"dpm++3m", []string{"DPM++ 3M", "dpmpp_3m"}, ""},
	{"dpm++3m-sde", []string{"DPM++ 3M SDE", "dpmpp_3m_sde", "dpmpp_3m_sde_gpu"}, ""},
	{"unipc", []string{"UniPC", "uni_pc", "uni_pc_bh2", "unipc_snr", "unipc_snr_2", "unipc_tu", "unipc_tu_2", "unipc_tq"}, ""},
	{"sa-solver", []string{"SA Solver"}, ""},
	{"er-sde", []string{"ER SDE"}, ""},
	{"res-multistep", []string{"Res Multistep"}, ""},
	{"gradient-estimation", []string{"Gradient Estimation"}, ""},
	{"restart", []string{"Restart"}, ""},
	{"euler-cfg++", []string{"Euler CFG++", "euler_cfg_pp"}, ""},
	{"dpm++2m-cfg++", []string{"DPM++ 2M CFG++", "dpmpp_2m_cfg_pp"}, ""},
	{"lcm", []string{"LCM"}, ""},
	{"tcd", []string{"TCD"}, ""},

	{"euler-a-cfg++", []string{"Euler a CFG++", "euler_ancestral_cfg_pp"}, "euler-a"},
	{"ddim-cfg++", []string{"DDIM CFG++"}, "euler-cfg++"}, // the same step in another notation
	{"dpm++2s-a-cfg++", []string{"dpmpp_2s_ancestral_cfg_pp"}, "dpm++2s-a"},
	{"dpm++sde-cfg++", []string{"DPM++ SDE CFG++"}, "dpm++sde"},
	{"dpm++1s", []string{"DPM++ 1S"}, "ddim"},
	{"dpm++2m-v2", []string{"dpm++2mv2"}, "dpm++2m"},
	{"dpm++2m-edm", []string{"DPM++ 2M EDM"}, "dpm++2m"},
	{"dpm++cosine", []string{"DPM++ Cosine"}, "dpm++2m-sde"},
	{"dpm-solver-stability", []string{"dpm_solver_stability"}, "dpm++2m"},
	{"heunpp2", []string{"HeunPP2", "Heun++ 2"}, "heun"},
	{"heun-rf", []string{"Heun RF"}, "heun"},
	{"exp-heun-2-x0", []string{"exp_heun_2_x0"}, "dpm++2s"},
	{"exp-heun-2-x0-sde", []string{"exp_heun_2_x0_sde"}, "dpm++sde"},
	{"ipndm-v", []string{"IPNDM_V"}, "ipndm"},
	{"euler-max", []string{"Euler Max"}, "euler"},
	{"euler-negative", []string{"Euler Negative"}, "euler"},
	{"euler-dy", []string{"Euler Dy"}, "euler"},
	{"euler-smea-dy", []string{"Euler SMEA Dy", "nai_smea_dyn", "nai_smea"}, "euler"},
	{"res-2s", []string{"res_2s"}, "dpm++2s"},
	{"res-multistep-a", []string{"res_multistep_ancestral"}, "res-multistep"},
	{"res-multistep-cfg++", []string{"res_multistep_cfg_pp"}, "res-multistep"},
	{"res-multistep-a-cfg++", []string{"res_multistep_ancestral_cfg_pp"}, "res-multistep"},
	{"gradient-estimation-cfg++", []string{"gradient_estimation_cfg_pp"}, "gradient-estimation"},
	{"sa-solver-pece", []string{"sa_solver_pece"}, "sa-solver"},
	{"seeds-2", []string{"seeds_2"}, "dpm++sde"},
	{"seeds-3", []string{"seeds_3"}, "dpm++sde"},
	{"ddim-trailing", []string{"DDIM Trailing"}, "ddim"},
	{"euler-a-trailing", []string{"Euler A Trailing", "Euler A Substep"}, "euler-a"},
	{"dpm++sde-trailing", []string{"DPM++ SDE Trailing", "DPM++ SDE Substep"}, "dpm++sde"},
	{"dpm++2m-trailing", []string{"DPM++ 2M Trailing"}, "dpm++2m"},
	{"unipc-trailing", []string{"UniPC Trailing"}, "unipc"},
	{"bdia-ddim", []string{"BDIA DDIM"}, "ddim"},
	{"dc-solver", []string{"DC Solver"}, "unipc"},
	{"tdd", []string{"TDD"}, "tcd"},
	{"ufogen", []string{"UFOGen"}, "lcm"},
}

// spacings are the ways of spacing sigmas, likewise. "" is the scheduler's own way.
var spacings = []struct {
	name    string
	aliases []string
	instead string // "own": the scheduler's own way
}{
	{"", []string{"Automatic", "Uniform", "Normal", "Discrete", "Default", "Native", "None"}, ""},
	{"karras", []string{"Karras", "k"}, ""},
	{"exponential", []string{"Exponential"}, ""},
	{"polyexponential", []string{"Polyexponential"}, ""},
	{"sgm-uniform", []string{"SGM Uniform", "SGM"}, ""},
	{"simple", []string{"Simple"}, ""},
	{"ddim-uniform", []string{"DDIM", "ddim_uniform"}, ""},
	{"beta", []string{"Beta"}, ""},
	{"lu", []string{"Lu", "Lambdas"}, ""},
	{"model", []string{"Model"}, "own"}, // of this program's own texts: not every scheduler has the name
	{"ays", []string{"Align Your Steps", "AYS", "Align Your Steps 11"}, ""},
	{"align-your-steps-xl", []string{"AYS SDXL", "AYS XL"}, ""},
	{"gits", []string{"GITS", "Align Your Steps GITS"}, "ays"},
	{"ays-32", []string{"Align Your Steps 32"}, "ays"},
	{"kl-optimal", []string{"KL Optimal"}, ""},
	{"linear-quadratic", []string{"linear_quadratic"}, "own"},
	{"turbo", []string{"Turbo"}, "sgm-uniform"}, // trailing timesteps, a timestep beside these
	{"beta57", []string{"beta57"}, "beta"},
	{"karras-exponential", []string{"Karras Exponential"}, "karras"},
	{"karras-dynamic", []string{"Karras Dynamic"}, "karras"},
	{"cosine", []string{"Cosine"}, "own"},
	{"cosine-exponential", []string{"Cosine-Exponential"}, "exponential"},
	{"sinusoidal-sf", []string{"Sinusoidal SF"}, "own"},
	{"invcosinus-sf", []string{"Invcosinus SF"}, "own"},
	{"react-cosinusoidal-dynsf", []string{"React Cosinusoidal DynSF"}, "own"},
	{"phi", []string{"Phi"}, "own"},
	{"laplace", []string{"Laplace"}, "own"},
	{"linear", []string{"Linear"}, "own"},
	{"smoothstep", []string{"Smoothstep"}, "own"},
	{"bong-tangent", []string{"bong_tangent"}, "own"},
	{"lcm", []string{"LCM"}, "own"},
	{"flow", []string{"flowmatch"}, "own"},
	{"betas", []string{"Betas"}, "own"},
}

// FromForeign translates another program's sampler and schedule names ("DPM++ 2M SDE Karras" and "", or "DPM++ 2M SDE"
// and "Karras", or "dpmpp_2m_sde_gpu" and "karras") into the names used here. An empty schedule leaves what the
// sampler's name says. ok is false where a name is not known. Some names are of what this program does not have:
// available says what to take instead.
func FromForeign(sampler, schedule string) (scheduler, sigmas string, ok bool) {
	scheduler, sigmas, ok = foreignSampler(sampler)
	if !ok || schedule == "" {
		return scheduler, sigmas, ok
	}
	spacing, ok := foreignSpacing(fold(schedule))
	if spacing != "" {
		sigmas = spacing // "Automatic" beside "DPM++ 2M Karras" says nothing
	}
	return scheduler, sigmas, ok
}

// foreignSampler takes a name as it is, then without k-diffusion's "k_" or "sample_".
func foreignSampler(name string) (scheduler, sigmas string, ok bool) {
	name, parameter, _ := strings.Cut(name, ":") // karras:5, as Parameters writes it
	folded := fold(name)
	for _, prefix := range []string{"", "k", "sample"} {
		rest, cut := strings.CutPrefix(folded, prefix)
		if !cut {
			continue
		}
		if scheduler, sigmas, ok = foldedSampler(rest); ok {
			return scheduler, parametrised(sigmas, parameter), true
		}
	}
	return "", "", false
}

// parametrised is a schedule with its number, where it has one.
func parametrised(sigmas, parameter string) string {
	if sigmas == "" || parameter == "" {
		return sigmas
	}
	return sigmas + ":" + parameter
}

func foldedSampler(folded string) (scheduler, sigmas string, ok bool) {
	names := foldedNames()
	if name, ok := names.samplers[folded]; ok {
		return name, "", true
	}
	for at := 1; at < len(folded); at++ { // the longest schedule: SGM Uniform, not Uniform
		spacing, isSpacing := names.spacings[folded[at:]]
		name, isSampler := names.samplers[folded[:at]]
		if isSpacing && isSampler {
			return name, spacing, true
		}
	}
	return "", "", false
}

func foreignSpacing(folded string) (string, bool) {
	name, ok := foldedNames().spacings[folded]
	return name, ok
}

// foldedNames are both tables by their folded names.
var foldedNames = sync.OnceValue(func() (names struct{ samplers, spacings map[string]string }) {
	names.samplers, names.spacings = map[string]string{}, map[string]string{}
	for _, s := range samplers {
		for _, a := range append([]string{s.name}, s.aliases...) {
			names.samplers[fold(a)] = s.name
		}
	}
	for _, s := range spacings {
		for _, a := range append([]string{s.name}, s.aliases...) {
			names.spacings[fold(a)] = s.name
		}
	}
	return names
})

// ownSteps are the schedulers that take no sigma schedule.
var ownSteps = map[string]bool{"pndm": true, "plms": true, "dpm-fast": true, "dpm-adaptive": true, "lcm": true, "tcd": true}

// available is what this program takes for a scheduler and sigmas that FromForeign named, with a sentence for each of the
// two that it does not have.
func available(scheduler, sigmas string) (gotScheduler, gotSigmas string, notes []string) {
	for _, s := range samplers {
		if s.name == scheduler && s.instead != "" {
			scheduler = s.instead
			notes = append(notes, fmt.Sprintf("there is no sampler %s here: %s is used instead", s.aliases[0], s.instead))
		}
	}
	if sigmas != "" && ownSteps[scheduler] {
		return scheduler, "", append(notes, fmt.Sprintf("%s takes no %s schedule here: its own noise levels are used instead", scheduler, sigmas))
	}
	for _, s := range spacings {
		switch {
		case s.name != sigmas || s.instead == "":
		case s.instead == "own":
			return scheduler, "", append(notes, fmt.Sprintf("there is no %s schedule here: the noise levels of %s itself are used instead", s.aliases[0], scheduler))
		default:
			return scheduler, s.instead, append(notes, fmt.Sprintf("there is no %s schedule here: %s is used instead", s.aliases[0], s.instead))
		}
	}
	return scheduler, sigmas, notes
}

// Available is FromForeign for who is to draw: names of what this program does not have are those of what it takes instead, with
// a sentence for each.
func Available(sampler, schedule string) (scheduler, sigmas string, notes []string, ok bool) {
	scheduler, sigmas, ok = FromForeign(sampler, schedule)
	if ok {
		scheduler, sigmas, notes = available(scheduler, sigmas)
	}
	return scheduler, sigmas, notes, ok
}

// ForeignName is what other programs call a sampler or a schedule of this one.
type ForeignName struct {
	Name    string   // that AUTOMATIC1111's interface shows: "DPM++ 2M"
	Own     string   // "dpm++2m"; "" is the scheduler's own schedule
	Aliases []string // that are read too
}

// ForeignSamplers and ForeignSchedules list those that this program has, in the order in which it lists them.
func ForeignSamplers() (names []ForeignName) {
	for _, s := range samplers {
		if s.instead == "" {
			names = append(names, ForeignName{s.aliases[0], s.name, s.aliases[1:]})
		}
	}
	return names
}

func ForeignSchedules() (names []ForeignName) {
	for _, s := range spacings {
		if s.instead == "" {
			names = append(names, ForeignName{s.aliases[0], s.name, s.aliases[1:]})
		}
	}
	return names
}

// ForeignSampler is what AUTOMATIC1111's interface calls a scheduler and its sigmas: "DPM++ 2M Karras".
func ForeignSampler(scheduler, sigmas string) string { return toForeign(scheduler, sigmas) }

// toForeign is the way back, for Parameters. A name that is not in the table is written as it is.
func toForeign(scheduler, sigmas string) string {
	name := scheduler
	for _, s := range samplers {
		if s.name == scheduler {
			name = s.aliases[0]
		}
	}
	for _, sp := range spacings {
		if sp.name == sigmas && sigmas != "" {
			return name + " " + sp.aliases[0]
		}
	}
	if sigmas != "" {
		name += " " + sigmas
	}
	return name
}

var folder = strings.NewReplacer(" ", "", "_", "", "-", "", "pp", "++")

func fold(s string) string {
	return folder.Replace(strings.ToLower(s))
}
