"""Golden pictures with TAESD in the autoencoder's place, from diffusers, on a tiny random one that this script makes too.

    python train/goldens_taesd.py       writes pipeline/testdata/taesd: taesd/, the same in other programs' names, NAME.png, NAME.safetensors, cases.json

The model is pipeline/testdata/models/sd1, of train/goldens.py.
"""

import json
import os
import shutil

import goldens
import numpy as np
import torch
from diffusers import AutoencoderTiny, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import save_file

OUT = os.path.join(goldens.OUT, "taesd")
MODEL = os.path.join(goldens.OUT, "models", "sd1")


def make():
    torch.manual_seed(3)
    shutil.rmtree(OUT, ignore_errors=True)
    vae = AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4, num_encoder_blocks=(1, 2, 1, 2), num_decoder_blocks=(2, 1, 2, 1), latent_channels=4)
    with torch.no_grad():
        out = vae.decode(torch.randn(4, 4, 16, 16)).sample
        last = vae.decoder.layers[-1]
        last.weight *= 0.15 / out.std()
        last.bias += 0.5 - (out.mean() + 1) / 2
    vae.save_pretrained(os.path.join(OUT, "taesd"), safe_serialization=True)
    state = vae.state_dict()
    original = {k.removeprefix("decoder.layers."): v for k, v in state.items() if k.startswith("decoder.")}
    original = {f"{int(k.split('.')[0]) + 1}.{k.split('.', 1)[1]}": v for k, v in original.items()}  # it begins with a clamp
    torch.save(original, os.path.join(OUT, "taesd_decoder.pth"))
    comfy = {f"taesd_decoder.{k}": v for k, v in original.items()}
    comfy.update({f"taesd_encoder.{k.removeprefix('encoder.layers.')}": v for k, v in state.items() if k.startswith("encoder.")})
    save_file({k: v.contiguous() for k, v in comfy.items()}, os.path.join(OUT, "taesd_comfy.safetensors"))


def main():
    make()
    cases = []
    for name, cls, ask in (("text", StableDiffusionPipeline, {}), ("init", StableDiffusionImg2ImgPipeline, dict(strength=0.6))):
        pipe = cls.from_pretrained(MODEL, torch_dtype=torch.float32, safety_checker=None)
        pipe.set_progress_bar_config(disable=True)
        factor = pipe.vae_scale_factor
        pipe.vae = AutoencoderTiny.from_pretrained(os.path.join(OUT, "taesd"))
        assert 2 ** (len(pipe.vae.config.decoder_block_out_channels) - 1) == factor, factor
        with open(os.path.join(MODEL, "scheduler", "scheduler_config.json")) as f:
            pipe.scheduler = goldens.scheduler_for("ddim", json.load(f))
        side = 8 * factor
        case = dict(name=name, prompt=goldens.PROMPT, negative="", seed=7, steps=5, cfg=4.0, scheduler="ddim", width=side, height=side, init="", **ask)
        more = dict(width=side, height=side)
        if ask:
            y, x = np.mgrid[0:side, 0:side]
            start = Image.fromarray(np.stack([x * 255 // side, y * 255 // side, 255 - x * 255 // side], -1).astype(np.uint8))
            case["init"] = "start.png"
            start.save(os.path.join(OUT, "start.png"))
            more = dict(image=start, **ask)
        steps = []

        def on_step(p, i, t, kw):
            steps.append(kw["latents"].clone())
            return kw

        with torch.no_grad():
            image = pipe(prompt=case["prompt"], num_inference_steps=5, guidance_scale=4.0, generator=torch.Generator("cpu").manual_seed(7), output_type="np",
                         callback_on_step_end=on_step, **more).images[0]
        save_file({"latents": torch.cat(steps).contiguous()}, os.path.join(OUT, name + ".safetensors"))
        Image.fromarray((image * 255).round().astype(np.uint8)).save(os.path.join(OUT, name + ".png"))
        print(f"{name:10} picture std {image.std():.3f} clipped {((image <= 0) | (image >= 1)).mean():.2f}, {len(steps)} steps")
        cases.append(case)
    with open(os.path.join(OUT, "cases.json"), "w") as f:
        json.dump(cases, f, indent=1)


if __name__ == "__main__":
    main()
