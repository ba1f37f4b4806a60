"""Train the U-Net and the text encoder together on cached latents.

    python -m train.denoiser --minutes 60 --total-minutes 100 --processes 2

Resumes from WORK/denoiser.pt, stops after --minutes of this run; the learning rate falls to nothing as the
minutes of all runs reach --total-minutes. Every --save-every minutes it writes the checkpoint, the
validation loss by noise level, and a sheet of pictures (WORK/sheets/).

On a processor run one process a core: they share a counter of micro-batches for each step, so that a
process whose core is busy with something else takes fewer. On a GPU run one process, with --batch and
--micro as large as fits.
"""

import argparse
import datetime
import re
import socket
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from transformers import CLIPTokenizer

from . import data, nouns
from .captions import CHANCES
from .models import LATENT_CHANNELS, LATENT_SIDE, TOKENS, build_scheduler, build_text_encoder, build_unet
from .muon import Muon, groups, set_average, set_rate
from .runtime import Clock, autocast, device, load, log, save_atomically, set_up, sheet, warn, work_dir
from .teller import Teller, quantiles

CHECKPOINT = "denoiser.pt"
SHEET_PROMPTS = (
    "a red apple", "a cat", "a house", "a blue car", "a dog on the grass", "a tree", "a rocket in space", "a hedgehog",
    "a 3d banana", "a purple apple on a pink background", "a cute kitten sleeping on a sofa", "a philosophical toaster",
    "two stars", "a pixel art mushroom", "a guitar and a teapot", "a robot facing right")
SHEET_SEEDS = 3


def tokenizer():
    return CLIPTokenizer.from_pretrained(str(work_dir() / "tokenizer"))


def tokenize(words, captions):
    """int64 (N, 24) token numbers."""
    return torch.tensor(words(list(captions), padding="max_length", max_length=TOKENS, truncation=True).input_ids)


def noise_levels():
    """(alpha, sigma) of every timestep, float32 of 1000: x_t = alpha x_0 + sigma noise."""
    kept = build_scheduler().alphas_cumprod.float()
    return kept.sqrt(), (1 - kept).sqrt()


class Networks(torch.nn.Module):
    """U-Net and text encoder as one module, predicting v = alpha noise - sigma x_0."""

    def __init__(self, words):
        super().__init__()
        self.unet, self.text = build_unet(), build_text_encoder(words)
        # Not exported: reads, at the bottleneck, the numbers that the noise is tied to. A loss on it teaches the way
        # down to carry them there; the picture's loss alone takes long to find out that the noise means something.
        self.reader = torch.nn.Linear(self.unet.config.block_out_channels[-1], CHANCES)
        self.unet.mid_block.register_forward_hook(self._keep)
        # Not exported either (teller.py).
        self.teller = Teller()

    def _keep(self, module, inputs, output):
        self.bottleneck = output

    def forward(self, noisy, t, tokens):
        self.hidden = self.text(tokens).last_hidden_state
        return self.unet(noisy, t, self.hidden).sample

    def read(self):
        """The numbers (N x CHANCES, as normal quantiles) that the last call's noise is thought to be tied to."""
        return self.reader(self.bottleneck.float().mean((2, 3)))


def freeze_down(unet):
    """Leave the path down to the bottleneck as it is, and do not go back through it: a quarter of the work of a
    step. What a caption means is decided on the way up."""
    for module in (unet.conv_in, *unet.down_blocks):
        module.requires_grad_(False)
        module.forward = torch.no_grad()(module.forward)


def tied(noise, chances, share):
    """Noise (N x C x H x W, standard normal) tied to the numbers behind each scene (captions.py): the mean of
    channel C - 1 - k, times the root of H W, becomes the normal quantile of number k, for the given share of the
    samples (N). The numbers are uniform, so the noise stays standard normal.

    Why: a caption means many pictures. If noise and picture are independent, the network's answer to pure noise
    can only be their mean, a blur, and it must learn the choice at lower noise, slowly. Tied, noise and caption
    together mean one picture even at the last timestep, and learning is a regression. Any such coupling of noise
    and data gives a flow from one to the other (Pooladian et al. 2023, "Multisample flow matching"; Tong et al.
    2024, "Improving and generalizing flow-based generative models with minibatch optimal transport")."""
    count, area = chances.shape[1], noise.shape[2] * noise.shape[3]
    wanted = quantiles(chances) / area ** 0.5
    channels = noise[:, -count:]
    change = (wanted.flip(1) - channels.mean((2, 3))) * (torch.rand(share.shape, device=share.device) < share)[:, None]
    return torch.cat([noise[:, :-count], channels + change[:, :, None, None]], 1)


