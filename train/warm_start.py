"""Begin from an exported model instead of from random weights.

    python -m train.warm_start ../models/default

Writes WORK/autoencoder.pt, WORK/denoiser.pt and WORK/tokenizer from a diffusers folder, as the stages
that train them would have. Files that are there already are left alone.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

from .models import LATENT_CHANNELS, build_autoencoder
from .runtime import log, save_atomically, work_dir


def _weights(path):
    return {name: tensor.float() for name, tensor in load_file(path).items()}


def widened(old, shape):
    """A weight with more input or output channels than it had: the new ones near zero, so that it does what it did."""
    new = torch.randn(shape) * (0.02 if len(shape) > 1 else 0.0)
    new[tuple(slice(n) for n in old.shape)] = old
    return new


def grown_autoencoder(old):
    """The weights of an autoencoder of 128 pixels and four levels as those of build_autoencoder: a fifth level around
    them, which at first only halves the picture and doubles it again, and more channels of latents. Weights that have
    the right shape already are returned as they are."""
    model = build_autoencoder()
    new = model.state_dict()
    levels = len(model.config.block_out_channels)
    if f"encoder.down_blocks.{levels - 1}.resnets.0.conv1.weight" in old:
        return old
    for name, weight in old.items():
        parts = name.split(".")
        if parts[:2] == ["encoder", "down_blocks"]:  # the new level is the first on the way down, the last on the way up
            parts[2] = str(int(parts[2]) + 1)
        new[".".join(parts)] = widened(weight, new[".".join(parts)].shape)
    last = levels - 1
    for name in [name for name in new if name.startswith(("encoder.down_blocks.0.resnets", f"decoder.up_blocks.{last}.resnets"))]:
        if "conv2" in name:
            new[name] = torch.zeros_like(new[name])  # the block adds nothing to its input
    down, up = "encoder.down_blocks.0.downsamplers.0.conv", f"decoder.up_blocks.{last - 1}.upsamplers.0.conv"
    identity = torch.eye(new[up + ".weight"].shape[0])
    for name in (down, up):
        new[name + ".weight"], new[name + ".bias"] = torch.zeros_like(new[name + ".weight"]), torch.zeros_like(new[name + ".bias"])
    new[down + ".weight"][:, :, :2, :2] = identity[:, :, None, None] / 4  # the mean of four pixels
    new[up + ".weight"][:, :, 1, 1] = identity
    return new


def grown_unet(old):
    """The denoiser's weights with LATENT_CHANNELS channels at its two ends."""
    new = dict(old)
    for name, at in (("conv_in.weight", 1), ("conv_out.weight", 0), ("conv_out.bias", 0)):
        shape = list(old[name].shape)
        shape[at] = LATENT_CHANNELS
        new[name] = widened(old[name], shape)
    # The new channels are those whose mean is tied to what a caption leaves open (denoiser.tied): a mean is let through.
    first = new["conv_in.weight"]
    count = LATENT_CHANNELS - old["conv_in.weight"].shape[1]
    if count:
        first[:, -count:] = 0.03 * torch.randn(first.shape[0], count, 1, 1)
    return new


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    args = parser.parse_args(argv)
    work = work_dir()
    if not (work / "tokenizer").exists():
        shutil.copytree(args.model / "tokenizer", work / "tokenizer")
    if not (work / "autoencoder.pt").exists():
        vae = _weights(args.model / "vae" / "diffusion_pytorch_model.safetensors")
        vae = grown_autoencoder(vae)
        save_atomically({"model": vae, "average": vae, "step": 0, "minutes": 0.0}, work / "autoencoder.pt")
    if not (work / "denoiser.pt").exists():
        both = {f"unet.{name}": w for name, w in
                grown_unet(_weights(args.model / "unet" / "diffusion_pytorch_model.safetensors")).items()}
        both |= {f"text.{name}": w for name, w in
                 _weights(args.model / "text_encoder" / "model.safetensors").items()}
        config = (args.model / "vae" / "config.json").read_text()
        scale = json.loads(config)["scaling_factor"]
        save_atomically({"model": both, "average": both, "step": 0, "minutes": 0.0, "seen": 0,
                         "scale": torch.tensor(scale)}, work / "denoiser.pt")
    log(f"warm start: from {args.model}")


if __name__ == "__main__":
    main()
