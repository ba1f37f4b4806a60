"""Golden file of the layers that networks share: nn/testdata/layers.safetensors, by diffusers and torch in float64.

    python train/goldens_nn.py
"""
import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import Downsample2D, ResnetBlock2D, Upsample2D

from goldens_nets import Golden, draw, make_up

NETS = {
    "resblock": (ResnetBlock2D(in_channels=8, out_channels=8, temb_channels=12, groups=4, eps=1e-5), "resblock"),
    "resblock-shortcut": (ResnetBlock2D(in_channels=12, out_channels=8, temb_channels=12, groups=4, eps=1e-3), "resblock"),
    "resblock-plain": (ResnetBlock2D(in_channels=6, out_channels=9, temb_channels=None, groups=3, eps=1e-6), "resblock"),
    "self-attention": (Attention(query_dim=12, heads=3, dim_head=4, bias=True), "attention"),
    "cross-attention": (Attention(query_dim=12, cross_attention_dim=10, heads=2, dim_head=6), "attention"),
    "downsample": (Downsample2D(6, use_conv=True, padding=1, name="op"), "resize"),
    "upsample": (Upsample2D(6, use_conv=True), "resize"),
    "groupnorm": (torch.nn.GroupNorm(4, 12, eps=1e-4), "image"),
    "layernorm": (torch.nn.LayerNorm(12, eps=1e-3), "tokens"),
    "linear": (torch.nn.Linear(12, 7, bias=False), "tokens"),
}


def main():
    golden = Golden()
    for i, (name, (net, kind)) in enumerate(NETS.items()):
        net = make_up(net)
        golden.network(name, net, {})
        channels = {"resblock": getattr(net, "in_channels", 0), "resize": 6, "image": 12}.get(kind)
        x = draw(90 + i, 2, channels, 5, 4) if channels else draw(90 + i, 2, 7, 12)
        temb, context = draw(110 + i, 2, 12), draw(130 + i, 2, 5, 10)
        with torch.no_grad():
            if kind == "resblock":
                out = net(x, temb if net.time_emb_proj is not None else None)
                golden.value(name, "run", "temb", torch.nn.functional.silu(temb))
            elif kind == "attention":
                out = net(x, context if name == "cross-attention" else None)
                golden.value(name, "run", "context", context)
            else:
                out = net(x)
        golden.value(name, "run", "in", x)
        golden.value(name, "run", "out", out)
    golden.save("nn/testdata/layers.safetensors")


if __name__ == "__main__":
    main()