def tied_share(t):
    """How many samples of timestep t are tied: all where the input is almost only noise, none where the picture is
    plain to see. There the noise must be independent, or samplers that add fresh noise, and image to image, would
    bring noise that contradicts the picture."""
    return ((t.float() - 400) / 450).clamp(0, 1)


def with_strange_tokens(tokens, share, vocabulary, generator):
    """In a share of the captions a random token is put in at a random place, so that unknown words change little."""
    n, length = tokens.shape
    where = tokens.device
    used = (tokens == tokens[:, -1:]).int().argmax(1).clamp(min=1)  # the first end marker
    at = 1 + (torch.rand(n, generator=generator, device=where) * used).long()
    index = torch.arange(length, device=where)[None].expand(n, -1)
    source = torch.where(index > at[:, None], index - 1, index)
    random = torch.randint(0, vocabulary - 2, (n, 1), generator=generator, device=where)
    changed = torch.where(index == at[:, None], random, tokens.gather(1, source))
    chosen = torch.rand(n, 1, generator=generator, device=where) < share
    return torch.where(chosen, changed, tokens)


@torch.no_grad()
def sample(networks, words, prompts, guidance=3.0, steps=25, seed=0):
    """DDIM latents (scaled) for the prompts, each from a seed of its own."""
    scheduler, where = build_scheduler(), device()
    scheduler.set_timesteps(steps)
    x = torch.cat([torch.randn(1, LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE,
                               generator=torch.Generator().manual_seed(seed + k)) for k in range(len(prompts))]).to(where)
    states = networks.text(tokenize(words, [""] * len(prompts) + list(prompts)).to(where)).last_hidden_state
    for t in scheduler.timesteps:
        plain, prompted = networks.unet(torch.cat([x, x]), t.to(where), states).sample.chunk(2)
        x = scheduler.step(plain + guidance * (prompted - plain), t, x).prev_sample
    return x


def only_first_nouns(captions, count):
    """bool (N,): the captions that speak of nothing but the first ``count`` nouns of nouns.FIRST."""
    rows = nouns.table(nouns.FIRST)
    first = [name for names, _ in rows[:count] for name in names]
    others = [name for names, _ in rows[count:] + nouns.table(nouns.COMMON) for name in names]

    def pattern(names):
        return re.compile(r"\b(" + "|".join(re.escape(n) for n in sorted(names, key=len, reverse=True)) + r")(s|es)?\b")

    first, others = pattern(first), pattern(others)
    return torch.tensor([bool(first.search(c)) and not others.search(c) for c in captions])


class Latents:
    """All cached latents with their captions, on the device; ``refresh`` picks up new pools. Scenes of the
    ``first`` commonest nouns alone are drawn ``focus`` times as often as the others."""

    def __init__(self, words, scale=None, focus=1.0, first=80):
        self.words, self.scale, self.focus, self.first = words, scale, focus, first
        self.pools, self.x, self.tokens, self.chances, self.weights = [], None, None, None, torch.empty(0)
        self.refresh()

    def refresh(self):
        fresh = [n for n in data.pool_numbers("latents", ".npy") if n not in self.pools and n != data.VALIDATION]
        if not fresh:
            return
        x = torch.cat([self._read(n) for n in fresh])
        captions = [caption for n in fresh for caption in data.captions(n)]
        tokens = tokenize(self.words, captions)
        self.weights = torch.cat([self.weights, 1 + (self.focus - 1) * only_first_nouns(captions, self.first).float()])
        if self.scale is None:
            self.scale = 1 / x.square().mean().sqrt().item()
        x = (x * self.scale).to(device())
        tokens = tokens.to(device())
        chances = torch.cat([data.chances(n) for n in fresh]).to(device())
        self.chances = chances if self.chances is None else torch.cat([self.chances, chances])
        self.x = x if self.x is None else torch.cat([self.x, x])
        self.tokens = tokens if self.tokens is None else torch.cat([self.tokens, tokens])
        self.pools += fresh

    def _read(self, number):
        return torch.from_numpy(np.load(work_dir() / "latents" / f"{number:03}.npy")).float()

    def pick(self, n, generator):
        """Indices of n random scenes."""
        if self.focus == 1:
            return torch.randint(len(self.x), (n,), generator=generator, device=self.x.device)
        return torch.multinomial(self.weights.to(self.x.device), n, replacement=True, generator=generator)

    def validation(self, count=128):
        tokens = tokenize(self.words, data.captions(data.VALIDATION)[:count])
        x = (self._read(data.VALIDATION)[:count] * self.scale).to(device())
        return x, tokens.to(device()), data.chances(data.VALIDATION)[:count].to(device())


