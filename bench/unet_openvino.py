#!/usr/bin/env python3
"""Times one step of Stable Diffusion 1.5's U-Net in OpenVINO on the CPU; with --int8 quantised by NNCF."""
import sd15

p = sd15.arguments(__doc__)
p.add_argument("--int8", action="store_true", help="weights and activations in 8 bits, calibrated on random inputs (needs nncf)")
a = p.parse_args()

import openvino as ov  # noqa: E402
import torch  # noqa: E402

model, inputs = sd15.model_and_inputs(a)
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
sd15.measure(name, a, lambda: request.infer(numbers))
