"""Golden pictures with step caching: diffusers' pipelines, whose U-Nets take what lies deep in them from an earlier call.

    python train/goldens_cache.py       writes pipeline/testdata/cache: NAME.safetensors, NAME.png, cases.json

A hook at the first of the outermost layers keeps or replaces what it reads; everything below is computed all the same, and
not looked at. So nothing of the network is written down anew here. T-GATE is as its authors' code has it (Zhang et al. 2024):
hooks keep and replace what cross-attention gives, and the U-Net sees the negative prompt's row alone. The models are those of train/goldens.py and
train/goldens_sdxl.py.
"""

import json
import os

import goldens
import numpy as np
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.models.attention import BasicTransformerBlock
from PIL import Image
from safetensors.torch import save_file

OUT = os.path.join(goldens.OUT, "cache")
PROMPT = "a red apple on a blue table"
STEPS = 9


class Cache:
    def __init__(self, unet, layers, decide):
        self.decide, self.calls, self.whole, self.first, self.inner = decide, 0, [], None, None
        self.skip = skip_width(unet, layers)
        up = [r for b in unet.up_blocks for r in b.resnets]
        first = unet.down_blocks[0]
        module = first.attentions[0] if hasattr(first, "attentions") and first.attentions else first.resnets[0]
        module.register_forward_hook(self.on_first)
        up[len(up) - layers].register_forward_pre_hook(self.on_inner)
        unet.register_forward_hook(self.on_end)

    def on_first(self, module, args, output):
        self.now = (output[0] if isinstance(output, tuple) else output).double()
        change = float("inf") if self.first is None else float((self.now - self.first).abs().mean() / self.first.abs().mean())
        self.is_whole = self.inner is None or self.decide(self.calls, self.calls - 1 - self.whole[-1] if self.whole else 0, change)

    def on_inner(self, module, args):
        x, *rest = args
        width = x.shape[1] - self.skip
        if self.is_whole:
            self.first, self.inner = self.now, x[:, :width].clone()
            self.whole.append(self.calls)
        return (torch.cat([self.inner, x[:, width:]], 1), *rest)

    def on_end(self, module, args, output):
        self.calls += 1


class TGate:
    """Up to step gate everything is as always; in the last of these steps the mean over the rows of what each
    cross-attention gives is kept, and put in its place in all later steps, in which there is one row."""

    def __init__(self, unet, gate):
        self.gate, self.calls, self.whole, self.kept = gate, 0, [], {}
        for block in unet.modules():
            if isinstance(block, BasicTransformerBlock):
                for attention in [block.attn2] + [block.attn1] * block.only_cross_attention:
                    attention.register_forward_hook(self.on_attention)
        self.forward, unet.forward = unet.forward, self.call

    def on_attention(self, module, args, output):
        if self.calls == self.gate - 1:
            self.kept[module] = output.mean(0, keepdim=True)
        return output if self.calls < self.gate else self.kept[module]

    def call(self, sample, timestep, encoder_hidden_states, added_cond_kwargs=None, return_dict=False, **other):
        if self.calls < self.gate:
            self.whole.append(self.calls)
            out = self.forward(sample, timestep, encoder_hidden_states=encoder_hidden_states, added_cond_kwargs=added_cond_kwargs, return_dict=False, **other)
        else:
            added = {k: v[:1] for k, v in (added_cond_kwargs or {}).items()} or None
            one, = self.forward(sample[:1], timestep, encoder_hidden_states=encoder_hidden_states[:1], added_cond_kwargs=added, return_dict=False, **other)
            out = (torch.cat([one, one]),)  # guidance between equals is none
        self.calls += 1
        return out


def skip_width(unet, layers):
    """Channels of the skip that the first of the outermost layers takes: those of the way down, from the top."""
    widths = [unet.conv_in.out_channels]
    for b in unet.down_blocks:
        widths += [r.out_channels for r in b.resnets]
        if b.downsamplers:
            widths.append(b.downsamplers[0].out_channels)
    return widths[layers - 1]


def deepcache(every, first=1, last=0):
    def decide(call, reused, change):
        n = call - (first - 1)
        return n <= 0 or n % every == 0 or call >= STEPS - last
    return decide


def firstblock(threshold, most=3):
    return lambda call, reused, change: reused >= most or change > threshold


def run(name, model, scheduler, size, spec, cached):
    path = os.path.normpath(os.path.join(OUT, model))
    kind = StableDiffusionXLPipeline if "xl" in model else StableDiffusionPipeline
    pipe = kind.from_pretrained(path, torch_dtype=torch.float32, **({"add_watermarker": False} if "xl" in model else {}))
    pipe.set_progress_bar_config(disable=True)
    with open(os.path.join(path, "scheduler", "scheduler_config.json")) as f:
        pipe.scheduler = goldens.scheduler_for(scheduler, json.load(f))
    cache = cached(pipe.unet)
    with torch.no_grad():
        latents = pipe(prompt=PROMPT, negative_prompt="fog", num_inference_steps=STEPS, guidance_scale=5.0, width=size, height=size,
                       generator=torch.Generator("cpu").manual_seed(21), output_type="latent").images
        z = latents / pipe.vae.config.scaling_factor + (pipe.vae.config.shift_factor or 0)  # which a StableDiffusionPipeline leaves out
        image = pipe.image_processor.postprocess(pipe.vae.decode(z).sample, output_type="np")[0]
    save_file({"latents": latents.contiguous()}, os.path.join(OUT, name + ".safetensors"))
    Image.fromarray((image * 255).round().astype(np.uint8)).save(os.path.join(OUT, name + ".png"))
    print(name, "whole", cache.whole, "of", cache.calls, "picture std", float(image.std()))
    return dict(name=name, model=model, scheduler=scheduler, size=size, steps=STEPS, prompt=PROMPT, negative="fog", cache=spec, whole=cache.whole, calls=cache.calls)


def main():
    os.makedirs(OUT, exist_ok=True)
    sd, xl = "../models/sd1", "../sdxl/models/xl"

    def inner(layers, decide):
        return lambda unet: Cache(unet, layers, decide)

    def tgate(gate):
        return lambda unet: TGate(unet, gate)
    cases = [
        run("deep-2", sd, "ddim", 64, "deepcache:every=2", inner(2, deepcache(2))),
        run("deep-1", sd, "euler", 64, "deepcache:every=3,layers=1", inner(1, deepcache(3))),
        run("deep-rim", sd, "dpm++2m", 64, "deepcache:every=3,first=2,last=2,layers=3", inner(3, deepcache(3, 2, 2))),
        run("first", sd, "ddim", 64, "firstblock:threshold=0.2", inner(2, firstblock(0.2))),
        run("xl-deep", xl, "euler", 64, "deepcache:every=3,layers=3", inner(3, deepcache(3))),
        run("gate", sd, "ddim", 64, "tgate:gate=4", tgate(4)),
        run("gate-2", "../models/sd2", "dpm++2m", 64, "tgate:gate=1", tgate(1)),
        run("gate-cross", "../models/odd", "ddim", 64, "tgate:gate=3", tgate(3)),
        run("xl-gate", xl, "euler", 64, "tgate:gate=5", tgate(5)),
    ]
    with open(os.path.join(OUT, "cases.json"), "w") as f:
        json.dump(cases, f, indent=1)


if __name__ == "__main__":
    main()
