"""Names and shapes of the published control networks, of their real sizes: control/testdata/shapes.json.gz.

    python train/goldens_control_shapes.py

diffusers makes the networks without memory for their weights. Names of the original programs are put together here and
turned back by diffusers' own conversion.
"""
import gzip
import json
import os

import torch
from diffusers import ControlNetModel, ControlNetUnionModel, T2IAdapter, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "control", "testdata", "shapes.json.gz")
DOWN, CROSS = "DownBlock2D", "CrossAttnDownBlock2D"
SD1 = dict(cross_attention_dim=768)
SD2 = dict(cross_attention_dim=1024, attention_head_dim=[5, 10, 20, 20], use_linear_projection=True)
XL = dict(block_out_channels=(320, 640, 1280), down_block_types=(DOWN, CROSS, CROSS), transformer_layers_per_block=[1, 2, 10], attention_head_dim=[5, 10, 20],
          cross_attention_dim=2048, use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
          projection_class_embeddings_input_dim=2816)
UNETS = {"sd1": SD1, "sd2": SD2, "xl": {**XL, "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")}}


def shapes(state):
    return {k: list(v.shape) for k, v in state.items()}


def ldm(net):
    """Names of the original ControlNet for a half U-Net of two layers a level."""
    blocks = {"conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
              "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1", "mid_block.resnets.1": "middle_block.2",
              "controlnet_mid_block": "middle_block_out.0", "controlnet_cond_embedding.conv_in": "input_hint_block.0",
              "controlnet_cond_embedding.conv_out": "input_hint_block.14"}
    blocks |= {f"controlnet_cond_embedding.blocks.{i}": f"input_hint_block.{2 * i + 2}" for i in range(6)}
    blocks |= {f"controlnet_down_blocks.{i}": f"zero_convs.{i}.0" for i in range(12)}
    for level in range(4):
        for j in range(2):
            blocks[f"down_blocks.{level}.resnets.{j}"] = f"input_blocks.{3 * level + j + 1}.0"
            blocks[f"down_blocks.{level}.attentions.{j}"] = f"input_blocks.{3 * level + j + 1}.1"
        blocks[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{3 * level + 3}.0.op"
    inside = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3",
              "conv_shortcut": "skip_connection"}
    state = {}
    for key, value in net.state_dict().items():
        place = max((b for b in blocks if key.startswith(b + ".")), key=len)
        rest = key[len(place) + 1:]
        if ".resnets." in place:
            part, last = rest.rsplit(".", 1)
            rest = inside[part] + "." + last
        state["control_model." + blocks[place] + "." + rest] = value
    assert shapes(convert_controlnet_checkpoint(dict(state), dict(net.config))) == shapes(net.state_dict())
    return state


def t2i_names(net):
    state = {}
    for key, value in net.state_dict().items():
        key = key.removeprefix("adapter.")
        if key.startswith("body."):
            _, i, rest = key.split(".", 2)
            if rest.startswith("resnets."):
                _, j, rest = rest.split(".", 2)
                key = f"body.{i}.body.{j}.{rest}" if net.config.adapter_type == "light_adapter" else f"body.{2 * int(i) + int(j)}.{rest}"
            else:
                key = f"body.{i}.{rest}" if net.config.adapter_type == "light_adapter" else f"body.{2 * int(i)}.{rest}"
        state[key] = value
    return state


def image_prompt(unet, projection):
    out = {"image_proj." + k: list(v) for k, v in projection.items()}
    for i, key in enumerate(unet.attn_processors):
        if "attn2" in key:
            to_k = unet.get_submodule(key.removesuffix(".processor")).to_k.weight.shape
            out[f"ip_adapter.{i}.to_k_ip.weight"] = out[f"ip_adapter.{i}.to_v_ip.weight"] = list(to_k)
    return out


