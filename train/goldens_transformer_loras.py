"""LoRAs for Z-Image and FLUX.2 klein in the spellings of trainers: pipeline/testdata/transformers/loras.

    python train/goldens_transformer_loras.py

The models are those of goldens_transformers.py. Each adapter is laid over the weights by hand, W + s·alpha/rank·up·down, by
the original's names where the file has them, and diffusers draws the picture.
"""
import os
import shutil

import goldens_transformer_files as files
import goldens_transformers as g
import numpy as np
import torch
from diffusers import Flux2KleinPipeline
from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers, convert_z_image_transformer_checkpoint_to_diffusers
from PIL import Image
from safetensors.torch import save_file

OUT = os.path.join(g.OUT, "loras")
RANK, ALPHA, STRENGTH = 2, 3.0, 0.8


def adapter(weights, seed, skip=()):
    """Down and up of every matrix."""
    gen = torch.Generator().manual_seed(seed)
    out = {}
    for name, w in weights.items():
        if w.ndim == 2 and name.endswith(".weight") and not any(s in name for s in skip):
            down, up = torch.randn(RANK, w.shape[1], generator=gen), torch.randn(w.shape[0], RANK, generator=gen)
            out[name.removesuffix(".weight")] = (down / w.shape[1] ** 0.5, up * 0.3)
    return {k: (d.half().float(), u.half().float()) for k, (d, u) in out.items()}


def laid(weights, lora, alpha):
    return {k: w + STRENGTH * alpha / RANK * lora[k.removesuffix(".weight")][1] @ lora[k.removesuffix(".weight")][0] if k.removesuffix(".weight") in lora else w
            for k, w in weights.items()}


def save(name, lora, spelled, alpha):
    tensors = {}
    for k, (down, up) in lora.items():
        base = spelled(k)
        down_name, up_name = (".lora_down.weight", ".lora_up.weight") if base.startswith("lora_unet_") else (".lora_A.weight", ".lora_B.weight")
        tensors[base + down_name], tensors[base + up_name] = down.half().contiguous(), up.half().contiguous()
        if base.startswith("lora_unet_"):
            tensors[base + ".alpha"] = torch.tensor(alpha)
    save_file(tensors, os.path.join(OUT, name + ".safetensors"))


def draw(pipe, name):
    klein = isinstance(pipe, Flux2KleinPipeline)
    kw = dict(prompt=g.PROMPT, num_inference_steps=4, width=32, height=32, guidance_scale=1.0 if klein else 0.0, generator=torch.Generator("cpu").manual_seed(7))
    with torch.no_grad():
        image = pipe(**kw, output_type="np").images[0]
    Image.fromarray((image * 255).round().astype(np.uint8)).save(os.path.join(OUT, name + ".png"))
    print(name, "picture std", float(image.std()))


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    for model, original, convert, skip in [("z-turbo", files.z_original, convert_z_image_transformer_checkpoint_to_diffusers, ("t_embedder", "pad_token")),
                                           ("klein", files.klein_original, convert_flux2_transformer_checkpoint_to_diffusers, ("time_in", "time_guidance"))]:
        pipe = g.load(model)
        own = {k: v.float().clone() for k, v in pipe.transformer.state_dict().items()}  # loading writes into the parameters
        first = original(own)
        for kind, weights, spelled, alpha, back in [
            ("peft", own, lambda k: "transformer." + k, float(RANK), lambda t: t),
            ("toolkit", first, lambda k: "diffusion_model." + k, float(RANK), convert),
            ("kohya", first, lambda k: "lora_unet_" + k.replace(".", "_"), ALPHA, convert),
        ]:
            lora = adapter(weights, len(kind) + len(model), skip)
            save(f"{model}-{kind}", lora, spelled, alpha)
            pipe.transformer.load_state_dict(back(dict(laid(weights, lora, alpha))))
            draw(pipe, f"{model}-{kind}")


if __name__ == "__main__":
    main()
