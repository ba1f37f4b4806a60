"""Golden pictures and seams of Z-Image and FLUX.2 klein: pipeline/testdata/transformers, from diffusers in float32.

    python train/goldens_transformers.py [CASE...]

The models are tiny and random, as in goldens.py, which says what is kept of each case. Z-Image's guidance of diffusers is
darkroom's less one.
"""
import json
import os
import shutil
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from diffusers import (AutoencoderKL, AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel, ZImageImg2ImgPipeline, ZImagePipeline,
                       ZImageTransformer2DModel)
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM, Qwen3Model

from goldens import HERE, rescale

OUT = os.path.join(HERE, "..", "pipeline", "testdata", "transformers")
TOKENIZER = os.path.join(HERE, "..", "qwen", "testdata", "tokenizer")

ROPE = {"rope_theta": 1000000.0, "rope_type": "default"}
ZVAE = dict(latent_channels=4, norm_num_groups=4, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False)
MODELS = {
    "z-turbo": dict(pipeline=ZImagePipeline, text=dict(hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=8),
                    transformer=dict(in_channels=4, dim=48, n_layers=2, n_refiner_layers=1, n_heads=3, n_kv_heads=3, cap_feat_dim=24, axes_dims=[4, 6, 6],
                                     axes_lens=[1024, 64, 64]),
                    vae=dict(block_out_channels=(8, 8), layers_per_block=1, **ZVAE), scheduler=dict(shift=3.0), shard="200KB"),
    # A shift by the picture's size, a deeper autoencoder, which has an encoder's every level.
    "z-dynamic": dict(pipeline=ZImagePipeline, text=dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, head_dim=12),
                      transformer=dict(in_channels=4, dim=32, n_layers=1, n_refiner_layers=2, n_heads=2, n_kv_heads=2, cap_feat_dim=16, axes_dims=[4, 6, 6],
                                       axes_lens=[1024, 64, 64], norm_eps=1e-4),
                      vae=dict(block_out_channels=(4, 8, 8), layers_per_block=1, **ZVAE), scheduler=dict(use_dynamic_shifting=True, base_shift=0.6, max_shift=1.3), shard="300KB"),
    "klein": dict(pipeline=Flux2KleinPipeline, text=dict(hidden_size=12, intermediate_size=20, num_hidden_layers=28, num_attention_heads=2, num_key_value_heads=1, head_dim=8),
                  transformer=dict(in_channels=16, num_layers=1, num_single_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=36,
                                   timestep_guidance_channels=32, axes_dims_rope=[4, 4, 4, 4], guidance_embeds=False),
                  vae=dict(block_out_channels=(8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4),
                  scheduler=dict(shift=3.0, use_dynamic_shifting=True), distilled=True),
    "klein-base": dict(pipeline=Flux2KleinPipeline, text=dict(hidden_size=8, intermediate_size=16, num_hidden_layers=27, num_attention_heads=1, num_key_value_heads=1, head_dim=8),
                       transformer=dict(in_channels=12, num_layers=2, num_single_layers=1, attention_head_dim=20, num_attention_heads=1, joint_attention_dim=24,
                                        timestep_guidance_channels=16, axes_dims_rope=[2, 6, 8, 4], guidance_embeds=False, mlp_ratio=2.0),
                       vae=dict(block_out_channels=(4, 8), decoder_block_out_channels=(4, 4), layers_per_block=2, latent_channels=3, norm_num_groups=2, use_quant_conv=False),
                       scheduler=dict(use_dynamic_shifting=True, time_shift_type="exponential"), distilled=False, shard="60KB"),
}

PROMPT = "a red apple on a blue table, flat icon"
LONG = " ".join(f"a {c} {o} and" for c in ("red", "green", "blue", "yellow", "purple", "white") for o in ("cat", "dog", "house", "tree", "Straße", "東京"))
CASES = [
    ("z-turbo", "z-turbo", dict(cfg=1.0, steps=4)),
    ("z-turbo-guided", "z-turbo", dict(cfg=4.0, negative="a blurry photograph of a dog, three tables")),
    ("z-turbo-wide", "z-turbo", dict(cfg=1.0, width=52, height=20, seed=123456789012)),
    ("z-turbo-long", "z-turbo", dict(cfg=3.0, negative="", prompt=LONG, steps=3)),
    ("z-dynamic", "z-dynamic", dict(cfg=1.0)),
    ("z-dynamic-tall", "z-dynamic", dict(cfg=6.0, width=40, height=88, steps=9)),
    ("klein", "klein", dict(cfg=1.0, steps=4)),
    ("klein-wide", "klein", dict(cfg=1.0, steps=4, width=60, height=24)),
    ("klein-base", "klein-base", dict(cfg=4.0)),
    ("klein-base-tall", "klein-base", dict(cfg=2.5, width=20, height=44, steps=8)),
    ("klein-base-long", "klein-base", dict(cfg=1.0, prompt=LONG)),
]