def plus(hidden, inner, width, read):
    s = {"latents": (1, 16, hidden), "proj_in.weight": (hidden, read), "proj_in.bias": (hidden,), "proj_out.weight": (width, hidden), "proj_out.bias": (width,),
         "norm_out.weight": (width,), "norm_out.bias": (width,)}
    for i in range(4):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            s[f"layers.{i}.{norm}.weight"] = s[f"layers.{i}.{norm}.bias"] = (hidden,)
        s |= {f"layers.{i}.0.to_q.weight": (inner, hidden), f"layers.{i}.0.to_kv.weight": (2 * inner, hidden), f"layers.{i}.0.to_out.weight": (hidden, inner),
              f"layers.{i}.1.1.weight": (4 * hidden, hidden), f"layers.{i}.1.3.weight": (hidden, 4 * hidden)}
    return s


def plain(width, read):
    return {"proj.weight": (4 * width, read), "proj.bias": (4 * width,), "norm.weight": (width,), "norm.bias": (width,)}


def main():
    with torch.device("meta"):
        unets = {name: UNet2DConditionModel(**c) for name, c in UNETS.items()}
        nets = {}

        def add(name, unet, kind, arrays, config=None):
            nets[name] = dict(unet=unet, kind=kind, arrays=arrays, config={k: v for k, v in (config or {}).items() if not k.startswith("_")})
            print(name, len(arrays), "arrays")

        sd1 = ControlNetModel(**SD1)
        add("sd1", "sd1", "controlnet", shapes(sd1.state_dict()), sd1.config)
        add("sd1-original", "sd1", "controlnet", shapes(ldm(sd1)), sd1.config)
        sd2 = ControlNetModel(**SD2)
        add("sd2-original", "sd2", "controlnet", shapes(ldm(sd2)), sd2.config)
        for name, change in (("xl", {}), ("xl-mid", dict(transformer_layers_per_block=[1, 1, 1])),
                             ("xl-small", dict(down_block_types=(DOWN, DOWN, DOWN), mid_block_type="UNetMidBlock2D", transformer_layers_per_block=1))):
            net = ControlNetModel(**{**XL, **change})
            add(name, "xl", "controlnet", shapes(net.state_dict()), net.config)
        union = ControlNetUnionModel(**XL, num_control_type=8, num_trans_channel=320, num_trans_head=8, num_trans_layer=1, num_proj_channel=320)
        add("xl-union", "xl", "controlnet", shapes(union.state_dict()), union.config)
        wide = (320, 640, 1280, 1280)
        t2i = T2IAdapter(in_channels=3, channels=wide, num_res_blocks=2, downscale_factor=8, adapter_type="full_adapter")
        add("t2i", "sd1", "t2i-adapter", shapes(t2i.state_dict()), t2i.config)
        add("t2i-original", "sd1", "t2i-adapter", shapes(t2i_names(t2i)), t2i.config)
        sketch = T2IAdapter(in_channels=1, channels=wide, num_res_blocks=2, downscale_factor=8, adapter_type="full_adapter")
        add("t2i-sketch", "sd1", "t2i-adapter", shapes(t2i_names(sketch)), sketch.config)
        light = T2IAdapter(in_channels=3, channels=wide[:3], num_res_blocks=4, downscale_factor=8, adapter_type="light_adapter")
        add("t2i-light", "sd1", "t2i-adapter", shapes(t2i_names(light)), light.config)
        large = T2IAdapter(in_channels=3, channels=wide, num_res_blocks=2, downscale_factor=16, adapter_type="full_adapter_xl")
        add("t2i-xl", "xl", "t2i-adapter", shapes(large.state_dict()), large.config)
        add("ip", "sd1", "ip-adapter", image_prompt(unets["sd1"], plain(768, 1024)))
        add("ip-plus", "sd1", "ip-adapter", image_prompt(unets["sd1"], plus(768, 768, 768, 1280)))
        add("ip-xl", "xl", "ip-adapter", image_prompt(unets["xl"], plain(2048, 1280)))
        add("ip-plus-xl", "xl", "ip-adapter", image_prompt(unets["xl"], plus(1280, 1280, 2048, 1280)))
    out = dict(unets={name: {k: v for k, v in u.config.items() if not k.startswith("_")} for name, u in unets.items()}, nets=nets)
    with gzip.GzipFile(OUT, "wb", 9, mtime=0) as f:
        f.write(json.dumps(out).encode())


if __name__ == "__main__":
    main()
