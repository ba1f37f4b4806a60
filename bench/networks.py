"""Networks of Stable Diffusion's sizes with random weights, and how their runs are timed."""
import argparse
import json
import os
import statistics
import time

UNETS = dict(
    sd15=dict(
        sample_size=64, in_channels=4, out_channels=4, layers_per_block=2, block_out_channels=(320, 640, 1280, 1280),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=768, attention_head_dim=8, norm_num_groups=32,
    ),
    sdxl=dict(
        sample_size=128, in_channels=4, out_channels=4, layers_per_block=2, block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
        transformer_layers_per_block=(1, 2, 10), attention_head_dim=(5, 10, 20), cross_attention_dim=2048, use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816, norm_num_groups=32,
    ),
)
VAE = dict(block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, norm_num_groups=32, sample_size=512,
           down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)


def arguments(description):
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--network", default="sd15", choices=["sd15", "sdxl", "vae"], help="U-Net of that model, or the decoder of both")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--runs", type=int, default=5, help="runs that count, after one that does not")
    p.add_argument("--batch", type=int, help="default: 2, a step with guidance; 1 of the decoder")
    p.add_argument("--size", type=int, help="latent pixels a side, eighths of the picture's (default: 64, of sdxl 128)")
    p.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    p.add_argument("--json", action="store_true")
    return p


def parse(p):
    a = p.parse_args()
    a.batch = a.batch or (1 if a.network == "vae" else 2)
    a.size = a.size or (128 if a.network == "sdxl" else 64)
    return a


def model_and_inputs(a):
    """The network as a module of plain tensors, and tensors for it."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    class UNet(torch.nn.Module):
        def __init__(self, unet):
            super().__init__()
            self.unet = unet

        def forward(self, sample, t, text, pooled=None, ids=None):
            added = None if pooled is None else {"text_embeds": pooled, "time_ids": ids}
            return self.unet(sample, t, text, added_cond_kwargs=added, return_dict=False)[0]

    class Decoder(torch.nn.Module):
        def __init__(self, vae):
            super().__init__()
            self.vae = vae

        def forward(self, latents):
            return self.vae.decode(latents, return_dict=False)[0]

    torch.manual_seed(0)
    latents = torch.randn(a.batch, 4, a.size, a.size)
    if a.network == "vae":
        return Decoder(AutoencoderKL(**VAE)).eval(), (latents,)
    config = UNETS[a.network]
    inputs = latents, torch.tensor([500.0] * a.batch), torch.randn(a.batch, 77, config["cross_attention_dim"])
    if a.network == "sdxl":
        inputs += torch.randn(a.batch, 1280), torch.tensor([[8.0 * a.size, 8.0 * a.size, 0, 0, 8.0 * a.size, 8.0 * a.size]] * a.batch)
    return UNet(UNet2DConditionModel(**config)).eval(), inputs


def measure(name, a, step):
    """Calls step once to warm up, then a.runs times, and prints the times in seconds."""
    step()
    times = []
    for _ in range(a.runs):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    row = dict(program=name, network=a.network, dtype=a.dtype, threads=a.threads, batch=a.batch, size=a.size,
               median_s=round(statistics.median(times), 3), min_s=round(min(times), 3), max_s=round(max(times), 3))
    if a.json:
        print(json.dumps(row))
    else:
        print("{program:28} {network}, {dtype}, {threads} threads, {batch}×{size}×{size}: median {median_s:.2f} s, {min_s:.2f} to {max_s:.2f}".format(**row))
