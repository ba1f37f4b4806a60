"""Golden pictures that start from another one, from diffusers: image to image and inpainting.

    python train/goldens_edit.py       writes pipeline/testdata/edit: init.png, mask.png, models/inpaint, NAME.safetensors, NAME.png, cases.json

The models are those of train/goldens.py and train/goldens_sdxl.py, and one of nine channels that this script makes.
"""

import json
import os

import goldens
import goldens_sdxl
import numpy as np
import torch
from diffusers import (StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline, StableDiffusionXLImg2ImgPipeline,
                       StableDiffusionXLInpaintPipeline)
from PIL import Image
from safetensors.torch import save_file

OUT = os.path.join(goldens.OUT, "edit")
PROMPT = "a red apple on a blue table"
INPAINT = {**goldens.MODELS["sd1"], "unet": {**goldens.MODELS["sd1"]["unet"], "in_channels": 9, "out_channels": 4}}


def pictures(size):
    """A smooth picture, and a mask that is no rectangle."""
    y, x = np.mgrid[0:size, 0:size] / size
    img = np.stack([0.5 + 0.5 * np.sin(7 * x + 3 * y), x * y, 0.5 + 0.4 * np.cos(9 * y)], -1)
    mask = ((x - 0.55) ** 2 + (y - 0.45) ** 2 < 0.08).astype(np.uint8) * 255
    return Image.fromarray((img * 255).round().astype(np.uint8)), Image.fromarray(mask)


def make_inpaint():
    """goldens.make_model, whose trial run decodes what the U-Net reads: of nine channels the first four."""
    out, goldens.OUT = goldens.OUT, OUT
    decode = goldens.AutoencoderKL.decode
    goldens.AutoencoderKL.decode = lambda self, z, *a, **k: decode(self, z[:, :4], *a, **k)
    try:
        goldens.make_model("inpaint", INPAINT)
    finally:
        goldens.OUT, goldens.AutoencoderKL.decode = out, decode


def run(name, model, pipeline, scheduler, size, **ask):
    path = os.path.normpath(os.path.join(OUT, model))
    pipe = pipeline.from_pretrained(path, torch_dtype=torch.float32, **({"add_watermarker": False} if "XL" in pipeline.__name__ else {}))
    pipe.set_progress_bar_config(disable=True)
    with open(os.path.join(path, "scheduler", "scheduler_config.json")) as f:
        pipe.scheduler = goldens.scheduler_for(scheduler, json.load(f))
    init, mask = (Image.open(os.path.join(OUT, f"{kind}-{size}.png")) for kind in ("init", "mask"))
    kw = dict(image=init, strength=ask["strength"])
    if "Inpaint" in pipeline.__name__:
        kw.update(mask_image=mask, height=size, width=size)
    with torch.no_grad():
        latents = pipe(prompt=PROMPT, num_inference_steps=6, guidance_scale=5.0, generator=torch.Generator("cpu").manual_seed(21), output_type="latent", **kw).images
        image = pipe.image_processor.postprocess(pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample, output_type="np")[0]
    save_file({"latents": latents.contiguous()}, os.path.join(OUT, name + ".safetensors"))
    Image.fromarray((image * 255).round().astype(np.uint8)).save(os.path.join(OUT, name + ".png"))
    print(name, "latents std", float(latents.std()), "picture std", float(image.std()))
    return dict(name=name, model=model, scheduler=scheduler, size=size, prompt=PROMPT, mask="Inpaint" in pipeline.__name__, **ask)


def main():
    os.makedirs(OUT, exist_ok=True)
    for size in (64, 128):
        for kind, img in zip(("init", "mask"), pictures(size)):
            img.save(os.path.join(OUT, f"{kind}-{size}.png"))
    make_inpaint()
    sd, xl, nine = "../models/sd1", "../sdxl/models/xl", "models/inpaint"
    cases = [run(f"sd-{s}", sd, StableDiffusionImg2ImgPipeline, s, 128, strength=0.6) for s in ("ddim", "euler", "euler-a", "dpm++2m-karras", "ddpm")]
    cases += [
        run("sd-whole", sd, StableDiffusionImg2ImgPipeline, "euler", 128, strength=1.0),
        run("xl-euler", xl, StableDiffusionXLImg2ImgPipeline, "euler", 64, strength=0.5),
        run("sd-paint", sd, StableDiffusionInpaintPipeline, "ddim", 128, strength=1.0),
        run("sd-paint-some", sd, StableDiffusionInpaintPipeline, "euler-a", 128, strength=0.7),
        # Two calls a step: what stays is put back before the second, too.
        run("sd-paint-heun", sd, StableDiffusionInpaintPipeline, "heun", 128, strength=0.7),
        run("sd-paint-dpm2-a", sd, StableDiffusionInpaintPipeline, "dpm2-a", 128, strength=0.7),
        run("sd-paint-plms", sd, StableDiffusionInpaintPipeline, "plms", 128, strength=1.0),
        run("xl-paint", xl, StableDiffusionXLInpaintPipeline, "euler", 64, strength=0.99),
        run("nine", nine, StableDiffusionInpaintPipeline, "ddim", 128, strength=1.0),
        run("nine-some", nine, StableDiffusionInpaintPipeline, "euler-a", 128, strength=0.7),
    ]
    with open(os.path.join(OUT, "cases.json"), "w") as f:
        json.dump(cases, f, indent=1)


if __name__ == "__main__":
    main()
