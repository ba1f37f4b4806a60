"""Pools of captioned scenes, and their latents.

    python -m train.data scenes --pools 12     # WORK/pools/NNN.npy (uint8 pictures), NNN.json (captions)
    python -m train.data latents               # WORK/latents/NNN.npy (float16), for every pool without

Both skip what is there, so a killed run goes on where it stopped, and new pools can be added while a
trainer runs: it picks them up at its next checkpoint. A pool is drawn from a seed of its own and can be
made again anywhere.
"""

import argparse
import json
import os
import time
from dataclasses import replace

import numpy as np
import torch

from .captions import Grammar, Mix
from .models import build_autoencoder
from .recolour import Painter
from .runtime import autocast, device, load, log, set_up, work_dir
from .scenes import draw
from .sprites import Catalogue

POOL = 2000          # scenes
VALIDATION = 999     # number of the pool that is never trained on

# Mostly single centred objects: shapes are what the model is slowest to learn.
EASY = Mix(kinds={"single": 0.66, "setting": 0.12, "place": 0.06, "pair": 0.09, "count": 0.07},
           first_weight=2.5, rare=0.0, styled=0.03, sized=0.04, colour=0.35, background=0.35)
# Then more of what needs shapes at half the size.
COMPOSED = replace(EASY, kinds={"single": 0.36, "setting": 0.08, "place": 0.09, "pair": 0.34, "count": 0.13})
CURRICULUM = ((10, replace(EASY, outlined=0.0)), (14, replace(EASY, outlined=0.1)), (VALIDATION, COMPOSED),
              (VALIDATION + 1, EASY))


def mix_for(pool):
    return next((mix for bound, mix in CURRICULUM if pool < bound), Mix())


def pool_seed(pool):
    return 1_000_003 + pool


def make_pool(number, painter, size):
    """(uint8 pictures (size, 128, 128, 3), list of captions) of the pool with that number."""
    rng = np.random.default_rng(pool_seed(number))
    grammar = Grammar(painter.catalogue, painter, mix_for(number))
    scenes = [grammar.scene(rng) for _ in range(size)]
    return np.stack([draw(scene, painter) for scene in scenes]), [scene.caption for scene in scenes]


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
        pictures, captions = make_pool(number, painter, size if number != VALIDATION else min(size, 512))
        np.save(folder / f"{number:03}.npy", pictures)
        captions_file.write_text(json.dumps(captions))  # last: its presence says the pool is whole
        log(f"data: pool {number:03}, {len(captions)} scenes in {time.time() - start:.0f} s")


def pool_numbers(folder="pools", suffix=".json"):
    """Numbers of the finished training pools."""
    numbers = (int(path.stem) for path in sorted((work_dir() / folder).glob("*" + suffix)))
    return [number for number in numbers if number != VALIDATION]


def pictures(number):
    """Memory-mapped uint8 pictures of a pool."""
    return np.load(work_dir() / "pools" / f"{number:03}.npy", mmap_mode="r")


def captions(number):
    return json.loads((work_dir() / "pools" / f"{number:03}.json").read_text())


def to_tensor(array):
    """uint8 N x H x W x 3 to float N x 3 x H x W in -1..1."""
    return torch.from_numpy(np.array(array)).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def autoencoder():
    """The trained autoencoder with its averaged weights, on the device."""
    model = build_autoencoder()
    model.load_state_dict(load(work_dir() / "autoencoder.pt")["average"])
    return model.eval().to(device())


@torch.no_grad()
def write_latents(batch=50):
    folder = work_dir() / "latents"
    folder.mkdir(exist_ok=True)
    model = autoencoder()
    for number in (VALIDATION, *pool_numbers()):
        target = folder / f"{number:03}.npy"
        if target.exists():
            continue
        start, means, images = time.time(), [], pictures(number)
        for k in range(0, len(images), batch):
            with autocast():
                posterior = model.encode(to_tensor(images[k:k + batch]).to(device())).latent_dist
            means.append(posterior.mean.half().cpu().numpy())
        beside = folder / f"{number:03}.tmp"
        with open(beside, "wb") as file:
            np.save(file, np.concatenate(means))
        os.replace(beside, target)
        log(f"data: latents {number:03}, {len(images) / (time.time() - start):.0f} scenes/s")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("scenes", "latents"))
    parser.add_argument("--pools", type=int, default=12)
    parser.add_argument("--share", default="0/1", help="K/N: this process makes every N-th pool, from the K-th")
    parser.add_argument("--size", type=int, default=POOL, help="scenes a pool")
    args = parser.parse_args(argv)
    set_up()
    if args.stage == "scenes":
        write_scenes(args.pools, args.size, tuple(int(n) for n in args.share.split("/")))
    else:
        write_latents()


if __name__ == "__main__":
    main()
