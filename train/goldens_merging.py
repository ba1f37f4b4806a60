"""Golden pictures with token merging: diffusers' pipelines with tomesd's own patch (Bolya and Hoffman 2023), pip install tomesd.

    python train/goldens_merging.py     writes pipeline/testdata/merging: NAME.safetensors, NAME.png, cases.json

Without random numbers (use_rand=False) the target of each 2x2 square is its top left token. tomesd counts levels by their
downsampling; Darkroom merges at the first level that has attention, which is that of the case.
"""

import json
import os

import goldens
import numpy as np
import tomesd
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image
from safetensors.torch import save_file

OUT = os.path.join(goldens.OUT, "merging")
PROMPT = "a red apple on a blue table"
STEPS = 5


def run(name, model, scheduler, width, height, ratio, downsample=1):
    path = os.path.normpath(os.path.join(OUT, model))
    kind = StableDiffusionXLPipeline if "xl" in model else StableDiffusionPipeline
    pipe = kind.from_pretrained(path, torch_dtype=torch.float32, **({"add_watermarker": False} if "xl" in model else {}))
    pipe.set_progress_bar_config(disable=True)
    with open(os.path.join(path, "scheduler", "scheduler_config.json")) as f:
        pipe.scheduler = goldens.scheduler_for(scheduler, json.load(f))
    for block in pipe.unet.modules():  # flags that the patch asks for, and that diffusers has renamed
        if type(block).__name__ == "BasicTransformerBlock":
            block.use_ada_layer_norm = block.use_ada_layer_norm_zero = False
    tomesd.apply_patch(pipe, ratio=ratio, max_downsample=downsample, use_rand=False)
    with torch.no_grad():
        latents = pipe(prompt=PROMPT, negative_prompt="fog", num_inference_steps=STEPS, guidance_scale=5.0, width=width, height=height,
                       generator=torch.Generator("cpu").manual_seed(21), output_type="latent").images
        image = pipe.image_processor.postprocess(pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample, output_type="np")[0]
    save_file({"latents": latents.contiguous()}, os.path.join(OUT, name + ".safetensors"))
    Image.fromarray((image * 255).round().astype(np.uint8)).save(os.path.join(OUT, name + ".png"))
    print(name, "picture std", float(image.std()))
    return dict(name=name, model=model, scheduler=scheduler, width=width, height=height, steps=STEPS, prompt=PROMPT, negative="fog", ratio=ratio)


def main():
    os.makedirs(OUT, exist_ok=True)
    sd, xl = "../models/sd1", "../sdxl/models/xl"
    cases = [
        run("half", sd, "ddim", 64, 64, 0.5),
        run("wide", sd, "dpm++2m", 104, 72, 0.3),  # 13 by 9 latents: a row and a column without targets
        run("most", "../models/sd2", "euler", 64, 64, 0.75),
        run("xl", xl, "euler", 128, 128, 0.5, downsample=2),
    ]
    with open(os.path.join(OUT, "cases.json"), "w") as f:
        json.dump(cases, f, indent=1)


if __name__ == "__main__":
    main()
