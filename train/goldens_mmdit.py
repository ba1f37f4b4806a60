"""Golden pictures and seams of FLUX.1 and Stable Diffusion 3: pipeline/testdata/mmdit, from diffusers in float32.

    python train/goldens_mmdit.py [models|cases|kontext|fill|control|true|files|loras]

The models are tiny and random, as in goldens.py, which says what is kept of each case. Files are what other programs have: the
original's names, in 8 bits, as GGUF, and with all parts in one. LoRAs are in the spellings of trainers. That the original names are
the right ones is what diffusers' own converters say here.
"""
import inspect
import json
import os
import re
import shutil
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gguf
import numpy as np
import single_names
import torch
from diffusers import (AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxControlImg2ImgPipeline, FluxControlPipeline, FluxFillPipeline, FluxImg2ImgPipeline, FluxKontextPipeline, FluxPipeline, FluxTransformer2DModel, SD3Transformer2DModel, StableDiffusion3Img2ImgPipeline,
                       StableDiffusion3Pipeline)
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers, convert_sd3_transformer_checkpoint_to_diffusers
from goldens import HERE, rescale, small_tokenizer
from goldens_transformer_files import write_gguf
from goldens_transformer_loras import ALPHA, RANK, STRENGTH, adapter, laid
from goldens_transformers import LONG, PROMPT
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