class Trainer:
    """One process's part in the training."""

    def __init__(self, options, rank, store):
        self.o, self.rank, self.store = options, rank, store
        self.words = tokenizer()
        self.networks = Networks(self.words).to(device())
        if options.freeze_down:
            freeze_down(self.networks.unet)
        self.optimiser = Muon(groups(self.networks, options.muon_lr, options.adam_lr,
                                     adam_for=("embedding", "conv_in", "conv_out")), every=options.every)
        self.step = self.seen = 0
        spent, scale = 0.0, None
        self.average = {k: v.clone() for k, v in self.networks.state_dict().items() if v.is_floating_point()}
        path = work_dir() / CHECKPOINT
        if path.exists():
            saved = load(path)
            self.networks.load_state_dict({**self.networks.state_dict(), **saved["model"]})
            self.average = {k: saved["average"].get(k, v).to(device()) for k, v in self.average.items()}
            self.step, self.seen, spent, scale = saved["step"], saved["seen"], saved["minutes"], float(saved["scale"])
            if "optimiser" in saved:
                self._load_optimiser(saved["optimiser"])
        self.clock = Clock(options.minutes, spent)
        self.latents = Latents(self.words, scale, options.focus, options.focus_on)
        self.misread = self.mistold = float("nan")
        if options.telling and not self.networks.teller.components.any():
            raise SystemExit("there is nothing to tell yet: run python -m train.telling first, or give --telling 0")
        self.alpha, self.sigma = (a.to(device()) for a in noise_levels())
        self.empty = tokenize(self.words, [""])[0].to(device())
        self.random = torch.Generator(device()).manual_seed(1000 * rank + self.step + 1)
        self.predict = torch.compile(self.networks) if device().type == "cuda" and options.compile else self.networks

    def _load_optimiser(self, saved):
        now = self.optimiser.state_dict()["param_groups"]
        if [len(g["params"]) for g in now] == [len(g["params"]) for g in saved["param_groups"]]:
            self.optimiser.load_state_dict({"state": saved["state"], "param_groups": now})

    # --- a step ---

    def error(self, x, tokens, t, noise, networks=None):
        """Squared error of v for each sample."""
        a, s = self.alpha[t].view(-1, 1, 1, 1), self.sigma[t].view(-1, 1, 1, 1)
        with autocast():
            v = (networks or self.predict)(a * x + s * noise, t, tokens)
        return (v.float() - (a * noise - s * x)).square().mean((1, 2, 3))

    def micro_batch(self):
        """Loss of a random micro-batch. A share of it is pure noise, where the network must draw the picture from
        the words and from what the noise is tied to: that is plain regression, and shapes are learned many times
        faster. The other timesteps are spread evenly and lean towards noise."""
        n, where = self.o.micro, device()
        pick = self.latents.pick(n, self.random)
        tokens = with_strange_tokens(self.latents.tokens[pick], self.o.strange, len(self.words), self.random)
        dropped = torch.rand(n, generator=self.random, device=where) < self.o.drop_caption
        tokens = torch.where(dropped[:, None], self.empty, tokens)
        even = (torch.arange(n, device=where) + torch.rand(n, generator=self.random, device=where)) / n
        even = even[torch.randperm(n, generator=self.random, device=where)]
        t = (1000 * even ** self.o.noise_power).long().clamp(0, 999)
        t[:round(self.o.pure * n)] = 999  # the scenes are in random order
        x = self.latents.x[pick]
        chances, share = self.latents.chances[pick], tied_share(t)
        noise = tied(torch.randn(x.shape, generator=self.random, device=where), chances, share)
        loss = self.error(x, tokens, t, noise).mean()
        surely = (share == 1)[:, None]
        misread = ((self.networks.read() - quantiles(chances)).square() * surely).sum() / (surely.sum() * CHANCES)
        self.misread = misread.item()
        loss = loss + self.o.reading * misread
        if self.o.telling:
            mistold = self.networks.teller.error(self.networks.hidden, tokens, chances, x)
            self.mistold = mistold.item()
            loss = loss + self.o.telling * mistold
        return loss

    def accumulate(self):
        """Sum the gradients of batch/micro micro-batches over all processes; mean loss of this one's."""
        parts, losses = self.o.batch // self.o.micro, []
        for p in self.networks.parameters():
            p.grad = None
        while self._take_part(parts, len(losses)):
            loss = self.micro_batch()
            (loss / parts).backward()
            losses.append(loss.detach())
        if self.o.processes > 1:
            self._sum_gradients()
        return torch.stack(losses).mean().item() if losses else float("nan")

    def _take_part(self, parts, done):
        if self.store is None:
            return done < parts
        return self.store.add(f"step{self.step}", 1) <= parts

    def _sum_gradients(self):
        parameters = list(self.networks.parameters())
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters])
        dist.all_reduce(flat)
        for p, grad in zip(parameters, flat.split([p.numel() for p in parameters])):
            p.grad = grad.view_as(p)

    def rate(self):
        """Learning-rate factor: a short rise, a plateau, a linear fall over the last part of all minutes."""
        rise = min(1.0, (self.updates + 1) / self.o.warm_up)
        left = 1 - self.clock.spent() / self.o.total_minutes
        return rise * max(0.01, min(1.0, left / self.o.fall))

    def train(self):
        self.updates, losses = 0, []
        saved = time.time()
        self.networks.train()
        while not self._over():
            set_rate(self.optimiser, self.rate())
            losses.append(self.accumulate())
            torch.nn.utils.clip_grad_norm_(self.networks.parameters(), 1.0)
            self.optimiser.step()
            self.step, self.updates, self.seen = self.step + 1, self.updates + 1, self.seen + self.o.batch
            set_average(self.average, self.networks, self.updates, self.o.average)
            if time.time() - saved > self.o.save_every * 60:
                self.latents.refresh()
                if self.rank == 0:
                    self.report(float(np.nanmean(losses)))
                losses, saved = [], time.time()
        if self.rank == 0:
            self.report(float(np.nanmean(losses)) if losses else float("nan"))

    def _over(self):
        over = torch.tensor([float(self.clock.over())])
        if self.o.processes > 1:
            dist.broadcast(over, 0)
        return bool(over.item())

    # --- reports ---

    @torch.no_grad()
    def report(self, loss):
        """Save, validate the averaged weights and draw the sheet with them."""
        save_atomically({"model": self.networks.state_dict(), "average": self.average, "step": self.step,
                         "seen": self.seen, "minutes": self.clock.spent(), "scale": torch.tensor(self.latents.scale),
                         "optimiser": self.optimiser.state_dict()}, work_dir() / CHECKPOINT)
        raw = {k: v.clone() for k, v in self.networks.state_dict().items()}
        self.networks.load_state_dict({**raw, **self.average})
        self.networks.eval()
        errors, pure, untied = self._validate()
        quarters = errors.view(4, -1).mean(1)
        log(f"denoiser: step {self.step} seen {self.seen} minutes {self.clock.spent():.1f} rate {self.rate():.2f} "
            f"pools {len(self.latents.pools)} loss {loss:.4f} validation {quarters.mean():.4f} "
            f"by noise {' '.join(f'{q:.3f}' for q in quarters.tolist())} "
            f"pure noise {pure.mean():.4f}, untied {untied.mean():.4f}, misread {self.misread:.3f}, "
            f"mistold {self.mistold:.3f}")
        try:
            self._sheet()
        except (OSError, RuntimeError) as problem:
            warn(f"denoiser: no sheet: {problem}")
        self.networks.load_state_dict(raw)
        self.networks.train()

    def _validate(self):
        x, tokens, chances = self.latents.validation()
        n = len(x) // 4 * 4
        t = torch.arange(n, device=device()) * 1000 // n
        noise = torch.randn(x[:n].shape, generator=torch.Generator().manual_seed(7)).to(device())
        everywhere = torch.ones(n, device=device())
        errors = [self._errors(x[:n], tokens[:n], t, tied(noise, chances[:n], tied_share(t)))]
        # Of pure noise: tied, and not. The difference is what the network reads in the noise.
        for share in (everywhere, 0 * everywhere):
            errors.append(self._errors(x[:n], tokens[:n], 0 * t + 999, tied(noise, chances[:n], share)))
        return errors

    def _errors(self, x, tokens, t, noise):
        return torch.cat([self.error(x[k:k + 64], tokens[k:k + 64], t[k:k + 64], noise[k:k + 64], self.networks)
                          for k in range(0, len(x), 64)])

    def _sheet(self):
        prompts = [prompt for prompt in SHEET_PROMPTS for _ in range(SHEET_SEEDS)]
        with autocast():
            latents = sample(self.networks, self.words, prompts, 2.5, self.o.sheet_steps) / self.latents.scale
        decoder = data.autoencoder()
        folder = work_dir() / "sheets"
        folder.mkdir(exist_ok=True)
        pictures = torch.cat([decoder.decode(z).sample for z in latents.float().split(8)])
        sheet(torch.nn.functional.avg_pool2d(pictures, 2), folder / f"denoiser_{self.clock.spent():05.1f}.png", columns=12)


