#!/usr/bin/env python3
"""Times one step of Stable Diffusion 1.5's U-Net in PyTorch on the CPU."""
import os

import sd15

p = sd15.arguments(__doc__)
p.add_argument("--compile", action="store_true", help="with torch.compile")
p.add_argument("--channels-last", action="store_true", help="with NHWC activations")
a = p.parse_args()
os.environ["OMP_NUM_THREADS"] = str(a.threads)

import torch  # noqa: E402  after OMP_NUM_THREADS

torch.set_num_threads(a.threads)
model, (sample, t, text) = sd15.model_and_inputs(a)
name = "PyTorch " + torch.__version__.split("+")[0]
if a.dtype == "bf16":
    model, sample, t, text = (x.to(torch.bfloat16) for x in (model, sample, t, text))
if a.channels_last:
    model, sample, name = model.to(memory_format=torch.channels_last), sample.to(memory_format=torch.channels_last), name + " NHWC"
if a.compile:
    model, name = torch.compile(model), name + " compiled"
with torch.inference_mode():
    sd15.measure(name, a, lambda: model(sample, t, text).sample)
