"""Measure the model by pictures.

    python -m train.evaluate prompts OUT.jsonl                 # what to draw: one {"id","prompt","seed",...} a line
    python -m train.evaluate render OUT.jsonl PICTURES         # draw them with PyTorch (or let Darkroom do it)
    python -m train.evaluate score OUT.jsonl PICTURES          # PICTURES/<id>.png -> table, WORK/evaluation.json
    python -m train.evaluate memory OUT.jsonl PICTURES         # nearest training scenes: is it a copying machine?

Colours, counts and places are measured in the pixels, objects by the judge (judge.py). The autoencoder is
measured on the validation pool.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from . import captions, data, nouns
from .autoencoder import psnr
from .captions import PLACES, article, held_out, plural
from .denoiser import sample
from .judge import CHECKPOINT as JUDGE
from .judge import to_side, trained
from .recolour import BACKGROUNDS, HUES, Painter, hue_name, to_hsv
from .runtime import HERE, log, set_up, sheet, work_dir, write_json
from .sprites import Catalogue

HUE_COLOURS = tuple(c for c in HUES if c not in ("brown", "pink"))  # told apart by hue alone
BATCH = 16


# --- what is asked for ---

def tasks(count=40, first=80, objects=200, seed=11):
    """List of dicts with id, prompt, seed, kind and what the answer must show: the ``objects`` commonest nouns
    alone, and ``count`` prompts of each other kind about the ``first`` commonest."""
    rng = np.random.default_rng(seed)
    catalogue = Catalogue()
    grammar = captions.Grammar(catalogue, Painter(catalogue))
    rows = catalogue.rows(nouns.FIRST) + catalogue.rows(nouns.COMMON)
    paintable = [names[0] for names, label in rows if grammar.paintable(names[0], label)]
    out = []

    def add(kind, prompt, **answer):
        out.append({"id": f"{kind}-{len(out):04}", "prompt": prompt, "seed": len(out), "kind": kind, **answer})

    for names, _ in rows[:objects]:
        add("object", article(names[0]), noun=names[0])
    names = [names[0] for names, _ in rows[:first]]

    def pick(items):
        return items[rng.integers(len(items))]

    for _ in range(count):
        colour = pick(list(BACKGROUNDS))
        add("background", f"{article(pick(names))} on {article(colour)} background", background=colour)
    for kind, wanted in (("colour", False), ("held-out colour", True)):
        pairs = [(c, n) for c in HUE_COLOURS for n in paintable if n in names and held_out(c, n) == wanted]
        for k in rng.permutation(len(pairs))[:count]:
            colour, noun = pairs[k]
            add(kind.replace(" ", "-"), article(f"{colour} {noun}"), colour=colour, noun=noun)
    for _ in range(count):
        first, second = (names[k] for k in rng.permutation(len(names))[:2])
        add("pair", f"{article(first)} and {article(second)}", nouns=[first, second])
    for k in range(count):
        number, noun = k % 4 + 1, pick(names)
        words = {1: article(noun), 2: f"two {plural(noun)}", 3: f"three {plural(noun)}", 4: f"four {plural(noun)}"}
        add("count", words[number], count=number, noun=noun)
    for _ in range(count):
        place = pick(list(PLACES))
        add("place", f"{article(pick(names))} {PLACES[place][0][0]}", place=place)
    prompts = HERE.parent / "samples" / "prompts.txt"
    for line in prompts.read_text().splitlines() if prompts.exists() else ():
        add("newcomer", line)
    return out


# --- drawing ---

def render(wanted, folder, steps, guidance):
    from .export import averaged_networks  # here, so that scoring needs no checkpoint
    networks, words, scale = averaged_networks()
    decoder = data.autoencoder().cpu()
    folder.mkdir(parents=True, exist_ok=True)
    todo = [task for task in wanted if not (folder / f"{task['id']}.png").exists()]
    for k in range(0, len(todo), BATCH):
        part = todo[k:k + BATCH]
        with torch.no_grad():
            latents = sample_seeds(networks, words, part, guidance, steps)
            pictures = decoder.decode(latents / scale).sample
        for task, picture in zip(part, pictures):
            sheet(picture[None], folder / f"{task['id']}.png", columns=1)


def sample_seeds(networks, words, part, guidance, steps):
    """Tasks are numbered in order, so a batch's seeds mostly follow each other: one call for each run of them."""
    latents, start = [], 0
    for k in range(1, len(part) + 1):
        if k == len(part) or part[k]["seed"] != part[k - 1]["seed"] + 1:
            run = part[start:k]
            latents.append(sample(networks, words, [t["prompt"] for t in run], guidance, steps, run[0]["seed"]))
            start = k
    return torch.cat(latents)


