"""Z-Image and FLUX.2 klein in files of one part: pipeline/testdata/transformers/files.

    python train/goldens_transformer_files.py

Tiny models as goldens_transformers.py makes them, written as other programs have them: Z-Image's transformer with its original
names in 8 bits and bfloat16, its text encoder beside a tokenizer.json; klein's transformer and text encoder as GGUF in Q8_0 and
Q4_0, with the original's and llama.cpp's names and the tokenizer in the file. What diffusers draws of the same values is kept.
That the original names are the right ones is what diffusers' own converters say here.
"""
import json
import os
import re
import shutil
import tempfile

import gguf
import goldens_transformers as g
import numpy as np
import single_names
import torch
from diffusers import Flux2KleinPipeline, ZImagePipeline
from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers, convert_z_image_transformer_checkpoint_to_diffusers
from PIL import Image
from safetensors.torch import save_file

OUT = os.path.join(g.OUT, "files")
ROPE = g.ROPE
TEXT = dict(hidden_size=32, intermediate_size=32, num_attention_heads=2, num_key_value_heads=1, head_dim=16)
MODELS = {
    "z-file-turbo": dict(pipeline=ZImagePipeline, text=dict(TEXT, num_hidden_layers=2),
                         transformer=dict(in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=32, axes_dims=[4, 6, 6],
                                          axes_lens=[1536, 512, 512]),
                         vae=dict(block_out_channels=(8, 8), layers_per_block=1, **dict(g.ZVAE, norm_num_groups=8)), scheduler=dict(shift=3.0)),
    "klein-file": dict(pipeline=Flux2KleinPipeline, text=dict(TEXT, num_hidden_layers=27),
                       transformer=dict(in_channels=32, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=96,
                                        timestep_guidance_channels=256, axes_dims_rope=[4, 4, 4, 4], guidance_embeds=False),
                       vae=dict(block_out_channels=(8, 16), layers_per_block=1, latent_channels=8, norm_num_groups=8), scheduler=dict(shift=3.0, use_dynamic_shifting=True),
                       distilled=True),
}


def z_original(tensors):
    out = {}
    for name, a in tensors.items():
        if m := re.fullmatch(r"(.*\.attention)\.to_([qkv])\.weight", name):
            if m.group(2) == "q":
                out[f"{m.group(1)}.qkv.weight"] = torch.cat([tensors[f"{m.group(1)}.to_{x}.weight"].float() for x in "qkv"]).to(a.dtype)
            continue
        name = name.replace("all_final_layer.2-1.", "final_layer.").replace("all_x_embedder.2-1.", "x_embedder.")
        name = name.replace(".attention.to_out.0.", ".attention.out.").replace(".attention.norm_k.", ".attention.k_norm.").replace(".attention.norm_q.", ".attention.q_norm.")
        out[name] = a
    return out


OUTER = {"x_embedder": "img_in", "context_embedder": "txt_in", "time_guidance_embed.timestep_embedder.linear_1": "time_in.in_layer",
         "time_guidance_embed.timestep_embedder.linear_2": "time_in.out_layer", "double_stream_modulation_img.linear": "double_stream_modulation_img.lin",
         "double_stream_modulation_txt.linear": "double_stream_modulation_txt.lin", "single_stream_modulation.linear": "single_stream_modulation.lin",
         "proj_out": "final_layer.linear"}
DOUBLE = {"attn.norm_q": "img_attn.norm.query_norm", "attn.norm_k": "img_attn.norm.key_norm", "attn.to_out.0": "img_attn.proj", "ff.linear_in": "img_mlp.0",
          "ff.linear_out": "img_mlp.2", "attn.norm_added_q": "txt_attn.norm.query_norm", "attn.norm_added_k": "txt_attn.norm.key_norm", "attn.to_add_out": "txt_attn.proj",
          "ff_context.linear_in": "txt_mlp.0", "ff_context.linear_out": "txt_mlp.2"}
