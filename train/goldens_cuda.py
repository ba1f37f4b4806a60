"""What half precision costs torch: kernels/cuda/testdata/torch_psnr.json.

    python train/goldens_cuda.py

Whole pictures of tiny SD1 and SD2 models (train/goldens.py) and of the default model, in float16 and bfloat16
against float32 of the same model, all by diffusers on the CPU: peak signal to noise of the 8-bit pictures over all
seeds. The CUDA backend may lose no more than 1 dB beyond that (kernels/cuda/picture_test.go).
"""

import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "kernels", "cuda", "testdata", "torch_psnr.json")
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


def main():
    table = []
    # Few and small: the emulated device renders them too.
    for model, path, size, seeds in [("sd1", os.path.join(TINY, "sd1"), 64, [1]), ("sd2", os.path.join(TINY, "sd2"), 32, [1, 2]),
                                     ("default", os.path.join(HERE, "..", "models", "default"), 128, [1])]:
        exact = pictures(path, torch.float32, size, seeds)
        row = dict(model=model, prompt=PROMPT, steps=STEPS, cfg=CFG, seeds=seeds, size=size)
        for name, dtype in [("fp16", torch.float16), ("bf16", torch.bfloat16)]:
            error = ((pictures(path, dtype, size, seeds) - exact) ** 2).mean()
            row[name] = round(float(10 * np.log10(255**2 / error)), 2)
        print(row)
        table.append(row)
    os.makedirs(os.path.dirname(OUT), exist_ok=True)
    with open(OUT, "w") as f:
        json.dump(table, f, indent=1)


if __name__ == "__main__":
    main()
