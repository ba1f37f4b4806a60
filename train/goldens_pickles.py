"""Writes checkpoint/testdata/torch: files as torch.save writes them, in both of its formats, and what they hold.

    python train/goldens_pickles.py
"""

import collections
import json
import pathlib
import shutil
import zipfile

import numpy
import torch

OUT = pathlib.Path(__file__).resolve().parent.parent / "checkpoint" / "testdata" / "torch"


def weights():
    """One tensor of each element type, and each way to be other than rows one after the other."""
    torch.manual_seed(0)
    x = torch.randn(4, 6) * 10
    d = collections.OrderedDict(
        f32=x.clone(), f16=x.half(), bf16=x.bfloat16(), f64=x.double() / 3, i64=x.long(), i32=x.int(), i16=x.short(),
        i8=x.char(), u8=x.abs().byte(), bool=x > 0, scalar=torch.tensor(2.5), empty=torch.zeros(0, 4))
    d["view.transposed"] = x.t()
    d["view.columns"] = x[:, 1:5:2]
    d["view.row"] = x[2]
    d["view.permuted"] = torch.randn(2, 3, 4, 5).permute(3, 1, 0, 2)
    d["view.repeated"] = x[0].expand(3, 6)
    d["view.channels_last"] = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    d["tied.a"] = d["tied.b"] = torch.randn(3)
    d["parameter"] = torch.nn.Parameter(torch.randn(2, 2))
    return d


def modern():
    """Types that only the zip format has."""
    x = torch.randn(2, 3)
    return {"f8_e4m3": x.to(torch.float8_e4m3fn), "f8_e5m2": x.to(torch.float8_e5m2), "u16": x.abs().to(torch.uint16)}


class Attributed(torch.Tensor):
    """A tensor with attributes is saved through _rebuild_from_type_v2."""


def ground(tensors):
    out = {}
    for name, t in tensors.items():
        t = t.detach()
        out[name] = {"shape": list(t.shape), "type": str(t.dtype), "contiguous": t.is_contiguous(),
                     "float32": [b & 0xFFFFFFFF for b in t.float().contiguous().flatten().view(torch.int32).tolist()] if t.numel() else []}
    return out


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    expected = {}

    def save(name, value, tensors, **how):
        torch.save(value, OUT / name, **how)
        expected[name] = ground(tensors)

    w = weights()
    save("zip.ckpt", w, w)
    save("legacy.ckpt", w, w, _use_new_zipfile_serialization=False)
    save("protocol4.pt", w, w, pickle_protocol=4)
    m = modern()
    save("modern.pt", m, m)

    small = {"conv.weight": torch.randn(2, 1, 3, 3), "conv.bias": torch.randn(2)}
    tagged = torch.randn(2)
    tagged.note = "an attribute"
    training = {
        "epoch": 3, "global_step": 875000, "pytorch-lightning_version": "1.4.2", "lr": numpy.float64(1e-4), "best": numpy.float32(0.5),
        "state_dict": {**small, "tagged": tagged},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.randn(2)}}, "param_groups": [{"lr": 1e-4, "params": [0, 1]}]}],
        "hparams": {"device": torch.device("cpu"), "dtype": torch.float16, "size": torch.Size([1, 2]), "none": None},
    }
    save("training.ckpt", training, {**small, "tagged": tagged})
    save("nested.ckpt", {"state_dict": {"state_dict": small}}, small)
    save("ema.pth", {"params": {"conv.weight": torch.zeros(1)}, "params_ema": small}, small)
    save("embedding.pt", {"string_to_token": {"*": 265}, "string_to_param": {"*": small["conv.bias"][None]}, "name": "old paint", "step": 500},
         {"string_to_param.*": small["conv.bias"][None]})
    parameters = torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.randn(2, 4))})
    save("parameters.pt", {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": parameters},
         {"string_to_token.*": torch.tensor(265), "string_to_param.*": parameters["*"]})
    save("list.pt", [{"a": torch.ones(2)}, {"a": torch.zeros(1)}], {"0.a": torch.ones(2), "1.a": torch.zeros(1)})
    rows = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
    arrays = {"rows": rows, "columns": numpy.asfortranarray(rows * 2), "whole": rows.astype(numpy.int64)}
    save("numpy.pt", arrays, {k: torch.from_numpy(v) for k, v in arrays.items()})

    # A zip that another program packed again, compressed.
    with zipfile.ZipFile(OUT / "zip.ckpt") as src, zipfile.ZipFile(OUT / "deflated.ckpt", "w", zipfile.ZIP_DEFLATED) as dst:
        for f in src.infolist():
            dst.writestr(f.filename, src.read(f))
    expected["deflated.ckpt"] = expected["zip.ckpt"]

    class Runs:
        def __init__(self, *call):
            self.call = call

        def __reduce__(self):
            return self.call

    import builtins
    import os
    import subprocess
    for name, call in {
        "system": (os.system, ("touch owned",)), "eval": (builtins.eval, ("1+1",)), "getattr": (builtins.getattr, ("a", "upper")),
        "popen": (subprocess.Popen, (["true"],)),
    }.items():
        torch.save({"w": torch.ones(1), "x": Runs(*call)}, OUT / f"hostile_{name}.ckpt")
    torch.save(Runs(os.system, ("touch owned",)), OUT / "hostile_legacy.ckpt", _use_new_zipfile_serialization=False)
    torch.save(torch.nn.Linear(1, 1), OUT / "module.pt")
    torch.jit.script(torch.nn.Linear(1, 1)).save(OUT / "script.pt")
    torch.save({"z": torch.ones(1, dtype=torch.complex64)}, OUT / "complex.pt")
    (OUT / "expected.json").write_text(json.dumps(expected, indent=0))


if __name__ == "__main__":
    main()