# --- measuring ---

def read(folder, task):
    """uint8 128 x 128 x 3."""
    return np.asarray(Image.open(folder / f"{task['id']}.png").convert("RGB"))


def border_colour(picture):
    edge = np.concatenate([picture[:5].reshape(-1, 3), picture[-5:].reshape(-1, 3),
                           picture[:, :5].reshape(-1, 3), picture[:, -5:].reshape(-1, 3)])
    return np.median(edge, 0)


def foreground(picture):
    """Boolean mask of what is not background."""
    mask = np.abs(picture.astype(int) - border_colour(picture)).max(-1) > 40
    return ndimage.binary_opening(mask, iterations=2)


def background_name(picture):
    colour = border_colour(picture)
    return min(BACKGROUNDS, key=lambda name: np.abs(colour - np.array(BACKGROUNDS[name])).sum())


def object_colour(picture):
    """Name of the main hue of the foreground, or None."""
    mask = foreground(picture)
    if mask.sum() < 150:
        return None
    hue, saturation, value = (channel[mask] for channel in to_hsv(picture))
    vivid = saturation > 0.25
    if vivid.mean() < 0.3:
        return "gray"
    histogram = np.bincount((hue[vivid] / 10).astype(int) % 36, weights=(saturation * value)[vivid], minlength=36)
    smooth = histogram + np.roll(histogram, 1) + np.roll(histogram, -1)
    return hue_name(int(smooth.argmax()) * 10 + 5)


def objects(picture):
    """Number of separate foreground regions of at least a sixth of the largest."""
    labelled, found = ndimage.label(ndimage.binary_closing(foreground(picture), iterations=2))
    if not found:
        return 0
    areas = np.bincount(labelled.ravel())[1:]
    return int((areas > areas.max() / 6).sum())


def place_name(picture):
    rows, columns = np.where(foreground(picture))
    if not len(rows):
        return None
    x, y = columns.mean(), rows.mean()
    return min(PLACES, key=lambda name: (PLACES[name][1] - x) ** 2 + (PLACES[name][2] - y) ** 2)


class Scorer:
    """Without a trained judge (WORK/judge.pt) the measures that ask it are left out."""

    def __init__(self):
        self.judge = None
        if (work_dir() / JUDGE).exists():
            self.judge, self.nouns, _ = trained()

    def top(self, picture, count=5):
        """The judge's best nouns for a picture of any even size."""
        tensor = torch.nn.functional.interpolate(data.to_tensor(picture[None]), size=(128, 128), mode="bilinear")
        with torch.no_grad():
            scores = self.judge(to_side(tensor))["noun"][0]
        return [self.nouns[k] for k in scores.topk(min(count, len(scores))).indices]

    def right(self, task, picture):
        """dict of measure -> bool for the task."""
        kind = task["kind"]
        if kind == "object" and self.judge:
            top = self.top(picture)
            return {"object, judge's top-1": top[0] == task["noun"], "object, judge's top-5": task["noun"] in top}
        if kind == "background":
            return {"background colour": background_name(picture) == task["background"]}
        if kind in ("colour", "held-out-colour"):
            words = "object colour, trained" if kind == "colour" else "object colour, held out"
            measures = {words: object_colour(picture) == task["colour"]}
            if self.judge:
                measures[words + ": object in top-5"] = task["noun"] in self.top(picture)
            return measures
        if kind == "pair" and self.judge:
            halves = self._half(picture, 0), self._half(picture, 64)
            found = [noun in self.top(half) for noun, half in zip(task["nouns"], halves)]
            return {"two objects both there (top-5)": all(found)}
        if kind == "count":
            return {"count of 1-4": objects(picture) == task["count"]}
        if kind == "place":
            return {"position": place_name(picture) == task["place"]}
        return {}

    @staticmethod
    def _half(picture, x):
        """A half of the picture as a square scene: its middle 64 rows."""
        return picture[32:96, x:x + 64]


