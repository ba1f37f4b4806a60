"""Stable Diffusion 1.5's U-Net with random weights, and how its steps are timed."""
import argparse
import json
import os
import statistics
import time

CONFIG = dict(
    sample_size=64, in_channels=4, out_channels=4, layers_per_block=2, block_out_channels=(320, 640, 1280, 1280),
    down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    cross_attention_dim=768, attention_head_dim=8, norm_num_groups=32,
)


def arguments(description):
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--runs", type=int, default=5, help="steps that count, after one that does not")
    p.add_argument("--batch", type=int, default=2)
    p.add_argument("--size", type=int, default=64, help="latent pixels a side")
    p.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    p.add_argument("--json", action="store_true")
    return p


def model_and_inputs(a):
    import torch
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    model = UNet2DConditionModel(**CONFIG).eval()
    inputs = torch.randn(a.batch, 4, a.size, a.size), torch.tensor([500.0] * a.batch), torch.randn(a.batch, 77, 768)
    return model, inputs


def measure(name, a, step):
    """Calls step once to warm up, then a.runs times, and prints the times in seconds."""
    step()
    times = []
    for _ in range(a.runs):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    row = dict(program=name, dtype=a.dtype, threads=a.threads, batch=a.batch, size=a.size, median_s=round(statistics.median(times), 3), min_s=round(min(times), 3), max_s=round(max(times), 3))
    if a.json:
        print(json.dumps(row))
    else:
        print("{program:28} {dtype}, {threads} threads, {batch}×{size}×{size}: median {median_s:.2f} s, {min_s:.2f} to {max_s:.2f}".format(**row))
