"""Golden pictures of what Darkroom composes of several noises, prompts, sizes: diffusers' networks and schedulers, put together here.

    python train/goldens_compose.py    writes pipeline/testdata/compose: NAME.safetensors, NAME.png, cases.json

The models are those of train/goldens.py. A case names the settings that Darkroom is given; how each is computed with torch
stands below, in plain steps.
"""

import json
import os
import types

import goldens
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import save_file

OUT = os.path.join(goldens.OUT, "compose")
EDIT = os.path.join(goldens.OUT, "edit")
PROMPT = "a red apple on a blue table"
SEED, STEPS, CFG, SIDE = 21, 6, 5.0, 64
MODEL = os.path.join(goldens.OUT, "models", "sd1")


def open_pipe(scheduler, cls=StableDiffusionPipeline):
    pipe = cls.from_pretrained(MODEL, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    with open(os.path.join(MODEL, "scheduler", "scheduler_config.json")) as f:
        pipe.scheduler = goldens.scheduler_for(scheduler, json.load(f))
    return pipe


def noise(seed, h, w):
    return torch.randn((1, 4, h, w), generator=torch.Generator("cpu").manual_seed(seed))


def slerp(t, a, b):
    """Spherical interpolation (Shoemake 1985) of noises [C,h,w], each column of h values a vector: the web UIs' axis 1."""
    omega = torch.acos((F.normalize(a, dim=1) * F.normalize(b, dim=1)).sum(1, keepdim=True))
    return torch.sin((1 - t) * omega) / torch.sin(omega) * a + torch.sin(t * omega) / torch.sin(omega) * b


def circular(pipe, axes):
    """Convolutions that see the other side of the picture, along some axes."""
    for net in (pipe.unet, pipe.vae.decoder, pipe.vae.post_quant_conv):
        for m in net.modules():
            if isinstance(m, torch.nn.Conv2d) and max(m.padding) > 0:
                def forward(x, m=m):
                    py, px = m.padding
                    x = F.pad(x, (px, px, 0, 0), mode="circular" if "x" in axes else "constant")
                    x = F.pad(x, (0, 0, py, py), mode="circular" if "y" in axes else "constant")
                    return F.conv2d(x, m.weight, m.bias, m.stride, 0, m.dilation, m.groups)
                m.forward = forward


def embed(pipe, text):
    return goldens.chunked(pipe, text, 1)


def sample(pipe, x, conds, uncond=lambda i: ""):
    """The denoising loop: eps = u + CFG * sum_k w_k * (c_k - u), conds(i) giving the texts and weights of step i."""
    pipe.scheduler.set_timesteps(STEPS)
    x = x * pipe.scheduler.init_noise_sigma
    for i, t in enumerate(pipe.scheduler.timesteps):
        scaled = pipe.scheduler.scale_model_input(x, t)
        u = pipe.unet(scaled, t, encoder_hidden_states=embed(pipe, uncond(i))).sample
        eps = u
        for text, weight in conds(i):
            e = text if torch.is_tensor(text) else embed(pipe, text)
            eps = eps + CFG * weight * (pipe.unet(scaled, t, encoder_hidden_states=e).sample - u)
        x = pipe.scheduler.step(eps, t, x).prev_sample
    return x


def keep(pipe, name, latents, picture=None, **case):
    image = pipe.image_processor.postprocess(pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample, output_type="np")[0]
    save_file({"latents": latents.contiguous()}, os.path.join(OUT, name + ".safetensors"))
    out = Image.fromarray((image * 255).round().astype(np.uint8))
    (picture or out).save(os.path.join(OUT, name + ".png"))
    print(name, "latents std", float(latents.std()), "picture std", float(image.std()))
    return dict(name=name, **case)


def case_of(scheduler, prompt=PROMPT, **settings):
    return dict(scheduler=scheduler, prompt=prompt, settings=settings)


def variation(name, scheduler, *mix):
    pipe = open_pipe(scheduler)
    side = SIDE // pipe.vae_scale_factor
    x = noise(SEED, side, side)
    for seed, t in mix:
        x = slerp(t, x[0], noise(seed, side, side)[0])[None]
    latents = pipe(PROMPT, num_inference_steps=STEPS, guidance_scale=CFG, latents=x, output_type="latent").images
    return keep(pipe, name, latents, **case_of(scheduler, variation=",".join(f"{s}:{t}" for s, t in mix)))


def hires(name, scheduler, upscaler, scale, strength, steps):
    """A picture, enlarged, and painted over by the last `steps` of int(steps/strength) steps: the web UIs' count."""
    pipe = open_pipe(scheduler)
    side, factor = SIDE // pipe.vae_scale_factor, pipe.vae_scale_factor
    large = int(SIDE * scale) // factor
    latents = pipe(PROMPT, num_inference_steps=STEPS, guidance_scale=CFG, latents=noise(SEED, side, side), output_type="latent").images
    if upscaler == "latent":
        image = F.interpolate(latents, (large, large), mode="bilinear", align_corners=False)
    else:
        small = pipe.image_processor.postprocess(pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample, output_type="pil")[0]
        image = small.resize((large * factor, large * factor), Image.LANCZOS)
    again = open_pipe(scheduler, StableDiffusionImg2ImgPipeline)
    total = int(steps / min(strength, 0.999))
    latents = again(PROMPT, image=image, strength=min((steps + 0.5) / total, 1), num_inference_steps=total, guidance_scale=CFG,
                    generator=torch.Generator("cpu").manual_seed(SEED), output_type="latent").images
    return keep(again, name, latents, **case_of(scheduler, hires=f"{scale}:upscaler={upscaler},strength={strength},steps={steps}"))


def tile(name, scheduler, axes, word):
    pipe = open_pipe(scheduler)
    circular(pipe, axes)
    side = SIDE // pipe.vae_scale_factor
    latents = pipe(PROMPT, num_inference_steps=STEPS, guidance_scale=CFG, latents=noise(SEED, side, side), output_type="latent").images
    return keep(pipe, name, latents, **case_of(scheduler, tile=word))


def composed(name, scheduler, prompt, conds, negative="", uncond=lambda i: "", **settings):
    pipe = open_pipe(scheduler)
    side = SIDE // pipe.vae_scale_factor
    latents = sample(pipe, noise(SEED, side, side), lambda i: conds(i, side, pipe), uncond)
    return keep(pipe, name, latents, **case_of(scheduler, prompt, negative=negative, **settings))


def windowed(name, scheduler, pixels, window):
    """MultiDiffusion (Bar-Tal et al. 2023): a network that sees windows half over each other, and the mean of what it says of them."""
    pipe = open_pipe(scheduler)
    factor = pipe.vae_scale_factor
    n, side = pixels // factor, window // factor
    places = range(0, n - side + 1, side // 2)
    whole = pipe.unet.forward

    def forward(x, t, encoder_hidden_states):
        total, seen = torch.zeros_like(x), torch.zeros_like(x)
        for top in places:
            for left in places:
                at = (..., slice(top, top + side), slice(left, left + side))
                total[at] += whole(x[at], t, encoder_hidden_states=encoder_hidden_states).sample
                seen[at] += 1
        return types.SimpleNamespace(sample=total / seen)

    pipe.unet.forward = forward
    latents = sample(pipe, noise(SEED, n, n), lambda i: [(PROMPT, 1)])
    return keep(pipe, name, latents, **case_of(scheduler, windows=str(window), width=str(pixels), height=str(pixels)))


def regions(side):
    left = torch.zeros(1, 1, side, side)
    left[..., : side // 2] = 1
    return left


def cropped(name, scheduler, padding):
    """diffusers' padding_mask_crop; the mask's surroundings are as large as what is painted, so nothing is scaled."""
    pipe = open_pipe(scheduler, StableDiffusionInpaintPipeline)
    init, mask = (Image.open(os.path.join(EDIT, f"{kind}-128.png")) for kind in ("init", "mask"))
    y, x = np.mgrid[0:128, 0:128]
    mask = Image.fromarray(((abs(x - 69.5) < 20) & (abs(y - 49.5) < 20)).astype(np.uint8) * 255)
    mask.save(os.path.join(OUT, "square.png"))
    box = pipe.mask_processor.get_crop_region(mask, SIDE, SIDE, pad=padding)
    assert box[2] - box[0] == box[3] - box[1] == SIDE, box
    kw = dict(prompt=PROMPT, image=init, mask_image=mask, width=SIDE, height=SIDE, padding_mask_crop=padding, strength=1.0,
              num_inference_steps=STEPS, guidance_scale=CFG)
    seen = {}

    def on_end(p, i, t, given):
        seen["latents"] = given["latents"]
        return given

    picture = pipe(**kw, generator=torch.Generator("cpu").manual_seed(SEED), callback_on_step_end=on_end).images[0]
    return keep(pipe, name, seen["latents"], picture, **case_of(scheduler, init="../edit/init-128.png", mask="square.png", inpaint="masked",
                                                               padding=str(padding), width=str(SIDE), height=str(SIDE)))


def main():
    os.makedirs(OUT, exist_ok=True)
    with torch.no_grad():
        cases = [
            variation("variation", "ddim", (9, 0.3)),
            variation("variations", "euler", (9, 0.3), (123456789, 0.65)),
            hires("hires-latent", "euler", "latent", 2, 0.7, 4),
            hires("hires-lanczos", "ddim", "lanczos", 1.5, 0.5, 3),
            tile("tile-both", "ddim", "xy", "both"),
            tile("tile-x", "euler", "x", "x"),
            cropped("cropped", "ddim", 12),
            # A schedule's text holds up to and including its step, counted from 0, as in the web UIs.
            composed("schedule", "ddim", "a red [apple:car:2] on a table", lambda i, *_: [("a red apple on a table" if i <= 2 else "a red car on a table", 1)]),
            composed("alternate", "euler", "a [cat|dog] on a table", lambda i, *_: [(f"a {'cat' if i < 2 or i == 3 or i == 5 else 'dog'} on a table", 1)],
                     "blur [old:.5]", lambda i: "blur " if i <= 3 else "blur old"),
            composed("and", "ddim", "a red apple AND a blue table :0.6 AND a dog :-0.2", lambda i, *_: [("a red apple ", 1), (" a blue table", 0.6), (" a dog", -0.2)]),
            composed("regions", "ddim", PROMPT, lambda i, side, _: [(PROMPT, 1 - regions(side)), ("a blue whale", regions(side))], regions="left=a blue whale"),
            windowed("windows", "ddim", 96, 64),
            composed("toward", "ddim", PROMPT, lambda i, side, pipe: [(toward(embed(pipe, PROMPT), embed(pipe, "a dog"), 0.4), 1)], toward="0.4:a dog"),
        ]
    with open(os.path.join(OUT, "cases.json"), "w") as f:
        json.dump(cases, f, indent=1)


def toward(a, b, t):
    """Spherical interpolation of hidden states, each token's a vector; those that are all but parallel along the line."""
    cos = (F.normalize(a, dim=-1) * F.normalize(b, dim=-1)).sum(-1, keepdim=True)
    omega = torch.acos(cos.clamp(-1, 1))
    arc = torch.sin((1 - t) * omega) / torch.sin(omega) * a + torch.sin(t * omega) / torch.sin(omega) * b
    return torch.where(cos.abs() < 0.9995, arc, (1 - t) * a + t * b)


if __name__ == "__main__":
    main()
