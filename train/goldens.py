"""Golden pictures and seams from diffusers, on tiny random models that this script makes too.

    python train/goldens.py            writes pipeline/testdata: models/NAME/ (diffusers layout) and
                                       NAME.safetensors + NAME.json + pictures

Each case is one diffusers call in float32 on the CPU; what is kept of it: the text encoder's hidden
states, the initial noise, the latents after every step, the latents' picture as 8-bit PNG. The
models are random but for the scale of their last layers, which is set so that latents keep unit
variance and pictures use the whole range: a comparison of grey squares would prove nothing.
"""

import json
import os
import shutil
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from diffusers import (AutoencoderKL, DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler,
                       EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler,
                       KDPM2AncestralDiscreteScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel)
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "pipeline", "testdata")
TOKENIZER = os.path.join(HERE, "..", "models", "default", "tokenizer")

SD_SCHEDULE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                   clip_sample=False, set_alpha_to_one=False, steps_offset=1)

# What differs from one family to the next; sizes are as small as the structure allows.
MODELS = {
    # Stable Diffusion 1.x: epsilon, 1x1 convolutions around the transformers, one head count.
    "sd1": dict(
        text=dict(hidden_act="quick_gelu", hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=3, max_position_embeddings=77),
        unet=dict(block_out_channels=(8, 16), layers_per_block=2, cross_attention_dim=24, attention_head_dim=2, norm_num_groups=4,
                  down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")),
        vae=dict(block_out_channels=(8, 8, 8, 16), layers_per_block=1, latent_channels=4, norm_num_groups=4, scaling_factor=0.18215),
        scheduler=dict(**SD_SCHEDULE, prediction_type="epsilon"), dtype=torch.float16),
    # Stable Diffusion 2.x: v-prediction, linear projections, head counts by level, GELU, upcast attention.
    "sd2": dict(
        text=dict(hidden_act="gelu", hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=77),
        unet=dict(block_out_channels=(8, 16, 16), layers_per_block=1, cross_attention_dim=24, attention_head_dim=[1, 2, 4], norm_num_groups=4,
                  use_linear_projection=True, upcast_attention=True,
                  down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                  up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")),
        vae=dict(block_out_channels=(8, 16), layers_per_block=2, latent_channels=4, norm_num_groups=8, scaling_factor=0.18215),
        scheduler=dict(**SD_SCHEDULE, prediction_type="v_prediction"), dtype=torch.bfloat16),
    # Everything else that the configuration can say.
    "odd": dict(
        text=dict(hidden_act="quick_gelu", hidden_size=20, intermediate_size=36, num_hidden_layers=1, num_attention_heads=4, max_position_embeddings=24),
        unet=dict(block_out_channels=(12, 18, 6), layers_per_block=(1, 2, 1), cross_attention_dim=20, attention_head_dim=(2, 3, 1), norm_num_groups=3,
                  in_channels=8, out_channels=8, transformer_layers_per_block=(2, 1, 1), only_cross_attention=(True, False, False),
                  downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, time_embedding_dim=20, norm_eps=1e-4, conv_in_kernel=1, conv_out_kernel=5,
                  mid_block_type="UNetMidBlock2D", act_fn="swish",
                  down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                  up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")),
        vae=dict(block_out_channels=(6, 12), layers_per_block=1, latent_channels=8, norm_num_groups=3, scaling_factor=1.3, shift_factor=0.2,
                 mid_block_add_attention=False, use_quant_conv=False, use_post_quant_conv=False),
        scheduler=dict(num_train_timesteps=500, beta_start=0.0001, beta_end=0.03, beta_schedule="linear", prediction_type="sample", clip_sample=True,
                       clip_sample_range=2.0, set_alpha_to_one=True, steps_offset=0, timestep_spacing="trailing"), dtype=torch.float32),
    # Zero-terminal SNR (Lin et al. 2023) with trailing spacing, squared-cosine betas.
    "zsnr": dict(
        text=dict(hidden_act="quick_gelu", hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=24),
        unet=dict(block_out_channels=(8, 8), layers_per_block=1, cross_attention_dim=16, attention_head_dim=2, norm_num_groups=2, mid_block_type=None,
                  down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D")),
        vae=dict(block_out_channels=(4, 8), layers_per_block=1, latent_channels=4, norm_num_groups=2, scaling_factor=0.5),
        scheduler=dict(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False,
                       set_alpha_to_one=False, steps_offset=0, timestep_spacing="trailing", rescale_betas_zero_snr=True), dtype=torch.float16),
}

PROMPT = "a red apple on a blue table, flat icon"
LONG = " ".join(f"a {c} {o} and" for c in ("red", "green", "blue", "yellow", "purple", "white") for o in ("cat", "dog", "house", "tree"))

# name, model, scheduler, and what to ask for. `scheduler` is the name on darkroom's command line.
CASES = [
    *[(f"sd1-{s}", "sd1", s, {}) for s in ("ddim", "ddpm", "euler", "euler-a", "dpm++2m", "dpm++2m-karras", "euler-karras")],
    *[(f"sd2-{s}", "sd2", s, {}) for s in ("ddim", "ddpm", "euler", "euler-a", "dpm++2m", "dpm++2m-karras")],
    ("sd1-wide", "sd1", "ddim", dict(width=96, height=40)),
    ("sd2-tall", "sd2", "euler", dict(width=24, height=72)),
    ("sd1-cfg1", "sd1", "ddim", dict(cfg=1.0)),
    ("sd1-eta", "sd1", "ddim", dict(eta=0.7)),
    ("sd1-long", "sd1", "dpm++2m", dict(prompt=LONG, negative="blurry " * 90)),
    # In chunks of 75 tokens, as the web UIs do it: LONG has two, the negative prompt one.
    ("sd1-chunks", "sd1", "ddim", dict(prompt=LONG, negative="blurry", syntax="weighted")),
    ("sd2-steps1", "sd2", "ddim", dict(steps=1)),
    ("sd2-negative", "sd2", "ddim", dict(negative="a dog, 3d", seed=123456789012, cfg=3.5)),
    # Clipping cuts the largest value to 2, a tenth of what guidance makes of it, but not the rounding errors.
    ("odd-ddim", "odd", "ddim", dict(tolerance=5e-4)),
    ("odd-ddpm", "odd", "ddpm", dict(width=40, height=24, tolerance=5e-4)),
    ("odd-euler", "odd", "euler", {}),
    ("odd-dpm++2m", "odd", "dpm++2m", {}),
    ("zsnr-ddim", "zsnr", "ddim", {}),
    ("zsnr-ddim-eta", "zsnr", "ddim", dict(eta=1.0)),
    # The first level is sigma = 4096: float32 has 2e-4 left of numbers of order one there.
    ("zsnr-euler", "zsnr", "euler", dict(tolerance=5e-4)),
]


def small_tokenizer(path):
    """The default model's tokenizer cut to its first merges: real CLIP files, a tenth of the size."""
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(TOKENIZER, "merges.txt"), encoding="utf-8") as f:
        merges = [m for m in f.read().split("\n") if m][:260]  # the first line is a version
    with open(os.path.join(TOKENIZER, "vocab.json"), encoding="utf-8") as f:
        byte_level = [t for t, i in sorted(json.load(f).items(), key=lambda x: x[1])][:512]
    tokens = byte_level + ["".join(m.split()) for m in merges[1:]] + ["<|startoftext|>", "<|endoftext|>"]
    assert len(tokens) == len(set(tokens))
    with open(os.path.join(path, "vocab.json"), "w", encoding="utf-8") as f:
        json.dump({t: i for i, t in enumerate(tokens)}, f, ensure_ascii=False)
    with open(os.path.join(path, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("\n".join(merges) + "\n")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(os.path.join(TOKENIZER, name), path)
    return CLIPTokenizer.from_pretrained(path)


def rescale(module, factor):
    with torch.no_grad():
        module.weight *= factor
        if module.bias is not None:
            module.bias.zero_()


def make_model(name, spec):
    torch.manual_seed(sum(map(ord, name)))
    path = os.path.join(OUT, "models", name)
    shutil.rmtree(path, ignore_errors=True)
    tdir = os.path.join(path, "tokenizer")
    tok = small_tokenizer(tdir)
    n = spec["text"]["max_position_embeddings"]
    text = CLIPTextModel(CLIPTextConfig(vocab_size=len(tok), bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id,
                                        pad_token_id=tok.pad_token_id, projection_dim=spec["text"]["hidden_size"], initializer_factor=4.0, **spec["text"]))
    unet = UNet2DConditionModel(sample_size=16, **spec["unet"])
    levels = len(spec["vae"]["block_out_channels"])
    vae = AutoencoderKL(down_block_types=["DownEncoderBlock2D"] * levels, up_block_types=["UpDecoderBlock2D"] * levels, sample_size=32, **spec["vae"])
    with torch.no_grad():
        # Cross-attention must matter, or a wrong text would go unseen.
        for k, p in unet.named_parameters():
            if "attn2" in k or "time_emb_proj" in k:
                p *= 3
        z = torch.randn(4, unet.config.in_channels, 16, 16)
        c = text(torch.randint(0, len(tok), (4, n))).last_hidden_state
        rescale(unet.conv_out, 1.0 / unet(z, 500, c).sample.std())
        img = vae.decode(z / vae.config.scaling_factor).sample
        rescale(vae.decoder.conv_out, 0.6 / img.std())
    for module, sub in ((text, "text_encoder"), (unet, "unet"), (vae, "vae")):
        module.to(spec["dtype"]).save_pretrained(os.path.join(path, sub), safe_serialization=True)
    DDIMScheduler(**spec["scheduler"]).save_pretrained(os.path.join(path, "scheduler"))
    with open(os.path.join(tdir, "tokenizer_config.json")) as f:
        cfg = json.load(f)
    cfg["model_max_length"] = n
    with open(os.path.join(tdir, "tokenizer_config.json"), "w") as f:
        json.dump(cfg, f)
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.0.0", "feature_extractor": [None, None],
             "image_encoder": [None, None], "requires_safety_checker": False, "safety_checker": [None, None],
             "scheduler": ["diffusers", "DDIMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
             "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    with open(os.path.join(path, "model_index.json"), "w") as f:
        json.dump(index, f, indent=1)


# As DESIGN says: the file's values carry over to any sampler, clipping only where the file asks for it,
# the last alpha is step 0's unless the file says otherwise.
def scheduler_for(name, config):
    karras = name.endswith("-karras")
    base = name.removesuffix("-karras")
    cls = {"ddim": DDIMScheduler, "ddpm": DDPMScheduler, "euler": EulerDiscreteScheduler, "euler-a": EulerAncestralDiscreteScheduler,
           "dpm++2m": DPMSolverMultistepScheduler, "heun": HeunDiscreteScheduler, "dpm2-a": KDPM2AncestralDiscreteScheduler,
           "plms": PNDMScheduler}[base]
    extra = dict(use_karras_sigmas=True) if karras else dict(skip_prk_steps=True) if base == "plms" else {}
    return cls.from_config(config, **extra)


def chunked(pipe, text, chunks):
    """Hidden states of a text of any length: windows of its tokens one after the other, then empty ones."""
    tok = pipe.tokenizer
    room = tok.model_max_length - 2
    ids = tok(text, add_special_tokens=False).input_ids
    windows = [ids[i:i + room] for i in range(0, len(ids), room)] or [[]]
    windows += [[]] * (chunks - len(windows))
    rows = [[tok.bos_token_id] + w + [tok.eos_token_id] + [tok.pad_token_id] * (room - len(w)) for w in windows]
    with torch.no_grad():
        return torch.cat([pipe.text_encoder(torch.tensor([r])).last_hidden_state for r in rows], dim=1)


def run_case(name, model, scheduler, ask):
    path = os.path.join(OUT, "models", model)
    pipe = StableDiffusionPipeline.from_pretrained(path, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    # From the file: loading a StableDiffusionPipeline forces clip_sample to false and steps_offset to 1.
    with open(os.path.join(path, "scheduler", "scheduler_config.json")) as f:
        pipe.scheduler = scheduler_for(scheduler, json.load(f))
    factor = pipe.vae_scale_factor
    case = dict(name=name, model=model, scheduler=scheduler, prompt=PROMPT, negative="", seed=7, steps=6, cfg=7.5, eta=None, tolerance=1e-4, syntax="plain",
                width=16 * factor, height=16 * factor)
    case.update(ask)
    steps, keep = [], {}

    def on_step(p, i, t, kw):
        steps.append(kw["latents"].clone())
        if i == 0:
            keep["prompt_embeds"] = kw["prompt_embeds"].clone()
        return kw

    kw = dict(prompt=case["prompt"], negative_prompt=case["negative"], num_inference_steps=case["steps"], guidance_scale=case["cfg"],
              width=case["width"], height=case["height"], eta=case["eta"] or 0.0)
    if case["syntax"] == "weighted":
        del kw["prompt"], kw["negative_prompt"]
        kw.update(prompt_embeds=chunked(pipe, case["prompt"], 2), negative_prompt_embeds=chunked(pipe, case["negative"], 2))
    gen = torch.Generator("cpu").manual_seed(case["seed"])
    with torch.no_grad():
        latents = pipe(**kw, generator=gen, output_type="latent", callback_on_step_end=on_step,
                       callback_on_step_end_tensor_inputs=["latents", "prompt_embeds"]).images
        # As the pipelines do that know of shift_factor; a StableDiffusionPipeline leaves it out.
        z = latents / pipe.vae.config.scaling_factor + (pipe.vae.config.shift_factor or 0)
        image = pipe.image_processor.postprocess(pipe.vae.decode(z).sample, output_type="np")[0]
    gen = torch.Generator("cpu").manual_seed(case["seed"])
    c = pipe.unet.config.in_channels
    keep["noise"] = torch.randn((1, c, case["height"] // factor, case["width"] // factor), generator=gen)
    keep["latents"] = torch.cat(steps)  # after each step: [steps, C, h, w]
    keep = {k: v.contiguous().float() for k, v in keep.items()}
    save_file(keep, os.path.join(OUT, name + ".safetensors"))
    Image.fromarray((image * 255).round().astype(np.uint8)).save(os.path.join(OUT, name + ".png"))
    px = image.astype(np.float64)
    print(f"{name:20} picture std {px.std():.3f} clipped {((px <= 0) | (px >= 1)).mean():.2f} latents std {keep['latents'][-1].std():.2f}")
    return case


def main():
    only = sys.argv[1:]
    if not only:
        for name, spec in MODELS.items():
            make_model(name, spec)
    cases = [run_case(*c) for c in CASES if not only or c[0] in only]
    index = os.path.join(OUT, "cases.json")
    if only:
        with open(index) as f:
            made = {c["name"]: c for c in json.load(f)} | {c["name"]: c for c in cases}
        cases = [made[c[0]] for c in CASES if c[0] in made]
    with open(index, "w") as f:
        json.dump(cases, f, indent=1)


if __name__ == "__main__":
    main()
