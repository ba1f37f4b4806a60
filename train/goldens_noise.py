"""Writes noise/testdata/torch_cpu.json.gz: what torch's CPU generator gives.

Each case is a fresh generator and a list of calls. A call's result is kept as the first values and the SHA-256 of
all of them, as little-endian float32 (halves are widened, exactly). Run on x86-64:

    python train/goldens_noise.py
"""

import gzip
import hashlib
import json
import pathlib
import random

import torch
from diffusers.utils.torch_utils import randn_tensor

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
OUT = pathlib.Path(__file__).resolve().parent.parent / "noise" / "testdata" / "torch_cpu.json.gz"


def call(generator, op, n, dtype):
    if op == "rand":
        x = torch.rand(n, generator=generator)
    else:
        x = torch.randn(n, generator=generator, dtype=DTYPES[dtype])
    return result(op, dtype, x)


def result(op, dtype, x):
    bits = x.float().contiguous().numpy().astype("<f4").tobytes()
    first = [int.from_bytes(bits[i : i + 4], "little") for i in range(0, min(len(bits), 16), 4)]
    return {"op": op, "n": x.numel(), "dtype": dtype, "first": first, "sha256": hashlib.sha256(bits).hexdigest()}


def case(name, seed, calls):
    generator = torch.Generator("cpu").manual_seed(seed)
    return {"name": name, "seed": str(seed), "calls": [call(generator, *c) for c in calls]}


def main():
    assert "AVX2" in torch.backends.cpu.get_cpu_capability() or "AVX512" in torch.backends.cpu.get_cpu_capability()
    cases = []
    sizes = [1, 2, 3, 15, 16, 17, 31, 32, 33, 100, 623, 624, 625, 1000, 4 * 64 * 64, 4 * 96 * 64]
    for n in sizes:
        for dtype in DTYPES:
            cases.append(case(f"one call of {n} {dtype}", 42, [("randn", n, dtype)]))
    # torch takes seeds of 64 bits, signed or not, and uses the low 32.
    for seed in [0, 1, 42, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 5, 2**63, 2**64 - 1, -1, -12345, -(2**63)]:
        cases.append(case(f"seed {seed}", seed, [("randn", 5, "float32"), ("randn", 40, "float32")]))
    # The value that a scalar draw leaves waits through block draws, and torch.rand does not touch it.
    cases.append(case("the waiting value", 7, [
        ("randn", 1, "float32"), ("randn", 16, "float32"), ("randn", 1, "float32"), ("randn", 3, "float32"),
        ("rand", 5, "float32"), ("randn", 20, "float16"), ("randn", 1, "float16"), ("randn", 1, "bfloat16"),
        ("randn", 17, "bfloat16"), ("randn", 2, "float32")]))
    rng = random.Random(1)
    calls = []
    for _ in range(300):
        op = rng.choice(["randn", "randn", "randn", "rand"])
        dtype = "float32" if op == "rand" else rng.choice(list(DTYPES))
        calls.append((op, rng.choice([rng.randint(1, 15), rng.randint(16, 80), rng.randint(81, 3000)]), dtype))
    cases.append(case("300 calls of all kinds", 20240229, calls))
    # The scalar path: 150,000 values through the C library's float64 functions.
    generator = torch.Generator("cpu").manual_seed(99)
    x = torch.cat([torch.randn(15, generator=generator) for _ in range(10_000)])
    cases.append({"name": "10,000 calls of 15", "seed": "99", "repeat": 10_000, "calls": [result("randn", "float32", x)]})
    # The block path: 4 million values through the AVX2 polynomials.
    cases.append(case("4 million values", 7, [("randn", 1 << 22, "float32")]))
    # diffusers' latents are one flat call, of any dtype.
    for dtype in DTYPES:
        generator = torch.Generator("cpu").manual_seed(3)
        x = randn_tensor((1, 4, 7, 9), generator=generator, dtype=DTYPES[dtype])
        cases.append({"name": f"diffusers latents 1×4×7×9 {dtype}", "seed": "3", "calls": [result("randn", dtype, x)]})

    OUT.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"torch": torch.__version__.split("+")[0], "cases": cases}, separators=(",", ":"))
    OUT.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{len(cases)} cases, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