def make_model(name, spec):
    torch.manual_seed(sum(map(ord, name)))
    path = os.path.join(OUT, "models", name)
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(TOKENIZER, os.path.join(path, "tokenizer"))
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    klein = spec["pipeline"] is Flux2KleinPipeline
    text = (Qwen3ForCausalLM if klein else Qwen3Model)(Qwen3Config(vocab_size=len(tokenizer) + 3, initializer_range=0.2, rope_parameters=ROPE, max_position_embeddings=2048,
                                                                   pad_token_id=tokenizer.pad_token_id, tie_word_embeddings=True, **spec["text"]))
    transformer = (Flux2Transformer2DModel if klein else ZImageTransformer2DModel)(**spec["transformer"])
    levels = len(spec["vae"]["block_out_channels"])
    blocks = dict(down_block_types=["DownEncoderBlock2D"] * levels, up_block_types=["UpDecoderBlock2D"] * levels, sample_size=64)
    vae = (AutoencoderKLFlux2 if klein else AutoencoderKL)(**blocks, **spec["vae"])
    with torch.no_grad():
        for k, p in list(transformer.named_parameters()) + list(text.named_parameters()):
            if p.ndim == 1 and "norm" in k:
                p += 0.2 * torch.randn_like(p)
            if "pad_token" in k:
                p += torch.randn_like(p)
            if "odulation" in k or "to_out" in k or "w2" in k or "linear_out" in k:
                p *= 3  # what a layer adds must matter
        z = torch.randn(2, spec["transformer"]["in_channels"], 8, 8)
        if klein:
            vae.bn.running_mean.copy_(0.3 * torch.randn(vae.bn.num_features))
            vae.bn.running_var.copy_(0.5 + torch.rand(vae.bn.num_features))
            packed, ids = Flux2KleinPipeline._pack_latents(z), Flux2KleinPipeline._prepare_latent_ids(z)
            states = torch.randn(2, 512, spec["transformer"]["joint_attention_dim"])
            out = transformer(hidden_states=packed, encoder_hidden_states=states, timestep=torch.full((2,), 0.5), img_ids=ids,
                              txt_ids=Flux2KleinPipeline._prepare_text_ids(states), guidance=None, return_dict=False)[0]
            rescale(transformer.proj_out, 1.2 / out.std())
            y = torch.randn(4, spec["vae"]["latent_channels"], 16, 16)
        else:
            out = torch.stack(transformer([v.unsqueeze(1) for v in z], torch.full((2,), 0.5), [torch.randn(20, spec["transformer"]["cap_feat_dim"])] * 2, return_dict=False)[0])
            rescale(transformer.all_final_layer["2-1"].linear, 1.2 / out.std())
            transformer.all_final_layer["2-1"].linear.bias.copy_(0.1 * torch.randn_like(transformer.all_final_layer["2-1"].linear.bias))
            y = torch.randn(4, 4, 16, 16) / vae.config.scaling_factor
        rescale(vae.decoder.conv_out, 0.6 / vae.decode(y).sample.std())
    more = dict(max_shard_size=spec["shard"]) if "shard" in spec else {}
    for module, sub in ((text, "text_encoder"), (transformer, "transformer"), (vae, "vae")):
        module.to(torch.bfloat16)
        if isinstance(module, ZImageTransformer2DModel):  # as large as in the real model, whatever dim is
            linear = module.t_embedder.mlp[0]
            linear.weight = torch.nn.Parameter(linear.weight.to(torch.float8_e4m3fn), requires_grad=False)
        module.save_pretrained(os.path.join(path, sub), **more)
    FlowMatchEulerDiscreteScheduler(**spec["scheduler"]).save_pretrained(os.path.join(path, "scheduler"))
    index = {"_class_name": spec["pipeline"].__name__, "_diffusers_version": "0.0.0", "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
             "text_encoder": ["transformers", type(text).__name__], "tokenizer": ["transformers", "Qwen2Tokenizer"],
             "transformer": ["diffusers", type(transformer).__name__], "vae": ["diffusers", type(vae).__name__]}
    if klein:
        index["is_distilled"] = spec["distilled"]
    with open(os.path.join(path, "model_index.json"), "w") as f:
        json.dump(index, f, indent=1)


