"""The judge: a small classifier that says what a picture shows.

    python -m train.judge --minutes 8            # WORK/judge.pt, resumable
    python -m train.judge --minutes 0 --export train/independent-judge

It is trained on random scenes of its own, in drawings of other icon sets than the model's (sprites.JUDGE_SETS), moved,
bent, tinted, blurred and noised. Drawing is what takes the time: a quarter of each batch is drawn anew, the rest is
taken from what was drawn before. Its accuracy is reported on fresh scenes of these sets and of the model's own sets, which
it never saw: the second is the most that a picture of the model can be expected to reach. Heads: the object's noun,
the background, the number of objects.

Layout of the network, so that any program can run it: the picture at 64 x 64 in -1..1; convolutions
"layers" of config.json, each followed by a ReLU (batch norm is folded in at export); then per channel the mean
and the maximum over all positions, concatenated; then one linear layer a head.
"""

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from . import captions, data, nouns
from .captions import Grammar, Mix
from .recolour import BACKGROUNDS, Painter, nearest_background
from .runtime import Clock, device, load, log, save_atomically, set_up, work_dir, write_json
from .scenes import draw
from .sprites import JUDGE_SETS, TRAINED_SETS, Catalogue

SIDE = 64
# (channels in, channels out, kernel, stride)
LAYERS = ((3, 32, 5, 2), (32, 64, 3, 2), (64, 96, 3, 1), (96, 160, 3, 2), (160, 160, 3, 1), (160, 320, 3, 2),
          (320, 320, 3, 1))
KEPT = 40000  # drawn scenes, 12 KB each
CHECKPOINT = "judge.pt"
MIX = Mix(kinds={"single": 0.7, "setting": 0.15, "count": 0.1, "place": 0.05}, first_weight=1.5, colour=0.3, sized=0.3, styled=0.2)


class Judge(nn.Module):
    def __init__(self, nouns, backgrounds, counts=4):
        super().__init__()
        blocks = []
        for inputs, outputs, kernel, stride in LAYERS:
            blocks += [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
                       nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*blocks)
        width = 2 * LAYERS[-1][1]
        self.heads = nn.ModuleDict({"noun": nn.Linear(width, nouns), "background": nn.Linear(width, backgrounds),
                                    "count": nn.Linear(width, counts)})

    def features(self, pictures):
        """N x 512 from N x 3 x 64 x 64."""
        y = self.body(pictures)
        return torch.cat([y.mean((2, 3)), y.amax((2, 3))], 1)

    def forward(self, pictures):
        features = F.dropout(self.features(pictures), 0.2, self.training)
        return {name: head(features) for name, head in self.heads.items()}


