"""Writes checkpoint/testdata/single: models in one file, and what they hold as diffusers' folders.

    python train/goldens_single.py

structures.json.gz has names and shapes of models of real size; the small files beside it have weights too.
"""

import gzip
import hashlib
import json
import pathlib
import shutil
import sys

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from train import single_names  # noqa: E402

OUT = pathlib.Path(__file__).resolve().parent.parent / "checkpoint" / "testdata" / "single"

SD1 = dict(cross_attention_dim=768, attention_head_dim=8, sample_size=64)
SD2 = dict(cross_attention_dim=1024, attention_head_dim=[5, 10, 20, 20], use_linear_projection=True, sample_size=96)
XL = dict(block_out_channels=(320, 640, 1280), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
          up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=2048, attention_head_dim=[5, 10, 20],
          use_linear_projection=True, transformer_layers_per_block=[1, 2, 10], addition_embed_type="text_time", addition_time_embed_dim=256,
          projection_class_embeddings_input_dim=2816, sample_size=128)
REFINER = {**XL, "block_out_channels": (384, 768, 1536, 1536), "cross_attention_dim": 1280, "attention_head_dim": [6, 12, 24, 24],
           "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
           "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "transformer_layers_per_block": 4,
           "projection_class_embeddings_input_dim": 2560}
TINY = dict(**SD1, block_out_channels=(320, 640, 1280), layers_per_block=1, mid_block_type=None,
            down_block_types=("CrossAttnDownBlock2D",) * 3, up_block_types=("CrossAttnUpBlock2D",) * 3)

UNETS = {
    "sd15": SD1, "sd15-inpaint": {**SD1, "in_channels": 9}, "pix2pix": {**SD1, "in_channels": 8}, "sd21": SD2, "depth": {**SD2, "in_channels": 5},
    "sdxl": XL, "sdxl-lcm": {**XL, "time_cond_proj_dim": 256}, "refiner": REFINER,
    "ssd-1b": {**XL, "transformer_layers_per_block": [1, [2, 2], [4, 4]], "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
               "mid_block_type": "UNetMidBlock2D"},
    "vega": {**XL, "transformer_layers_per_block": [1, [1, 1], [2, 2]], "reverse_transformer_layers_per_block": [[2, 2, 2], [1, 1, 1], 1],
             "mid_block_type": "UNetMidBlock2D"},
    "tiny-sd": TINY,
}
VAE = dict(block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, down_block_types=("DownEncoderBlock2D",) * 4,
           up_block_types=("UpDecoderBlock2D",) * 4)


def text(kind, layers=None):
    sizes = {"l": (768, 3072, 12, 12, "quick_gelu"), "h": (1024, 4096, 24, 16, "gelu"), "g": (1280, 5120, 32, 20, "gelu")}[kind]
    config = CLIPTextConfig(hidden_size=sizes[0], intermediate_size=sizes[1], num_hidden_layers=layers or sizes[2], num_attention_heads=sizes[3],
                            hidden_act=sizes[4], projection_dim=sizes[0])
    return (CLIPTextModelWithProjection if kind != "l" else CLIPTextModel)(config)


def old_names(state):
    """transformers 5 dropped text_model. from the names of CLIPTextModel; files have it."""
    return {k if k.startswith(("text_model.", "text_projection")) else f"text_model.{k}": v for k, v in state.items() if not k.endswith("position_ids")}


def unet_to_ldm(model, stride):
    kinds = model.config.up_block_types
    return {single_names.unet(k, lambda i: "CrossAttn" in kinds[i], stride): v for k, v in model.state_dict().items()}


def vae_to_ldm(model):
    levels = len(model.config.block_out_channels)
    return {single_names.vae(k, levels): single_names.vae_array(k, v) for k, v in model.state_dict().items()}


def prefixed(prefix, tensors):
    return {prefix + k: v for k, v in tensors.items()}


def shapes(tensors):
    return {k: list(v.shape) for k, v in tensors.items()}


