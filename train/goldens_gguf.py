"""Writes checkpoint/testdata/gguf: files of the gguf package in every type that it writes or reads, and what it decodes.

    python train/goldens_gguf.py
"""

import json
import pathlib
import shutil

import gguf
import numpy

OUT = pathlib.Path(__file__).resolve().parent.parent / "checkpoint" / "testdata" / "gguf"
T = gguf.GGMLQuantizationType


def packed(kind, rng, rows, columns):
    """Blocks of random bits whose float16 scales are finite; where the package quantises, of random numbers."""
    if kind in (T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.BF16, T.MXFP4):
        return gguf.quants.quantize(rng.normal(size=(rows, columns)).astype(numpy.float32), kind)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    b = rng.integers(0, 256, (rows * columns // block, size), numpy.uint8)
    scales = {T.Q2_K: (80, 82), T.Q3_K: (108,), T.Q4_K: (0, 2), T.Q5_K: (0, 2), T.Q6_K: (208,), T.IQ4_NL: (0,), T.IQ4_XS: (0,)}[kind]
    for at in scales:
        b[:, at:at + 2] = rng.normal(size=(len(b), 1)).astype(numpy.float16).view(numpy.uint8)
    return b.reshape(rows, -1)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    rng = numpy.random.default_rng(0)
    expected = {}

    def note(name, tensor, shape, values, kind, plain):
        expected.setdefault(name, {})[tensor] = {
            "shape": list(shape), "type": kind, "contiguous": plain, "float32": values.astype(numpy.float32).flatten().view(numpy.uint32).tolist()}

    w = gguf.GGUFWriter(OUT / "types.gguf", "sdxl")
    w.add_string("general.name", "made up")
    w.add_uint32("general.quantization_version", 2)
    w.add_float32("a.float", 0.5)
    w.add_bool("a.bool", True)
    w.add_int8("an.int8", -3)
    w.add_array("a.list", [1, 2, 3])
    w.add_array("some.texts", ["a", "bc"])
    for kind in (T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL, T.IQ4_XS, T.BF16, T.MXFP4):
        b = packed(kind, rng, 2, 256)
        w.add_tensor(kind.name, b, raw_dtype=kind)
        note("types.gguf", kind.name, (2, 256), gguf.quants.dequantize(b, kind), kind.name, kind == T.BF16)
    for name, dtype in {"F32": numpy.float32, "F16": numpy.float16, "F64": numpy.float64, "I8": numpy.int8, "I16": numpy.int16,
                        "I32": numpy.int32, "I64": numpy.int64}.items():
        a = (rng.normal(size=(3, 2, 5)) * 20).astype(dtype)
        w.add_tensor(name, a)
        note("types.gguf", name, a.shape, a, name, name[0] == "F")
    # A convolution that the converter had to flatten, and one whose shape ends in ones.
    conv = rng.normal(size=(4, 32, 1, 1)).astype(numpy.float32)
    w.add_array("comfy.gguf.orig_shape.conv", list(conv.shape))
    q = gguf.quants.quantize(conv.reshape(4, 32), T.Q8_0)
    w.add_tensor("conv", q, raw_dtype=T.Q8_0)
    note("types.gguf", "conv", conv.shape, gguf.quants.dequantize(q, T.Q8_0), "Q8_0", False)
    ones = rng.normal(size=(4, 3, 1, 1)).astype(numpy.float32)
    w.add_tensor("ones", ones)
    note("types.gguf", "ones", ones.shape, ones, "F32", True)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    (OUT / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    main()
