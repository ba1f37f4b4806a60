"""What the golden files of networks have in common (goldens_unet.py, goldens_vae.py, …).

A file holds what other programs make of random inputs with tiny networks of made-up weights:

    NAME=CALL/KEY            a value of one call: an input, an output, or what a block inside read (@in…) or gave (@out)
    metadata NAME            config.json
    metadata NAME:weights    the names and shapes of the network's weights, in JSON

The weights themselves are not in the file: a formula gives them here (weight) and in the tests (internal/golden), the
same to the last bit. Networks run in float64, so that values are exact to float32. Images are stored as they lie in
memory here: [N,H,W,C].
"""
import inspect
import json
import math
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def weight(name, shape):
    """Element i is a multiple of 2^-10 from -1 to 1, from a hash (FNV-1a, then splitmix64) of the name and i; scaled by a power
    of two near sqrt(3/inputs), which keeps variance. Vectors are made so that no layer can be left out unseen: biases
    up to 1/2 around 0, a norm's scales around 1."""
    seed = 14695981039346656037
    for b in name.encode():
        seed = (seed ^ b) * 1099511628211 % 2**64
    with np.errstate(over="ignore"):
        x = np.uint64(seed) + np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    u = (x >> np.uint64(53)).astype(np.float64) / 1024 - 1
    if len(shape) > 1:
        inputs = math.prod(shape[1:])
        while 6 < inputs:
            u, inputs = u / 2, inputs / 4
    else:
        u = u / 2 + (1 if "norm" in name and name.endswith("weight") else 0)
    return torch.from_numpy(u.reshape(shape))


def make_up(module):
    """Gives a network the weights of the formula and float64."""
    module = module.double().eval()
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(weight(name, tuple(p.shape)))
    return module


def seamless(module, axes):
    """Makes every padded convolution see the other side beyond an edge, along the axes in "yx"; returns what undoes it."""
    convs = [m for m in module.modules() if isinstance(m, torch.nn.Conv2d) and m.padding[0] > 0]
    for conv in convs:
        def forward(x, weight, bias, conv=conv):
            p = conv.padding[0]
            x = F.pad(x, (p, p, 0, 0), mode="circular" if "x" in axes else "constant")
            x = F.pad(x, (0, 0, p, p), mode="circular" if "y" in axes else "constant")
            return F.conv2d(x, weight, bias, conv.stride)
        conv._conv_forward = forward
    return lambda: [delattr(conv, "_conv_forward") for conv in convs]


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def nhwc(t):
    return (t.permute(0, 2, 3, 1) if t.ndim == 4 else t).float().contiguous()


class Golden:
    """The contents of one file."""

    def __init__(self):
        self.tensors, self.configs = {}, {}

    def network(self, name, module, config):
        self.configs[name + ":weights"] = json.dumps({k: list(p.shape) for k, p in module.named_parameters()})
        self.configs[name] = json.dumps({k: v for k, v in config.items() if not k.startswith("_")})

    def value(self, name, call, key, t):
        """Stores a tensor, images as NHWC, whole numbers as int32."""
        self.tensors[f"{name}={call}/{key}"] = nhwc(t) if t.is_floating_point() else t.int().contiguous()

    def hook(self, name, call, module, paths):
        """Keeps what the modules at these paths read and give; returns the hooks' handles."""
        handles = []
        for path in paths:
            sub = module.get_submodule(path)
            names = list(inspect.signature(sub.forward).parameters)

            def keep(sub, args, kwargs, out, path=path, names=names):
                given = dict(zip(names, args)) | kwargs
                for key in ("hidden_states", "input_tensor", "temb", "encoder_hidden_states", "input", "sample"):
                    if isinstance(given.get(key), torch.Tensor):
                        self.value(name, call, f"{path}@{key}", given[key])
                for i, skip in enumerate(given.get("res_hidden_states_tuple") or ()):
                    self.value(name, call, f"{path}@skip{i}", skip)
                if isinstance(out, tuple) and len(out) == 2 and isinstance(out[1], tuple):  # a down block
                    for i, skip in enumerate(out[1]):
                        self.value(name, call, f"{path}@left{i}", skip)
                while not isinstance(out, torch.Tensor):
                    out = out[0]
                self.value(name, call, f"{path}@out", out)

            handles.append(sub.register_forward_hook(keep, with_kwargs=True))
        return handles

    def save(self, path):
        path = os.path.join(ROOT, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        save_file(self.tensors, path, metadata=self.configs)
        print(f"{os.path.relpath(path, ROOT)}: {len(self.tensors)} arrays, {os.path.getsize(path)} bytes")
