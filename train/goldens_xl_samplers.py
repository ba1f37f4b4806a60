"""A picture of each sampler that diffusers has, of several sizes and with long prompts, on the tiny SDXL models of goldens_sdxl.py.

    python train/goldens_xl_samplers.py   writes pipeline/testdata/sdxl/samplers.json and samplers.png, a sheet of the pictures
                                          one below the other

As train/goldens_samplers.py does for Stable Diffusion 1 and 2, with whose tools it works.
"""

import json
import os

import goldens
import goldens_samplers as one
import goldens_sdxl as xl
import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

SAMPLERS = ["ddim", "ddpm", "pndm", "plms", "lms", "euler", "euler-a", "heun", "dpm2", "dpm2-a", "dpm++2s", "dpm++2m", "dpm++3m", "dpm++2m-sde", "deis", "unipc", "sa-solver",
            "lcm", "tcd", "euler-karras", "dpm++2m-karras", "unipc-karras", "heun-karras", "dpm++2m-exponential", "euler-beta"]
ZERO = ["ddim", "ddpm", "tcd"]  # that start from pure noise as the file asks


def cases():
    for i, s in enumerate(SAMPLERS):
        yield s, "xl", dict(height=(64, 32, 96)[i % 3], prompt=goldens.LONG if i % 4 == 3 else one.PROMPT)
    for s in ZERO:
        yield s, "xl-v", dict(height=64)


def run(sampler, model, ask):
    path = os.path.join(xl.OUT, "models", model)
    pipe = StableDiffusionXLPipeline.from_pretrained(path, torch_dtype=torch.float32, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    case = dict(scheduler=sampler, model=model, prompt=one.PROMPT, negative=one.NEGATIVE, seed=7, steps=7, cfg=5.0, config={}, extra={}, width=64) | ask
    with open(os.path.join(path, "scheduler", "scheduler_config.json")) as f:
        pipe.scheduler = one.scheduler(case, json.load(f))
    with torch.no_grad():
        image = pipe(case["prompt"], negative_prompt=case["negative"], num_inference_steps=case["steps"], guidance_scale=case["cfg"], width=64, height=case["height"],
                     eta=0.3 if sampler == "tcd" else 0.0, generator=torch.Generator("cpu").manual_seed(case["seed"]), output_type="np").images[0]
    print(f"{sampler:20} {model:5} {case['height']} std {image.std():.3f} clipped {((image <= 0) | (image >= 1)).mean():.2f}")
    assert np.isfinite(image).all() and image.std() > 0.05
    del case["extra"], case["config"]
    return case, (image * 255).round().astype(np.uint8)


def main():
    done, images = zip(*(run(*c) for c in cases()))
    with open(os.path.join(xl.OUT, "samplers.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(c) for c in done) + "\n]\n")
    Image.fromarray(np.concatenate(images)).save(os.path.join(xl.OUT, "samplers.png"), optimize=True)


if __name__ == "__main__":
    main()
