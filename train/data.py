"""Pools of captioned scenes, and their latents.

    python -m train.data scenes --pools 12     # WORK/pools/NNN.npy (uint8 pictures), NNN.json (captions),
                                               # NNN.chances.npy
    python -m train.data collages --pools 3    # WORK/collages/NNN.npy, for the autoencoder
    python -m train.data latents               # WORK/latents/NNN.npy (float16), for every pool without
    python -m train.data drafts --pools 6      # WORK/drafts/NNN.npy: what the denoiser makes of the latents of the last
                                               # pools after noise, for a decoder that copes with its mistakes

Both skip what is there, so a killed run goes on where it stopped, and new pools can be added while a
trainer runs: it picks them up at its next checkpoint. A pool is drawn from a seed of its own and can be
made again anywhere.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from .captions import Grammar, Mix
from .models import build_autoencoder
from .recolour import Painter
from .runtime import autocast, device, load, log, set_up, work_dir
from .scenes import collage, draw
from .sprites import Catalogue

POOL = 1000          # scenes
VALIDATION = 999     # number of the pool that is never trained on

# First every noun as plainly as it can be drawn, then mostly single objects: shapes are what the model is slowest to
# learn.
PLAIN = Mix(kinds={"single": 1.0}, plain=1.0, first_weight=1.0, common_weight=1.0, more_weight=1.5, colour=0.1, background=0.0, sized=0.0,
            styled=0.0)
EASY = Mix(kinds={"single": 0.68, "setting": 0.09, "place": 0.04, "pair": 0.06, "count": 0.06, "relation": 0.03,
                  "scenery": 0.02, "unknown": 0.02}, plain=0.3)
CURRICULUM = ((4, PLAIN), (12, EASY), (VALIDATION, Mix()))


def mix_for(pool):
    return next((mix for bound, mix in CURRICULUM if pool < bound), Mix())


def pool_seed(pool):
    return 1_000_003 + pool


def make_pool(number, painter, size):
    """(uint8 pictures (size, 256, 256, 3), list of captions, float32 (size, CHANCES) numbers behind the captions)
    of the pool with that number."""
    rng = np.random.default_rng(pool_seed(number))
    grammar = Grammar(painter.catalogue, painter, mix_for(number))
    scenes = [grammar.scene(rng) for _ in range(size)]
    return (np.stack([draw(scene, painter) for scene in scenes]), [scene.caption for scene in scenes],
            np.stack([scene.chance for scene in scenes]).astype(np.float32))


def write_scenes(pools, size, share=(0, 1)):
    """Write the pools that are missing; of several processes, each takes its share (k, of n)."""
    painter = Painter(Catalogue())
    folder = work_dir() / "pools"
    folder.mkdir(exist_ok=True)
    for number in (VALIDATION, *range(pools))[share[0]::share[1]]:
        captions_file = folder / f"{number:03}.json"
        if captions_file.exists():
            continue
        start = time.time()
        pictures, captions, chances = make_pool(number, painter, size if number != VALIDATION else min(size, 512))
        np.save(folder / f"{number:03}.npy", pictures)
        np.save(folder / f"{number:03}.chances.npy", chances)
        captions_file.write_text(json.dumps(captions))  # last: its presence says the pool is whole
        log(f"data: pool {number:03}, {len(captions)} scenes in {time.time() - start:.0f} s")


def pool_numbers(folder="pools", suffix=".json"):
    """Numbers of the finished training pools."""
    numbers = (int(path.stem) for path in sorted((work_dir() / folder).glob("*" + suffix)))
    return [number for number in numbers if number != VALIDATION]


def pictures(number, folder="pools"):
    """Memory-mapped uint8 pictures of a pool."""
    return np.load(work_dir() / folder / f"{number:03}.npy", mmap_mode="r")


def write_collages(pools, size):
    """WORK/collages/NNN.npy: scenes without captions, for the autoencoder."""
    painter, folder = Painter(Catalogue()), work_dir() / "collages"
    folder.mkdir(exist_ok=True)
    for number in (VALIDATION, *range(pools)):
        target = folder / f"{number:03}.npy"
        if target.exists():
            continue
        start, rng = time.time(), np.random.default_rng(pool_seed(number))
        count = size if number != VALIDATION else min(size, 256)
        save_array(np.stack([draw(collage(painter, rng), painter) for _ in range(count)]), target)
        log(f"data: collages {number:03}, {count} in {time.time() - start:.0f} s")


def save_array(array, target):
    """np.save beside the target, then rename."""
    beside = target.with_suffix(".tmp")
    with open(beside, "wb") as file:
        np.save(file, array)
    os.replace(beside, target)


def captions(number):
    return json.loads((work_dir() / "pools" / f"{number:03}.json").read_text())


def chances(number):
    """float32 (size, CHANCES) in 0..1: what decided, for each scene, what its caption leaves open."""
    return torch.from_numpy(np.load(work_dir() / "pools" / f"{number:03}.chances.npy"))


def to_tensor(array):
    """uint8 N x H x W x 3 to float N x 3 x H x W in -1..1."""
    return torch.from_numpy(np.array(array)).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def autoencoder():
    """The trained autoencoder with its averaged weights, on the device."""
    model = build_autoencoder()
    model.load_state_dict(load(work_dir() / "autoencoder.pt")["average"])
    return model.eval().to(device())


class Teacher:
    """The encoder of an exported model for pictures of half the size, whose latents are to be kept: then its denoiser
    knows its shapes from the first step on."""

    def __init__(self, folder):
        self.model = AutoencoderKL.from_pretrained(Path(folder) / "vae", torch_dtype=torch.float32).eval().to(device())

    @torch.no_grad()
    def latents(self, pictures):
        return self.model.encode(torch.nn.functional.avg_pool2d(pictures, 2)).latent_dist.mean


@torch.no_grad()
def write_latents(share=(0, 1), batch=4, teacher=None):
    """Write the latents that are missing; of several processes, each takes its share (k, of n)."""
    folder = work_dir() / "latents"
    folder.mkdir(exist_ok=True)
    model = None if teacher else autoencoder()
    encode = Teacher(teacher).latents if teacher else lambda x: model.encode(x).latent_dist.mean
    for number in (VALIDATION, *pool_numbers())[share[0]::share[1]]:
        target = folder / f"{number:03}.npy"
        if target.exists():
            continue
        start, means, images = time.time(), [], pictures(number)
        for k in range(0, len(images), batch):
            with autocast():
                mean = encode(to_tensor(images[k:k + batch]).to(device()))
            means.append(mean.half().cpu().numpy())
        save_array(np.concatenate(means), target)
        log(f"data: latents {number:03}, {len(images) / (time.time() - start):.0f} scenes/s")


DRAFT_NOISE = (150, 650)  # timesteps


@torch.no_grad()
def write_drafts(pools, batch=64):
    """Latents as the denoiser sees them through noise, in the autoencoder's scale."""
    from .denoiser import noise_levels, tied, tied_share, tokenize
    from .export import averaged_networks
    networks, words, scale = averaged_networks()
    networks.to(device())
    alpha, sigma = (a.to(device()) for a in noise_levels())
    folder = work_dir() / "drafts"
    folder.mkdir(exist_ok=True)
    for number in pool_numbers("latents", ".npy")[-pools:]:
        start, drafts = time.time(), []
        random = torch.Generator(device()).manual_seed(pool_seed(number))
        x = torch.from_numpy(np.load(work_dir() / "latents" / f"{number:03}.npy")).float().to(device()) * scale
        tokens, numbers = tokenize(words, captions(number)).to(device()), chances(number).to(device())
        for k in range(0, len(x), batch):
            part = slice(k, k + batch)
            t = torch.randint(*DRAFT_NOISE, (len(x[part]),), generator=random, device=device())
            noise = tied(torch.randn(x[part].shape, generator=random, device=device()), numbers[part], tied_share(t))
            a, s = alpha[t].view(-1, 1, 1, 1), sigma[t].view(-1, 1, 1, 1)
            noisy = a * x[part] + s * noise
            with autocast():
                v = networks(noisy, t, tokens[part])
            drafts.append(((a * noisy - s * v.float()) / scale).half().cpu().numpy())
        save_array(np.concatenate(drafts), folder / f"{number:03}.npy")
        log(f"data: drafts {number:03}, {len(x) / (time.time() - start):.0f} scenes/s")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("scenes", "collages", "latents", "drafts"))
    parser.add_argument("--pools", type=int, default=12)
    parser.add_argument("--share", default="0/1", help="K/N: this process makes every N-th pool, from the K-th")
    parser.add_argument("--size", type=int, default=POOL, help="scenes a pool")
    parser.add_argument("--teacher", help="folder of a model for pictures of half the size, whose latents are kept")
    args = parser.parse_args(argv)
    set_up()
    share = tuple(int(n) for n in args.share.split("/"))
    if args.stage == "scenes":
        write_scenes(args.pools, args.size, share)
    elif args.stage == "collages":
        write_collages(args.pools, args.size)
    elif args.stage == "drafts":
        write_drafts(args.pools)
    else:
        write_latents(share, teacher=args.teacher)


if __name__ == "__main__":
    main()