def embeds(pipe, case):
    """The states of the negative prompt, if there is guidance, and of the prompt, as darkroom has them."""
    texts = ([case["negative"]] if case["cfg"] > 1 else []) + [case["prompt"]]
    if isinstance(pipe, Flux2KleinPipeline):
        return torch.cat([pipe.encode_prompt(t)[0] for t in texts])
    rows = [pipe.encode_prompt(t, do_classifier_free_guidance=False)[0][0] for t in texts]
    most = max(-(-len(r) // 32) * 32 for r in rows)
    return torch.stack([torch.cat([r, torch.zeros(most - len(r), r.shape[1])]) for r in rows])


def load(model):
    pipe = MODELS[model]["pipeline"].from_pretrained(os.path.join(OUT, "models", model), torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run_case(name, model, ask):
    pipe = load(model)
    klein = isinstance(pipe, Flux2KleinPipeline)
    factor = pipe.vae_scale_factor * 2
    case = dict(name=name, model=model, scheduler="", prompt=PROMPT, negative="", seed=7, steps=5, cfg=1.0, eta=None, tolerance=1e-4, syntax="plain",
                width=8 * factor, height=8 * factor) | ask
    h, w = case["height"] // factor, case["width"] // factor
    plain = lambda x: x.reshape(1, h, w, -1).permute(0, 3, 1, 2) if klein else x
    steps, keep = [], {}

    def on_step(p, i, t, kw):
        steps.append(plain(kw["latents"]).clone())
        return kw

    kw = dict(prompt=case["prompt"], num_inference_steps=case["steps"], width=case["width"], height=case["height"])
    if klein:
        kw.update(guidance_scale=case["cfg"])
    else:
        kw.update(guidance_scale=case["cfg"] - 1, negative_prompt=case["negative"])
    with torch.no_grad():
        keep["prompt_embeds"] = embeds(pipe, case)
        image = pipe(**kw, generator=torch.Generator("cpu").manual_seed(case["seed"]), output_type="np", callback_on_step_end=on_step).images[0]
    gen = torch.Generator("cpu").manual_seed(case["seed"])
    c = pipe.transformer.config.in_channels
    keep["noise"] = torch.randn((1, c, h, w) if klein else (1, c, 2 * h, 2 * w), generator=gen)
    keep["latents"] = torch.cat(steps)
    save_file({k: v.contiguous().float() for k, v in keep.items()}, os.path.join(OUT, name + ".safetensors"))
    Image.fromarray((image * 255).round().astype(np.uint8)).save(os.path.join(OUT, name + ".png"))
    px = image.astype(np.float64)
    print(f"{name:20} picture std {px.std():.3f} clipped {((px <= 0) | (px >= 1)).mean():.2f} latents std {keep['latents'][-1].std():.2f}")
    return case


def run_init(name, strength, cfg):
    """From a picture: the one of goldens_edit.py."""
    pipe = ZImageImg2ImgPipeline(**load("z-turbo").components)
    pipe.set_progress_bar_config(disable=True)
    init = Image.open(os.path.join(OUT, "..", "edit", "init-64.png"))
    with torch.no_grad():
        image = pipe(prompt=PROMPT, image=init, strength=strength, height=64, width=64, num_inference_steps=6, guidance_scale=cfg - 1, negative_prompt="",
                     generator=torch.Generator("cpu").manual_seed(21), output_type="np").images[0]
    Image.fromarray((image * 255).round().astype(np.uint8)).save(os.path.join(OUT, name + ".png"))
    print(f"{name:20} picture std {image.std():.3f}")


def run_references(name, model, sizes, cfg):
    """Beside pictures of those sizes, which are smooth and differ."""
    pipe = load(model)
    pictures = []
    for i, (w, h) in enumerate(sizes):
        y, x = np.mgrid[0:h, 0:w]
        img = np.stack([0.5 + 0.5 * np.sin(x / (5 + i) + y / 9), (x * y) % (97 + i) / 97, 0.5 + 0.4 * np.cos(y / 7 - i)], -1)
        pictures.append(Image.fromarray((img * 255).round().clip(0, 255).astype(np.uint8)))
        pictures[-1].save(os.path.join(OUT, f"{name}-reference{i}.png"))
    with torch.no_grad():
        image = pipe(prompt=PROMPT, image=pictures, height=32, width=24, num_inference_steps=4, guidance_scale=cfg,
                     generator=torch.Generator("cpu").manual_seed(33), output_type="np").images[0]
    Image.fromarray((image * 255).round().astype(np.uint8)).save(os.path.join(OUT, name + ".png"))
    print(f"{name:20} picture std {image.std():.3f}")


def main():
    only = sys.argv[1:]
    if not only:
        for name, spec in MODELS.items():
            make_model(name, spec)
    cases = [run_case(*c) for c in CASES if not only or c[0] in only]
    if not only:
        run_init("z-init-1", 0.6, 1.0)
        run_init("z-init-2", 0.9, 3.0)
        run_references("klein-one", "klein", [(67, 80)], 1.0)
        run_references("klein-two", "klein-base", [(64, 72), (130, 65)], 3.0)
    index = os.path.join(OUT, "cases.json")
    if only:
        with open(index) as f:
            made = {c["name"]: c for c in json.load(f)} | {c["name"]: c for c in cases}
        cases = [made[c[0]] for c in CASES if c[0] in made]
    with open(index, "w") as f:
        json.dump(cases, f, indent=1)


if __name__ == "__main__":
    main()
