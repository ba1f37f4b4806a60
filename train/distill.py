"""Distil the denoiser into one that needs 2-4 steps: latent consistency (Luo et al. 2023), as a LoRA.

    python -m train.distill --minutes 10          # WORK/distilled.pt, resumable
    python -m train.distill --minutes 0 --export ../models/default/lcm-lora.safetensors

The student is the U-Net with low-rank additions to its linear and convolution weights. It learns to give the
same picture from two neighbouring points of the teacher's guided DDIM path, hence from any point of it. Draw
with the LCM scheduler at guidance 1: the guidance is distilled in.
"""

import argparse
import time
from pathlib import Path

import torch
import torch.nn as nn
from diffusers import LCMScheduler
from safetensors.torch import save_file

from . import data
from .denoiser import SHEET_PROMPTS, Latents, noise_levels, tokenize
from .export import averaged_networks
from .models import LATENT_CHANNELS, LATENT_SIDE, SCHEDULE
from .muon import Muon, set_rate
from .runtime import Clock, autocast, device, load, log, save_atomically, set_up, sheet, work_dir

CHECKPOINT = "distilled.pt"
GRID = 50            # points of the teacher's path
SIGMA_DATA, TIMESTEP_SCALE = 0.5, 10.0  # of the consistency function's boundary, as the LCM scheduler has them


class LowRank(nn.Module):
    """y = W x + B A x, with B zero at first. ``on`` switches the addition off, which gives the teacher back."""

    def __init__(self, base, rank):
        super().__init__()
        self.base, self.on = base, True
        if isinstance(base, nn.Conv2d):
            self.down = nn.Conv2d(base.in_channels, rank, base.kernel_size, base.stride, base.padding, bias=False)
            self.up = nn.Conv2d(rank, base.out_channels, 1, bias=False)
        else:
            self.down, self.up = nn.Linear(base.in_features, rank, bias=False), nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x, *args):
        y = self.base(x, *args)
        return y + self.up(self.down(x)) if self.on else y


def add_low_rank(unet, rank):
    """Wrap every linear and convolution of at least 48 inputs; returns {path: LowRank}."""
    wrapped = {}
    for path, module in list(unet.named_modules()):
        inputs = getattr(module, "in_features", getattr(module, "in_channels", 0))
        if type(module) not in (nn.Linear, nn.Conv2d) or inputs < 48 or path in ("conv_in", "conv_out"):
            continue
        parent, _, name = path.rpartition(".")
        holder = unet.get_submodule(parent) if parent else unet
        wrapped[path] = LowRank(module, rank)
        setattr(holder, name, wrapped[path])
    return wrapped


