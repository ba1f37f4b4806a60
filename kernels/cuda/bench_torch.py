"""Times Stable Diffusion 1.5's layers in PyTorch: cuDNN and SDPA, float16, channels_last, each layer ten times in a CUDA graph,
as BenchmarkLayers does. Prints the same lines, so that the two can be put side by side."""

import torch
import torch.nn.functional as F

COPIES, RUNS = 10, 20
HALF = dict(device="cuda", dtype=torch.float16)


def conv(n, h, w, c, o, k, stride=1):
    x = torch.randn(n, c, h, w, **HALF).to(memory_format=torch.channels_last)
    weight = torch.randn(o, c, k, k, **HALF).to(memory_format=torch.channels_last)
    bias = torch.randn(o, **HALF)
    flops = 2 * n * (h // stride) * (w // stride) * o * c * k * k
    return f"conv2d {n}x{h}x{w}x{c} to {o}, {k}x{k} stride {stride}", flops, lambda: F.conv2d(x, weight, bias, stride, k // 2)


def linear(rows, c, o, geglu=False):
    x, weight, bias = torch.randn(rows, c, **HALF), torch.randn(2 * o if geglu else o, c, **HALF), torch.randn(2 * o if geglu else o, **HALF)

    def run():
        y = F.linear(x, weight, bias)
        if geglu:
            value, gate = y.chunk(2, -1)
            y = value * F.gelu(gate)
        return y

    return f"linear {rows}x{c} to {o}{' geglu' if geglu else ''}", 2 * rows * weight.numel(), run


def attention(n, queries, keys, heads, d):
    q, k, v = (torch.randn(n, heads, t, d, **HALF) for t in (queries, keys, keys))
    return f"attention {n}x{queries} queries, {keys} keys, {heads}x{d}", 4 * n * heads * queries * keys * d, lambda: F.scaled_dot_product_attention(q, k, v)


def group_norm(n, h, w, c):
    x = torch.randn(n, c, h, w, **HALF).to(memory_format=torch.channels_last)
    gamma, beta = torch.randn(c, **HALF), torch.randn(c, **HALF)
    return f"groupnorm {n}x{h}x{w}x{c}", 8 * x.numel(), lambda: F.silu(F.group_norm(x, 32, gamma, beta))


def layer_norm(rows, c):
    x, gamma, beta = torch.randn(rows, c, **HALF), torch.randn(c, **HALF), torch.randn(c, **HALF)
    return f"layernorm {rows}x{c}", 8 * x.numel(), lambda: F.layer_norm(x, (c,), gamma, beta)


LAYERS = [
    conv(2, 64, 64, 320, 320, 3), conv(2, 64, 64, 640, 320, 3), conv(2, 64, 64, 960, 320, 3), conv(2, 32, 32, 640, 640, 3),
    conv(2, 32, 32, 1920, 640, 3), conv(2, 16, 16, 1280, 1280, 3), conv(2, 16, 16, 2560, 1280, 3), conv(2, 8, 8, 1280, 1280, 3),
    conv(2, 64, 64, 320, 320, 3, 2), conv(2, 64, 64, 320, 320, 1), conv(2, 64, 64, 4, 320, 3), conv(2, 64, 64, 320, 4, 3),
    conv(1, 256, 256, 256, 256, 3), conv(1, 512, 512, 128, 3, 3),
    linear(8192, 320, 320), linear(8192, 320, 1280, True), linear(8192, 1280, 320), linear(2048, 640, 2560, True),
    linear(512, 1280, 5120, True), linear(154, 768, 320), linear(2, 1280, 1280),
    attention(2, 4096, 4096, 8, 40), attention(2, 4096, 77, 8, 40), attention(2, 1024, 1024, 8, 80), attention(2, 256, 256, 8, 160),
    attention(1, 4096, 4096, 1, 512),
    group_norm(2, 64, 64, 320), group_norm(2, 64, 64, 640), group_norm(1, 512, 512, 128), layer_norm(8192, 320),
]


def microseconds(layer):
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            layer()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(COPIES):
            layer()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    graph.replay()
    start.record()
    for _ in range(RUNS):
        graph.replay()
    end.record()
    torch.cuda.synchronize()
    return 1e3 * start.elapsed_time(end) / RUNS / COPIES


if __name__ == "__main__":
    torch.backends.cudnn.benchmark = True
    print(torch.cuda.get_device_name(), "torch", torch.__version__)
    for name, flops, layer in LAYERS:
        for kind, run in (("eager", layer), ("compiled", torch.compile(layer))):
            us = microseconds(run)
            print(f"{name:50} {kind:8} {us:10.1f} us/layer {flops / us / 1e6:8.1f} TFLOP/s")
