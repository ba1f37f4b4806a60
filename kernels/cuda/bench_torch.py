"""Times in PyTorch what TestBenchSteps has timed: cuDNN and SDPA, float16, channels_last, each layer ten times in a CUDA graph, eager and
compiled, and the whole U-Net of diffusers with random weights, if that is installed.

    bench_torch.py DARKROOM.json TORCH.json
    bench_torch.py --list DARKROOM.json    builds every layer on the CPU's meta device, to check this file without a GPU
"""

import json
import sys

import torch
import torch.nn.functional as F

COPIES, RUNS = 10, 20
ACTS = {0: lambda y: y, 1: F.silu, 2: F.gelu, 4: lambda y: y.chunk(2, -1)[0] * F.gelu(y.chunk(2, -1)[1])}


def layer(kind, d, device):
    half = dict(device=device, dtype=torch.float16)
    if kind == "conv2d":
        x = torch.randn(d["n"], d["c"], d["h"], d["w"], **half).to(memory_format=torch.channels_last)
        weight = torch.randn(d["o"], d["c"], d["k"], d["k"], **half).to(memory_format=torch.channels_last)
        bias = torch.randn(d["o"], **half)
        if d["up"] > 1:
            return lambda: F.conv2d(F.interpolate(x, scale_factor=d["up"], mode="nearest"), weight, bias, d["stride"], d["k"] // 2)
        return lambda: F.conv2d(x, weight, bias, d["stride"], d["k"] // 2)
    if kind == "linear":
        x, weight = torch.randn(d["rows"], d["c"], **half), torch.randn(d["o"], d["c"], **half)
        bias = torch.randn(d["o"], **half) if d["bias"] else None
        if d.get("norm"):
            gamma, beta = torch.randn(d["c"], **half), torch.randn(d["c"], **half)
            return lambda: ACTS[d["act"]](F.linear(F.layer_norm(x, (d["c"],), gamma, beta), weight, bias))
        return lambda: ACTS[d["act"]](F.linear(x, weight, bias))
    if kind == "attention":
        q = torch.randn(d["n"], d["heads"], d["queries"], d["d"], **half)
        k, v = (torch.randn(d["n"], d["heads"], d["keys"], d["d"], **half) for _ in range(2))
        return lambda: F.scaled_dot_product_attention(q, k, v)
    if kind == "groupnorm":
        x = torch.randn(d["n"], d["c"], d["h"], d["w"], **half).to(memory_format=torch.channels_last)
        gamma, beta = torch.randn(d["c"], **half), torch.randn(d["c"], **half)
        return lambda: F.silu(F.group_norm(x, 32, gamma, beta))
    if kind == "layernorm":
        x, gamma, beta = torch.randn(d["rows"], d["c"], **half), torch.randn(d["c"], **half), torch.randn(d["c"], **half)
        return lambda: F.layer_norm(x, (d["c"],), gamma, beta)
    raise ValueError(kind)


def microseconds(run, copies):
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(copies):
            run()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    graph.replay()
    start.record()
    for _ in range(RUNS):
        graph.replay()
    end.record()
    torch.cuda.synchronize()
    return 1e3 * start.elapsed_time(end) / RUNS / copies


UNETS = {
    "Stable Diffusion 1.5": (64, 768, dict(block_out_channels=(320, 640, 1280, 1280), attention_head_dim=8, cross_attention_dim=768)),
    "Stable Diffusion XL": (128, 2048, dict(
        block_out_channels=(320, 640, 1280), attention_head_dim=(5, 10, 20), cross_attention_dim=2048, transformer_layers_per_block=(1, 2, 10),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816)),
}


def unet_step(name, device):
    from diffusers import UNet2DConditionModel

    size, context, config = UNETS[name]
    with torch.device(device):
        model = UNet2DConditionModel(sample_size=size, **config).half().to(memory_format=torch.channels_last).eval()
        half = dict(dtype=torch.float16)
        x = torch.randn(2, 4, size, size, **half).to(memory_format=torch.channels_last)
        text = torch.randn(2, 77, context, **half)
        t = torch.full((2,), 500)
        more = {}
        if "addition_embed_type" in config:
            more = {"text_embeds": torch.randn(2, 1280, **half), "time_ids": torch.zeros(2, 6, **half)}

    def step(run):
        with torch.no_grad():
            return run(x, t, text, added_cond_kwargs=more, return_dict=False)[0]

    return model, step


def main(source, target):
    torch.backends.cudnn.benchmark = True
    rows = json.load(open(source))["rows"]
    out = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": [], "steps": []}
    for r in rows:
        run = layer(r["kind"], r["dims"], "cuda")
        row = {"model": r["model"], "kind": r["kind"], "shape": r["shape"], "bias": r["dims"].get("bias", 0), "eager": microseconds(run, COPIES)}
        try:
            torch._dynamo.reset()
            row["compiled"] = microseconds(torch.compile(run), COPIES)
        except Exception as e:  # say so and go on: the other layers are still worth having
            print(f"{r['kind']} {r['shape']}: torch.compile: {e}", file=sys.stderr)
        print(f"{r['kind']:10} {r['shape']:50} eager {row['eager']:9.1f} us  compiled {row.get('compiled', 0):9.1f} us", flush=True)
        out["rows"].append(row)
    for name in UNETS:
        try:
            model, step = unet_step(name, "cuda")
            result = {"model": name, "eager": microseconds(lambda: step(model), 1)}
            torch._dynamo.reset()
            compiled = torch.compile(model)
            result["compiled"] = microseconds(lambda: step(compiled), 1)
        except Exception as e:
            print(f"{name}: the whole step: {e}", file=sys.stderr)
            continue
        print(f"{name}: a step: eager {result['eager']:.0f} us, compiled {result['compiled']:.0f} us", flush=True)
        out["steps"].append(result)
    json.dump(out, open(target, "w"), indent="\t")


if __name__ == "__main__":
    if sys.argv[1] == "--list":
        for r in json.load(open(sys.argv[2]))["rows"]:
            print(r["kind"], r["shape"], tuple(layer(r["kind"], r["dims"], "meta")().shape))
        for name in UNETS:
            model, step = unet_step(name, "meta")
            print(name, sum(p.numel() for p in model.parameters()), "parameters:", tuple(step(model).shape))
    else:
        main(*sys.argv[1:])
