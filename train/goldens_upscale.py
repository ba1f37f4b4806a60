"""Upscalers as files, in the three spellings, and what a PyTorch forward makes of a picture with them.

    python train/goldens_upscale.py    writes family/testdata/upscale: *.pth, in.png, NAME.png
"""

import os

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "family", "testdata", "upscale")
FEATURES, GROW, BLOCKS = 6, 4, 2


def weights(ups, unshuffle):
    g = torch.Generator().manual_seed(ups * 10 + unshuffle)
    conv = lambda o, i: (torch.randn(o, i, 3, 3, generator=g) / (3 * i ** 0.5), torch.randn(o, generator=g) * 0.05)
    w = {"conv_first": conv(FEATURES, 3 * unshuffle ** 2)}
    for b in range(BLOCKS):
        for r in (1, 2, 3):
            for k in range(1, 6):
                w[f"body.{b}.rdb{r}.conv{k}"] = conv(FEATURES if k == 5 else GROW, FEATURES + (k - 1) * GROW)
    for name in ["conv_body", *[f"conv_up{i + 1}" for i in range(ups)], "conv_hr"]:
        w[name] = conv(FEATURES, FEATURES)
    w["conv_last"] = conv(3, FEATURES)
    w["conv_last"] = (w["conv_last"][0] * 0.3, w["conv_last"][1] + 0.4)
    return w


def forward(w, x, ups, unshuffle):
    conv = lambda name, x: F.conv2d(x, *(t.double() for t in w[name]), padding=1)
    lrelu = lambda x: F.leaky_relu(x, 0.2)
    if unshuffle > 1:
        x = F.pixel_unshuffle(x, unshuffle)
    first = y = conv("conv_first", x)
    for b in range(BLOCKS):
        block = y
        for r in (1, 2, 3):
            parts = [y]
            for k in range(1, 6):
                z = conv(f"body.{b}.rdb{r}.conv{k}", torch.cat(parts, 1))
                parts.append(lrelu(z))
            y = y + 0.2 * z
        y = block + 0.2 * y
    y = first + conv("conv_body", y)
    for i in range(ups):
        y = lrelu(conv(f"conv_up{i + 1}", F.interpolate(y, scale_factor=2, mode="nearest")))
    return conv("conv_last", lrelu(conv("conv_hr", y)))


def state(w):
    return {f"{n}.{k}": t for n, pair in w.items() for k, t in zip(("weight", "bias"), pair)}


def first_names(w, ups):
    """The names of the first ESRGAN: layers by number."""
    out = {"model.0": w["conv_first"], f"model.1.sub.{BLOCKS}": w["conv_body"]}
    for n, pair in w.items():
        if n.startswith("body."):
            _, b, r, c = n.split(".")
            out[f"model.1.sub.{b}.RDB{r[3:]}.conv{c[4:]}.0"] = pair
    for i in range(ups):
        out[f"model.{3 * (i + 1)}"] = w[f"conv_up{i + 1}"]
    out[f"model.{3 * ups + 2}"], out[f"model.{3 * ups + 4}"] = w["conv_hr"], w["conv_last"]
    return state(out)


def trunk_names(w):
    """BSRGAN's names."""
    out = {}
    for n, pair in w.items():
        if n.startswith("body."):
            _, b, r, c = n.split(".")
            n = f"RRDB_trunk.{b}.RDB{r[3:]}.{c}"
        out[n.replace("conv_body", "trunk_conv").replace("conv_up", "upconv").replace("conv_hr", "HRconv")] = pair
    return state(out)


def main():
    os.makedirs(OUT, exist_ok=True)
    y, x = np.mgrid[0:21, 0:30] / 30
    picture = (np.stack([x, y, 0.5 + 0.5 * np.sin(9 * x * y)], -1) * 255).round().astype(np.uint8)
    Image.fromarray(picture).save(os.path.join(OUT, "in.png"))
    for name, ups, unshuffle, spell in (("first", 2, 1, lambda w: first_names(w, 2)), ("trunk", 1, 1, lambda w: {"params_ema": trunk_names(w)}),
                                        ("own", 2, 2, lambda w: {"params_ema": {f"module.{k}": v for k, v in state(w).items()}})):
        w = weights(ups, unshuffle)
        torch.save(spell(w), os.path.join(OUT, name + ".pth"))
        t = torch.from_numpy(picture).double().permute(2, 0, 1)[None] / 255
        pad = (-t.shape[3] % unshuffle, -t.shape[2] % unshuffle)
        t = F.pad(t, (0, pad[0], 0, pad[1]), mode="replicate")
        out = forward(w, t, ups, unshuffle)[0].permute(1, 2, 0).numpy()
        scale = 2 ** ups // unshuffle
        out = out[: 21 * scale, : 30 * scale]
        print(name, scale, "clipped", ((out <= 0) | (out >= 1)).mean(), "std", out.std())
        Image.fromarray((out.clip(0, 1) * 255).round().astype(np.uint8)).save(os.path.join(OUT, name + ".png"))


if __name__ == "__main__":
    main()
