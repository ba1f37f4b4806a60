"""Golden pictures of SDXL's base and refiner together, and of its size conditions, from diffusers.

    python train/goldens_refiner.py       writes pipeline/testdata/refiner: models/xl-refiner/, NAME.safetensors, NAME.png, cases.json

The base model is pipeline/testdata/sdxl/models/xl, of train/goldens_sdxl.py, with whose tools this works.
"""

import json
import os
import shutil
import sys

import goldens
import goldens_sdxl as xl
import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

OUT = os.path.join(goldens.OUT, "refiner")
BASE = os.path.join(xl.OUT, "models", "xl")
REFINER = os.path.join(OUT, "models", "xl-refiner")

CASES = [
    *[(f"refine-{s}", s, dict(start=0.6)) for s in ("euler", "ddim", "dpm++2m-karras", "euler-a")],
    ("refine-late", "euler", dict(start=0.8, steps=10, width=48, height=64)),
    ("refine-scores", "ddim", dict(start=0.5, score=8.0, negative_score=1.0, negative="a dog")),
    ("refine-cfg1", "ddim", dict(start=0.5, cfg=1.0)),
    ("sizes", "ddim", dict(original=(96, 40), crop=(4, 12), target=(32, 64))),
]


def make_refiner():
    torch.manual_seed(11)
    shutil.rmtree(REFINER, ignore_errors=True)
    shutil.copytree(os.path.join(BASE, "tokenizer_2"), os.path.join(REFINER, "tokenizer_2"))
    shutil.copytree(os.path.join(BASE, "vae"), os.path.join(REFINER, "vae"))
    shutil.copytree(os.path.join(BASE, "scheduler"), os.path.join(REFINER, "scheduler"))
    with open(os.path.join(BASE, "text_encoder_2", "config.json")) as f:
        known = json.load(f)
    text = CLIPTextModelWithProjection(CLIPTextConfig(**{k: known[k] for k in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")},
                                                      initializer_factor=2.0, max_position_embeddings=77, **xl.TEXT2))
    unet = UNet2DConditionModel(sample_size=16, **{**xl.UNET, "block_out_channels": (8, 24), "attention_head_dim": (2, 3), "cross_attention_dim": 24,
                                                   "projection_class_embeddings_input_dim": 12 + 5 * 8, "transformer_layers_per_block": (1, 1)})
    with torch.no_grad():
        for k, p in unet.named_parameters():
            if "attn2" in k or "time_emb_proj" in k or "add_embedding" in k:
                p *= 2
        added = dict(text_embeds=torch.randn(4, 12), time_ids=torch.tensor([[64.0, 64, 0, 0, 6]] * 4))
        out = unet(torch.randn(4, 4, 16, 16), 500, torch.randn(4, 77, 24), added_cond_kwargs=added).sample
        goldens.rescale(unet.conv_out, 1.0 / out.std())
    for sub, module in {"text_encoder_2": text, "unet": unet}.items():
        module.to(torch.float16).save_pretrained(os.path.join(REFINER, sub), safe_serialization=True)
    index = {"_class_name": "StableDiffusionXLImg2ImgPipeline", "_diffusers_version": "0.0.0", "feature_extractor": [None, None],
             "image_encoder": [None, None], "force_zeros_for_empty_prompt": False, "requires_aesthetics_score": True, "add_watermarker": None,
             "scheduler": ["diffusers", "EulerDiscreteScheduler"], "text_encoder": [None, None],
             "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"], "tokenizer": [None, None],
             "tokenizer_2": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    with open(os.path.join(REFINER, "model_index.json"), "w") as f:
        json.dump(index, f, indent=1)


def load(cls, path, scheduler):
    pipe = cls.from_pretrained(path, torch_dtype=torch.float32, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    with open(os.path.join(path, "scheduler", "scheduler_config.json")) as f:
        pipe.scheduler = goldens.scheduler_for(scheduler, json.load(f))
    return pipe


def run_case(name, scheduler, ask):
    base = load(StableDiffusionXLPipeline, BASE, scheduler)
    factor = base.vae_scale_factor
    case = dict(name=name, scheduler=scheduler, prompt=goldens.PROMPT, negative="", seed=7, steps=5, cfg=5.0, start=None, score=None, negative_score=None,
                original=None, crop=None, target=None, width=16 * factor, height=16 * factor)
    case.update(ask)
    steps = []

    def on_step(p, i, t, kw):
        steps.append(kw["latents"].clone())
        return kw

    gen = torch.Generator("cpu").manual_seed(case["seed"])
    common = dict(prompt=case["prompt"], negative_prompt=case["negative"] or None, num_inference_steps=case["steps"], guidance_scale=case["cfg"],
                  generator=gen, output_type="latent", callback_on_step_end=on_step)
    sizes = dict(original_size=case["original"], target_size=case["target"], crops_coords_top_left=case["crop"] or (0, 0))
    with torch.no_grad():
        latents = base(**common, **sizes, width=case["width"], height=case["height"], denoising_end=case["start"]).images
        if case["start"]:
            refiner = load(StableDiffusionXLImg2ImgPipeline, REFINER, scheduler)
            scores = dict(aesthetic_score=case["score"] or 6.0, negative_aesthetic_score=case["negative_score"] or 2.5)
            latents = refiner(**common, **scores, image=latents, denoising_start=case["start"]).images
        image = base.image_processor.postprocess(base.vae.decode(latents / base.vae.config.scaling_factor).sample, output_type="np")[0]
    save_file({"latents": torch.cat(steps).contiguous()}, os.path.join(OUT, name + ".safetensors"))
    Image.fromarray((image * 255).round().astype(np.uint8)).save(os.path.join(OUT, name + ".png"))
    print(f"{name:20} steps {len(steps)} picture std {image.std():.3f} latents std {latents.std():.2f}")
    return case


def main():
    if sys.argv[1:] != ["cases"]:
        make_refiner()
    cases = [run_case(*c) for c in CASES]
    with open(os.path.join(OUT, "cases.json"), "w") as f:
        json.dump(cases, f, indent=1)


if __name__ == "__main__":
    main()
