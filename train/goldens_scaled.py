"""Writes checkpoint/testdata/scaled: 8-bit weights with scales, as ComfyUI's files have them, and what they stand for.

    python train/goldens_scaled.py
"""

import functools
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parent.parent / "checkpoint" / "testdata" / "scaled"


def note(**what):
    return torch.tensor(list(json.dumps(what).encode()), dtype=torch.uint8)


def hadamard(n):
    h = torch.tensor([[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]], dtype=torch.float64) / 2
    powers = [h] * ((n.bit_length() - 1) // 2)
    return functools.reduce(torch.kron, powers)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    torch.manual_seed(0)
    expected = {}

    def save(name, tensors, want):
        save_file(tensors, OUT / name)
        expected[name] = {k: {"shape": list(v.shape), "float32": [b & 0xFFFFFFFF for b in v.float().flatten().view(torch.int32).tolist()]}
                          for k, v in want.items()}

    a, b, conv = torch.randn(6, 8), torch.randn(5, 7), torch.randn(3, 2, 3, 3)
    a8, b8, conv8 = (a * 100).to(torch.float8_e4m3fn), b.to(torch.float8_e5m2), conv.to(torch.float8_e4m3fn)
    scale = torch.tensor(0.01)
    save("fp8.safetensors", {
        "scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn), "a.weight": a8, "a.scale_weight": scale, "a.scale_input": torch.tensor(1.0),
        "a.bias": torch.ones(6), "b.weight": b8, "conv.weight": conv8, "v_pred": torch.zeros(0), "mask": torch.tensor([True, False]),
        "position_ids": torch.arange(4, dtype=torch.int32), "bytes": torch.arange(4, dtype=torch.uint8),
    }, {"a.weight": a8.float() * scale, "a.bias": torch.ones(6), "b.weight": b8.float(), "conv.weight": conv8.float(), "v_pred": torch.zeros(0),
        "mask": torch.tensor([1.0, 0.0]), "position_ids": torch.arange(4.0), "bytes": torch.arange(4.0)})

    c, rotated = torch.randn(4, 128), torch.randn(3, 128)
    rows = c.abs().amax(1, keepdim=True) / 127
    c8 = (c / rows).round().to(torch.int8)
    one = c.abs().max() / 127
    d8 = (c / one).round().to(torch.int8)
    turned = (rotated.double().view(3, 2, 64) @ hadamard(64)).view(3, 128)
    scales = (turned.abs().amax(1, keepdim=True) / 127).float()
    e8 = (turned / scales).round().to(torch.int8)
    e = ((e8.double() * scales).view(3, 2, 64) @ hadamard(64)).view(3, 128)
    save("int8.safetensors", {
        "rows.weight": c8, "rows.weight_scale": rows, "rows.comfy_quant": note(format="int8_tensorwise", per_row=True),
        "one.weight": d8, "one.weight_scale": one, "one.comfy_quant": note(format="int8_tensorwise"),
        "rotated.weight": e8, "rotated.weight_scale": scales[:, 0].contiguous(),
        "rotated.comfy_quant": note(format="int8_tensorwise", convrot=True, convrot_groupsize=64),
        "fp8.weight": a8, "fp8.weight_scale": scale, "fp8.input_scale": torch.tensor(2.0), "fp8.comfy_quant": note(format="float8_e4m3fn"),
    }, {"rows.weight": c8.float() * rows, "one.weight": d8.float() * one, "rotated.weight": e, "fp8.weight": a8.float() * scale})
    (OUT / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    main()