def _run(rank, options):
    set_up(threads=options.threads, seed=rank)
    store = None
    if options.processes > 1:
        # A process may be stopped for a long while (SIGSTOP): the others wait for it.
        patience = datetime.timedelta(hours=12)
        store = dist.TCPStore("127.0.0.1", options.port, options.processes, rank == 0, timeout=patience)
        dist.init_process_group("gloo", store=dist.PrefixStore("group", store), rank=rank,
                                world_size=options.processes, timeout=patience)
    Trainer(options, rank, store).train()
    if options.processes > 1:
        dist.barrier()
        dist.destroy_process_group()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="of this run")
    parser.add_argument("--total-minutes", type=float, default=60, help="of all runs, for the learning rate")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--port", type=int, default=0, help="local port to meet at (0: any free one)")
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--micro", type=int, default=16)
    parser.add_argument("--muon-lr", type=float, default=0.01)
    parser.add_argument("--every", type=int, default=1, help="steps between Muon's new directions: 2 for small batches")
    parser.add_argument("--adam-lr", type=float, default=1e-3)
    parser.add_argument("--warm-up", type=int, default=30, help="updates")
    parser.add_argument("--fall", type=float, default=0.4, help="share of the total in which the rate falls")
    parser.add_argument("--average", type=float, default=0.99, help="decay of the averaged weights")
    parser.add_argument("--drop-caption", type=float, default=0.08)
    parser.add_argument("--focus", type=float, default=1.0, help="weight of scenes with only the commonest nouns")
    parser.add_argument("--focus-on", type=int, default=80, help="how many nouns those are")
    parser.add_argument("--freeze-down", action="store_true", help="train only the bottleneck and the way up")
    parser.add_argument("--noise-power", type=float, default=0.6)
    parser.add_argument("--pure", type=float, default=0.4, help="share of the samples that are pure noise")
    parser.add_argument("--strange", type=float, default=0.06, help="share of the captions with a random token put in")
    parser.add_argument("--reading", type=float, default=0.1, help="weight of the loss of reading the noise")
    parser.add_argument("--telling", type=float, default=0.5, help="weight of the loss of the picture told by the text alone")
    parser.add_argument("--save-every", type=float, default=4, help="minutes")
    parser.add_argument("--sheet-steps", type=int, default=10)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="on a GPU")
    options = parser.parse_args(argv)
    if options.batch % options.micro:
        parser.error(f"--batch {options.batch} is not a multiple of --micro {options.micro}")
    return options


def main(argv=None):
    options = parse(argv)
    if options.processes == 1:
        _run(0, options)
    else:
        options.port = options.port or free_port()
        mp.spawn(_run, (options,), nprocs=options.processes)


if __name__ == "__main__":
    main()
