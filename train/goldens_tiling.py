"""Decodes that diffusers' AutoencoderKL makes in tiles, for pipeline/tiling_test.go.

The autoencoder is that of pipeline/testdata/models/sd1, whose tiles are 32 pixels. Latents are drawn by numpy from a seed
and kept with the result: as float32, before the scaling factor.

    python -m train.goldens_tiling
"""
import pathlib

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.numpy import save_file

ROOT = pathlib.Path(__file__).resolve().parent.parent / "pipeline" / "testdata"


def main():
    vae = AutoencoderKL.from_pretrained(ROOT / "models" / "sd1" / "vae", torch_dtype=torch.float32)
    vae.enable_tiling()
    arrays = {}
    # latent rows and columns: several tiles with rests, one row of tiles
    for h, w in [(6, 7), (4, 9)]:
        z = np.random.default_rng(h * 100 + w).standard_normal((1, 4, h, w)).astype(np.float32)
        with torch.no_grad():
            image = vae.decode(torch.from_numpy(z)).sample.numpy()
        assert image.shape == (1, 3, 8 * h, 8 * w)
        arrays[f"z-{h}x{w}"], arrays[f"image-{h}x{w}"] = z[0], image[0]
    save_file(arrays, ROOT / "tiling.safetensors")


if __name__ == "__main__":
    main()
