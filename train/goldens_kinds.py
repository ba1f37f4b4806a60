"""Writes checkpoint/testdata/kinds.json.gz: names and shapes of files of many kinds, for the program to tell apart.

    python train/goldens_kinds.py

Those that diffusers and transformers have are listed by them, with few layers; the others follow their authors' modules.
"""

import gzip
import json
import pathlib

import diffusers as d
import torch
import transformers as tf
from torch import nn

OUT = pathlib.Path(__file__).resolve().parent.parent / "checkpoint" / "testdata" / "kinds.json.gz"


class RDB(nn.Module):
    """ESRGAN's dense block, by the names of its present code."""

    def __init__(self):
        super().__init__()
        for i in range(5):
            setattr(self, f"conv{i + 1}", nn.Conv2d(64 + 32 * i, 32 if i < 4 else 64, 3))


class RRDB(nn.Module):
    def __init__(self):
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = RDB(), RDB(), RDB()


class ESRGAN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_first = nn.Conv2d(3, 64, 3)
        self.body = nn.ModuleList([RRDB()])
        for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"):
            setattr(self, name, nn.Conv2d(64, 64, 3))


def srvgg():
    m = nn.Module()
    m.body = nn.ModuleList([nn.Conv2d(3, 64, 3), nn.PReLU(64), nn.Conv2d(64, 64, 3), nn.PReLU(64), nn.Conv2d(64, 48, 3)])
    return m


def taesd_decoder():
    def conv(i, o):
        return nn.Conv2d(i, o, 3)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Sequential(conv(64, 64), nn.ReLU(), conv(64, 64), nn.ReLU(), conv(64, 64))

    return nn.Sequential(nn.Tanh(), conv(4, 64), nn.ReLU(), Block(), Block(), conv(64, 3))


def unet(**extra):
    return dict(block_out_channels=(32, 64), layers_per_block=1, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), **extra)


def text(kind, width):
    return kind(tf.CLIPTextConfig(hidden_size=width, num_attention_heads=1, num_hidden_layers=1, intermediate_size=8, vocab_size=16, projection_dim=width))


def prefixed(prefix, state):
    return {prefix + k: v for k, v in state.items()}


