"""Golden pictures of Stable Diffusion XL from diffusers, on tiny random models that this script makes too.

    python train/goldens_sdxl.py       writes pipeline/testdata/sdxl: models/NAME/, NAME.safetensors, NAME.png, cases.json

As train/goldens.py does for Stable Diffusion 1 and 2, with whose tools it works.
"""

import json
import os
import shutil
import sys

import goldens
import numpy as np
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

OUT = os.path.join(goldens.OUT, "sdxl")
SCHEDULE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
                timestep_spacing="leading", clip_sample=False, set_alpha_to_one=False)
TEXT1 = dict(hidden_act="quick_gelu", hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2)
TEXT2 = dict(hidden_act="gelu", hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3, projection_dim=12)
UNET = dict(block_out_channels=(8, 16), layers_per_block=1, attention_head_dim=(2, 4), norm_num_groups=4, use_linear_projection=True,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2), cross_attention_dim=40, addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=12 + 6 * 8)
VAE = dict(block_out_channels=(8, 8, 16), layers_per_block=1, latent_channels=4, norm_num_groups=4, scaling_factor=0.13025)

MODELS = {
    "xl": dict(text=TEXT1, unet=UNET, scheduler=dict(**SCHEDULE, prediction_type="epsilon")),
    # NoobAI's kind: v-prediction with zero terminal SNR.
    "xl-v": dict(text=TEXT1, unet=UNET, scheduler={**SCHEDULE, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
    # SSD-1B's kind: fewer layers in the middle; an empty negative prompt is encoded.
    "xl-small": dict(text=TEXT1, unet={**UNET, "transformer_layers_per_block": (1, 1), "reverse_transformer_layers_per_block": None},
                     scheduler=dict(**SCHEDULE, prediction_type="epsilon"), zeros=False),
    # An LCM: the U-Net reads the guidance scale.
    "xl-lcm": dict(text=TEXT1, unet={**UNET, "time_cond_proj_dim": 10}, scheduler=dict(**SCHEDULE, prediction_type="epsilon")),
}

CASES = [
    *[(f"xl-{s}", "xl", s, {}) for s in ("euler", "ddim", "dpm++2m-karras", "euler-a")],
    ("xl-wide", "xl", "euler", dict(width=96, height=40)),
    ("xl-negative", "xl", "euler", dict(negative="a dog, 3d", seed=123456789012, cfg=3.5)),
    ("xl-cfg1", "xl", "ddim", dict(cfg=1.0)),
    ("xl-long", "xl", "ddim", dict(prompt=goldens.LONG, negative="blurry " * 90)),
    ("xl-skip", "xl", "ddim", dict(skip=1)),
    ("xl-v-ddim", "xl-v", "ddim", {}),
    # The first level is sigma = 4096: float32 has 2e-4 left of numbers of order one there.
    ("xl-v-euler", "xl-v", "euler", dict(tolerance=5e-4)),
    ("xl-small-euler", "xl-small", "euler", {}),
    ("xl-lcm-ddim", "xl-lcm", "ddim", dict(cfg=4.0)),
]


def make_model(name, spec):
    torch.manual_seed(sum(map(ord, name)))
    path = os.path.join(OUT, "models", name)
    shutil.rmtree(path, ignore_errors=True)
    encoders = {}
    for i, (cls, text) in enumerate(((CLIPTextModel, spec["text"]), (CLIPTextModelWithProjection, TEXT2))):
        sub = ("", "_2")[i]
        tok = goldens.small_tokenizer(os.path.join(path, "tokenizer" + sub))
        if i == 1:  # OpenCLIP pads with token 0
            tok.pad_token = "!"
            tok.save_pretrained(os.path.join(path, "tokenizer_2"))
        text = {"projection_dim": text["hidden_size"], **text}
        encoders["text_encoder" + sub] = cls(CLIPTextConfig(vocab_size=len(tok), bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id,
                                                            pad_token_id=tok.pad_token_id, initializer_factor=2.0, max_position_embeddings=77, **text))
        for file in ("tokenizer_config.json",):
            with open(os.path.join(path, "tokenizer" + sub, file)) as f:
                c = json.load(f)
            c["model_max_length"] = 77
            with open(os.path.join(path, "tokenizer" + sub, file), "w") as f:
                json.dump(c, f)
    unet = UNet2DConditionModel(sample_size=16, **spec["unet"])
    levels = len(VAE["block_out_channels"])
    vae = AutoencoderKL(down_block_types=["DownEncoderBlock2D"] * levels, up_block_types=["UpDecoderBlock2D"] * levels, sample_size=64, **VAE)
    with torch.no_grad():
        for k, p in unet.named_parameters():
            if "attn2" in k or "time_emb_proj" in k or "add_embedding" in k:
                p *= 2
        z = torch.randn(4, 4, 16, 16)
        added = dict(text_embeds=torch.randn(4, 12), time_ids=torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 4))
        cond = torch.randn(4, 10) if spec["unet"].get("time_cond_proj_dim") else None
        out = unet(z, 500, torch.randn(4, 77, 40), added_cond_kwargs=added, timestep_cond=cond).sample
        goldens.rescale(unet.conv_out, 1.0 / out.std())
        goldens.rescale(vae.decoder.conv_out, 0.6 / vae.decode(z / VAE["scaling_factor"]).sample.std())
    parts = {**encoders, "unet": unet, "vae": vae}
    for sub, module in parts.items():
        module.to(torch.float16).save_pretrained(os.path.join(path, sub), safe_serialization=True)
    os.makedirs(os.path.join(path, "scheduler"))
    with open(os.path.join(path, "scheduler", "scheduler_config.json"), "w") as f:  # as the real one, with keys of other classes
        json.dump({"_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.0.0", **spec["scheduler"]}, f, indent=1)
    index = {"_class_name": "StableDiffusionXLPipeline", "_diffusers_version": "0.0.0", "feature_extractor": [None, None],
             "image_encoder": [None, None], "force_zeros_for_empty_prompt": spec.get("zeros", True), "add_watermarker": None,
             "scheduler": ["diffusers", "EulerDiscreteScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
             "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"], "tokenizer": ["transformers", "CLIPTokenizer"],
             "tokenizer_2": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    with open(os.path.join(path, "model_index.json"), "w") as f:
        json.dump(index, f, indent=1)


def run_case(name, model, scheduler, ask):
    path = os.path.join(OUT, "models", model)
    pipe = StableDiffusionXLPipeline.from_pretrained(path, torch_dtype=torch.float32, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    with open(os.path.join(path, "scheduler", "scheduler_config.json")) as f:
        pipe.scheduler = goldens.scheduler_for(scheduler, json.load(f))
    factor = pipe.vae_scale_factor
    case = dict(name=name, model=model, scheduler=scheduler, prompt=goldens.PROMPT, negative="", seed=7, steps=5, cfg=5.0, eta=None, tolerance=1e-4,
                syntax="plain", skip=0, width=16 * factor, height=16 * factor)
    case.update(ask)
    steps, keep = [], {}

    def on_step(p, i, t, kw):
        steps.append(kw["latents"].clone())
        if i == 0:
            keep["prompt_embeds"] = kw["prompt_embeds"].clone()
            keep["pooled"] = kw["add_text_embeds"].clone()
        return kw

    gen = torch.Generator("cpu").manual_seed(case["seed"])
    with torch.no_grad():
        latents = pipe(prompt=case["prompt"], negative_prompt=case["negative"] or None, num_inference_steps=case["steps"], guidance_scale=case["cfg"],
                       width=case["width"], height=case["height"], eta=case["eta"] or 0.0, clip_skip=case["skip"] or None,
                       generator=gen, output_type="latent", callback_on_step_end=on_step,
                       callback_on_step_end_tensor_inputs=["latents", "prompt_embeds", "add_text_embeds"]).images
        image = pipe.image_processor.postprocess(pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample, output_type="np")[0]
    keep["noise"] = torch.randn((1, 4, case["height"] // factor, case["width"] // factor), generator=torch.Generator("cpu").manual_seed(case["seed"]))
    keep["latents"] = torch.cat(steps)
    save_file({k: v.contiguous().float() for k, v in keep.items()}, os.path.join(OUT, name + ".safetensors"))
    Image.fromarray((image * 255).round().astype(np.uint8)).save(os.path.join(OUT, name + ".png"))
    px = image.astype(np.float64)
    print(f"{name:20} picture std {px.std():.3f} clipped {((px <= 0) | (px >= 1)).mean():.2f} latents std {keep['latents'][-1].std():.2f}")
    return case


def main():
    for name, spec in MODELS.items():
        if sys.argv[1:] != ["cases"]:  # with the models that are there
            make_model(name, spec)
    cases = [run_case(*c) for c in CASES]
    with open(os.path.join(OUT, "cases.json"), "w") as f:
        json.dump(cases, f, indent=1)


if __name__ == "__main__":
    main()
