"""Golden pictures that others steer, from diffusers: ControlNets, T2I-Adapters, image prompts, editing by instruction, depth.

    python train/goldens_steer.py      writes pipeline/testdata/steer: pictures, nets/, models/, NAME.safetensors, NAME.png, cases.json

The models are those of train/goldens.py and train/goldens_sdxl.py, and two that this script makes. The networks are random, at
scales that let each change the picture much, which the script prints.
"""
import json
import os
import shutil

import goldens
import goldens_control
import goldens_sdxl
import numpy as np
import torch
from diffusers import (ControlNetModel, ControlNetUnionModel, StableDiffusionAdapterPipeline, StableDiffusionControlNetImg2ImgPipeline,
                       StableDiffusionControlNetInpaintPipeline, StableDiffusionControlNetPipeline, StableDiffusionDepth2ImgPipeline,
                       StableDiffusionInstructPix2PixPipeline, StableDiffusionPipeline, StableDiffusionXLAdapterPipeline,
                       StableDiffusionXLControlNetImg2ImgPipeline, StableDiffusionXLControlNetInpaintPipeline, StableDiffusionXLControlNetPipeline,
                       StableDiffusionXLControlNetUnionPipeline, StableDiffusionXLPipeline, StableDiffusionImg2ImgPipeline, T2IAdapter)
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

OUT = os.path.join(goldens.OUT, "steer")
NETS = os.path.join(OUT, "nets")
PROMPT = "a red apple on a blue table"
SD, SD2, XL = "../models/sd1", "../models/sd2", "../sdxl/models/xl"


def path(name):
    return os.path.normpath(os.path.join(OUT, name))


def picture(name):
    return Image.open(path(name + ".png"))


def pictures():
    for size in (64, 128):
        y, x = np.mgrid[0:size, 0:size] / size
        ring = np.abs(np.hypot(x - 0.5, y - 0.45) - 0.3) < 0.03
        lines = (np.abs(x + y - 1) < 0.02) | (np.abs(y - 0.8) < 0.02)
        Image.fromarray((np.stack([ring, ring, ring], -1) * 255).astype(np.uint8)).save(path(f"ring-{size}.png"))
        Image.fromarray((np.stack([lines, x, 1 - y], -1) * 255).astype(np.uint8)).save(path(f"lines-{size}.png"))
        Image.fromarray((255 * (0.2 + 0.6 * x * (1 - y))).astype(np.uint8)).save(path(f"depth-{size}.png"))
        # A map that fills little of the range, in 16 bits: in 8 it would have nine steps.
        Image.fromarray((65535 * (0.4 + 0.03 * x * (1 - y))).astype(np.uint16)).save(path(f"depth16-{size}.png"))
    y, x = np.mgrid[0:60, 0:90] / 60
    face = np.stack([0.5 + 0.5 * np.sin(9 * x), y, np.hypot(x - 0.7, y - 0.5) < 0.3], -1)
    Image.fromarray((face * 255).astype(np.uint8)).save(path("face.png"))
    Image.fromarray((face[14:46, 20:52] * 255).astype(np.uint8)).save(path("face-32.png"))


def edit_model(name, spec, channels):
    """As goldens_edit.make_inpaint: a model that reads so many channels."""
    out, goldens.OUT = goldens.OUT, OUT
    decode = goldens.AutoencoderKL.decode
    goldens.AutoencoderKL.decode = lambda self, z, *a, **k: decode(self, z[:, :4], *a, **k)
    try:
        goldens.make_model(name, {**spec, "unet": {**spec["unet"], "in_channels": channels, "out_channels": 4}})
    finally:
        goldens.OUT, goldens.AutoencoderKL.decode = out, decode


def unet_of(model):
    pipe = (StableDiffusionXLPipeline if model == XL else StableDiffusionPipeline).from_pretrained(path(model), torch_dtype=torch.float32, local_files_only=True)
    return pipe.unet


