package checkpoint

import (
	"fmt"
	"strings"
)

// Family is the kind of model that a U-Net belongs to.
type Family string

// The families that single files are opened as.
const (
	SD1     Family = "sd1"
	SD2     Family = "sd2"
	SDXL    Family = "sdxl"
	Refiner Family = "sdxl-refiner"
	ZImage  Family = "z-image"
	Flux2   Family = "flux2-klein"
	Flux1   Family = "flux1"
	SD3     Family = "sd3"
)

// String is the family's name for people.
func (f Family) String() string {
	switch f {
	case SD1:
		return "Stable Diffusion 1"
	case SD2:
		return "Stable Diffusion 2"
	case SDXL:
		return "SDXL"
	case Refiner:
		return "SDXL refiner"
	case ZImage:
		return "Z-Image"
	case Flux2:
		return "FLUX.2 klein"
	case Flux1:
		return "FLUX.1"
	case SD3:
		return "Stable Diffusion 3"
	}
	return string(f)
}

// Prefixes under which single files keep a model's parts; the empty one is a file of that part alone.
var (
	unetPrefixes = []string{"model.diffusion_model.", "unet.", "diffusion_model.", ""}
	vaePrefixes  = []string{"first_stage_model.", "vae.", ""}
)

const emaPrefix = "model_ema."

// modelParts are the parts that a single file holds, by diffusers' names for parts and for arrays.
type modelParts struct {
	unet, vae, text, text2 table
	openCLIP               bool // the first text encoder is open_clip's
	ldm                    bool // the U-Net has LDM names
	ema                    bool // there are averaged weights beside the plain ones
	marks                  table
}

// splitParts finds the parts by the prefixes of names. Arrays of training and of the noise schedule belong to none.
func splitParts(all table, useEMA bool) (*modelParts, error) {
	p := &modelParts{marks: table{}}
	for name, a := range all {
		switch name {
		case "v_pred", "ztsnr", "edm_mean", "edm_std", "edm_vpred.sigma_max", "edm_vpred.sigma_min":
			p.marks[name] = a
		}
	}
	if err := p.findUNet(all, useEMA); err != nil {
		return nil, err
	}
	for _, prefix := range vaePrefixes {
		t := all.below(prefix)
		if t["decoder.conv_in.weight"] == nil && t["encoder.conv_in.weight"] == nil || prefix == "" && p.unet != nil {
			continue
		}
		switch {
		case t["decoder.mid.block_1.norm1.weight"] != nil || t["encoder.mid.block_1.norm1.weight"] != nil:
			p.vae = vaeLDM(t)
		case t["decoder.mid_block.resnets.0.norm1.weight"] != nil || t["encoder.mid_block.resnets.0.norm1.weight"] != nil:
			p.vae = vaeAttention(t)
		default:
			continue
		}
		delete(p.vae, "model_ema.decay")
		dropPrefixes(p.vae, "loss.", "model_ema.")
		break
	}
	return p, p.findText(all)
}

func dropPrefixes(t table, prefixes ...string) {
	for name := range t {
		for _, prefix := range prefixes {
			if strings.HasPrefix(name, prefix) {
				delete(t, name)
			}
		}
	}
}

func (p *modelParts) findUNet(all table, useEMA bool) error {
	for _, prefix := range unetPrefixes {
		// A ControlNet has the names of half a U-Net, without its output.
		isLDM := all[prefix+"input_blocks.0.0.weight"] != nil && all[prefix+"out.2.weight"] != nil
		if !isLDM && (all[prefix+"down_blocks.0.resnets.0.conv1.weight"] == nil || all[prefix+"conv_out.weight"] == nil) {
			continue
		}
		t := all.below(prefix)
		if prefix == "" {
			for name := range t {
				if p.marks[name] != nil {
					delete(t, name)
				}
			}
		}
		if ema := emaOf(all, t); len(ema) > 100 {
			p.ema = true
			if useEMA {
				t = ema
			}
		}
		if useEMA && !p.ema {
			return fmt.Errorf("there are no averaged weights (model_ema) in the file")
		}
		if name := firstWith(t, "time_stack", "time_mixer", "temporal_transformer", "motion_modules"); name != "" {
			return fmt.Errorf("%s belongs to a video model, which is not supported", prefix+name)
		}
		p.ldm, p.unet = isLDM, t
		if isLDM {
			var err error
			if p.unet, err = unetLDM(t); err != nil {
				return err
			}
		}
		return nil
	}
	return nil
}

