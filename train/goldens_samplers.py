"""A picture of each sampler that diffusers has, and of each guidance, on the tiny models of goldens.py.

    python train/goldens_samplers.py   writes pipeline/testdata/samplers/: cases.json and a sheet of pictures for each
                                       model, one below the other in the order of the cases

Where a StableDiffusionPipeline can run the sampler it does (float32, CPU); for flow models and for diffusers' guiders
its loop is written out here. Whole trajectories of the schedulers are in goldens_scheduler.py, seams of whole
renderings in goldens.py: here it is seen that nothing between them gets lost.
"""

import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import diffusers
import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.guiders import AdaptiveProjectedGuidance, ClassifierFreeGuidance, ClassifierFreeZeroStarGuidance
from PIL import Image

import goldens

OUT = os.path.join(goldens.OUT, "samplers")
PROMPT, NEGATIVE = "a red apple on a blue table", "a dog"
SIDE = {"sd1": 8, "sd2": 16, "zsnr": 16}  # of the latents: enough for every level of the U-Net, small files

# The sampler's name in this program -> diffusers' class and what is set on top of the model's file.
CLASSES = {
    "ddim": ("DDIMScheduler", {}), "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {}), "plms": ("PNDMScheduler", {"skip_prk_steps": True}),
    "lms": ("LMSDiscreteScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}), "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm2": ("KDPM2DiscreteScheduler", {}), "dpm2-a": ("KDPM2AncestralDiscreteScheduler", {}),
    "dpm++2s": ("DPMSolverSinglestepScheduler", {}),
    "dpm++2m": ("DPMSolverMultistepScheduler", {}), "dpm++3m": ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    "dpm++2m-sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm++sde": ("DPMSolverSDEScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}), "unipc": ("UniPCMultistepScheduler", {}), "sa-solver": ("SASolverScheduler", {}),
    "lcm": ("LCMScheduler", {}), "tcd": ("TCDScheduler", {}),
    "flow-euler": ("FlowMatchEulerDiscreteScheduler", {}), "flow-heun": ("FlowMatchHeunDiscreteScheduler", {}),
}
SUFFIXES = ["-karras", "-exponential", "-beta"]
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
FLOW_SIGMAS = {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"}


def cases():
    """name of the sampler, model, and what else is asked for."""
    every = ["ddim", "ddpm", "pndm", "plms", "lms", "euler", "euler-a", "heun", "dpm2", "dpm2-a", "dpm++2s", "dpm++2m", "dpm++3m",
             "dpm++2m-sde", "deis", "unipc", "sa-solver", "lcm", "tcd"]
    for model in ("sd1", "sd2"):  # epsilon and v
        for s in every:
            yield s, model, {}
        yield "dpm++sde", model, {"sde_noise": "brownian"}
        for s in ["lms-karras", "heun-karras", "dpm2-karras", "dpm2-a-karras", "dpm++2s-karras", "dpm++3m-karras", "dpm++2m-sde-karras", "unipc-karras"]:
            yield s, model, {}
        yield "dpm++sde-karras", model, {"sde_noise": "brownian"}
    for suffix in SUFFIXES[1:]:
        for s in ["euler", "dpm++2m", "heun", "unipc", "dpm++2m-sde"]:
            yield s + suffix, "sd2", {}
    for s in ["ddim", "euler", "dpm++2m", "heun", "lms", "unipc"]:
        yield s, "sd2", {"config": {"timestep_spacing": "trailing"}}
        yield s, "sd2", {"config": {"timestep_spacing": "linspace", "steps_offset": 0}}
    # One step, where multistep methods have no past; and many.
    for s in ["lms", "dpm++2m", "dpm++3m", "unipc", "deis", "euler-a", "tcd"]:
        yield s, "sd2", {"steps": 1, "config": {"timestep_spacing": "trailing"}}
        yield s, "sd2", {"steps": 2}
    for s in ["ddim", "euler", "heun", "dpm++2m-karras", "unipc", "ddpm", "lcm"]:
        yield s, "sd2", {"steps": 20}
    for s in ["dpm++2m-karras", "euler-a"]:
        yield s, "sd2", {"steps": 50}
    yield "ddim", "sd2", {"eta": 1.0}
    yield "tcd", "sd2", {"eta": 0.8}
    yield "dpm++2m", "sd2", {"config": {"solver_type": "heun"}}
    yield "dpm++2m", "sd2", {"config": {"use_lu_lambdas": True}}
    yield "dpm++2m-sde", "sd2", {"config": {"solver_type": "heun"}}
    # diffusers' bh1 gives NaN in a step to 0.
    for order, kind in [(3, "bh2"), (2, "bh1"), (1, "bh2")]:
        yield "unipc", "sd2", {"config": {"solver_order": order, "solver_type": kind, "final_sigmas_type": "sigma_min"}}
    yield "deis", "sd2", {"config": {"solver_order": 3}}
    yield "sa-solver", "sd2", {"config": {"predictor_order": 3, "corrector_order": 3}}
    # A flow model: the zsnr one's weights, read as velocities.
    for s in ["flow-euler", "flow-heun", "flow-euler-karras"]:
        yield s, "zsnr", {"config": FLOW}
    for s in ["dpm++2m", "unipc"]:
        yield s, "zsnr", {"config": FLOW, "extra": FLOW_SIGMAS}
    # Guidance.
    yield "ddim", "sd1", {"guidance": "cfg:rescale=0.7"}
    yield "euler", "sd2", {"guidance": "cfg:rescale=0.7"}
    for model in ("sd1", "sd2"):
        yield "ddim", model, {"guidance": "cfg:start=0.3,stop=0.8"}
        yield "euler", model, {"guidance": "cfg-zero:zero=1"}
        yield "dpm++2m", model, {"guidance": "cfg-zero:zero=0,rescale=0.5"}
        yield "ddim", model, {"guidance": "apg:eta=0.5,norm=6"}
        yield "euler", model, {"guidance": "apg:eta=0,momentum=-0.5"}


def guider(spec, scale):
    """diffusers' guider of a specification in this program's form."""
    name, _, keys = spec.partition(":")
    keys = {k: float(v) for k, v in (pair.split("=") for pair in keys.split(",") if pair)}
    common = dict(guidance_scale=scale, guidance_rescale=keys.get("rescale", 0.0), start=keys.get("start", 0.0), stop=keys.get("stop", 1.0))
    if name == "cfg":
        return ClassifierFreeGuidance(**common)
    if name == "cfg-zero":
        return ClassifierFreeZeroStarGuidance(zero_init_steps=int(keys["zero"]), **common)
    return AdaptiveProjectedGuidance(adaptive_projected_guidance_momentum=keys.get("momentum"), eta=keys["eta"],
                                     adaptive_projected_guidance_rescale=keys.get("norm", 15.0), **common)


def scheduler(case, file):
    base = next((case["scheduler"].removesuffix(s) for s in SUFFIXES if case["scheduler"].endswith(s)), case["scheduler"])
    cls, extra = CLASSES[base]
    extra = dict(extra) | case["extra"]
    if base != case["scheduler"]:
        extra[f"use_{case['scheduler'].removeprefix(base + '-')}_sigmas"] = True
    if base == "dpm++sde":
        extra["noise_sampler_seed"] = case["seed"]
    return getattr(diffusers, cls).from_config(file, **extra)


def picture(sampler, i, t, u, out, back=False):
    """The picture that a model's output means, for u of unit variance, or (back) the output that a picture means."""
    sigma = sampler.sigmas[i] if hasattr(sampler, "sigmas") else ((1 - sampler.alphas_cumprod[t]) / sampler.alphas_cumprod[t]) ** 0.5
    a, s = 1 / (sigma**2 + 1) ** 0.5, sigma / (sigma**2 + 1) ** 0.5
    if sampler.config.prediction_type == "epsilon":
        return (u - a * out) / s if back else (u - s * out) / a
    return (a * u - out) / s if back else a * u - s * out


def loop(pipe, case, generator):
    """StableDiffusionPipeline's loop, with one of diffusers' guiders for its guidance."""
    cond, uncond = pipe.encode_prompt(case["prompt"], "cpu", 1, True, case["negative"])
    sampler, steps = pipe.scheduler, case["steps"]
    g = guider(case["guidance"] or "cfg", case["cfg"])
    sampler.set_timesteps(steps)
    side = case["width"] // pipe.vae_scale_factor
    x = torch.randn((1, pipe.unet.config.in_channels, side, side), generator=generator) * getattr(sampler, "init_noise_sigma", 1.0)
    if getattr(g, "adaptive_projected_guidance_momentum", None) is not None:
        from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer
        g.momentum_buffer = MomentumBuffer(g.adaptive_projected_guidance_momentum)
    for i, t in enumerate(sampler.timesteps):
        u = sampler.scale_model_input(x, t) if hasattr(sampler, "scale_model_input") else x
        out = [pipe.unet(u, t, encoder_hidden_states=c).sample for c in (cond, uncond)]
        g.set_state(step=i, num_inference_steps=len(sampler.timesteps), timestep=t)
        # APG projects pictures in its paper; diffusers' guider leaves it to its caller what it is given.
        of_picture = case["guidance"].startswith("apg")
        if of_picture:
            out = [picture(sampler, i, t, u, o) for o in out]
        # A guider that is not active wants no unconditional prediction.
        out = g.forward(out[0], out[1] if g.num_conditions == 2 else None).pred
        if of_picture:
            out = picture(sampler, i, t, u, out, back=True)
        x = sampler.step(out, t, x).prev_sample
    return x


def run(scheduler_name, model, ask, path):
    case = dict(scheduler=scheduler_name, model=model, prompt=PROMPT, negative=NEGATIVE, seed=7, steps=7, cfg=5.0, eta=None, config={}, extra={},
                guidance="", sde_noise="") | ask
    pipe = StableDiffusionPipeline.from_pretrained(path, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    case["width"] = case["height"] = SIDE[model] * pipe.vae_scale_factor
    with open(os.path.join(path, "scheduler", "scheduler_config.json")) as f:
        file = json.load(f)
    if "_class_name" in case["config"]:
        file = case["config"]
    pipe.scheduler = scheduler(case, {**file, **case["config"]})
    generator = torch.Generator("cpu").manual_seed(case["seed"])
    flow = "_class_name" in case["config"]
    rescale = case["guidance"] == "cfg:rescale=0.7"
    with torch.no_grad():
        if flow or case["guidance"] and not rescale:
            latents = loop(pipe, case, generator)
        else:
            latents = pipe(case["prompt"], negative_prompt=case["negative"], num_inference_steps=case["steps"], guidance_scale=case["cfg"],
                           guidance_rescale=0.7 if rescale else 0.0, width=case["width"], height=case["height"],
                           eta=(0.3 if "tcd" in scheduler_name else 0.0) if case["eta"] is None else case["eta"], generator=generator, output_type="latent").images
        image = pipe.image_processor.postprocess(pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample, output_type="np")[0]
    clipped = ((image <= 0) | (image >= 1)).mean()
    print(f"{scheduler_name:20} {model} {ask} std {image.std():.3f} clipped {clipped:.2f} latents {latents.std():.2f}")
    assert np.isfinite(image).all() and image.std() > 0.05
    del case["extra"]
    return case, (image * 255).round().astype(np.uint8)


def main():
    os.makedirs(OUT, exist_ok=True)
    done, sheets = [], {}
    for s, model, ask in cases():
        case, image = run(s, model, ask, os.path.join(goldens.OUT, "models", model))
        done.append(case)
        sheets.setdefault(model, []).append(image)
    with open(os.path.join(OUT, "cases.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps({k: v for k, v in c.items() if v not in (None, "", {})}) for c in done) + "\n]\n")
    for model, images in sheets.items():
        Image.fromarray(np.concatenate(images)).save(os.path.join(OUT, model + ".png"), optimize=True)
    print(len(done), "cases")


if __name__ == "__main__":
    main()