def loud(net, *parts, to=0.5):
    """Makes what is zero at first random, as large as to."""
    with torch.no_grad():
        for k, p in net.named_parameters():
            if any(part in k for part in parts):
                p.copy_(torch.randn(p.shape) * (to / max(p[0].numel(), 1) ** 0.5 if p.dim() > 1 else 0.1))
    return net


def save_net(name, net):
    shutil.rmtree(os.path.join(NETS, name), ignore_errors=True)
    net.half().save_pretrained(os.path.join(NETS, name), safe_serialization=True)
    return type(net).from_pretrained(os.path.join(NETS, name), torch_dtype=torch.float32)


def controlnet(name, model, seed, widths, cls=ControlNetModel, pooled=False, **extra):
    torch.manual_seed(seed)
    unet = unet_of(model)
    if cls is ControlNetModel:
        net = cls.from_unet(unet, conditioning_embedding_out_channels=widths)
    else:
        keep = ("block_out_channels", "layers_per_block", "attention_head_dim", "norm_num_groups", "use_linear_projection", "down_block_types",
                "transformer_layers_per_block", "cross_attention_dim", "addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim")
        net = cls(conditioning_embedding_out_channels=widths, **{k: unet.config[k] for k in keep}, **extra)
        loud(net, "task_embedding", "spatial_ch_projs", to=1.0)
    if pooled:
        net.register_to_config(global_pool_conditions=True)
    loud(net, "controlnet_down_blocks", "controlnet_mid_block", "cond_embedding.conv_out", to=0.5)
    return save_net(name, net)


def ldm_names(net):
    """The names of the original program for the tiny SD1 net, written down by hand; diffusers' own conversion checks them."""
    block = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3",
             "conv_shortcut": "skip_connection"}
    places = {"conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
              "down_blocks.0.resnets.0": "input_blocks.1.0", "down_blocks.0.attentions.0": "input_blocks.1.1", "down_blocks.0.resnets.1": "input_blocks.2.0",
              "down_blocks.0.attentions.1": "input_blocks.2.1", "down_blocks.0.downsamplers.0.conv": "input_blocks.3.0.op",
              "down_blocks.1.resnets.0": "input_blocks.4.0", "down_blocks.1.resnets.1": "input_blocks.5.0", "mid_block.resnets.0": "middle_block.0",
              "mid_block.attentions.0": "middle_block.1", "mid_block.resnets.1": "middle_block.2", "controlnet_mid_block": "middle_block_out.0",
              "controlnet_cond_embedding.conv_in": "input_hint_block.0", "controlnet_cond_embedding.conv_out": "input_hint_block.14"}
    places |= {f"controlnet_cond_embedding.blocks.{i}": f"input_hint_block.{2 * i + 2}" for i in range(6)}
    places |= {f"controlnet_down_blocks.{i}": f"zero_convs.{i}.0" for i in range(6)}
    state = {}
    for key, value in net.state_dict().items():
        place = max((p for p in places if key.startswith(p + ".")), key=len)
        rest = key[len(place) + 1:]
        if ".resnets." in place:
            part, last = rest.rsplit(".", 1)
            rest = block[part] + "." + last
        state["control_model." + places[place] + "." + rest] = value.contiguous()
    back = convert_controlnet_checkpoint(state, dict(net.config))
    ours = net.state_dict()
    assert back.keys() == ours.keys() and all(torch.equal(back[k], ours[k]) for k in ours), set(back) ^ set(ours)
    return state


