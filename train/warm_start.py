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

from .runtime import log, save_atomically, work_dir


def _weights(path):
    return {name: tensor.float() for name, tensor in load_file(path).items()}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    args = parser.parse_args(argv)
    work = work_dir()
    if not (work / "tokenizer").exists():
        shutil.copytree(args.model / "tokenizer", work / "tokenizer")
    if not (work / "autoencoder.pt").exists():
        vae = _weights(args.model / "vae" / "diffusion_pytorch_model.safetensors")
        save_atomically({"model": vae, "average": vae, "step": 0, "minutes": 0.0}, work / "autoencoder.pt")
    if not (work / "denoiser.pt").exists():
        both = {f"unet.{name}": w for name, w in
                _weights(args.model / "unet" / "diffusion_pytorch_model.safetensors").items()}
        both |= {f"text.{name}": w for name, w in
                 _weights(args.model / "text_encoder" / "model.safetensors").items()}
        config = (args.model / "vae" / "config.json").read_text()
        scale = json.loads(config)["scaling_factor"]
        save_atomically({"model": both, "average": both, "step": 0, "minutes": 0.0, "seen": 0,
                         "scale": torch.tensor(scale)}, work / "denoiser.pt")
    log(f"warm start: from {args.model}")


if __name__ == "__main__":
    main()