SINGLE = {"attn.to_qkv_mlp_proj": "linear1", "attn.to_out": "linear2", "attn.norm_q": "norm.query_norm", "attn.norm_k": "norm.key_norm"}


def klein_original(tensors):
    out = {}
    for name, a in tensors.items():
        base = name.removesuffix(".weight")
        if m := re.fullmatch(r"transformer_blocks\.(\d+)\.(.*)", base):
            i, inner = m.groups()
            if inner in ("attn.to_q", "attn.add_q_proj"):
                side = "img" if "to_q" in inner else "txt"
                names = ["attn.to_q", "attn.to_k", "attn.to_v"] if side == "img" else ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"]
                out[f"double_blocks.{i}.{side}_attn.qkv.weight"] = torch.cat([tensors[f"transformer_blocks.{i}.{n}.weight"] for n in names])
            elif inner in DOUBLE:
                out[f"double_blocks.{i}.{DOUBLE[inner]}.{'scale' if 'norm' in inner else 'weight'}"] = a
        elif m := re.fullmatch(r"single_transformer_blocks\.(\d+)\.(.*)", base):
            out[f"single_blocks.{m.group(1)}.{SINGLE[m.group(2)]}.{'scale' if 'norm' in m.group(2) else 'weight'}"] = a
        elif base == "norm_out.linear":
            scale, shift = a.chunk(2)
            out["final_layer.adaLN_modulation.1.weight"] = torch.cat([shift, scale])
        else:
            out[OUTER[base] + ".weight"] = a
    return out


LLAMA = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down"}


def llama(name):
    name = name.removeprefix("model.")
    if m := re.fullmatch(r"layers\.(\d+)\.(.*)\.weight", name):
        return f"blk.{m.group(1)}.{LLAMA[m.group(2)]}.weight"
    return {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}[name]


def quantised(a, kind):
    """An array as GGUF stores it, and what that is worth."""
    a = a.float().numpy()
    if a.ndim != 2 or a.shape[1] % 32:
        return a, a, None
    q = gguf.quants.quantize(a, kind)
    return q, gguf.quants.dequantize(q, kind), kind


def write_gguf(path, arch, tensors, kind, facts=None):
    w = gguf.GGUFWriter(path, arch)
    if facts:
        facts(w)
    worth = {}
    for name, a in tensors.items():
        q, worth[name], used = quantised(a, kind)
        w.add_tensor(name, q, raw_dtype=used)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in worth.items()}


def tokenizer_facts(folder, config):
    def facts(w):
        with open(os.path.join(folder, "vocab.json"), encoding="utf-8") as f:
            vocab = json.load(f)
        with open(os.path.join(folder, "tokenizer_config.json"), encoding="utf-8") as f:
            added = {int(i): a for i, a in json.load(f)["added_tokens_decoder"].items()}
        tokens = [t for t, _ in sorted(vocab.items(), key=lambda x: x[1])]
        kinds = [gguf.TokenType.NORMAL] * len(tokens)
        for i in sorted(added):
            tokens.append(added[i]["content"])
            kinds.append(gguf.TokenType.CONTROL if added[i]["special"] else gguf.TokenType.USER_DEFINED)
        while len(tokens) < config.vocab_size:
            tokens.append(f"[PAD{len(tokens)}]")
            kinds.append(gguf.TokenType.UNUSED)
        with open(os.path.join(folder, "merges.txt"), encoding="utf-8") as f:
            merges = f.read().splitlines()[1:]
        w.add_tokenizer_model("gpt2")
        w.add_tokenizer_pre("qwen2")
        w.add_token_list(tokens)
        w.add_token_types(kinds)
        w.add_token_merges(merges)
        w.add_pad_token_id(tokens.index("<|endoftext|>"))
        w.add_block_count(config.num_hidden_layers)
        w.add_embedding_length(config.hidden_size)
        w.add_head_count(config.num_attention_heads)
        w.add_head_count_kv(config.num_key_value_heads)
        w.add_rope_freq_base(ROPE["rope_theta"])
        w.add_layer_norm_rms_eps(config.rms_norm_eps)
    return facts


