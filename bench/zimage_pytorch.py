#!/usr/bin/env python3
"""Times two layers of Z-Image's transformer in PyTorch on the CPU, in the processor's time: beside BenchmarkZImage of dit."""
import argparse
import os
import time

p = argparse.ArgumentParser(description=__doc__)
p.add_argument("--threads", type=int, default=1)
p.add_argument("--runs", type=int, default=2, help="steps that count, after one that does not")
p.add_argument("--pixels", type=int, default=512, help="a side of the picture")
p.add_argument("--dtype", default="bf16", choices=["fp32", "bf16"])
a = p.parse_args()
os.environ["OMP_NUM_THREADS"] = str(a.threads)

import torch  # noqa: E402  after OMP_NUM_THREADS
from diffusers import ZImageTransformer2DModel  # noqa: E402

torch.set_num_threads(a.threads)
torch.manual_seed(0)
dtype = torch.bfloat16 if a.dtype == "bf16" else torch.float32
torch.set_default_dtype(dtype)
model = ZImageTransformer2DModel(n_layers=2, n_refiner_layers=0).eval()
torch.set_default_dtype(torch.float32)
side = a.pixels // 8
inputs = [torch.randn(16, 1, side, side, dtype=dtype)], torch.full((1,), 0.5), [torch.randn(128, 2560, dtype=dtype)]
with torch.inference_mode():
    model(*inputs, return_dict=False)
    times = []
    for _ in range(a.runs):
        start = time.process_time()
        model(*inputs, return_dict=False)
        times.append(time.process_time() - start)
print(f"PyTorch {torch.__version__.split('+')[0]} {a.dtype}, {a.threads} threads, {a.pixels}×{a.pixels}: {min(times):.2f} s of the processor")
