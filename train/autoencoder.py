"""Train the autoencoder: 256 x 256 x 3 pixels to 16 x 16 x 16 latents and back.

    python -m train.autoencoder --minutes 30 --total-minutes 40
    python -m train.autoencoder --decoder-only --minutes 20 --total-minutes 60

Resumes from WORK/autoencoder.pt. With --decoder-only the latents stay what they are, so that the denoiser
trained on them stays valid, and the decoder learns to cope with slightly wrong latents (--noise), and with the
denoiser's own if there are drafts (data.py). Writes the PSNR on unseen scenes and a sheet of them beside their copies.
"""

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F

from . import data
from .models import SIDE, build_autoencoder, parameters
from .muon import Muon, groups, set_average, set_rate
from .runtime import Clock, autocast, device, load, log, save_atomically, set_up, sheet, work_dir

CHECKPOINT = "autoencoder.pt"
# Latents are not pushed towards a normal distribution. Noise of a fixed size and a price on their squares make
# the encoder spend amplitude where it buys the most, as principal components do: few channels carry the shapes,
# the others little, and the denoiser learns from coarse to fine. (With a KL term all sixteen channels had unit
# variance, and fine texture weighed as much as shape.)
LATENT_NOISE, SQUARE_WEIGHT = 0.15, 1e-3
ANCHOR_WEIGHT = 8.0  # an error of a tenth of the noise, squared and times this, is 0.002: as much as 0.1 dB of the copy


def psnr(copy, original):
    """Mean over the batch, in dB, of pictures in -1..1."""
    error = (copy.clamp(-1, 1) - original).square().mean((1, 2, 3))
    return (10 * torch.log10(4 / error)).mean().item()