def structures():
    out = {}
    with torch.device("meta"):
        vae = AutoencoderKL(**VAE)
        l, h, h23, g = text("l"), text("h"), text("h", 23), text("g")
        for name, config in UNETS.items():
            unet = UNet2DConditionModel(**config)
            layers = 3  # LDM's own models have 2 and one; tiny ones were numbered as if they had, with gaps
            whole = prefixed("model.diffusion_model.", unet_to_ldm(unet, layers)) | prefixed("first_stage_model.", vae_to_ldm(vae))
            parts = {"unet": unet.state_dict(), "vae": vae.state_dict()}
            configs = {"unet": {k: v for k, v in unet.config.items() if not k.startswith("_")}, "vae": {k: v for k, v in vae.config.items() if k[0] != "_"}}
            if config["cross_attention_dim"] == 768:
                whole |= prefixed("cond_stage_model.transformer.", old_names(l.state_dict()))
                whole["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.zeros(1, 77)
                parts["text_encoder"] = old_names(l.state_dict())
            elif config["cross_attention_dim"] == 1024:
                whole |= prefixed("cond_stage_model.model.", single_names.open_clip(old_names(h.state_dict())))
                parts["text_encoder"] = {k: v for k, v in old_names(h23.state_dict()).items() if k != "text_projection.weight"}
            elif name == "refiner":
                whole |= prefixed("conditioner.embedders.0.model.", single_names.open_clip(old_names(g.state_dict())))
                parts["text_encoder_2"] = old_names(g.state_dict())
            else:
                whole |= prefixed("conditioner.embedders.0.transformer.", old_names(l.state_dict()))
                whole |= prefixed("conditioner.embedders.1.model.", single_names.open_clip(old_names(g.state_dict())))
                parts |= {"text_encoder": old_names(l.state_dict()), "text_encoder_2": old_names(g.state_dict())}
            whole |= {"alphas_cumprod": torch.zeros(1000), "model_ema.decay": torch.zeros(()), "model_ema.num_updates": torch.zeros(())}
            out[name] = {"file": shapes(whole), "parts": {k: shapes(v) for k, v in parts.items()}, "config": configs}
    with gzip.GzipFile(OUT / "structures.json.gz", "wb", 9, mtime=0) as f:
        f.write(json.dumps(out).encode())


def digest(t):
    return hashlib.sha256(t.float().contiguous().numpy().tobytes()).hexdigest()[:16]


def small():
    """A whole small model of each kind, with weights: what each name stands for, and diffusers' own conversion agreeing."""
    torch.manual_seed(0)
    expected = {}
    kinds = {
        "sd1": dict(unet=dict(block_out_channels=(4, 8), layers_per_block=2, cross_attention_dim=8, attention_head_dim=2, norm_num_groups=2,
                              down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))),
        "sd2": dict(unet=dict(block_out_channels=(4, 8), layers_per_block=2, cross_attention_dim=8, attention_head_dim=[1, 1], norm_num_groups=2,
                              use_linear_projection=True, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                              up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))),
        "sdxl": dict(unet=dict(block_out_channels=(4, 8), layers_per_block=2, cross_attention_dim=20, attention_head_dim=[1, 1], norm_num_groups=2,
                               use_linear_projection=True, transformer_layers_per_block=[1, 2], addition_embed_type="text_time", addition_time_embed_dim=4,
                               projection_class_embeddings_input_dim=36, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                               up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))),
    }
    vae = AutoencoderKL(block_out_channels=(4, 8), layers_per_block=1, latent_channels=4, norm_num_groups=2, sample_size=32,
                        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)

    def encoder(hidden, layers, projection=None):
        config = CLIPTextConfig(vocab_size=30, hidden_size=hidden, intermediate_size=12, num_hidden_layers=layers, num_attention_heads=2,
                                projection_dim=projection or 0)
        torch.nn.init.normal_((m := (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)).get_input_embeddings().weight)
        return old_names(m.state_dict())

    for name, config in kinds.items():
        unet = UNet2DConditionModel(**config["unet"])
        ldm = unet_to_ldm(unet, 3)
        whole = prefixed("model.diffusion_model.", ldm) | prefixed("first_stage_model.", vae_to_ldm(vae))
        parts = {"unet": unet.state_dict(), "vae": vae.state_dict()}
        if name == "sd1":
            parts["text_encoder"] = encoder(8, 2)
            whole |= prefixed("cond_stage_model.transformer.", parts["text_encoder"])
            whole["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None].float() + 0.3
            averaged = {"model_ema.diffusion_model" + k.replace(".", ""): v * 2 for k, v in ldm.items()}  # as training leaves them
            expected["sd1-ema"] = {"unet": {k: [list(v.shape), digest((v * 2).half())] for k, v in parts["unet"].items()}}
        elif name == "sd2":
            full = encoder(8, 2, 8)
            parts["text_encoder"] = {k: v for k, v in full.items() if k != "text_projection.weight"}
            whole |= prefixed("cond_stage_model.model.", single_names.open_clip(full))
            whole["cond_stage_model.model.logit_scale"] = torch.ones(())
        else:
            parts["text_encoder"], parts["text_encoder_2"] = encoder(8, 2), encoder(12, 2, 12)
            whole |= prefixed("conditioner.embedders.0.transformer.", parts["text_encoder"])
            whole |= prefixed("conditioner.embedders.1.model.", single_names.open_clip(parts["text_encoder_2"]))
            whole |= {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
        whole = {k: v.contiguous().clone().half() if v.is_floating_point() else v for k, v in whole.items()}
        # The inverse map above is right if diffusers' own converter undoes it.
        back = single_file_utils.convert_ldm_vae_checkpoint({k: v for k, v in whole.items()}, vae.config)
        assert set(back) == set(parts["vae"]) and all(torch.equal(back[k], parts["vae"][k].half()) for k in back), "vae"
        save_file(whole, OUT / f"{name}.safetensors")
        if name == "sd1":
            torch.save({"global_step": 1, "state_dict": whole | {k: v.half() for k, v in averaged.items()}}, OUT / "sd1.ckpt")
            expected["sd1-ckpt"] = expected["sd1"] = None
            diffusers = {}
            for part, t in parts.items():
                diffusers |= prefixed({"text_encoder": "text_encoder."}.get(part, part + "."), {k: v.half() for k, v in t.items()})
            save_file(diffusers, OUT / "sd1-diffusers.safetensors")
        expected[name] = {p: {k: [list(v.shape), digest(v.half())] for k, v in t.items()} for p, t in parts.items()}
    expected["sd1-diffusers"] = expected["sd1-ckpt"] = expected["sd1"]
    (OUT / "expected.json").write_text(json.dumps(expected))


def check_unet_map():
    """diffusers' own converter undoes the names of models of real size."""
    for name in ("sd15", "sd21", "sdxl", "refiner"):
        with torch.device("meta"):
            unet = UNet2DConditionModel(**UNETS[name])
        ldm = prefixed("model.diffusion_model.", unet_to_ldm(unet, 3))
        config = dict(unet.config)
        if config["addition_embed_type"] == "text_time":
            config["class_embed_type"] = None
        back = single_file_utils.convert_ldm_unet_checkpoint(dict(ldm), config)
        assert shapes(back) == shapes(unet.state_dict()), name


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    check_unet_map()
    structures()
    small()


if __name__ == "__main__":
    main()
