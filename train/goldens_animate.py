"""Golden films: pipeline/testdata/motion, by diffusers' AnimateDiffPipeline in float32.

    python train/goldens_animate.py      writes module/ (a MotionAdapter for the model sd1), NAME.safetensors, NAME.png, cases.json

NAME.safetensors has the noise's and the film's latents, [4,frames,h,w]; NAME.png its frames, one above the other.
"""
import json
import os

import goldens
import numpy as np
import torch
from diffusers import AnimateDiffPipeline, MotionAdapter, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import save_file

OUT = os.path.join(goldens.OUT, "motion")
PROMPT, NEGATIVE = "a red apple on a blue table", "a leaf"


def module():
    torch.manual_seed(14)
    adapter = MotionAdapter(block_out_channels=(8, 16), motion_num_attention_heads=2, motion_norm_num_groups=4, motion_max_seq_length=6)
    with torch.no_grad():
        for p in adapter.parameters():
            p.mul_(1.2)  # it changes the pictures much, and is not so loud that roundings grow
    adapter.half().save_pretrained(os.path.join(OUT, "module"))
    return MotionAdapter.from_pretrained(os.path.join(OUT, "module"), torch_dtype=torch.float32)


def run(adapter, name, scheduler, frames, betas="linear", **kw):
    folder = os.path.join(goldens.OUT, "models", "sd1")
    with open(os.path.join(folder, "scheduler", "scheduler_config.json")) as f:
        config = json.load(f)
    if betas == "linear":
        config["beta_schedule"] = "linear"
    base = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe = AnimateDiffPipeline(vae=base.vae, text_encoder=base.text_encoder, tokenizer=base.tokenizer, unet=base.unet, motion_adapter=adapter,
                               scheduler=base.scheduler)
    pipe.scheduler = goldens.scheduler_for(scheduler, config)  # the pipeline forces clip_sample and steps_offset
    pipe.set_progress_bar_config(disable=True)
    seen = {}

    def keep(pipe, step, t, values):
        seen.setdefault("first", values["latents"][0].clone())
        return {}

    size = dict(height=64, width=64)
    ask = dict(prompt=PROMPT, negative_prompt=NEGATIVE, num_frames=frames, num_inference_steps=5, guidance_scale=5.0, **size, **kw)
    with torch.no_grad():
        side = 64 // pipe.vae_scale_factor
        noise = torch.randn((1, 4, frames, side, side), generator=torch.Generator("cpu").manual_seed(7))
        latents = pipe(generator=torch.Generator("cpu").manual_seed(7), output_type="latent", callback_on_step_end=keep, **ask).frames
        video = pipe.decode_latents(latents)[0].transpose(0, 1)  # [frames,3,h,w]
    pixels = ((video / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    save_file({"noise": noise[0].contiguous(), "first": seen["first"].contiguous(), "latents": latents[0].contiguous()}, os.path.join(OUT, name + ".safetensors"))
    Image.fromarray(pixels.reshape(-1, *pixels.shape[2:])).save(os.path.join(OUT, name + ".png"))
    print(f"{name:12} latents {tuple(latents.shape)}, std {latents.std():.2f}; between frames {(latents[:, :, 1:] - latents[:, :, :-1]).std():.2f}; picture std {pixels.std():.1f}")
    return dict(name=name, scheduler=scheduler, frames=frames, betas=betas, prompt=PROMPT, negative=NEGATIVE, size=64, steps=5, cfg=5.0, seed=7)


def main():
    os.makedirs(OUT, exist_ok=True)
    adapter = module()
    cases = [run(adapter, "ddim", "ddim", 4), run(adapter, "euler", "euler", 3), run(adapter, "model", "ddim", 3, betas="model"),
             run(adapter, "ancestral", "euler-a", 2)]
    with open(os.path.join(OUT, "cases.json"), "w") as f:
        json.dump(cases, f, indent=1)


if __name__ == "__main__":
    main()
