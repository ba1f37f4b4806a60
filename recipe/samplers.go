package recipe

import "strings"

// samplers are the schedulers' names here, and what other programs call them. The first alias is what Parameters
// writes (the name that AUTOMATIC1111's interface shows); the others are read only. Spelling is compared without case,
// spaces, '_' and '-'; see fold.
var samplers = []struct {
	name    string
	aliases []string
}{
	{"ddim", []string{"DDIM"}},
	{"ddpm", []string{"DDPM"}},
	{"pndm", []string{"PNDM"}},
	{"plms", []string{"PLMS"}},
	{"ipndm", []string{"IPNDM"}},
	{"lms", []string{"LMS"}},
	{"euler", []string{"Euler"}},
	{"euler-a", []string{"Euler a", "Euler ancestral"}},
	{"heun", []string{"Heun"}},
	{"dpm2", []string{"DPM2", "dpm_2"}},
	{"dpm2-a", []string{"DPM2 a", "dpm_2_ancestral"}},
	{"dpm-fast", []string{"DPM fast"}},
	{"dpm-adaptive", []string{"DPM adaptive"}},
	{"deis", []string{"DEIS"}},
	{"dpm++2m", []string{"DPM++ 2M", "dpmpp_2m"}},
	{"dpm++2m-sde", []string{"DPM++ 2M SDE", "dpmpp_2m_sde", "dpmpp_2m_sde_gpu"}},
	{"dpm++2m-sde-heun", []string{"DPM++ 2M SDE Heun", "dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu"}},
	{"dpm++2s", []string{"DPM++ 2S", "dpmpp_2s"}},
	{"dpm++2s-a", []string{"DPM++ 2S a", "dpmpp_2s_ancestral"}},
	{"dpm++sde", []string{"DPM++ SDE", "dpmpp_sde", "dpmpp_sde_gpu"}},
	{"dpm++3m", []string{"DPM++ 3M", "dpmpp_3m"}},
	{"dpm++3m-sde", []string{"DPM++ 3M SDE", "dpmpp_3m_sde", "dpmpp_3m_sde_gpu"}},
	{"unipc", []string{"UniPC", "uni_pc", "uni_pc_bh2"}},
	{"sa-solver", []string{"SA Solver"}},
	{"er-sde", []string{"ER SDE"}},
	{"res-multistep", []string{"Res Multistep"}},
	{"gradient-estimation", []string{"Gradient Estimation"}},
	{"restart", []string{"Restart"}},
	{"euler-cfg++", []string{"Euler CFG++", "euler_cfg_pp"}},
	{"dpm++2m-cfg++", []string{"DPM++ 2M CFG++", "dpmpp_2m_cfg_pp"}},
	{"lcm", []string{"LCM"}},
	{"tcd", []string{"TCD"}},
}

// spacings are the ways of spacing sigmas, likewise. "" is the scheduler's own way.
var spacings = []struct {
	name    string
	aliases []string
}{
	{"", []string{"Automatic", "Uniform", "Normal"}},
	{"karras", []string{"Karras"}},
	{"exponential", []string{"Exponential"}},
	{"polyexponential", []string{"Polyexponential"}},
	{"sgm-uniform", []string{"SGM Uniform"}},
	{"simple", []string{"Simple"}},
	{"ddim-uniform", []string{"DDIM", "ddim_uniform"}},
	{"beta", []string{"Beta"}},
	{"lu", []string{"Lu"}},
	{"model", []string{"Model"}},
	{"ays", []string{"Align Your Steps", "AYS"}},
	{"gits", []string{"GITS"}},
	{"kl-optimal", []string{"KL Optimal"}},
	{"linear-quadratic", []string{"linear_quadratic"}},
	{"turbo", []string{"Turbo"}},
}

// FromForeign translates another program's sampler and schedule names ("DPM++ 2M SDE Karras" and "", or "DPM++ 2M SDE"
// and "Karras", or "dpmpp_2m_sde_gpu" and "karras") into the names used here. An empty schedule leaves what the
// sampler's name says. ok is false where a name is not known.
func FromForeign(sampler, schedule string) (scheduler, sigmas string, ok bool) {
	scheduler, sigmas, ok = foreignSampler(fold(sampler))
	if !ok || schedule == "" {
		return scheduler, sigmas, ok
	}
	spacing, ok := foreignSpacing(fold(schedule))
	if spacing != "" {
		sigmas = spacing // "Automatic" beside "DPM++ 2M Karras" says nothing
	}
	return scheduler, sigmas, ok
}

func foreignSampler(folded string) (scheduler, sigmas string, ok bool) {
	lookup := func(folded string) (string, bool) {
		for _, s := range samplers {
			if folded == fold(s.name) {
				return s.name, true
			}
			for _, a := range s.aliases {
				if folded == fold(a) {
					return s.name, true
				}
			}
		}
		return "", false
	}
	if name, ok := lookup(folded); ok {
		return name, "", true
	}
	for _, sp := range spacings {
		for _, a := range append([]string{sp.name}, sp.aliases...) {
			base, cut := strings.CutSuffix(folded, fold(a))
			if name, ok := lookup(base); ok && cut {
				return name, sp.name, true
			}
		}
	}
	return "", "", false
}

func foreignSpacing(folded string) (string, bool) {
	for _, sp := range spacings {
		for _, a := range append([]string{sp.name}, sp.aliases...) {
			if folded == fold(a) {
				return sp.name, true
			}
		}
	}
	return "", false
}

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
