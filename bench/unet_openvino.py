#!/usr/bin/env python3
"""Times a step of Stable Diffusion's U-Net, or its decoder, in OpenVINO on the CPU; with --int8 quantised by NNCF."""
import networks

p = networks.arguments(__doc__)
p.add_argument("--int8", action="store_true", help="weights and activations in 8 bits, calibrated on random inputs (needs nncf)")
a = networks.parse(p)

import openvino as ov  # noqa: E402
import torch  # noqa: E402

model, inputs = networks.model_and_inputs(a)
with torch.inference_mode():
    graph = ov.convert_model(model, example_input=inputs)
del model
numbers = [i.numpy() for i in inputs]
name = "OpenVINO " + ov.__version__.split("-")[0]
if a.int8:
    import nncf  # noqa: E402

    graph, name = nncf.quantize(graph, nncf.Dataset([numbers]), subset_size=1, model_type=nncf.ModelType.TRANSFORMER), name + " int8"
config = {"INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[a.dtype], "INFERENCE_NUM_THREADS": a.threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
request = ov.Core().compile_model(graph, "CPU", config).create_infer_request()
networks.measure(name, a, lambda: request.infer(numbers))
