"""Names of the original Stable Diffusion code for the arrays of diffusers' folders: the inverse of what checkpoint/ reads.

Written from the two programs' module lists, by formula; checkpoint/ goes by the structure of the names instead, so that
neither repeats the other's mistakes.
"""

import re

import torch

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3",
          "conv_shortcut": "skip_connection"}
TOP = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "time_embedding.cond_proj": "time_embed.cond_proj",
       "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2", "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0",
       "conv_out": "out.2"}


def unet(name, has_attention, stride=3):
    """LDM's name. has_attention says of an up block's number whether it has attentions; stride is layers a level, and one."""
    module, leaf = name.rsplit(".", 1)
    if module in TOP:
        return f"{TOP[module]}.{leaf}"
    m = re.fullmatch(r"(down_blocks|up_blocks|mid_block)\.(?:(\d+)\.)?(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)", name)
    side, level, kind, j, rest = m.group(1), int(m.group(2) or 0), m.group(3), int(m.group(4)), m.group(5)
    if kind == "resnets":
        first = rest.split(".")[0]
        rest = rest.replace(first, RESNET[first], 1)
    if side == "mid_block":
        block = "middle_block.1" if kind == "attentions" else f"middle_block.{2 * j}"
        return f"{block}.{rest}"
    if kind == "downsamplers":
        return f"input_blocks.{stride * (level + 1)}.0.op.{leaf}"
    if kind == "upsamplers":
        return f"output_blocks.{stride * level + stride - 1}.{2 if has_attention(level) else 1}.conv.{leaf}"
    slot = 1 if kind == "attentions" else 0
    block = f"input_blocks.{stride * level + j + 1}" if side == "down_blocks" else f"output_blocks.{stride * level + j}"
    return f"{block}.{slot}.{rest}"


def vae(name, levels):
    name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m.group(1)) + 1}", name)
    name = name.replace("mid_block.attentions.0", "mid.attn_1")
    if "mid.attn_1" in name:
        for new, old in {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}.items():
            name = name.replace(f"attn_1.{new}.", f"attn_1.{old}.")
    name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{levels - 1 - int(m.group(1))}.block.{m.group(2)}", name)
    return re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m.group(1))}.upsample", name)


def vae_array(name, a):
    """The attention's matrices are 1x1 convolutions in LDM."""
    return a[:, :, None, None] if re.search(r"attentions\.0\.to_\w+(\.0)?\.weight$", name) else a


def open_clip(tensors):
    """open_clip's arrays for those of a transformers text encoder: query, key and value in one, the projection transposed."""
    out = {}
    for name, a in tensors.items():
        name = name.removeprefix("text_model.")
        if name == "text_projection.weight":
            out["text_projection"] = a.T
        elif name == "embeddings.token_embedding.weight":
            out["token_embedding.weight"] = a
        elif name == "embeddings.position_embedding.weight":
            out["positional_embedding"] = a
        elif name.startswith("final_layer_norm"):
            out[name.replace("final_layer_norm", "ln_final")] = a
        elif m := re.fullmatch(r"encoder\.layers\.(\d+)\.(.*)\.(weight|bias)", name):
            layer, module, leaf = m.groups()
            to = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj"}
            if module == "self_attn.q_proj":
                parts = [tensors[next(n for n in tensors if n.endswith(f"encoder.layers.{layer}.self_attn.{x}_proj.{leaf}"))] for x in "qkv"]
                out[f"transformer.resblocks.{layer}.attn.in_proj_{leaf}"] = torch.cat(parts)
            elif module in to:
                out[f"transformer.resblocks.{layer}.{to[module]}.{leaf}"] = a
    return out
