package pipeline

import (
	"slices"

	"darkroom/noise"
	"darkroom/recipe"
)

// Numerics names this program's arithmetic. It changes whenever the same request may give different bits.
//
// "1" summed all convolutions plainly. "2" does so where the recipe says so, and for the recipes of "1". "3" normalises the
// products of a U-Net's layer norms in place of their rows, on GPUs in half precision alone: elsewhere it has the bits of "2".
// "4" has a choice of sums in bfloat16 and int8 on CPUs too, and sums plainly for the recipes of older versions that name none.
const Numerics = "4"

// SameArithmetic says whether this program computes a recipe as the program that wrote it did.
func SameArithmetic(r recipe.Recipe) bool {
	switch r.Numerics {
	case Numerics, "3":
		return true
	case "1", "2":
		return r.Backend != "cuda" || r.DType != "fp16" && r.DType != "bf16"
	}
	return false
}

// recipe records everything that determines the picture.
func (p *Pipeline) recipe(pl *plan, result recipe.Result) (recipe.Recipe, error) {
	hash, err := p.hash()
	if err != nil {
		return recipe.Recipe{}, err
	}
	kind := pl.Noise
	if kind == "" {
		kind = noise.KindTorchCPU
	}
	settled := pl.Settings
	eta := pl.schedule.Eta()
	settled.Noise, settled.Scheduler, settled.Sigmas, settled.Eta = kind, pl.schedule.Name(), pl.schedule.Sigmas(), &eta
	settled.Convolution = pl.convolution(p)
	settled.Tiled = p.tiled(pl) && p.model.Codec.Tiled(pl.latentH, pl.latentW)
	r := recipe.Recipe{
		Version: Version(), Numerics: Numerics,
		Model: p.name, ModelHash: hash, Prediction: p.model.Sampling.PredictionType.String(), PredictionWhy: p.why,
		DType: p.dtypeName(), Backend: p.device.Backend.Info().Kind, Device: p.device.Backend.Info().Device, Result: result,
	}
	settled.LoRA, settled.Embedding = recipe.FormatUses(pl.adaptation.loras), pl.adaptation.names("embedding")
	settled.Regions = pl.regionNames()
	settled.Init, settled.Mask, settled.Depth = base(pl.Init), base(pl.Mask), base(pl.Depth)
	var controlFiles, referenceFiles []recipe.File
	settled.Reference, referenceFiles = pl.references.recorded()
	if settled.Control, controlFiles, err = pl.controls.recorded(); err != nil {
		return recipe.Recipe{}, err
	}
	if pl.ownControl != nil {
		settled.Control, controlFiles = pl.ownControl.recorded()
	}
	var filmFiles []recipe.File
	if settled.Motion, filmFiles, err = pl.film.recorded(); err != nil {
		return recipe.Recipe{}, err
	}
	settled.VAE, settled.TextModel, settled.Prediction = p.vaeName(), p.textModelName(), p.options.Prediction
	settled.Refiner, settled.Parts = pl.Refiner, p.lender.name
	r.Set(settled)
	r.Files = slices.Concat(pl.adaptation.files, pl.edit.recipeFiles(), pl.depth.recipeFiles(), controlFiles, filmFiles, referenceFiles, pl.hiresFiles, pl.tracks.files)
	if p.lender.name != "" && len(p.lender.parts) > 0 {
		hash, err := p.lender.hash()
		if err != nil {
			return recipe.Recipe{}, err
		}
		r.Files = append(r.Files, recipe.File{Kind: "parts", Name: p.lender.name, SHA256: hash})
	}
	if p.vae != nil {
		hash, err := p.vae.Set.Hash()
		if err != nil {
			return recipe.Recipe{}, err
		}
		r.Files = append(r.Files, recipe.File{Kind: "vae", Name: settled.VAE, SHA256: hash})
	}
	if p.refiner != nil {
		hash, err := p.refiner.hash()
		if err != nil {
			return recipe.Recipe{}, err
		}
		r.Files = append(r.Files, recipe.File{Kind: "refiner", Name: p.refiner.name, SHA256: hash})
	}
	return r, nil
}

// FromRecipe is the request that makes a recipe's picture again, on the recipe's model.
func FromRecipe(r recipe.Recipe) Request {
	s := r.Settings()
	s.Model, s.Backend, s.DType = "", "", ""
	if r.Convolution == "" && r.Backend == "cpu" && r.Numerics != Numerics {
		s.Convolution = recipe.PlainSums
	}
	return Request{Settings: s}
}