def relative_nets():
    """A net that differs little from its U-Net: whole, as a Control-LoRA, and as differences, by the names of the original program."""
    torch.manual_seed(31)
    unet = unet_of(SD)
    net = loud(ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 6, 8, 12)), "controlnet_down_blocks", "controlnet_mid_block",
               "cond_embedding.conv_out", to=0.5)
    base, factors = unet.state_dict(), {}
    with torch.no_grad():
        for key, p in net.named_parameters():
            if key not in base:
                continue
            if p.dim() < 2:
                p.add_(0.03 * torch.randn(p.shape))
                continue
            up, down = 0.2 * torch.randn(p.shape[0], 2), 0.2 * torch.randn(2, *p.shape[1:])
            p.add_((up @ down.flatten(1)).reshape(p.shape))
            factors[key] = up.reshape(*up.shape, *[1] * (p.dim() - 2)), down
    shutil.rmtree(os.path.join(NETS, "relative"), ignore_errors=True)
    net.save_pretrained(os.path.join(NETS, "relative"), safe_serialization=True)
    names = ldm_names(net)
    own = net.state_dict()
    ours = {}  # name of the original program -> ours
    for name, value in names.items():
        ours[name] = next(k for k in own if k not in ours.values() and own[k].shape == value.shape and torch.equal(own[k], value))
    lora, difference = {"lora_controlnet": torch.zeros(0)}, {"difference": torch.zeros(1)}
    for name, value in names.items():
        key, bare = ours[name], name.removeprefix("control_model.")
        difference[name] = value - base[key] if key in base else value
        if key in factors:
            lora[bare.removesuffix("weight") + "up"], lora[bare.removesuffix("weight") + "down"] = factors[key]
        else:
            lora[bare] = value
    for name, state in (("relative-lora", lora), ("relative-difference", difference)):
        save_file({k: v.detach().float().contiguous() for k, v in state.items()}, os.path.join(NETS, name + ".safetensors"))


def adapter(name, model, seed):
    torch.manual_seed(seed)
    kind, factor = ("full_adapter_xl", 8) if model == XL else ("full_adapter", 8)  # that model's autoencoder halves twice
    net = T2IAdapter(channels=(8, 16), num_res_blocks=2, downscale_factor=factor, adapter_type=kind)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(1.5)
    return save_net(name, net)


def t2i_names(net):
    """The names of the original program: all blocks in a row."""
    state = {}
    for key, value in net.state_dict().items():
        key = key.removeprefix("adapter.")
        if key.startswith("body."):
            _, i, rest = key.split(".", 2)
            j = 0
            if rest.startswith("resnets."):
                _, j, rest = rest.split(".", 2)
            key = f"body.{2 * int(i) + int(j)}.{rest}"
        state[key] = value.contiguous()
    return state


VISION = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8, projection_dim=14, hidden_act="gelu")


def image_prompts():
    torch.manual_seed(77)
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION, initializer_factor=4.0)).half()
    encoder.save_pretrained(os.path.join(NETS, "image_encoder"))
    for name, model in (("ip", SD), ("ip-xl", XL)):
        unet = unet_of(model)
        torch.manual_seed(78)
        save_file({k: v.half().contiguous() for k, v in goldens_control.ImagePrompt(unet, 14, 4).state_dict().items()}, os.path.join(NETS, name + ".safetensors"))
    unet = unet_of(SD)
    state = {k: v for k, v in goldens_control.ImagePrompt(unet, 14, 4).state_dict().items() if k.startswith("ip_adapter")}
    shapes = {"latents": (1, 3, 10), "proj_in.weight": (10, 16), "proj_in.bias": (10,), "proj_out.weight": (24, 10), "proj_out.bias": (24,),
              "norm_out.weight": (24,), "norm_out.bias": (24,)}
    for i in range(4):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            shapes[f"layers.{i}.{norm}.weight"] = shapes[f"layers.{i}.{norm}.bias"] = (10,)
        shapes |= {f"layers.{i}.0.to_q.weight": (64, 10), f"layers.{i}.0.to_kv.weight": (128, 10), f"layers.{i}.0.to_out.weight": (10, 64),
                   f"layers.{i}.1.1.weight": (40, 10), f"layers.{i}.1.3.weight": (10, 40)}
    state |= {"image_proj." + k: goldens_control.weight("image_proj." + k, s) for k, s in shapes.items()}
    parts = {part: {k.removeprefix(part + "."): v.half() for k, v in state.items() if k.startswith(part)} for part in ("image_proj", "ip_adapter")}
    torch.save(parts, os.path.join(NETS, "ip-plus.bin"))  # as published: dicts within a dict