class Distiller:
    def __init__(self, options):
        self.o = options
        self.networks, self.words, self.scale = averaged_networks()
        self.networks.requires_grad_(False)
        self.low_rank = add_low_rank(self.networks.unet, options.rank)
        self.networks.to(device())
        trained = [p for layer in self.low_rank.values() for p in (*layer.down.parameters(), *layer.up.parameters())]
        for p in trained:
            p.requires_grad_(True)
        self.trained = trained
        # Adam throughout: a product of two thin matrices is not what Muon orthogonalises.
        self.optimiser = Muon([dict(params=trained, muon=False, lr=options.lr, base=options.lr)])
        self.step, spent = 0, 0.0
        if (work_dir() / CHECKPOINT).exists():
            saved = load(work_dir() / CHECKPOINT)
            for p, value in zip(trained, saved["low_rank"]):
                p.data.copy_(value)
            self.optimiser.load_state_dict(saved["optimiser"])
            self.step, spent = saved["step"], saved["minutes"]
        self.clock = Clock(options.minutes, spent)
        self.alpha, self.sigma = (a.to(device()) for a in noise_levels())
        self.random = torch.Generator(device()).manual_seed(self.step)
        self.empty = tokenize(self.words, [""]).to(device())

    def student(self, on):
        for layer in self.low_rank.values():
            layer.on = on

    def picture_and_noise(self, x, t, states):
        """(x_0, noise) that the current network sees in x_t."""
        with autocast():
            v = self.networks.unet(x, t, states).sample.float()
        a, s = self.alpha[t].view(-1, 1, 1, 1), self.sigma[t].view(-1, 1, 1, 1)
        return a * x - s * v, s * x + a * v

    def consistent(self, x, t, states):
        """f(x, t) = c_skip x + c_out x_0, which is x itself at t = 0."""
        scaled = (t * TIMESTEP_SCALE).float().view(-1, 1, 1, 1)
        skip = SIGMA_DATA ** 2 / (scaled ** 2 + SIGMA_DATA ** 2)
        out = scaled / (scaled ** 2 + SIGMA_DATA ** 2).sqrt()
        return skip * x + out * self.picture_and_noise(x, t, states)[0]

    def loss(self, latents, n):
        where = device()
        pick = torch.randint(len(latents.x), (n,), generator=self.random, device=where)
        x0, tokens = latents.x[pick], latents.tokens[pick]
        index = torch.randint(1, GRID + 1, (n,), generator=self.random, device=where)
        t = index * (1000 // GRID) - 1
        earlier = ((index - 1) * (1000 // GRID) - 1).clamp(min=0)
        noise = torch.randn(x0.shape, generator=self.random, device=where)
        x = self.alpha[t].view(-1, 1, 1, 1) * x0 + self.sigma[t].view(-1, 1, 1, 1) * noise
        with torch.no_grad():
            states = self.networks.text(tokens).last_hidden_state
            empty = self.networks.text(self.empty).last_hidden_state.expand_as(states)
            self.student(False)
            plain, prompted = (self.picture_and_noise(x, t, c) for c in (empty, states))
            picture, eps = (a + self.o.guidance * (b - a) for a, b in zip(plain, prompted))
            a, s = self.alpha[earlier].view(-1, 1, 1, 1), self.sigma[earlier].view(-1, 1, 1, 1)
            self.student(True)
            target = self.consistent(a * picture + s * eps, earlier, states)
        error = self.consistent(x, t, states) - target
        return ((error ** 2 + 1e-3 ** 2).sqrt() - 1e-3).mean()  # pseudo-Huber

    def train(self):
        latents = Latents(self.words, self.scale)
        saved, updates, losses = time.time(), 0, []
        self.networks.train()
        while not self.clock.over():
            set_rate(self.optimiser, min(1, (updates + 1) / 20))
            self.optimiser.zero_grad()
            loss = self.loss(latents, self.o.batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
            self.optimiser.step()
            losses.append(loss.item())
            self.step, updates = self.step + 1, updates + 1
            if time.time() - saved > self.o.save_every * 60:
                self.report(sum(losses) / len(losses))
                saved, losses = time.time(), []
        if losses:
            self.report(sum(losses) / len(losses))

    @torch.no_grad()
    def report(self, loss):
        save_atomically({"low_rank": [p.detach().cpu() for p in self.trained], "step": self.step,
                         "minutes": self.clock.spent(), "optimiser": self.optimiser.state_dict()},
                        work_dir() / CHECKPOINT)
        log(f"distill: step {self.step} minutes {self.clock.spent():.1f} loss {loss:.4f}")
        self.networks.eval()
        latents = self.sample(SHEET_PROMPTS, 4)
        self.networks.train()
        (work_dir() / "sheets").mkdir(exist_ok=True)
        decoder = data.autoencoder()
        sheet(torch.cat([decoder.decode(z / self.scale).sample for z in latents.split(8)]),
              work_dir() / "sheets" / f"distill_{self.clock.spent():05.1f}.png")

    @torch.no_grad()
    def sample(self, prompts, steps, seed=0):
        keys = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type", "rescale_betas_zero_snr")
        scheduler = LCMScheduler(**{key: SCHEDULE[key] for key in keys}, clip_sample=False)
        scheduler.set_timesteps(steps)
        random = torch.Generator().manual_seed(seed)
        x = torch.randn(len(prompts), LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE, generator=random).to(device())
        states = self.networks.text(tokenize(self.words, prompts).to(device())).last_hidden_state
        for t in scheduler.timesteps:
            v = self.networks.unet(x, t.to(device()), states).sample
            step = scheduler.step(v.cpu(), t, x.cpu(), generator=random)
            x = step.prev_sample.to(device())
        return step.denoised.to(device())

    def export(self, path):
        """Kohya's names: lora_unet_<path>.lora_down.weight, .lora_up.weight, .alpha."""
        weights = {}
        for name, layer in self.low_rank.items():
            key = "lora_unet_" + name.replace(".", "_")
            weights[key + ".lora_down.weight"] = layer.down.weight.detach().half().cpu().contiguous()
            weights[key + ".lora_up.weight"] = layer.up.weight.detach().half().cpu().contiguous()
            weights[key + ".alpha"] = torch.tensor(float(self.o.rank)).half()
        save_file(weights, path)
        log(f"distill: {path}, {path.stat().st_size / 1e6:.1f} MB")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="of this run")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--save-every", type=float, default=3, help="minutes")
    parser.add_argument("--export", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    set_up(seed=4)
    distiller = Distiller(options)
    if options.minutes:
        distiller.train()
    if options.export:
        distiller.export(options.export)


if __name__ == "__main__":
    main()
