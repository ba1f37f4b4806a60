#!/usr/bin/env python3
"""Times a step of Stable Diffusion's U-Net, or its decoder, in PyTorch on the CPU."""
import os

import networks

p = networks.arguments(__doc__)
p.add_argument("--compile", action="store_true", help="with torch.compile")
p.add_argument("--channels-last", action="store_true", help="with NHWC activations")
a = networks.parse(p)
os.environ["OMP_NUM_THREADS"] = str(a.threads)

import torch  # noqa: E402  after OMP_NUM_THREADS

torch.set_num_threads(a.threads)
model, inputs = networks.model_and_inputs(a)
name = "PyTorch " + torch.__version__.split("+")[0]
if a.dtype == "bf16":
    model, inputs = model.to(torch.bfloat16), [x.to(torch.bfloat16) for x in inputs]
if a.channels_last:
    model, name = model.to(memory_format=torch.channels_last), name + " NHWC"
    inputs = [x.to(memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs]
if a.compile:
    model, name = torch.compile(model), name + " compiled"
with torch.inference_mode():
    networks.measure(name, a, lambda: model(*inputs))
