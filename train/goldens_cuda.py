"""What half precision costs torch: kernels/cuda/testdata/torch_psnr.json, and over more seeds, which a processor is
fast enough for, kernels/cpu/testdata/torch_psnr.json.

    python train/goldens_cuda.py [cuda] [cpu]

Whole pictures of tiny SD1 and SD2 models (train/goldens.py) and of the default model, in float16 and bfloat16
against float32 of the same model, all by diffusers on the CPU: peak signal to noise of the 8-bit pictures over all
seeds. The backends may lose no more than 1 dB beyond that (picture_test.go of kernels/cuda and kernels/cpu).
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


def pictures(path, dtype, size, seeds):
    pipe = StableDiffusionPipeline.from_pretrained(path, torch_dtype=dtype, safety_checker=None)
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
                                     ("default", os.path.join(HERE, "..", "models", "default"), 128, [1] if few else range(1, 5))]:
        exact = pictures(path, torch.float32, size, seeds)
        row = dict(model=model, prompt=PROMPT, steps=STEPS, cfg=CFG, seeds=list(seeds), size=size)
        for name, dtype in types:
            error = ((pictures(path, dtype, size, seeds) - exact) ** 2).mean()
            row[name] = round(float(10 * np.log10(255**2 / error)), 2)
        print(row)
        rows.append(row)
    return rows


def main():
    for backend in sys.argv[1:] or ["cuda", "cpu"]:
        # Few and small for CUDA: the emulated device renders them too.
        rows = table(backend == "cuda", [("fp16", torch.float16), ("bf16", torch.bfloat16)][backend == "cpu":])
        os.makedirs(os.path.dirname(OUT.format(backend)), exist_ok=True)
        with open(OUT.format(backend), "w") as f:
            json.dump(rows, f, indent=1)


if __name__ == "__main__":
    main()