def main():
    out = {}

    def add(name, kind, family, state):
        state = state.state_dict() if isinstance(state, nn.Module) else state
        out[name] = {"kind": kind, "family": family, "arrays": {k: list(v.shape) for k, v in state.items()}}

    with torch.device("meta"):
        add("controlnet-sd1", "controlnet", "Stable Diffusion 1", d.ControlNetModel(**unet(cross_attention_dim=768)))
        xl = unet(cross_attention_dim=2048, addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816)
        add("controlnet-sdxl", "controlnet", "SDXL", d.ControlNetModel(**xl))
        add("controlnet-union", "controlnet", "SDXL", d.ControlNetUnionModel(**xl))
        add("t2i-adapter", "t2i-adapter", "", d.T2IAdapter(channels=[32, 64], num_res_blocks=1))
        add("taesd", "taesd", "", d.AutoencoderTiny())
        add("taesd-decoder-original", "taesd", "", taesd_decoder())
        add("taesd-decoder-comfyui", "taesd", "", prefixed("taesd_decoder.", taesd_decoder().state_dict()))
        vae = dict(block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)
        add("vae-4", "vae", "", d.AutoencoderKL(**vae))
        add("vae-16", "vae", "FLUX.1", d.AutoencoderKL(**vae, latent_channels=16, use_quant_conv=False, use_post_quant_conv=False))
        flux = dict(num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8))
        add("flux-dev", "transformer", "FLUX.1", d.FluxTransformer2DModel(**flux, guidance_embeds=True))
        add("flux-schnell", "transformer", "FLUX.1 schnell", d.FluxTransformer2DModel(**flux))
        add("flux2", "transformer", "FLUX.2", d.Flux2Transformer2DModel(num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
                                                                       joint_attention_dim=32, axes_dims_rope=(4, 4, 4, 4)))
        add("sd3", "transformer", "Stable Diffusion 3", d.SD3Transformer2DModel(num_layers=2, attention_head_dim=8, num_attention_heads=4, joint_attention_dim=32,
                                                                                caption_projection_dim=32, pooled_projection_dim=64))
        add("qwen-image", "transformer", "Qwen-Image", d.QwenImageTransformer2DModel(num_layers=1, attention_head_dim=16, num_attention_heads=2,
                                                                                     joint_attention_dim=16, axes_dims_rope=(8, 4, 4)))
        add("z-image", "transformer", "Z-Image", d.ZImageTransformer2DModel(n_layers=1))
        add("lumina2", "transformer", "Lumina 2", d.Lumina2Transformer2DModel(num_layers=1))
        add("clip-l", "text encoder", "CLIP-L", text(tf.CLIPTextModel, 768))
        add("clip-g", "text encoder", "OpenCLIP-bigG", text(tf.CLIPTextModelWithProjection, 1280))
        add("clip-vision", "vision", "", tf.CLIPVisionModelWithProjection(tf.CLIPVisionConfig(num_hidden_layers=1)))
        add("t5", "text encoder", "T5", tf.T5EncoderModel(tf.T5Config(num_layers=1)))
        add("qwen3", "text encoder", "Qwen3", tf.Qwen3ForCausalLM(tf.Qwen3Config(num_hidden_layers=1, hidden_size=64, intermediate_size=8, vocab_size=16)))
        add("esrgan", "upscaler", "", ESRGAN())
        add("esrgan-wrapped", "upscaler", "", prefixed("module.", ESRGAN().state_dict()))
        add("srvgg", "upscaler", "", srvgg())

    def one(**shapes):
        return {k.replace("__", "."): torch.zeros(s, device="meta") for k, s in shapes.items()}

    # By their authors' names.
    add("controlnet-ldm", "controlnet", "Stable Diffusion 1", {
        **one(control_model__zero_convs__0__0__weight=(320, 320, 1, 1), control_model__input_blocks__0__0__weight=(320, 4, 3, 3)),
        "control_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(320, 768, device="meta")})
    add("control-lora", "controlnet", "", one(lora_controlnet=(0,), input_hint_block__0__weight=(16, 3, 3, 3)))
    add("ip-adapter", "ip-adapter", "Stable Diffusion 1", one(image_proj__proj__weight=(3072, 1024), ip_adapter__1__to_k_ip__weight=(320, 768)))
    add("esrgan-old", "upscaler", "", {"model.0.weight": torch.zeros(64, 3, 3, 3), "model.1.sub.0.RDB1.conv1.0.weight": torch.zeros(32, 64, 3, 3)})
    add("bsrgan", "upscaler", "", {"conv_first.weight": torch.zeros(64, 3, 3, 3), "RRDB_trunk.0.RDB1.conv1.weight": torch.zeros(32, 64, 3, 3)})
    add("swinir", "other", "", {"conv_first.weight": torch.zeros(60, 3, 3, 3), "layers.0.residual_group.blocks.0.norm1.weight": torch.zeros(60)})
    add("flux-original", "transformer", "FLUX.1", {
        "model.diffusion_model.double_blocks.0.img_attn.qkv.weight": torch.zeros(9, 3), "model.diffusion_model.guidance_in.in_layer.weight": torch.zeros(3, 2)})
    add("z-image-original", "transformer", "Z-Image", {
        "noise_refiner.0.attention.qkv.weight": torch.zeros(9, 3), "cap_embedder.1.weight": torch.zeros(3840, 2), "layers.0.attention.qkv.weight": torch.zeros(9, 3)})
    add("chroma", "transformer", "Chroma", {"distilled_guidance_layer.in_proj.weight": torch.zeros(3, 2), "double_blocks.0.img_attn.qkv.weight": torch.zeros(9, 3)})
    add("embedding-sd1", "embedding", "Stable Diffusion 1", {"<old-paint>": torch.zeros(768)})
    add("embedding-a1111", "embedding", "Stable Diffusion 2", {"emb_params": torch.zeros(4, 1024)})
    add("embedding-sdxl", "embedding", "SDXL", one(clip_l=(3, 768), clip_g=(3, 1280)))
    add("lora-flux", "adapter", "FLUX.1", {"transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight": torch.zeros(4, 8),
                                          "transformer.single_transformer_blocks.0.attn.to_k.lora_B.weight": torch.zeros(8, 4)})
    add("lora-refiner", "adapter", "SDXL refiner", {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": torch.zeros(4, 1280),
                                                   "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_up.weight": torch.zeros(8, 4)})
    add("nothing", "unknown", "", {"a": torch.zeros(3, 3, 3)})
    with gzip.GzipFile(OUT, "wb", 9, mtime=0) as f:
        f.write(json.dumps(out).encode())


if __name__ == "__main__":
    main()