def score(wanted, folder):
    scorer, tally = Scorer(), {}
    for task in wanted:
        for measure, right in scorer.right(task, read(folder, task)).items():
            tally.setdefault(measure, []).append(bool(right))
    results = {measure: {"share": float(np.mean(r)), "of": len(r)} for measure, r in tally.items()}
    held_back = data.to_tensor(data.pictures(data.VALIDATION)[:64])
    vae = data.autoencoder().cpu()
    with torch.no_grad():
        copies = torch.cat([vae.decode(vae.encode(x).latent_dist.mean).sample for x in held_back.split(16)])
    results["autoencoder PSNR, unseen scenes, dB"] = {"share": psnr(copies, held_back), "of": len(held_back)}
    write_json(results, work_dir() / "evaluation.json")
    for measure, r in results.items():
        log(f"evaluate: {measure}: " + (f"{r['share']:.2f}" if "dB" in measure else
                                        f"{100 * r['share']:.0f} % of {r['of']}"))
    _sheets(wanted, folder)


def _sheets(wanted, folder):
    (work_dir() / "sheets").mkdir(exist_ok=True)
    for kind in dict.fromkeys(task["kind"] for task in wanted):
        pictures = np.stack([read(folder, task) for task in wanted if task["kind"] == kind])
        sheet(data.to_tensor(pictures), work_dir() / "sheets" / f"evaluation_{kind}.png", columns=10)


def memory(wanted, folder):
    """Root-mean-square distance (grey levels) to the nearest training scene, beside the same for fresh scenes."""
    small = lambda x: x[:, ::4, ::4].reshape(len(x), -1).astype(np.float32)
    trained_on = np.concatenate([small(data.pictures(n)) for n in data.pool_numbers("latents", ".npy")])

    def nearest(pictures):
        q = small(pictures)
        squared = (q ** 2).sum(1)[:, None] + (trained_on ** 2).sum(1)[None] - 2 * q @ trained_on.T
        return np.sqrt(np.maximum(squared.min(1), 0) / q.shape[1])

    drawn = nearest(np.stack([read(folder, task) for task in wanted]))
    fresh = nearest(data.pictures(data.VALIDATION)[:64])
    log(f"evaluate: nearest training scene: generated median {np.median(drawn):.1f} grey levels, below 8: "
        f"{100 * (drawn < 8).mean():.0f} %; fresh scenes median {np.median(fresh):.1f}, below 8: "
        f"{100 * (fresh < 8).mean():.0f} %")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("prompts", "render", "score", "memory"))
    parser.add_argument("jobs", type=Path)
    parser.add_argument("pictures", type=Path, nargs="?")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--count", type=int, default=40, help="prompts of each kind")
    parser.add_argument("--first", type=int, default=80, help="commonest nouns that those are about")
    parser.add_argument("--objects", type=int, default=200, help="commonest nouns that are asked for alone")
    options = parser.parse_args(argv)
    set_up()
    if options.stage == "prompts":
        wanted = tasks(options.count, options.first, options.objects)
        options.jobs.write_text("".join(json.dumps(task) + "\n" for task in wanted))
        log(f"evaluate: {len(wanted)} prompts in {options.jobs}")
        return
    if options.pictures is None:
        parser.error(f"{options.stage} needs the folder of pictures")
    wanted = [json.loads(line) for line in options.jobs.read_text().splitlines()]
    if options.stage == "render":
        render(wanted, options.pictures, options.steps, options.guidance)
    elif options.stage == "score":
        score(wanted, options.pictures)
    else:
        memory(wanted, options.pictures)


if __name__ == "__main__":
    main()
