#!/usr/bin/env python3
"""Times one step of Stable Diffusion 1.5's U-Net in OpenVINO, float32 on the CPU."""
import sd15

a = sd15.arguments(__doc__).parse_args()

import openvino as ov  # noqa: E402
import torch  # noqa: E402

model, inputs = sd15.model_and_inputs(a)
with torch.inference_mode():
    graph = ov.convert_model(model, example_input=inputs)
del model
config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": a.threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
request = ov.Core().compile_model(graph, "CPU", config).create_infer_request()
numbers = [i.numpy() for i in inputs]
sd15.measure("OpenVINO " + ov.__version__.split("-")[0], a, lambda: request.infer(numbers))
