"""A golden picture of a latent consistency model whose U-Net reads the guidance scale, from diffusers' own pipeline for them.

    python train/goldens_lcm.py       writes pipeline/testdata/lcm: lcm/ (a model), lcm.png, case.json

The model is pipeline/testdata/models/sd1, of train/goldens.py, with another U-Net.
"""

import json
import os
import shutil

import goldens
import numpy as np
import torch
from diffusers import LatentConsistencyModelPipeline, LCMScheduler, UNet2DConditionModel
from PIL import Image

OUT = os.path.join(goldens.OUT, "lcm")
BASE = os.path.join(goldens.OUT, "models", "sd1")


def main():
    torch.manual_seed(5)
    path = os.path.join(OUT, "lcm")
    shutil.rmtree(OUT, ignore_errors=True)
    shutil.copytree(BASE, path)
    shutil.rmtree(os.path.join(path, "unet"))
    config = dict(UNet2DConditionModel.load_config(os.path.join(BASE, "unet")))
    unet = UNet2DConditionModel.from_config({**config, "time_cond_proj_dim": 10})
    with torch.no_grad():
        for k, p in unet.named_parameters():
            if "attn2" in k or "time_emb_proj" in k or "cond_proj" in k:
                p *= 2
        out = unet(torch.randn(4, 4, 16, 16), 500, torch.randn(4, 77, unet.config.cross_attention_dim), timestep_cond=torch.randn(4, 10)).sample
        goldens.rescale(unet.conv_out, 1.0 / out.std())
    unet.to(torch.float16).save_pretrained(os.path.join(path, "unet"), safe_serialization=True)
    LCMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=True).save_pretrained(os.path.join(path, "scheduler"))
    with open(os.path.join(path, "model_index.json")) as f:
        index = json.load(f)
    index["_class_name"], index["scheduler"] = "LatentConsistencyModelPipeline", ["diffusers", "LCMScheduler"]
    with open(os.path.join(path, "model_index.json"), "w") as f:
        json.dump(index, f, indent=1)
    pipe = LatentConsistencyModelPipeline.from_pretrained(path, torch_dtype=torch.float32, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    case = dict(prompt=goldens.PROMPT, seed=7, steps=4, cfg=8.5, width=8 * pipe.vae_scale_factor, height=8 * pipe.vae_scale_factor)
    with torch.no_grad():
        image = pipe(case["prompt"], num_inference_steps=4, guidance_scale=8.5, width=case["width"], height=case["height"],
                     generator=torch.Generator("cpu").manual_seed(7), output_type="np").images[0]
    Image.fromarray((image * 255).round().astype(np.uint8)).save(os.path.join(OUT, "lcm.png"))
    print(f"picture std {image.std():.3f} clipped {((image <= 0) | (image >= 1)).mean():.2f}")
    with open(os.path.join(OUT, "case.json"), "w") as f:
        json.dump(case, f, indent=1)


if __name__ == "__main__":
    main()