def draw(pipe, name, **ask):
    klein = isinstance(pipe, Flux2KleinPipeline)
    kw = dict(prompt=g.PROMPT, num_inference_steps=4, width=32, height=24, guidance_scale=1.0 if klein else 0.0, generator=torch.Generator("cpu").manual_seed(7))
    with torch.no_grad():
        image = pipe(**kw, output_type="np").images[0]
    Image.fromarray((image * 255).round().astype(np.uint8)).save(os.path.join(OUT, name + ".png"))
    print(name, "picture std", float(image.std()))


def same(a, b):
    assert a.keys() == b.keys(), sorted(a.keys() ^ b.keys())
    for name in a:
        assert torch.equal(a[name].float(), b[name].float()), name


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(os.path.join(OUT, "encoder"))
    with tempfile.TemporaryDirectory() as g.OUT:
        for name, spec in MODELS.items():
            g.MODELS[name] = spec
            g.make_model(name, spec)

        pipe = g.load("z-file-turbo")
        t = pipe.transformer.state_dict()
        for k in t:  # the embedder of the time is as large as in the real model
            t[k] = t[k].to(torch.float8_e4m3fn if k.endswith("weight") and ("t_embedder.mlp" in k or "feed_forward" in k) else torch.bfloat16)
        pipe.transformer.load_state_dict({k: v.float() for k, v in t.items()})
        original = z_original(t)
        same(convert_z_image_transformer_checkpoint_to_diffusers({"model.diffusion_model." + k: v.float() for k, v in original.items()}), {k: v.float() for k, v in t.items()})
        save_file({"model.diffusion_model." + k: v.contiguous() for k, v in original.items()}, os.path.join(OUT, "z_image_turbo_fp8.safetensors"))
        text = {"model." + k: v.to(torch.bfloat16).contiguous() for k, v in pipe.text_encoder.state_dict().items()}
        save_file(text, os.path.join(OUT, "encoder", "qwen_3_tiny.safetensors"))
        shutil.copy(os.path.join(g.TOKENIZER, "tokenizer.json"), os.path.join(OUT, "encoder"))
        ae = {single_names.vae(k, 2): single_names.vae_array(k, v).contiguous() for k, v in pipe.vae.state_dict().items()}
        save_file(ae, os.path.join(OUT, "ae.safetensors"))
        draw(pipe, "z-image")

        pipe = g.load("klein-file")
        t = klein_original(pipe.transformer.state_dict())
        worth = write_gguf(os.path.join(OUT, "flux-2-klein-Q8_0.gguf"), "flux", t, gguf.GGMLQuantizationType.Q8_0)
        pipe.transformer.load_state_dict(convert_flux2_transformer_checkpoint_to_diffusers(dict(worth)))
        text = {llama(k): v for k, v in pipe.text_encoder.model.state_dict().items()}
        worth = write_gguf(os.path.join(OUT, "qwen3-Q4_0.gguf"), "qwen3", text, gguf.GGMLQuantizationType.Q4_0,
                           tokenizer_facts(g.TOKENIZER, pipe.text_encoder.config))
        pipe.text_encoder.model.load_state_dict({k: worth[llama(k)] for k in pipe.text_encoder.model.state_dict()})
        vae = {}
        for k, v in pipe.vae.state_dict().items():
            k2 = k if k.startswith("bn.") else single_names.vae(k, 2)
            k2 = {"quant_conv": "encoder.quant_conv", "post_quant_conv": "decoder.post_quant_conv"}.get(k2.split(".")[0], k2.split(".")[0]) + k2[len(k2.split(".")[0]):]
            vae[k2] = single_names.vae_array(k, v).contiguous()
        save_file(vae, os.path.join(OUT, "flux2-vae.safetensors"))
        draw(pipe, "klein")


if __name__ == "__main__":
    main()
