"""What every stage needs: where files go, which device and number type, logs, atomic saves, sheets."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

HERE = Path(__file__).resolve().parent


def work_dir():
    """Folder for data and checkpoints: $DARKROOM_TRAIN_WORK, or train/work (ignored by git)."""
    folder = Path(os.environ.get("DARKROOM_TRAIN_WORK", HERE / "work"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def log(text):
    """Print a line with the time and append it to WORK/log.txt."""
    line = f"{time.strftime('%H:%M:%S')} {text}"
    print(line, flush=True)
    with open(work_dir() / "log.txt", "a") as file:
        file.write(line + "\n")


def device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_up(threads=1, seed=0):
    """One thread a process: two in one process gain nothing at these sizes, two processes do."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.manual_seed(seed)
    if device().type == "cpu":
        torch.nn.functional.scaled_dot_product_attention = attention


def attention(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """Scaled dot product attention as two plain products. PyTorch's own on a processor takes four times as long in its
    backward pass at these sizes (a third of a training step; 24 to 64 keys, on an Intel Xeon with AMX)."""
    scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-1, -2)
    if is_causal:
        scores = scores + torch.full(scores.shape[-2:], -1e4, dtype=scores.dtype).triu(1)
    if attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(-1).to(v.dtype) @ v


def autocast():
    """bf16 where it is faster than float32. A processor without bf16 instructions emulates it tens of
    times slower, so a processor is asked by measuring, once."""
    where = device()
    if where.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16)
    return torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_faster())


_measured = {}


def bf16_is_faster():
    """Whether this processor multiplies bf16 matrices clearly faster than float32 ones: measured, once."""
    if "answer" not in _measured:
        _measured["answer"] = _product_seconds(torch.bfloat16) < 0.7 * _product_seconds(torch.float32)
    return _measured["answer"]


def _product_seconds(dtype):
    a = torch.randn(256, 256).to(dtype)
    a @ a
    start = time.perf_counter()
    for _ in range(3):
        a @ a
    return time.perf_counter() - start


def save_atomically(state, path):
    """torch.save beside the target, then rename: a kill leaves the old file or the new one."""
    path = Path(path)
    beside = path.with_suffix(".tmp")
    torch.save(state, beside)
    os.replace(beside, path)


def load(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def write_json(value, path):
    Path(path).write_text(json.dumps(value, indent=1) + "\n")


def sheet(images, path, columns=8, scale=1, quality=90):
    """Write images (float in -1..1, N x 3 x H x W) as one PNG, or JPEG, by the path's ending."""
    array = ((images.float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    n, height, width, _ = array.shape
    rows = -(-n // columns)
    canvas = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for k, image in enumerate(array):
        y, x = k // columns * height, k % columns * width
        canvas[y:y + height, x:x + width] = image
    picture = Image.fromarray(canvas)
    picture.resize((picture.width * scale, picture.height * scale), Image.NEAREST).save(path, quality=quality)  # PNG ignores it


class Clock:
    """Stops a stage after so many minutes of this run, but not before its first step; the checkpoint carries
    the minutes of all runs."""

    def __init__(self, minutes, spent=0.0):
        self.start, self.minutes, self.before = time.time(), minutes, spent
        self.steps = -1

    def spent(self):
        return self.before + (time.time() - self.start) / 60

    def over(self):
        """Asked before each step."""
        self.steps += 1
        return self.steps > 0 and (time.time() - self.start) / 60 >= self.minutes


def warn(text):
    print(text, file=sys.stderr, flush=True)
