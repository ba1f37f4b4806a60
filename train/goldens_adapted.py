"""Golden pictures of adapted models from diffusers: LoRAs merged by hand, and load_textual_inversion.

    python train/goldens_adapted.py    writes pipeline/testdata/adapted: loras/, embeddings/, NAME.safetensors, NAME.png, cases.json

The models are those of train/goldens.py and train/goldens_sdxl.py; the adapters are random, and large enough to be seen.
LoRAs are merged here in float64, since load_lora_weights of diffusers 0.42 leaves out the text encoders of transformers 5.
"""

import json
import os

import goldens
import goldens_sdxl
import numpy as np
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image
from safetensors.torch import save_file

OUT = os.path.join(goldens.OUT, "adapted")
PROMPT = "a red apple on a blue table"


def layers(module, part, ends):
    return [(n, m.weight.shape) for n, m in module.named_modules() if hasattr(m, "weight") and m.weight is not None and m.weight.ndim in (2, 4)
            and any(n.endswith(e) for e in ends)]


UNET = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "ff.net.0.proj", "ff.net.2", "conv1")
TEXT = ("q_proj", "v_proj", "fc1")


MERGES = {}  # file → [(part, layer, change)]


def kohya(pipe, path, rank, seed):
    """kohya's names: dots are underscores, alpha beside."""
    g, out = torch.Generator().manual_seed(seed), {}
    merges = MERGES[os.path.basename(path)] = []
    parts = [("lora_unet", pipe.unet, UNET), ("lora_te", pipe.text_encoder, TEXT)]
    if hasattr(pipe, "text_encoder_2"):
        parts = [("lora_unet", pipe.unet, UNET), ("lora_te1", pipe.text_encoder, TEXT), ("lora_te2", pipe.text_encoder_2, TEXT)]
    for prefix, module, ends in parts:
        for name, shape in layers(module, prefix, ends):
            own = name
            if prefix != "lora_unet" and not name.startswith("text_model."):
                name = "text_model." + name  # as transformers named them when such files were written
            key = f"{prefix}_{name.replace('.', '_')}"
            o, i, *k = shape
            out[key + ".lora_down.weight"] = torch.randn((rank, i, *k), generator=g) / (i * max(1, np.prod(k))) ** 0.5
            out[key + ".lora_up.weight"] = torch.randn((o, rank, *[1] * len(k)), generator=g) * 0.25
            out[key + ".alpha"] = torch.tensor(float(rank) / 2)
            up, down = (out[f"{key}.lora_{k}.weight"].double().flatten(1) for k in ("up", "down"))
            merges.append((prefix.removeprefix("lora_"), own, ((up @ down) / 2).reshape(shape)))
    save_file({k: v.contiguous() for k, v in out.items()}, path)


def peft(pipe, path, rank, seed):
    """PEFT's names, without alpha."""
    g, out = torch.Generator().manual_seed(seed), {}
    merges = MERGES[os.path.basename(path)] = []
    for name, shape in layers(pipe.unet, "unet", UNET[:4]):
        o, i = shape[:2]
        out[f"unet.{name}.lora_A.weight"] = torch.randn((rank, i), generator=g) / i ** 0.5
        out[f"unet.{name}.lora_B.weight"] = torch.randn((o, rank), generator=g) * 0.25
        merges.append(("unet", name, out[f"unet.{name}.lora_B.weight"].double() @ out[f"unet.{name}.lora_A.weight"].double()))
    save_file(out, path)


def main():
    for sub in ("loras", "embeddings"):
        os.makedirs(os.path.join(OUT, sub), exist_ok=True)
    at = lambda *names: os.path.join(OUT, *names)
    sd = lambda: StableDiffusionPipeline.from_pretrained(os.path.join(goldens.OUT, "models", "sd1"), torch_dtype=torch.float32)
    xl = lambda: StableDiffusionXLPipeline.from_pretrained(os.path.join(goldens_sdxl.OUT, "models", "xl"), torch_dtype=torch.float32, add_watermarker=False)
    kohya(sd(), at("loras", "sd-kohya.safetensors"), 3, 1)
    peft(sd(), at("loras", "sd-peft.safetensors"), 2, 2)
    kohya(xl(), at("loras", "xl-kohya.safetensors"), 2, 3)
    g = torch.Generator().manual_seed(4)
    save_file({"<swirl>": torch.randn((3, 24), generator=g) * 4}, at("embeddings", "swirl.safetensors"))
    save_file({"clip_l": torch.randn((2, 16), generator=g) * 4, "clip_g": torch.randn((2, 24), generator=g) * 4}, at("embeddings", "twirl.safetensors"))
    cases = []

    def run(name, model, pipe, said, **settings):
        pipe.set_progress_bar_config(disable=True)
        with open(os.path.join(pipe.config._name_or_path, "scheduler", "scheduler_config.json")) as f:
            pipe.scheduler = goldens.scheduler_for("ddim", json.load(f))
        with torch.no_grad():
            latents = pipe(prompt=said, num_inference_steps=4, guidance_scale=5.0, height=128 if model == "sd1" else 64, width=128 if model == "sd1" else 64,
                           generator=torch.Generator("cpu").manual_seed(11), output_type="latent").images
            image = pipe.image_processor.postprocess(pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample, output_type="np")[0]
        save_file({"latents": latents.contiguous()}, at(name + ".safetensors"))
        Image.fromarray((image * 255).round().astype(np.uint8)).save(at(name + ".png"))
        cases.append(dict(name=name, model=("../models/" if model == "sd1" else "../sdxl/models/") + model, **settings))
        print(name, "latents std", float(latents.std()))

    def with_loras(pipe, *files):
        parts = {"unet": pipe.unet, "te": pipe.text_encoder, "te1": pipe.text_encoder, "te2": getattr(pipe, "text_encoder_2", None)}
        for file, weight in files:
            for part, name, change in MERGES[file + ".safetensors"]:
                w = parts[part].get_submodule(name).weight
                w.data = (w.data.double() + weight * change.reshape(w.shape)).float()
        return pipe

    run("none", "sd1", sd(), PROMPT, prompt=PROMPT)
    run("kohya", "sd1", with_loras(sd(), ("sd-kohya", 0.8)), PROMPT, prompt=PROMPT, lora="sd-kohya:0.8")
    run("two", "sd1", with_loras(sd(), ("sd-kohya", 0.5), ("sd-peft", -0.7)), PROMPT, prompt=PROMPT, lora="sd-kohya:0.5,sd-peft:-0.7")
    run("xl-kohya", "xl", with_loras(xl(), ("xl-kohya", 0.8)), PROMPT, prompt=PROMPT, lora="xl-kohya:0.8")
    pipe = sd()
    pipe.load_textual_inversion(at("embeddings", "swirl.safetensors"), token="<swirl>")
    run("swirl", "sd1", pipe, "a red <swirl> on a table", prompt="a red swirl on a table", embedding="swirl")
    pipe = xl()
    from safetensors.torch import load_file
    t = load_file(at("embeddings", "twirl.safetensors"))
    pipe.load_textual_inversion(t["clip_l"], token="<twirl>", text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer)
    pipe.load_textual_inversion(t["clip_g"], token="<twirl>", text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2)
    run("twirl", "xl", pipe, "a red <twirl> on a table", prompt="a red Twirl on a table", embedding="twirl")
    with open(at("cases.json"), "w") as f:
        json.dump(cases, f, indent=1)


if __name__ == "__main__":
    main()
