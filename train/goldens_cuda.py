"""What half precision costs torch: kernels/cuda/testdata/torch_psnr.json, and over more seeds, which a processor is
fast enough for, kernels/cpu/testdata/torch_psnr.json.

    python train/goldens_cuda.py [cuda] [cpu] [fp8]

Whole pictures of tiny SD1 and SD2 models (train/goldens.py) and of the default model, in float16 and bfloat16
against float32 of the same model, all by diffusers on the CPU: peak signal to noise of the 8-bit pictures over all
seeds. The backends may lose no more than 1 dB beyond that (picture_test.go of kernels/cuda and kernels/cpu).

int8 is float16 with the weights of the U-Net's blocks in 8 bits, a scale for each output. fp8 is printed only: float16
whose linear layers and 1x1 convolutions multiply float8 (e4m3) weights, a scale for each output, by float8 inputs, a
scale for each row, as kernels/lab/fp8 does.
"""

import json
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "kernels", "{}", "testdata", "torch_psnr.json")
TINY = os.path.join(HERE, "..", "pipeline", "testdata", "models")
PROMPT, STEPS, CFG = "a red apple", 4, 3.0


def layers(unet):
    """The layers whose weights bear 8 bits: all but the first, the last and those of the time embedding."""
    for blocks in unet.down_blocks, [unet.mid_block], unet.up_blocks:
        for block in blocks:
            for name, m in block.named_modules():
                if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d)) and "time_emb_proj" not in name:
                    yield m


def int8(pipe):
    for m in layers(pipe.unet):
        rows = m.weight.data.float().flatten(1)
        scale = rows.abs().amax(1, keepdim=True) / 127
        rounded = torch.round(rows / scale.clamp(min=1e-30)) * scale
        m.weight.data = rounded.view_as(m.weight).to(m.weight.dtype)


def e4m3(x):
    """Rounded to float8 with a scale for each row, the last axis."""
    scale = (x.abs().amax(-1, keepdim=True) / 448).clamp(min=1e-30)
    return (x / scale).to(torch.float8_e4m3fn).float() * scale


def fp8(pipe):
    for m in layers(pipe.unet):
        if isinstance(m, torch.nn.Conv2d) and m.kernel_size != (1, 1):
            continue
        m.weight.data = e4m3(m.weight.data.float().flatten(1)).view_as(m.weight).to(m.weight.dtype)
        axis = 1 if isinstance(m, torch.nn.Conv2d) else -1
        m.register_forward_pre_hook(lambda m, x, axis=axis: (e4m3(x[0].float().movedim(axis, -1)).movedim(-1, axis).to(x[0].dtype),) + x[1:])


def pictures(path, dtype, size, seeds, change=None):
    pipe = StableDiffusionPipeline.from_pretrained(path, torch_dtype=dtype, safety_checker=None)
    if change:
        change(pipe)
    pipe.set_progress_bar_config(disable=True)
    with open(os.path.join(path, "scheduler", "scheduler_config.json")) as f:
        pipe.scheduler = DDIMScheduler.from_config(json.load(f))
    out = []
    for seed in seeds:
        gen = torch.Generator("cpu").manual_seed(seed)
        image = pipe(PROMPT, num_inference_steps=STEPS, guidance_scale=CFG, width=size, height=size, generator=gen, output_type="np").images[0]
        out.append(np.round(image.astype(np.float64) * 255))
    return np.stack(out)


def table(few, types):
    rows = []
    for model, path, size, seeds in [("sd1", os.path.join(TINY, "sd1"), 64, [1] if few else range(1, 9)),
                                     ("sd2", os.path.join(TINY, "sd2"), 32, [1, 2] if few else range(1, 17)),
                                     ("default", os.path.join(HERE, "..", "models", "default"), 256, [1] if few else range(1, 5))]:
        exact = pictures(path, torch.float32, size, seeds)
        row = dict(model=model, prompt=PROMPT, steps=STEPS, cfg=CFG, seeds=list(seeds), size=size)
        for name, dtype, *change in types:
            error = ((pictures(path, dtype, size, seeds, *change) - exact) ** 2).mean()
            row[name] = round(float(10 * np.log10(255**2 / error)), 2)
        print(row)
        rows.append(row)
    return rows


def main():
    for backend in sys.argv[1:] or ["cuda", "cpu"]:
        if backend == "fp8":
            table(False, [("int8", torch.float16, int8), ("fp8", torch.float16, fp8)])
            continue
        # Few and small for CUDA: the emulated device renders them too.
        types = [("bf16", torch.bfloat16)]
        if backend == "cuda":
            types = [("fp16", torch.float16), *types, ("int8", torch.float16, int8)]
        rows = table(backend == "cuda", types)
        os.makedirs(os.path.dirname(OUT.format(backend)), exist_ok=True)
        with open(OUT.format(backend), "w") as f:
            json.dump(rows, f, indent=1)


if __name__ == "__main__":
    main()