def gradients(error):
    """Mean absolute difference of neighbouring pixels' errors: what punishes soft edges."""
    return (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()


def flatness(copy, original):
    """Mean absolute difference of neighbouring pixels where the original has none: what punishes texture on plain
    areas. Counted twice as much as the share of such pixels would give."""
    total = 0.0
    for axis in (2, 3):
        n = original.shape[axis] - 1
        edge = (original.narrow(axis, 1, n) - original.narrow(axis, 0, n)).abs().amax(1, keepdim=True)
        flat = (edge < 0.004).float()
        total = total + ((copy.narrow(axis, 1, n) - copy.narrow(axis, 0, n)).abs() * flat).mean()
    return total


def difference(copy, x, square=4.0):
    """The loss of a copy: pixels, their squares, edges, the coarse picture, and texture where there is none."""
    error = copy - x
    coarse = F.avg_pool2d(error, 4).abs().mean()
    return (0.5 * error.abs().mean() + 0.25 * gradients(error) + 0.25 * coarse + square * error.square().mean()
            + 0.5 * flatness(copy, x))


class Trainer:
    def __init__(self, options):
        self.o = options
        self.model = build_autoencoder().to(device())
        self.teacher = data.Teacher(options.teacher) if options.teacher else None
        self.anchor = data.Teacher(options.anchor) if options.anchor else None
        self.step, spent = 0, 0.0
        saved = load(work_dir() / CHECKPOINT) if (work_dir() / CHECKPOINT).exists() else None
        if saved:
            self.model.load_state_dict(saved["average"] if options.decoder_only else saved["model"])
            self.step, spent = saved["step"], saved["minutes"]
        if options.decoder_only:
            self.model.encoder.requires_grad_(False)
            self.model.quant_conv.requires_grad_(False)
        self.optimiser = Muon(groups(self.model, options.muon_lr, options.adam_lr,
                                     adam_for=("conv_in", "conv_out", "quant")), weight_decay=0.0)
        if saved and saved.get("decoder_only") == options.decoder_only and "optimiser" in saved:
            now = self.optimiser.state_dict()["param_groups"]
            self.optimiser.load_state_dict({"state": saved["optimiser"]["state"], "param_groups": now})
        self.average = {k: v.clone() for k, v in self.model.state_dict().items()}
        if saved:
            self.average = {k: saved["average"][k].to(device()) for k in self.average}
        self.clock = Clock(options.minutes, spent)
        self.random = np.random.default_rng(self.step)
        self.find_pools()
        self.held_back = data.to_tensor(data.pictures(data.VALIDATION, "collages")[:64]).to(device())
        log(f"autoencoder: {parameters(self.model) / 1e6:.2f} M weights, {len(self.pools)} pools, "
            f"PSNR {self.validate()[0]:.2f} dB at the start")

    def find_pools(self):
        self.drafts = [(data.pictures(n), np.load(work_dir() / "drafts" / f"{n:03}.npy", mmap_mode="r"))
                       for n in (data.pool_numbers("drafts", ".npy") if self.o.decoder_only else ())]
        self.pools = [data.pictures(n, "collages") for n in data.pool_numbers("collages", ".npy")]

    def batch(self):
        """Random crops, half of them mirrored."""
        pool, n, side = self.pools[self.random.integers(len(self.pools))], self.o.batch, self.o.crop
        corners = self.random.integers(0, (SIDE - side) // 16 + 1, (n, 2)) * 16
        picks = self.random.integers(0, len(pool), n)
        x = data.to_tensor(np.stack([pool[i][y:y + side, x:x + side] for i, (y, x) in zip(picks, corners)]))
        return (x.flip(3) if self.random.random() < 0.5 else x).contiguous().to(device())

    def draft(self):
        """Crops of the denoiser's drafts (latents), and of the pictures that they should have been."""
        pictures, latents = self.drafts[self.random.integers(len(self.drafts))]
        n, cells = self.o.batch, self.o.crop // 16
        corners = self.random.integers(0, SIDE // 16 - cells + 1, (n, 2))
        picks = self.random.integers(0, len(pictures), n)
        z = np.stack([latents[i][:, y:y + cells, x:x + cells] for i, (y, x) in zip(picks, corners)])
        x = np.stack([pictures[i][16 * y:16 * (y + cells), 16 * x:16 * (x + cells)] for i, (y, x) in zip(picks, corners)])
        return torch.from_numpy(z).float().to(device()), data.to_tensor(x).to(device())

    def redrawn(self):
        """The decoder draws from a draft. Where an edge is uncertain the mean of the pictures that it could be is soft, and
        their median is not: so the square of the error counts little here."""
        z, x = self.draft()
        with autocast():
            copy = self.model.decode(z).sample.float()
        return difference(copy, x, square=0.5)

    def loss(self, x):
        if self.drafts and self.step % 4:
            return self.redrawn()
        if self.teacher:
            return self.taught(x)
        with autocast():
            with torch.set_grad_enabled(not self.o.decoder_only):
                mean = self.model.encode(x).latent_dist.mean
            spread = LATENT_NOISE
            if self.o.decoder_only:
                spread = mean.std().item() * self.o.noise * self.random.random()
            z = mean + spread * torch.randn_like(mean)
            copy = self.model.decode(z).sample.float()
        loss = difference(copy, x)
        if self.o.decoder_only:
            return loss
        loss = loss + SQUARE_WEIGHT * mean.square().mean()
        return loss + self.drift(mean, x) if self.anchor else loss

    def drift(self, mean, x):
        """How far the latents have gone from the anchor's, squared, so that a denoiser that knows those keeps its shapes
        while the encoder learns. Channels that the anchor has not are free."""
        with autocast():
            wanted = self.anchor.latents(x)
        return ANCHOR_WEIGHT * (mean[:, :wanted.shape[1]].float() - wanted.float()).square().mean()

    def taught(self, x):
        """The decoder draws from the teacher's latents; every fourth time the encoder is drawn to them."""
        with autocast():
            z = self.teacher.latents(x).float()
            noise = self.o.noise * z.std() * self.random.random() * torch.randn_like(z)
            loss = difference(self.model.decode(z + noise).sample.float(), x)
            if self.step % 4 == 0:
                loss = loss + (self.model.encode(x).latent_dist.mean.float() - z).square().mean()
        return loss

    def train(self):
        saved, seen, updates, start = time.time(), 0, 0, time.time()
        while not self.clock.over():
            left = 1 - self.clock.spent() / self.o.total_minutes
            set_rate(self.optimiser, min(1, (updates + 1) / 50) * max(0.02, min(1, left / self.o.fall)))
            self.optimiser.zero_grad()
            self.loss(self.batch()).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()
            self.step, updates, seen = self.step + 1, updates + 1, seen + self.o.batch
            set_average(self.average, self.model, updates)
            if time.time() - saved > self.o.save_every * 60:
                self.report(seen / (time.time() - start))
                saved = time.time()
        self.report(seen / (time.time() - start))

    def validate(self):
        raw = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        with torch.no_grad():
            encode = self.teacher.latents if self.teacher else lambda x: self.model.encode(x).latent_dist.mean
            copies = torch.cat([self.model.decode(encode(x)).sample for x in self.held_back.split(8)])
        self.model.load_state_dict(raw)
        return psnr(copies, self.held_back), copies

    def report(self, rate):
        save_atomically({"model": self.model.state_dict(), "average": self.average, "step": self.step,
                         "minutes": self.clock.spent(), "optimiser": self.optimiser.state_dict(),
                         "decoder_only": self.o.decoder_only}, work_dir() / CHECKPOINT)
        value, copies = self.validate()
        self.find_pools()  # new ones may have been written meanwhile
        log(f"autoencoder: step {self.step} minutes {self.clock.spent():.1f} {rate:.1f} crops/s PSNR {value:.2f} dB")
        (work_dir() / "sheets").mkdir(exist_ok=True)
        pairs = torch.stack([self.held_back[:24], copies[:24]], 1).flatten(0, 1)
        sheet(pairs, work_dir() / "sheets" / "autoencoder.png", columns=8)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="of this run")
    parser.add_argument("--total-minutes", type=float, default=30, help="of all runs, for the learning rate")
    parser.add_argument("--decoder-only", action="store_true")
    parser.add_argument("--teacher", help="folder of a model for pictures of half the size, whose latents are kept")
    parser.add_argument("--anchor", help="folder of such a model: the encoder learns too, but stays close to its latents")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=128, help="pixels")
    parser.add_argument("--noise", type=float, default=0.15, help="of the latents' spread, with --decoder-only")
    parser.add_argument("--muon-lr", type=float, default=0.01)
    parser.add_argument("--adam-lr", type=float, default=2e-3)
    parser.add_argument("--fall", type=float, default=0.6, help="share of the total in which the rate falls")
    parser.add_argument("--save-every", type=float, default=2, help="minutes")
    options = parser.parse_args(argv)
    set_up(seed=1)
    Trainer(options).train()


if __name__ == "__main__":
    main()