OUT = os.path.join(HERE, "..", "pipeline", "testdata", "mmdit")
T5 = os.path.join(HERE, "..", "t5", "testdata", "tokenizer")
CLIP_L = dict(hidden_act="quick_gelu", hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4)
CLIP_G = dict(hidden_act="gelu", hidden_size=12, intermediate_size=20, num_hidden_layers=3, num_attention_heads=4, projection_dim=8)
ENCODER = dict(d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu")
VAE = dict(block_out_channels=(8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=8, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False)
FLUX = dict(in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=16, axes_dims_rope=[4, 6, 6])
SD3 = dict(sample_size=16, in_channels=4, out_channels=4, num_layers=3, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32, caption_projection_dim=32,
           pooled_projection_dim=24, pos_embed_max_size=24)
MODELS = {
    "flux-dev": dict(transformer=dict(FLUX, guidance_embeds=True), scheduler=dict(shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)),
    "flux-schnell": dict(transformer=dict(FLUX, num_layers=1), scheduler=dict(shift=1.0)),
    "sd35-medium": dict(transformer=dict(SD3, qk_norm="rms_norm", dual_attention_layers=(0, 1)), scheduler=dict(shift=3.0)),
    "sd3-small": dict(transformer=SD3, scheduler=dict(shift=3.0), no_t5=True),
}
CASES = [
    ("flux-dev", "flux-dev", dict(cfg=3.5)),
    ("flux-dev-wide", "flux-dev", dict(cfg=2.0, width=48, height=20, seed=123456789012, steps=4)),
    ("flux-schnell", "flux-schnell", dict(steps=4)),
    ("flux-schnell-long", "flux-schnell", dict(steps=3, prompt=LONG, width=24, height=40)),
    ("sd35-medium", "sd35-medium", dict(cfg=4.5, negative="a blurry photograph of a dog, three tables")),
    ("sd35-medium-wide", "sd35-medium", dict(cfg=1.0, width=52, height=20, prompt=LONG)),
    ("sd3-small", "sd3-small", dict(cfg=7.0, steps=7)),
    ("sd3-small-tall", "sd3-small", dict(cfg=3.0, width=20, height=36, negative="green")),
]


def is_flux(model):
    return model.startswith("flux")


def most(model):
    return 512 if model == "flux-dev" else 256


def clip_tokenizer(folder, pad):
    tok = small_tokenizer(folder)
    if pad:
        tok.pad_token = pad
        tok.save_pretrained(folder)
    path = os.path.join(folder, "tokenizer_config.json")
    with open(path) as f:
        c = json.load(f)
    c["model_max_length"] = 77
    with open(path, "w") as f:
        json.dump(c, f)
    return tok


def make_model(name, spec):
    torch.manual_seed(sum(map(ord, name)))
    path = os.path.join(OUT, "models", name)
    shutil.rmtree(path, ignore_errors=True)
    parts, index = {}, {"scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]}
    flux = is_flux(name)
    for i, config in enumerate([CLIP_L] if flux else [CLIP_L, CLIP_G]):
        sub = ("", "_2")[i]
        tok = clip_tokenizer(os.path.join(path, "tokenizer" + sub), "!" if i else None)
        c = CLIPTextConfig(vocab_size=len(tok), bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id, initializer_factor=2.0,
                           max_position_embeddings=77, **{"projection_dim": 16, **config})
        parts["text_encoder" + sub] = (CLIPTextModel if flux else CLIPTextModelWithProjection)(c)
        index["tokenizer" + sub] = ["transformers", "CLIPTokenizer"]
    t5 = "_2" if flux else "_3"
    index["text_encoder" + t5] = index["tokenizer" + t5] = [None, None]
    if not spec.get("no_t5"):
        shutil.copytree(T5, os.path.join(path, "tokenizer" + t5))
        if name == "flux-schnell":  # the other form of the same
            os.remove(os.path.join(path, "tokenizer" + t5, "tokenizer.json"))
        tok = AutoTokenizer.from_pretrained(T5)
        parts["text_encoder" + t5] = T5EncoderModel(T5Config(vocab_size=len(tok) + 28, initializer_factor=1.0, **ENCODER))
        index["tokenizer" + t5] = ["transformers", "T5TokenizerFast"]
    transformer = (FluxTransformer2DModel if flux else SD3Transformer2DModel)(**spec["transformer"])
    levels = len(VAE["block_out_channels"])
    vae = AutoencoderKL(down_block_types=["DownEncoderBlock2D"] * levels, up_block_types=["UpDecoderBlock2D"] * levels, sample_size=64, **VAE)
    with torch.no_grad():
        for k, p in transformer.named_parameters():
            if p.ndim == 1 and "norm" in k and k.endswith("weight"):
                p += 0.2 * torch.randn_like(p)
            elif p.ndim == 1:
                p += 0.1 * torch.randn_like(p)
            if any(s in k for s in ("norm1", "norm.linear", "to_out", "to_add_out", "net.2", "proj_out.weight", "text_embedder", "context_embedder")):
                p *= 2  # what a layer adds must matter
        states, pooled = torch.randn(2, 40, 32), torch.randn(2, spec["transformer"]["pooled_projection_dim"])
        if flux:
            z, ids = torch.randn(2, 64, 16), FluxPipeline._prepare_latent_image_ids(1, 8, 8, "cpu", torch.float32)
            guidance = torch.full((2,), 3.5) if spec["transformer"].get("guidance_embeds") else None
            out = transformer(hidden_states=z, encoder_hidden_states=states, pooled_projections=pooled, timestep=torch.full((2,), 0.5), img_ids=ids, txt_ids=torch.zeros(40, 3),
                              guidance=guidance, return_dict=False)[0]
        else:
            out = transformer(hidden_states=torch.randn(2, 4, 16, 16), encoder_hidden_states=states, pooled_projections=pooled, timestep=torch.full((2,), 500.0), return_dict=False)[0]
        rescale(transformer.proj_out, 1.2 / out.std())
        y = torch.randn(4, 4, 16, 16) / vae.config.scaling_factor
        rescale(vae.decoder.conv_out, 0.6 / vae.decode(y).sample.std())
    parts["transformer"], parts["vae"] = transformer, vae
    for sub, module in parts.items():
        shard = dict(max_shard_size="60KB") if name == "flux-dev" and sub in ("transformer", "text_encoder_2") else {}
        module.to(torch.bfloat16).save_pretrained(os.path.join(path, sub), **shard)
        index[sub] = ["transformers" if "text" in sub else "diffusers", type(module).__name__]
    FlowMatchEulerDiscreteScheduler(**spec["scheduler"]).save_pretrained(os.path.join(path, "scheduler"))
    index = {"_class_name": "FluxPipeline" if flux else "StableDiffusion3Pipeline", "_diffusers_version": "0.0.0", **dict(sorted(index.items()))}
    with open(os.path.join(path, "model_index.json"), "w") as f:
        json.dump(index, f, indent=1)


def load(model):
    spec = MODELS[model]
    more = dict(text_encoder_3=None, tokenizer_3=None) if spec.get("no_t5") else {}
    pipe = (FluxPipeline if is_flux(model) else StableDiffusion3Pipeline).from_pretrained(os.path.join(OUT, "models", model), torch_dtype=torch.float32, **more)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def arguments(pipe, model, case):
    kw = dict(prompt=case["prompt"], num_inference_steps=case["steps"], width=case["width"], height=case["height"], guidance_scale=case["cfg"], max_sequence_length=most(model),
              generator=torch.Generator("cpu").manual_seed(case["seed"]), output_type="np")
    if not is_flux(model):
        kw["negative_prompt"] = case["negative"]
    return kw


def encoded(pipe, model, case):
    """States and embeddings of the negative prompt, if there is guidance by one, and of the prompt."""
    if is_flux(model):
        states, pooled, _ = pipe.encode_prompt(case["prompt"], None, max_sequence_length=most(model))
        return states, pooled
    texts = ([case["negative"]] if case["cfg"] > 1 else []) + [case["prompt"]]
    all = [pipe.encode_prompt(t, None, None, do_classifier_free_guidance=False, max_sequence_length=256) for t in texts]
    return torch.cat([a[0] for a in all]), torch.cat([a[2] for a in all])


def save_picture(name, image, where=OUT):
    Image.fromarray((image * 255).round().astype(np.uint8)).save(os.path.join(where, name + ".png"))
    print(f"{name:24} picture std {image.std():.3f} clipped {((image <= 0) | (image >= 1)).mean():.2f}")


def run_case(name, model, ask):
    pipe = load(model)
    case = dict(name=name, model=model, scheduler="", prompt=PROMPT, negative="", seed=7, steps=5, cfg=1.0, eta=None, tolerance=1e-4, syntax="plain", width=32, height=32) | ask
    h, w = case["height"] // 2, case["width"] // 2
    plain = (lambda x: FluxPipeline._unpack_latents(x, case["height"], case["width"], 2)) if is_flux(model) else lambda x: x
    steps, keep = [], {}

    def on_step(p, i, t, kw):
        steps.append(plain(kw["latents"]).clone())
        return kw

    with torch.no_grad():
        keep["prompt_embeds"], keep["pooled"] = encoded(pipe, model, case)
        image = pipe(**arguments(pipe, model, case), callback_on_step_end=on_step).images[0]
    keep["noise"] = torch.randn((1, 4, h, w), generator=torch.Generator("cpu").manual_seed(case["seed"]))
    keep["latents"] = torch.cat(steps)
    save_file({k: v.contiguous().float() for k, v in keep.items()}, os.path.join(OUT, name + ".safetensors"))
    save_picture(name, image)
    return case


def run_init(name, model, strength, cfg):
    """From a picture: the one of goldens_edit.py."""
    pipe = (FluxImg2ImgPipeline if is_flux(model) else StableDiffusion3Img2ImgPipeline)(**load(model).components)
    pipe.set_progress_bar_config(disable=True)
    init = Image.open(os.path.join(OUT, "..", "edit", "init-64.png"))
    with torch.no_grad():
        image = pipe(prompt=PROMPT, image=init, strength=strength, height=64, width=64, num_inference_steps=6, guidance_scale=cfg, max_sequence_length=most(model),
                     generator=torch.Generator("cpu").manual_seed(21), output_type="np").images[0]
    save_picture(name, image)


def run_kontext(name, size, cfg, width, height):
    """Beside a picture, by the weights of flux-dev. The pipeline's own sizes for pictures are left aside."""
    pipe = FluxKontextPipeline(**load("flux-dev").components)
    pipe.set_progress_bar_config(disable=True)
    w, h = size
    y, x = np.mgrid[0:h, 0:w]
    picture = np.stack([0.5 + 0.5 * np.sin(x / 6 + y / 9), (x * y) % 97 / 97, 0.5 + 0.4 * np.cos(y / 7)], -1)
    save_picture(name + "-reference", picture)
    with torch.no_grad():
        image = pipe(prompt=PROMPT, image=Image.open(os.path.join(OUT, name + "-reference.png")), height=height, width=width, max_area=width * height, _auto_resize=False,
                     num_inference_steps=4, guidance_scale=cfg, max_sequence_length=most("flux-dev"), generator=torch.Generator("cpu").manual_seed(33), output_type="np").images[0]
    save_picture(name, image)


def make_reading(name, seed, extra, cfg, **config):
    """The transformer of a model that reads more than latents, in squares: as many further channels. Its other parts are flux-dev's."""
    torch.manual_seed(seed)
    channels = 4 * (4 + extra)
    transformer = FluxTransformer2DModel(**{**MODELS["flux-dev"]["transformer"], "in_channels": channels, "out_channels": 16, **config})
    with torch.no_grad():
        for k, p in transformer.named_parameters():
            if p.ndim == 1:
                p += 0.1 * torch.randn_like(p)
            if any(s in k for s in ("x_embedder", "to_out", "to_add_out", "net.2", "proj_out.weight")):
                p *= 2
        ids = FluxPipeline._prepare_latent_image_ids(1, 8, 8, "cpu", torch.float32)
        out = transformer(hidden_states=torch.randn(2, 64, channels), encoder_hidden_states=torch.randn(2, 40, 32), pooled_projections=torch.randn(2, transformer.config.pooled_projection_dim),
                          timestep=torch.full((2,), 0.5), img_ids=ids, txt_ids=torch.zeros(40, 3), guidance=torch.full((2,), cfg), return_dict=False)[0]
        rescale(transformer.proj_out, 1.2 / out.std())
    transformer.to(torch.bfloat16).save_pretrained(os.path.join(OUT, "models", name, "transformer"))


def load_reading(name, pipeline):
    parts = {name: part for name, part in load("flux-dev").components.items() if part is not None}
    parts["transformer"] = FluxTransformer2DModel.from_pretrained(os.path.join(OUT, "models", name, "transformer"), torch_dtype=torch.float32)
    pipe = pipeline(**{k: parts[k] for k in inspect.signature(pipeline.__init__).parameters if k in parts})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run_fill(name, cfg, width, height):
    """Inpainting by flux-fill, of the picture and mask of goldens_edit.py."""
    pipe = load_reading("flux-fill", FluxFillPipeline)
    init, mask = (Image.open(os.path.join(OUT, "..", "edit", f"{kind}-64.png")).crop((0, 0, width, height)) for kind in ("init", "mask"))
    init.save(os.path.join(OUT, name + "-init.png"))
    mask.save(os.path.join(OUT, name + "-mask.png"))
    with torch.no_grad():
        image = pipe(prompt=PROMPT, image=init, mask_image=mask, height=height, width=width, num_inference_steps=4, guidance_scale=cfg, max_sequence_length=most("flux-dev"),
                     generator=torch.Generator("cpu").manual_seed(19), output_type="np").images[0]
    save_picture(name, image)


def draw_control(pipe, name, cfg, width, height, **more):
    with torch.no_grad():
        image = pipe(prompt=PROMPT, control_image=Image.open(os.path.join(OUT, name.removesuffix("-init").removesuffix("-Q8_0") + "-hint.png")), height=height, width=width,
                     num_inference_steps=4, guidance_scale=cfg, max_sequence_length=most("flux-dev"), generator=torch.Generator("cpu").manual_seed(19), output_type="np", **more).images[0]
    save_picture(name, image)


def run_control(name, cfg, width, height, init=False):
    """A control picture: the ring of goldens_steer.py, cut off centre, as a drawing of lines. And with a picture to start from."""
    ring = Image.open(os.path.join(OUT, "..", "steer", "ring-64.png")).convert("RGB").crop((6, 3, 6 + width, 3 + height))
    ring.save(os.path.join(OUT, name + "-hint.png"))
    draw_control(load_reading("flux-canny", FluxControlPipeline), name, cfg, width, height)
    if init:
        picture = Image.open(os.path.join(OUT, "..", "edit", "init-64.png")).crop((0, 0, width, height))
        picture.save(os.path.join(OUT, name + "-init-init.png"))
        draw_control(load_reading("flux-canny", FluxControlImg2ImgPipeline), name + "-init", cfg, width, height, image=picture, strength=0.6)


def control_file(name):
    """flux-canny as GGUF, with the original's names."""
    pipe = load_reading("flux-canny", FluxControlPipeline)
    worth = write_gguf(os.path.join(OUT, "files", name + "-Q8_0.gguf"), "flux", original_of("flux-dev", pipe.transformer.state_dict()), gguf.GGMLQuantizationType.Q8_0)
    pipe.transformer.load_state_dict(back("flux-dev", worth))
    draw_control(pipe, "flux-canny-Q8_0", 30.0, 48, 48)


def run_true(name, cfg, scale, negative):
    """FLUX.1 with a negative prompt in a second call."""
    pipe = load("flux-dev")
    with torch.no_grad():
        image = pipe(prompt=PROMPT, negative_prompt=negative, true_cfg_scale=scale, guidance_scale=cfg, width=32, height=24, num_inference_steps=4, max_sequence_length=most("flux-dev"),
                     generator=torch.Generator("cpu").manual_seed(7), output_type="np").images[0]
    save_picture(name, image)


# Names of the originals, written from the two programs' module lists.
FLUX_OUTER = {"x_embedder": "img_in", "context_embedder": "txt_in", "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer", "proj_out": "final_layer.linear",
              "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer", "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
              "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer", "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
              "time_text_embed.text_embedder.linear_2": "vector_in.out_layer"}
FLUX_DOUBLE = {"norm1.linear": "img_mod.lin", "norm1_context.linear": "txt_mod.lin", "attn.norm_q": "img_attn.norm.query_norm", "attn.norm_k": "img_attn.norm.key_norm",
               "attn.norm_added_q": "txt_attn.norm.query_norm", "attn.norm_added_k": "txt_attn.norm.key_norm", "attn.to_out.0": "img_attn.proj", "attn.to_add_out": "txt_attn.proj",
               "ff.net.0.proj": "img_mlp.0", "ff.net.2": "img_mlp.2", "ff_context.net.0.proj": "txt_mlp.0", "ff_context.net.2": "txt_mlp.2"}
JOINED = {"attn.to_q": ["attn.to_q", "attn.to_k", "attn.to_v"], "attn.add_q_proj": ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"],
          "attn2.to_q": ["attn2.to_q", "attn2.to_k", "attn2.to_v"]}
PARTS = {n for names in JOINED.values() for n in names}


def halves(a):
    scale, shift = a.chunk(2)
    return torch.cat([shift, scale])


def flux_original(tensors):
    out = {}
    for name, a in tensors.items():
        base, leaf = name.rsplit(".", 1)
        if m := re.fullmatch(r"transformer_blocks\.(\d+)\.(.*)", base):
            i, inner = m.groups()
            if inner in JOINED:
                side = "txt" if "add" in inner else "img"
                out[f"double_blocks.{i}.{side}_attn.qkv.{leaf}"] = torch.cat([tensors[f"transformer_blocks.{i}.{n}.{leaf}"] for n in JOINED[inner]])
            elif inner not in PARTS:
                out[f"double_blocks.{i}.{FLUX_DOUBLE[inner]}.{'scale' if '.norm_' in inner else leaf}"] = a
        elif m := re.fullmatch(r"single_transformer_blocks\.(\d+)\.(.*)", base):
            i, inner = m.groups()
            to = {"norm.linear": "modulation.lin", "attn.norm_q": "norm.query_norm", "attn.norm_k": "norm.key_norm", "proj_out": "linear2"}
            if inner == "attn.to_q":
                parts = ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"]
                out[f"single_blocks.{i}.linear1.{leaf}"] = torch.cat([tensors[f"single_transformer_blocks.{i}.{n}.{leaf}"] for n in parts])
            elif inner in to:
                out[f"single_blocks.{i}.{to[inner]}.{'scale' if '.norm_' in inner else leaf}"] = a
        elif base == "norm_out.linear":
            out["final_layer.adaLN_modulation.1." + leaf] = halves(a)
        else:
            out[FLUX_OUTER[base] + "." + leaf] = a
    return out


SD3_OUTER = {"pos_embed.proj": "x_embedder.proj", "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0", "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
             "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0", "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2", "context_embedder": "context_embedder",
             "proj_out": "final_layer.linear"}
SD3_INNER = {"norm1.linear": "x_block.adaLN_modulation.1", "norm1_context.linear": "context_block.adaLN_modulation.1", "attn.norm_q": "x_block.attn.ln_q", "attn.norm_k": "x_block.attn.ln_k",
             "attn.norm_added_q": "context_block.attn.ln_q", "attn.norm_added_k": "context_block.attn.ln_k", "attn.to_out.0": "x_block.attn.proj",
             "attn.to_add_out": "context_block.attn.proj", "attn2.norm_q": "x_block.attn2.ln_q", "attn2.norm_k": "x_block.attn2.ln_k", "attn2.to_out.0": "x_block.attn2.proj",
             "ff.net.0.proj": "x_block.mlp.fc1", "ff.net.2": "x_block.mlp.fc2", "ff_context.net.0.proj": "context_block.mlp.fc1", "ff_context.net.2": "context_block.mlp.fc2"}


def sd3_original(tensors):
    out = {}
    last = max(int(m.group(1)) for k in tensors if (m := re.match(r"transformer_blocks\.(\d+)", k)))
    for name, a in tensors.items():
        base, leaf = name.rsplit(".", 1)
        if name == "pos_embed.pos_embed":
            out["pos_embed"] = a
        elif m := re.fullmatch(r"transformer_blocks\.(\d+)\.(.*)", base):
            i, inner = m.groups()
            if inner in JOINED:
                to = {"attn.to_q": "x_block.attn", "attn.add_q_proj": "context_block.attn", "attn2.to_q": "x_block.attn2"}[inner]
                out[f"joint_blocks.{i}.{to}.qkv.{leaf}"] = torch.cat([tensors[f"transformer_blocks.{i}.{n}.{leaf}"] for n in JOINED[inner]])
            elif inner == "norm1_context.linear" and int(i) == last:
                out[f"joint_blocks.{i}.{SD3_INNER[inner]}.{leaf}"] = halves(a)
            elif inner not in PARTS and inner not in ("attn2.to_k", "attn2.to_v"):
                out[f"joint_blocks.{i}.{SD3_INNER[inner]}.{leaf}"] = a
        elif base == "norm_out.linear":
            out["final_layer.adaLN_modulation.1." + leaf] = halves(a)
        else:
            out[SD3_OUTER[base] + "." + leaf] = a
    return out


def same(a, b):
    assert a.keys() == b.keys(), set(a) ^ set(b)
    for k in a:
        assert torch.equal(a[k].float(), b[k].float()), k


def back(model, original, dim=32):
    """diffusers' names for the original's."""
    t = {k: v.float().clone() for k, v in original.items()}
    if not is_flux(model):
        return convert_sd3_transformer_checkpoint_to_diffusers(t)
    text = inspect.getsource(convert_flux_transformer_checkpoint_to_diffusers)  # it knows one width alone
    assert "inner_dim = 3072" in text
    names = dict(convert_flux_transformer_checkpoint_to_diffusers.__globals__)
    exec(text.replace("inner_dim = 3072", f"inner_dim = {dim}"), names)
    return names["convert_flux_transformer_checkpoint_to_diffusers"](t)


def original_of(model, tensors):
    out = (flux_original if is_flux(model) else sd3_original)(tensors)
    same(back(model, out), tensors)
    return out


LLAMA_T5 = {"layer.0.SelfAttention.q": "attn_q", "layer.0.SelfAttention.k": "attn_k", "layer.0.SelfAttention.v": "attn_v", "layer.0.SelfAttention.o": "attn_o",
            "layer.0.SelfAttention.relative_attention_bias": "attn_rel_b", "layer.0.layer_norm": "attn_norm", "layer.1.layer_norm": "ffn_norm",
            "layer.1.DenseReluDense.wi_0": "ffn_gate", "layer.1.DenseReluDense.wi_1": "ffn_up", "layer.1.DenseReluDense.wo": "ffn_down"}


def llama_t5(name):
    if m := re.fullmatch(r"encoder\.block\.(\d+)\.(.*)\.weight", name):
        return f"enc.blk.{m.group(1)}.{LLAMA_T5[m.group(2)]}.weight"
    return {"shared.weight": "token_embd.weight", "encoder.final_layer_norm.weight": "enc.output_norm.weight"}[name]


def draw(pipe, model, name, where, **ask):
    case = dict(prompt=PROMPT, negative="", seed=7, steps=4, cfg=3.5 if model == "flux-dev" or not is_flux(model) else 1.0, width=32, height=24) | ask
    with torch.no_grad():
        save_picture(name, pipe(**arguments(pipe, model, case)).images[0], where)


def files():
    where = os.path.join(OUT, "files")
    shutil.rmtree(where, ignore_errors=True)
    os.makedirs(where)
    vae = lambda pipe: {single_names.vae(k, 2): single_names.vae_array(k, v).contiguous() for k, v in pipe.vae.state_dict().items()}
    half = lambda t: {k: v.to(torch.bfloat16).contiguous() for k, v in t.items()}
    # FLUX.1 dev: all in one file, 8 bits with scales.
    pipe = load("flux-dev")
    t = {}
    for k, v in original_of("flux-dev", pipe.transformer.state_dict()).items():
        if v.ndim == 2 and ("double_blocks" in k or "single_blocks" in k):
            scale = v.abs().max() / 448
            q = (v / scale).to(torch.float8_e4m3fn)
            t["model.diffusion_model." + k] = q
            t["model.diffusion_model." + k.removesuffix("weight") + "scale_weight"] = scale.reshape(1)
        else:
            t["model.diffusion_model." + k] = v.to(torch.bfloat16)
    t["model.diffusion_model.scaled_fp8"] = torch.zeros(2).to(torch.float8_e4m3fn)
    worth = {k.removeprefix("model.diffusion_model."): v.float() * t[k.removesuffix("weight") + "scale_weight"] if v.dtype == torch.float8_e4m3fn and "scaled_fp8" not in k else v.float()
             for k, v in t.items() if "scale_weight" not in k and "scaled_fp8" not in k}
    pipe.transformer.load_state_dict(back("flux-dev", worth))
    t |= {"vae." + k: v for k, v in half(vae(pipe)).items()}
    clip = half(pipe.text_encoder.state_dict())
    t |= {"text_encoders.clip_l.transformer." + ("" if k.startswith("text_model.") else "text_model.") + k: v for k, v in clip.items()}
    t |= {"text_encoders.t5xxl.transformer." + k: v for k, v in half(pipe.text_encoder_2.state_dict()).items() if k != "encoder.embed_tokens.weight"}
    t = {k: v.contiguous() for k, v in t.items()}
    save_file(t, os.path.join(where, "flux1-dev-all-fp8.safetensors"))
    draw(pipe, "flux-dev", "flux-dev", where)
    # FLUX.1 schnell: GGUF of the transformer and of T5, the other parts beside.
    pipe = load("flux-schnell")
    worth = write_gguf(os.path.join(where, "flux1-schnell-Q8_0.gguf"), "flux", original_of("flux-schnell", pipe.transformer.state_dict()), gguf.GGMLQuantizationType.Q8_0)
    pipe.transformer.load_state_dict(back("flux-schnell", worth))
    text = {llama_t5(k): v for k, v in pipe.text_encoder_2.state_dict().items() if k != "encoder.embed_tokens.weight"}
    worth = write_gguf(os.path.join(where, "t5-Q8_0.gguf"), "t5encoder", text, gguf.GGMLQuantizationType.Q8_0, t5_facts(pipe))
    pipe.text_encoder_2.load_state_dict({k: worth[llama_t5(k.replace("encoder.embed_tokens", "shared"))] for k in pipe.text_encoder_2.state_dict()})
    save_file({("" if k.startswith("text_model.") else "text_model.") + k: v for k, v in half(pipe.text_encoder.state_dict()).items()}, os.path.join(where, "clip_l.safetensors"))
    save_file(half(vae(pipe)), os.path.join(where, "ae.safetensors"))
    draw(pipe, "flux-schnell", "flux-schnell", where)
    # Stable Diffusion 3.5: all in one file.
    pipe = load("sd35-medium")
    pipe.vae.register_to_config(scaling_factor=1.5305, shift_factor=0.0609)  # what no file says, and the family has
    t = {"model.diffusion_model." + k: v for k, v in half(original_of("sd35-medium", pipe.transformer.state_dict())).items()}
    t |= {"first_stage_model." + k: v for k, v in half(vae(pipe)).items()}
    for part, name in [("text_encoder", "clip_l"), ("text_encoder_2", "clip_g")]:
        t |= {f"text_encoders.{name}.transformer." + ("" if k.startswith(("text_model.", "text_projection")) else "text_model.") + k: v for k, v in half(getattr(pipe, part).state_dict()).items()}
    t |= {"text_encoders.t5xxl.transformer." + k: v for k, v in half(pipe.text_encoder_3.state_dict()).items() if k != "encoder.embed_tokens.weight"}
    save_file({k: v.contiguous() for k, v in t.items()}, os.path.join(where, "sd3.5_medium_incl_clips_t5xxl.safetensors"))
    draw(pipe, "sd35-medium", "sd35-medium", where)
    shutil.copy(os.path.join(T5, "spiece.model"), where)
    for tokenizer in ("tokenizer", "tokenizer_2"):  # CLIP's own is built in, and these are smaller
        shutil.copytree(os.path.join(OUT, "models", "sd35-medium", tokenizer), os.path.join(where, tokenizer))


def t5_facts(pipe):
    import sentencepiece
    model = sentencepiece.SentencePieceProcessor(model_file=os.path.join(T5, "spiece.model"))

    def facts(w):
        pieces = [model.id_to_piece(i) for i in range(model.get_piece_size())]
        scores = [model.get_score(i) for i in range(model.get_piece_size())]
        kinds = [gguf.TokenType.CONTROL if model.is_control(i) else gguf.TokenType.UNKNOWN if model.is_unknown(i) else gguf.TokenType.NORMAL for i in range(model.get_piece_size())]
        for i in range(99, -1, -1):
            pieces.append(f"<extra_id_{i}>"), scores.append(0.0), kinds.append(gguf.TokenType.CONTROL)
        w.add_tokenizer_model("t5")
        w.add_token_list(pieces)
        w.add_token_scores(scores)
        w.add_token_types(kinds)
        from sentencepiece import sentencepiece_model_pb2
        m = sentencepiece_model_pb2.ModelProto()
        with open(os.path.join(T5, "spiece.model"), "rb") as f:
            m.ParseFromString(f.read())
        w.add_precompiled_charsmap(m.normalizer_spec.precompiled_charsmap)
        c = pipe.text_encoder_2.config
        w.add_layer_norm_rms_eps(c.layer_norm_epsilon)
        w.add_relative_attn_buckets_count(c.relative_attention_num_buckets)
        w.add_key_length(c.d_kv)
        w.add_head_count(c.num_heads)
        w.add_block_count(c.num_layers)
        w.add_embedding_length(c.d_model)
    return facts


def loras():
    where = os.path.join(OUT, "loras")
    shutil.rmtree(where, ignore_errors=True)
    os.makedirs(where)
    for model, skip in [("flux-dev", ("embed", "_in.")), ("sd35-medium", ("embed", "pos_embed"))]:
        pipe = load(model)
        own = {k: v.float().clone() for k, v in pipe.transformer.state_dict().items()}
        first = original_of(model, own)
        for kind, weights, spelled, alpha, undo in [
            ("peft", own, lambda k: "transformer." + k, float(RANK), lambda t: t),
            ("original", first, lambda k: "diffusion_model." + k, float(RANK), lambda t: back(model, t)),
            ("kohya", first, lambda k: "lora_unet_" + k.replace(".", "_"), ALPHA, lambda t: back(model, t)),
        ]:
            lora = adapter(weights, len(kind) + len(model), skip)
            tensors = {}
            for k, (down, up) in lora.items():
                base = spelled(k)
                a, b = (".lora_down.weight", ".lora_up.weight") if base.startswith("lora_unet_") else (".lora_A.weight", ".lora_B.weight")
                tensors[base + a], tensors[base + b] = down.half().contiguous(), up.half().contiguous()
                if base.startswith("lora_unet_"):
                    tensors[base + ".alpha"] = torch.tensor(alpha)
            save_file(tensors, os.path.join(where, f"{model}-{kind}.safetensors"))
            pipe.transformer.load_state_dict(undo(dict(laid(weights, lora, alpha))))
            draw(pipe, model, f"{model}-{kind}", where, height=32)


def main():
    only = sys.argv[1:]
    wanted = lambda what: not only or what in only
    os.makedirs(OUT, exist_ok=True)
    if wanted("models"):
        for name, spec in MODELS.items():
            make_model(name, spec)
    if wanted("cases"):
        cases = [run_case(*c) for c in CASES]
        with open(os.path.join(OUT, "cases.json"), "w") as f:
            json.dump(cases, f, indent=1)
        run_init("flux-dev-init", "flux-dev", 0.6, 3.5)
        run_init("sd35-medium-init", "sd35-medium", 0.9, 4.5)
    if wanted("kontext"):
        run_kontext("flux-kontext", (72, 64), 2.5, 24, 32)
        run_kontext("flux-kontext-wide", (100, 64), 1.5, 48, 20)
        run_kontext("flux-kontext-uneven", (75, 66), 2.5, 32, 24)
    if wanted("fill"):
        make_reading("flux-fill", 77, 4 + 4, 30.0)  # the picture that stays, and 2 x 2 pixels of the mask
        run_fill("flux-fill", 30.0, 64, 64)
        run_fill("flux-fill-wide", 10.0, 64, 24)
    if wanted("control"):
        make_reading("flux-canny", 78, 4, 30.0, num_layers=1, num_single_layers=1)
        run_control("flux-canny", 30.0, 48, 48, init=True)
        run_control("flux-canny-wide", 10.0, 60, 24)
    if wanted("true"):
        run_true("flux-dev-true", 3.5, 2.5, "a blurry photograph of a dog")
        run_true("flux-dev-true-empty", 1.5, 4.0, "")
    if wanted("files"):
        files()
    if wanted("files") or wanted("control"):
        control_file("flux1-canny-dev")
    if wanted("loras"):
        loras()


if __name__ == "__main__":
    main()