// emaOf finds the averaged weights of a U-Net. LDM's training stores them as buffers, whose names cannot have dots:
// model_ema.diffusion_modelinput_blocks00weight.
func emaOf(all, unet table) table {
	out := table{}
	for name, a := range unet {
		if e := all[emaPrefix+"diffusion_model"+strings.ReplaceAll(name, ".", "")]; e != nil && e.Shape().Equal(a.Shape()) {
			out[name] = e
		}
	}
	if len(out) != len(unet) {
		return nil
	}
	return out
}

func firstWith(t table, parts ...string) string {
	for _, name := range t.Names() {
		for _, part := range parts {
			if strings.Contains(name, part) {
				return name
			}
		}
	}
	return ""
}

func (p *modelParts) findText(all table) error {
	at := func(prefix, last string) bool { return all[prefix+last] != nil }
	const hfToken, openToken = "text_model.embeddings.token_embedding.weight", "token_embedding.weight"
	var err error
	for _, prefix := range []string{"cond_stage_model.transformer.", "conditioner.embedders.0.transformer.", "text_encoder."} {
		if p.text == nil && (at(prefix, hfToken) || at(prefix, strings.TrimPrefix(hfToken, "text_model."))) {
			p.text = textHF(all.below(prefix))
		}
	}
	for _, prefix := range []string{"cond_stage_model.model.", "conditioner.embedders.0.model."} {
		if p.text == nil && at(prefix, openToken) {
			if p.text, err = textOpenCLIP(all.below(prefix)); err != nil {
				return err
			}
			p.openCLIP = true
		}
	}
	if at("conditioner.embedders.1.model.", openToken) {
		if p.text2, err = textOpenCLIP(all.below("conditioner.embedders.1.model.")); err != nil {
			return err
		}
	}
	if at("text_encoder_2.", hfToken) {
		p.text2 = textHF(all.below("text_encoder_2."))
	}
	if p.unet == nil && p.vae == nil && p.text == nil && p.text2 == nil { // a text encoder's own file
		switch {
		case at("", hfToken) || at("", strings.TrimPrefix(hfToken, "text_model.")):
			p.text = textHF(all)
		case at("", openToken) && at("", "positional_embedding"):
			p.text, err = textOpenCLIP(all)
			p.openCLIP = true
		}
	}
	return err
}

// family tells which family the U-Net is of, and why.
func (p *modelParts) family() (f Family, why string, err error) {
	context := p.context()
	added := p.unet.axis("add_embedding.linear_1.weight", 1)
	first := p.unet.axis("conv_in.weight", 0)
	in := p.unet.axis("conv_in.weight", 1)
	why = fmt.Sprintf("its cross attention reads %d values", context)
	switch {
	case in == 7 || first == 256 && p.unet["class_embedding.weight"] != nil:
		return "", "", fmt.Errorf("this is the ×4 upscaler of Stable Diffusion 2, which is not supported")
	case context == 0:
		return "", "", fmt.Errorf("the U-Net has no cross attention: it does not read text and belongs to no supported family")
	case added == 1536 || p.ldm && added == 2048 && context == 1024:
		return "", "", fmt.Errorf("this is Stable unCLIP, which reads pictures: it is not supported")
	case added > 0 && (context == 1280 || context != 2048 && p.text2 == nil && p.text != nil && p.openCLIP):
		// The refiner's one text encoder is SDXL's second.
		if p.openCLIP {
			p.text, p.text2, p.openCLIP = nil, p.text, false
		}
		return Refiner, fmt.Sprintf("%s, and %d are added to the time", why, added), nil
	case added > 0:
		return SDXL, fmt.Sprintf("%s, and %d are added to the time", why, added), nil
	case context == 768:
		return SD1, why, nil
	case context == 1024 || p.openCLIP || p.text == nil && p.linear():
		if p.openCLIP {
			p.text = penultimate(p.text)
		}
		return SD2, why, nil
	}
	return SD1, why, nil
}

// context is the width of the text that the U-Net reads.
func (p *modelParts) context() int {
	for _, name := range p.unet.Names() {
		if strings.HasSuffix(name, ".attn2.to_k.weight") {
			return p.unet.axis(name, 1)
		}
	}
	return 0
}

// linear reports whether the transformers' projections are matrices, as since Stable Diffusion 2, not 1×1 convolutions.
func (p *modelParts) linear() bool {
	for name, a := range p.unet {
		if strings.HasSuffix(name, ".proj_in.weight") {
			return len(a.Shape()) == 2
		}
	}
	return false
}