def load_ip(name):
    file = os.path.join(NETS, name)
    if name.endswith(".bin"):
        state = torch.load(file)
    else:
        from safetensors.torch import load_file
        flat = load_file(file)
        state = {part: {k.removeprefix(part + "."): v for k, v in flat.items() if k.startswith(part)} for part in ("image_proj", "ip_adapter")}
    return {part: {k: v.float() for k, v in values.items()} for part, values in state.items()}


def run(name, model, cls, scheduler, control, parts=None, images=(), scales=(), tolerance=1e-4, **kw):
    """One call. control is what the program's --control says; images are those of image prompts, with their networks in parts."""
    extra = {"add_watermarker": False} if model == XL else {}
    prompts = (parts or {}).pop("ip", [])
    pipe = cls.from_pretrained(path(model), torch_dtype=torch.float32, local_files_only=True, **(parts or {}), **extra)
    pipe.set_progress_bar_config(disable=True)
    with open(os.path.join(path(model), "scheduler", "scheduler_config.json")) as f:
        pipe.scheduler = goldens.scheduler_for(scheduler, json.load(f))
    if prompts:
        pipe.unet._load_ip_adapter_weights([load_ip(p) for p in prompts])
        pipe.unet.float()
        pipe.image_encoder = CLIPVisionModelWithProjection.from_pretrained(os.path.join(NETS, "image_encoder"), torch_dtype=torch.float32)
        pipe.feature_extractor = CLIPImageProcessor(size=32, crop_size=32)
        pipe.set_ip_adapter_scale(list(scales))
        kw["ip_adapter_image"] = [picture(i) for i in images]
    case = dict(name=name, model=model, scheduler=scheduler, prompt=PROMPT, control=control, tolerance=tolerance)
    for key in ("strength", "image_guidance_scale"):
        if key in kw:
            case[key] = kw[key]
    size = 64 if model in (XL, SD2, "models/depth") else 128
    case["size"] = size
    case["init"] = "strength" in kw or cls is StableDiffusionInstructPix2PixPipeline
    case["mask"] = "mask_image" in kw
    case["depth"] = "depth_map" in kw
    with torch.no_grad():
        latents = pipe(prompt=PROMPT, num_inference_steps=6, guidance_scale=5.0, generator=torch.Generator("cpu").manual_seed(21), output_type="latent", **kw).images
        image = pipe.image_processor.postprocess(pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample, output_type="np")[0]
    save_file({"latents": latents.contiguous()}, path(name + ".safetensors"))
    Image.fromarray((image * 255).round().astype(np.uint8)).save(path(name + ".png"))
    print(f"{name:16} latents std {latents.std():.2f}, picture std {image.std():.2f}")
    return case