def to_side(pictures):
    """N x 3 x S x S to N x 3 x 64 x 64 by averaging (S a multiple of 64)."""
    return F.avg_pool2d(pictures, pictures.shape[-1] // SIDE)


class Examples:
    """Random scenes with their labels."""

    def __init__(self, seed):
        self.catalogue = Catalogue()
        self.painter = Painter(self.catalogue)
        self.grammar = Grammar(self.catalogue, self.painter, MIX)
        self.rng = np.random.default_rng(seed)
        self.nouns = [names[0] for names, _ in self.grammar.rows]
        self.backgrounds = [*BACKGROUNDS, *captions.SETTINGS]
        self.noun_of = {label: k for k, (_, label) in enumerate(self.grammar.rows)}

    def scene(self, sets):
        """A scene of the grammar with every object redrawn in one of the sets: the noun's icon or an alternative."""
        while True:
            scene = self.grammar.scene(self.rng)
            label = scene.items[0].label
            drawings = [drawn[name] for other in (label, *nouns.ALTERNATIVES.get(label, ()))
                        for drawn in [self.catalogue.drawings.get(other, {})] for name in sets if name in drawn]
            if drawings:
                break
        drawing, shrink = drawings[self.rng.integers(len(drawings))], self.rng.uniform(0.75, 1.1)
        scene.items = [replace(i, drawing=drawing, size=max(16, round(i.size * shrink))) for i in scene.items]
        return scene

    def background(self, scene):
        """Number of the scene's background; a light tint counts as the named colour that is nearest."""
        if not isinstance(scene.background, tuple):
            return self.backgrounds.index(scene.background)
        return self.backgrounds.index(nearest_background(scene.background))

    def batch(self, size, sets=JUDGE_SETS):
        scenes = [self.scene(sets) for _ in range(size)]
        pictures = to_side(data.to_tensor(np.stack([draw(s, self.painter) for s in scenes])))
        labels = {"noun": [self.noun_of[s.items[0].label] for s in scenes],
                  "background": [self.background(s) for s in scenes],
                  "count": [len(s.items) - 1 for s in scenes]}
        return pictures, {name: torch.tensor(values) for name, values in labels.items()}


class Drawn:
    """The scenes drawn so far, as bytes: the newest KEPT of them."""

    def __init__(self, examples):
        self.examples, self.pictures, self.labels = examples, [], []

    def batch(self, size, random):
        """A batch a quarter of which is new; the first batches are all new."""
        fresh = max(1, size // 4) if len(self.pictures) >= 8 * size else size
        pictures, labels = self.examples.batch(fresh)
        self.pictures += [*((pictures + 1) * 127.5).round().to(torch.uint8)]
        self.labels += [{name: int(values[k]) for name, values in labels.items()} for k in range(fresh)]
        del self.pictures[:-KEPT], self.labels[:-KEPT]
        chosen = [*range(-fresh, 0), *torch.randint(len(self.pictures), (size - fresh,), generator=random).tolist()]
        return (torch.stack([self.pictures[k] for k in chosen]).float() / 127.5 - 1,
                {name: torch.tensor([self.labels[k][name] for k in chosen]) for name in labels})


def roughen(pictures, random):
    """Shift, bend, tint, blur and noise: neither what a small generator does to shapes nor another hand's proportions
    should mislead the judge."""
    n = len(pictures)
    matrix = torch.eye(2, 3).repeat(n, 1, 1)
    matrix[:, :2, :2] *= torch.empty(n, 1, 1).uniform_(0.9, 1.12, generator=random)
    matrix[:, :, 2] = torch.empty(n, 2).uniform_(-0.12, 0.12, generator=random)
    tilt = torch.empty(n).normal_(0, 0.12, generator=random)
    matrix[:, 0, 1], matrix[:, 1, 0] = tilt, -tilt
    grid = F.affine_grid(matrix, pictures.shape, align_corners=False)
    bend = F.interpolate(0.05 * torch.randn(n, 2, 5, 5, generator=random), pictures.shape[2:], mode="bicubic")
    grid = grid + bend.permute(0, 2, 3, 1)
    x = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    blurred = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
    x = torch.where((torch.rand(n, generator=random) < 0.35).view(-1, 1, 1, 1), blurred, x)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * torch.empty(n, 1, 1, 1).uniform_(0.75, 1.2, generator=random)
    x = x * torch.empty(n, 1, 1, 1).uniform_(0.8, 1.15, generator=random)
    x = x + torch.empty(n, 3, 1, 1).normal_(0, 0.06, generator=random)
    strength = 0.12 * torch.rand(n, 1, 1, 1, generator=random)
    return x + strength * torch.randn(x.shape, generator=random)


def loss_of(outputs, labels):
    # A scene of several equal objects still has one noun, so each head is an ordinary classifier.
    return (F.cross_entropy(outputs["noun"], labels["noun"], label_smoothing=0.05)
            + 0.3 * F.cross_entropy(outputs["background"], labels["background"])
            + 0.3 * F.cross_entropy(outputs["count"], labels["count"]))


@torch.no_grad()
def accuracy(model, examples, sets, batches=8):
    """Noun top-1 and top-5, background, count: shares of right answers on fresh scenes."""
    model.eval()
    right = []
    for _ in range(batches):
        pictures, labels = examples.batch(64, sets)
        outputs = {name: out.cpu() for name, out in model(pictures.to(device())).items()}
        top = outputs["noun"].topk(min(5, outputs["noun"].shape[1])).indices == labels["noun"][:, None]
        right.append(torch.stack([top[:, 0], top.any(1), outputs["background"].argmax(1) == labels["background"],
                                  outputs["count"].argmax(1) == labels["count"]], 1).float())
    model.train()
    return dict(zip(("top-1", "top-5", "background", "count"), torch.cat(right).mean(0).tolist()))


def show(scores):
    return " ".join(f"{name} {100 * value:.1f} %" for name, value in scores.items())


def train(options):
    examples = Examples(seed=77)
    model = Judge(len(examples.nouns), len(examples.backgrounds)).to(device())
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    step, spent, path = 0, 0.0, work_dir() / CHECKPOINT
    if path.exists():
        saved = load(path)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        step, spent = saved["step"], saved["minutes"]
    clock, random, saved_at = Clock(options.minutes, spent), torch.Generator().manual_seed(step), time.time()
    examples.rng = np.random.default_rng(77 + step)
    drawn = Drawn(examples)
    check = Examples(seed=1234567)

    def report():
        save_atomically({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step,
                         "minutes": clock.spent(), "nouns": examples.nouns,
                         "backgrounds": examples.backgrounds}, path)
        log(f"judge: step {step} minutes {clock.spent():.1f}; fresh scenes: "
            f"{show(accuracy(model, check, JUDGE_SETS, 4))}; the model's sets: {show(accuracy(model, check, TRAINED_SETS, 4))}")

    while options.minutes and not clock.over():
        share = min(1.0, clock.spent() / options.total_minutes)
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * min(1, (step + 1) / 60) * max(0.02, 0.5 * (1 + math.cos(math.pi * share)))
        pictures, labels = drawn.batch(options.batch, random)
        loss = loss_of(model(roughen(pictures, random).to(device())), {k: v.to(device()) for k, v in labels.items()})
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        if time.time() - saved_at > 120:
            report()
            saved_at = time.time()
    if options.minutes:
        report()


def folded(model):
    """Weights with each batch norm folded into its convolution: layers.K.{weight,bias}, heads.NAME.{...}."""
    weights = {}
    for k in range(len(LAYERS)):
        conv, norm = model.body[3 * k], model.body[3 * k + 1]
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        weights[f"layers.{k}.weight"] = conv.weight * gain.view(-1, 1, 1, 1)
        weights[f"layers.{k}.bias"] = norm.bias - norm.running_mean * gain
    for name, head in model.heads.items():
        weights[f"heads.{name}.weight"], weights[f"heads.{name}.bias"] = head.weight, head.bias
    return {name: w.detach().float().contiguous() for name, w in weights.items()}


def trained():
    """(judge in eval mode, its nouns, its backgrounds)."""
    saved = load(work_dir() / CHECKPOINT)
    model = Judge(len(saved["nouns"]), len(saved["backgrounds"]))
    model.load_state_dict(saved["model"])
    return model.eval(), saved["nouns"], saved["backgrounds"]


def exported(folder):
    """(judge in eval mode, its nouns, its backgrounds) of an exported folder."""
    config = json.loads((folder / "config.json").read_text())
    weights = {name: w.float() for name, w in load_file(folder / "model.safetensors").items()}
    heads = config["heads"]
    model = Judge(len(heads["noun"]), len(heads["background"])).eval()
    for k in range(len(LAYERS)):  # batch norm is folded into the weights: it is the identity here
        model.body[3 * k].weight.data = weights[f"layers.{k}.weight"]
        norm = model.body[3 * k + 1]
        norm.bias.data = weights[f"layers.{k}.bias"]
        norm.eps = 0.0
    for name, head in model.heads.items():
        head.weight.data, head.bias.data = weights[f"heads.{name}.weight"], weights[f"heads.{name}.bias"]
    return model, heads["noun"], heads["background"]


def export(folder):
    model, nouns, backgrounds = trained()
    check = Examples(seed=7654321)
    seen, unseen = accuracy(model, check, JUDGE_SETS, 16), accuracy(model, check, TRAINED_SETS, 16)
    model.eval()
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: w.half() for name, w in folded(model).items()}, folder / "model.safetensors")
    layers = [dict(zip(("in", "out", "kernel", "stride", "padding"), (*layer, layer[2] // 2))) for layer in LAYERS]
    write_json({"input": SIDE, "range": [-1, 1], "layers": layers, "pool": ["mean", "max"],
                "heads": {"noun": nouns, "background": backgrounds, "count": ["1", "2", "3", "4"]},
                "accuracy": {"fresh scenes": seen, "unseen style": unseen}}, folder / "config.json")
    log(f"judge: exported to {folder}; fresh scenes: {show(seen)}; unseen style: {show(unseen)}")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="of this run")
    parser.add_argument("--total-minutes", type=float, default=8, help="of all runs, for the learning rate")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--export", type=Path, metavar="FOLDER")
    options = parser.parse_args(argv)
    set_up(seed=3)
    train(options)
    if options.export:
        export(options.export)


if __name__ == "__main__":
    main()
