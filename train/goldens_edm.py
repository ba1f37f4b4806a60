"""Golden pictures of models of the EDM kind (Playground 2.5, CosXL) from diffusers: the tiny SDXL of train/goldens_sdxl.py with another
scheduler_config.json, and statistics of its latents.

    python train/goldens_edm.py       writes pipeline/testdata/edm: NAME.safetensors, NAME.png, cases.json, which has the configurations
"""

import json
import os

import goldens
import goldens_sdxl as xl
import numpy as np
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler, StableDiffusionXLPipeline
from PIL import Image
from safetensors.torch import save_file

OUT = os.path.join(goldens.OUT, "edm")
MODEL = os.path.join(xl.OUT, "models", "xl")
CLASSES = {"EDMEulerScheduler": EDMEulerScheduler, "EDMDPMSolverMultistepScheduler": EDMDPMSolverMultistepScheduler}
PLAYGROUND = dict(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, rho=7.0, prediction_type="epsilon", sigma_schedule="karras")
COSXL = dict(sigma_min=0.002, sigma_max=120.0, sigma_data=1.0, prediction_type="v_prediction", sigma_schedule="exponential")
MEAN, STD = [-1.6574, 1.886, -1.383, 2.5155], [8.4927, 5.9022, 6.5498, 5.2299]  # Playground 2.5's

CASES = [
    ("playground", "EDMDPMSolverMultistepScheduler", dict(**PLAYGROUND), dict(statistics=True)),
    ("playground-euler", "EDMEulerScheduler", dict(**PLAYGROUND), dict(statistics=True)),
    ("playground-third", "EDMDPMSolverMultistepScheduler", dict(**PLAYGROUND, solver_order=3, solver_type="heun"), dict(steps=7)),
    ("playground-sde", "EDMDPMSolverMultistepScheduler", dict(**PLAYGROUND, algorithm_type="sde-dpmsolver++"), dict()),
    ("cosxl", "EDMEulerScheduler", dict(**COSXL), dict()),
    ("cosxl-dpm", "EDMDPMSolverMultistepScheduler", dict(**COSXL), dict(cfg=1.0)),
    ("edm-v-half", "EDMEulerScheduler", dict(**{**COSXL, "sigma_data": 0.5}, rho=5.0), dict()),
]


def run_case(name, cls, config, ask):
    pipe = StableDiffusionXLPipeline.from_pretrained(MODEL, torch_dtype=torch.float32, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = CLASSES[cls](**config)
    case = dict(name=name, scheduler_config={"_class_name": cls, "_diffusers_version": "0.0.0", **config}, prompt=goldens.PROMPT, negative="", seed=7, steps=5, cfg=4.0,
                width=64, height=64, statistics=False)
    case.update(ask)
    if case["statistics"]:
        case["latents_mean"], case["latents_std"], case["scaling_factor"] = MEAN, STD, 0.5
        pipe.vae.register_to_config(latents_mean=MEAN, latents_std=STD, scaling_factor=0.5)
    steps = []

    def on_step(p, i, t, kw):
        steps.append(kw["latents"].clone())
        return kw

    with torch.no_grad():
        image = pipe(prompt=case["prompt"], num_inference_steps=case["steps"], guidance_scale=case["cfg"], width=64, height=64,
                     generator=torch.Generator("cpu").manual_seed(case["seed"]), output_type="np", callback_on_step_end=on_step).images[0]
    save_file({"latents": torch.cat(steps).contiguous()}, os.path.join(OUT, name + ".safetensors"))
    Image.fromarray((image * 255).round().astype(np.uint8)).save(os.path.join(OUT, name + ".png"))
    px = image.astype(np.float64)
    print(f"{name:20} picture std {px.std():.3f} clipped {((px <= 0) | (px >= 1)).mean():.2f} latents std {steps[-1].std():.2f}")
    return case


def run_edit():
    """CosXL's model for editing by instruction: a U-Net of 8 channels, in edit-unet/, which reads scaled latents of the picture."""
    from diffusers import StableDiffusionXLInstructPix2PixPipeline
    base = StableDiffusionXLPipeline.from_pretrained(MODEL, torch_dtype=torch.float32, add_watermarker=False)
    config = {k: v for k, v in base.unet.config.items() if k != "_name_or_path"} | dict(in_channels=8)
    torch.manual_seed(31)
    unet = type(base.unet).from_config(config)
    state = base.unet.state_dict()
    state["conv_in.weight"] = torch.cat([state["conv_in.weight"], 0.5 * torch.randn(state["conv_in.weight"].shape)], 1)
    unet.load_state_dict(state)
    folder = os.path.join(OUT, "edit-unet")
    unet.half().save_pretrained(folder)
    unet = type(base.unet).from_pretrained(folder, torch_dtype=torch.float32)
    pipe = StableDiffusionXLInstructPix2PixPipeline(vae=base.vae, text_encoder=base.text_encoder, text_encoder_2=base.text_encoder_2, tokenizer=base.tokenizer,
                                                    tokenizer_2=base.tokenizer_2, unet=unet, scheduler=EDMEulerScheduler(**COSXL), add_watermarker=False,
                                                    is_cosxl_edit=True)
    pipe.set_progress_bar_config(disable=True)
    init = Image.open(os.path.join(goldens.OUT, "edit", "init-64.png"))
    with torch.no_grad():
        latents = pipe(prompt=goldens.PROMPT, image=init, num_inference_steps=5, guidance_scale=4.0, image_guidance_scale=1.5, height=64, width=64,
                       generator=torch.Generator("cpu").manual_seed(7), output_type="latent").images
        image = pipe.image_processor.postprocess(pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample, output_type="np")[0]
    save_file({"latents": latents.contiguous()}, os.path.join(OUT, "cosxl-edit.safetensors"))
    Image.fromarray((image * 255).round().astype(np.uint8)).save(os.path.join(OUT, "cosxl-edit.png"))
    print(f"cosxl-edit           picture std {image.std():.3f} latents std {latents.std():.2f}")


def main():
    os.makedirs(OUT, exist_ok=True)
    run_edit()
    with open(os.path.join(OUT, "cases.json"), "w") as f:
        json.dump([run_case(*c) for c in CASES], f, indent=1)


if __name__ == "__main__":
    main()