def main():
    os.makedirs(NETS, exist_ok=True)
    pictures()
    spec = goldens.MODELS
    edit_model("instruct", spec["sd1"], 8)
    edit_model("depth", spec["sd2"], 5)
    one, two = controlnet("one", SD, 1, (4, 6, 8, 12)), controlnet("two", SD, 2, (4, 4, 8, 8))
    relative_nets()
    pooled = controlnet("shuffle", SD, 9, (4, 4, 8, 8), pooled=True)
    second = controlnet("sd2", SD2, 10, (4, 6))  # that model's autoencoder halves once
    xl = controlnet("xl", XL, 3, (4, 6, 12))  # that model's autoencoder halves twice
    union = controlnet("union", XL, 4, (4, 6, 12), cls=ControlNetUnionModel, num_control_type=4, num_trans_channel=8, num_trans_head=2, num_trans_layer=2,
                       num_proj_channel=8)
    save_file({k: v.half() for k, v in ldm_names(one).items()}, os.path.join(NETS, "one-ldm.safetensors"))
    t2i, t2i_xl = adapter("t2i", SD, 5), adapter("t2i-xl", XL, 6)
    torch.save({k: v.half() for k, v in t2i_names(t2i).items()}, os.path.join(NETS, "t2i-original.pth"))
    image_prompts()
    edits = os.path.join(goldens.OUT, "edit")
    init, mask = Image.open(os.path.join(edits, "init-128.png")), Image.open(os.path.join(edits, "mask-128.png"))
    init_small, mask_small = Image.open(os.path.join(edits, "init-64.png")), Image.open(os.path.join(edits, "mask-64.png"))
    ring, lines = picture("ring-128"), picture("lines-128")
    small, small_lines = picture("ring-64"), picture("lines-64")
    CN, CNXL = StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline
    cases = [
        run("none", SD, StableDiffusionPipeline, "ddim", ""),
        run("one", SD, CN, "ddim", "one=ring-128.png:scale=0.8", dict(controlnet=one), image=ring, controlnet_conditioning_scale=0.8),
        run("one-euler-a", SD, CN, "euler-a", "one=lines-128.png", dict(controlnet=one), image=lines),
        run("two", SD, CN, "euler", "one=ring-128.png:scale=0.7;two=lines-128.png:scale=0.5", dict(controlnet=[one, two]), image=[ring, lines],
            controlnet_conditioning_scale=[0.7, 0.5]),
        run("two-intervals", SD, CN, "ddim", "one=ring-128.png:end=0.5;two=lines-128.png:scale=0.5,start=0.3,end=0.9", dict(controlnet=[one, two]),
            image=[ring, lines], controlnet_conditioning_scale=[1.0, 0.5], control_guidance_start=[0.0, 0.3], control_guidance_end=[0.5, 0.9]),
        run("guess", SD, CN, "ddim", "one=ring-128.png:guess", dict(controlnet=one), image=ring, guess_mode=True),
        run("pooled", SD, CN, "ddim", "shuffle=lines-128.png:scale=1.5", dict(controlnet=pooled), image=lines, controlnet_conditioning_scale=1.5),
        run("interval", SD, CN, "dpm++2m-karras", "one=ring-128.png:start=0.2,end=0.7", dict(controlnet=one), image=ring, control_guidance_start=0.2,
            control_guidance_end=0.7),
        run("from-picture", SD, StableDiffusionControlNetImg2ImgPipeline, "euler", "one=ring-128.png:scale=0.8", dict(controlnet=one), image=init,
            control_image=ring, controlnet_conditioning_scale=0.8, strength=0.6),
        run("paint", SD, StableDiffusionControlNetInpaintPipeline, "ddim", "one=ring-128.png:scale=0.5", dict(controlnet=one), image=init, mask_image=mask,
            control_image=ring, controlnet_conditioning_scale=0.5, strength=0.7, height=128, width=128),
        run("paint-nine", "../edit/models/inpaint", StableDiffusionControlNetInpaintPipeline, "ddim", "one=ring-128.png:scale=0.5", dict(controlnet=one),
            image=init, mask_image=mask, control_image=ring, controlnet_conditioning_scale=0.5, strength=1.0, height=128, width=128),
        run("xl", XL, CNXL, "euler", "xl=ring-64.png:scale=0.8", dict(controlnet=xl), image=small, controlnet_conditioning_scale=0.8),
        run("xl-guess", XL, CNXL, "ddim", "xl=ring-64.png:guess,end=0.8", dict(controlnet=xl), image=small, guess_mode=True, control_guidance_end=0.8),
        run("xl-from-picture", XL, StableDiffusionXLControlNetImg2ImgPipeline, "euler-a", "xl=ring-64.png:scale=0.8", dict(controlnet=xl), image=init_small,
            control_image=small, controlnet_conditioning_scale=0.8, strength=0.6),
        run("xl-paint", XL, StableDiffusionXLControlNetInpaintPipeline, "euler", "xl=ring-64.png:scale=0.8", dict(controlnet=xl), image=init_small,
            mask_image=mask_small, control_image=small, controlnet_conditioning_scale=0.8, strength=0.9, height=64, width=64),
        run("sd2", SD2, CN, "ddim", "sd2=ring-64.png:scale=0.8", dict(controlnet=second), image=small, controlnet_conditioning_scale=0.8),
        run("ip-from-picture", SD, StableDiffusionImg2ImgPipeline, "ddim", "ip.safetensors=face-32.png:scale=0.6", dict(ip=["ip.safetensors"]), ["face-32"], [0.6],
            image=init, strength=0.7),
        run("union", XL, StableDiffusionXLControlNetUnionPipeline, "euler", "union=ring-64.png:type=2,scale=0.7", dict(controlnet=union), control_image=[small],
            control_mode=[2], controlnet_conditioning_scale=0.7),
        run("union-two", XL, StableDiffusionXLControlNetUnionPipeline, "euler", "union=ring-64.png:type=2,scale=0.7;union=lines-64.png:type=depth,scale=0.9",
            dict(controlnet=union), control_image=[small, small_lines], control_mode=[2, 1], controlnet_conditioning_scale=[0.7, 0.9]),
        run("t2i", SD, StableDiffusionAdapterPipeline, "ddim", "t2i=lines-128.png:scale=0.6", dict(adapter=t2i), image=lines, adapter_conditioning_scale=0.6),
        run("t2i-xl", XL, StableDiffusionXLAdapterPipeline, "euler", "t2i-xl=lines-64.png:scale=0.6,end=0.7", dict(adapter=t2i_xl), image=small_lines,
            adapter_conditioning_scale=0.6, adapter_conditioning_factor=0.7),
        run("ip", SD, StableDiffusionPipeline, "ddim", "ip.safetensors=face-32.png:scale=0.6", dict(ip=["ip.safetensors"]), ["face-32"], [0.6]),
        # Pillow rounds between the passes of its filter; the sizes and the cut are what this is about.
        run("ip-cut", SD, StableDiffusionPipeline, "ddim", "ip.safetensors=face.png", dict(ip=["ip.safetensors"]), ["face"], [1.0], tolerance=1e-2),
        run("ip-plus", SD, StableDiffusionPipeline, "euler", "ip-plus.bin=face-32.png:scale=0.8", dict(ip=["ip-plus.bin"]), ["face-32"], [0.8]),
        run("ip-two", SD, StableDiffusionPipeline, "euler", "ip.safetensors=face-32.png:scale=0.4;ip-plus.bin=ring-64.png:scale=0.5",
            dict(ip=["ip.safetensors", "ip-plus.bin"]), ["face-32", "ring-64"], [0.4, 0.5], tolerance=1e-2),
        run("ip-xl", XL, StableDiffusionXLPipeline, "euler", "ip-xl.safetensors=face-32.png:scale=0.7", dict(ip=["ip-xl.safetensors"]), ["face-32"], [0.7]),
        run("ip-and-net", SD, CN, "ddim", "one=ring-128.png:scale=0.5;ip.safetensors=face-32.png:scale=0.5", dict(controlnet=one, ip=["ip.safetensors"]),
            ["face-32"], [0.5], image=ring, controlnet_conditioning_scale=0.5),
        run("instruct", "models/instruct", StableDiffusionInstructPix2PixPipeline, "euler-a", "", image=init, image_guidance_scale=1.8),
        run("instruct-ddim", "models/instruct", StableDiffusionInstructPix2PixPipeline, "ddim", "", image=init, image_guidance_scale=1.0),
        run("depth", "models/depth", StableDiffusionDepth2ImgPipeline, "euler", "", dict(depth_estimator=None, feature_extractor=None), image=Image.open(os.path.join(edits, "init-64.png")),
            depth_map=torch.from_numpy(np.asarray(picture("depth-64"))).float()[None], strength=0.7),
        run("depth16", "models/depth", StableDiffusionDepth2ImgPipeline, "ddim", "", dict(depth_estimator=None, feature_extractor=None),
            image=Image.open(os.path.join(edits, "init-64.png")), depth_map=torch.from_numpy(np.asarray(picture("depth16-64")).astype(np.float32))[None], strength=0.7),
    ]
    with open(path("cases.json"), "w") as f:
        json.dump(cases, f, indent=1)


if __name__ == "__main__":
    main()
