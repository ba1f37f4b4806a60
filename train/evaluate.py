"""Measure the model by pictures, drawn by Darkroom itself: `make eval-model` runs all of it.

    python -m train.evaluate prompts FOLDER       # FOLDER/tasks.jsonl and a job file for each of SETTINGS
    darkroom batch FOLDER/NAME.jsonl -o FOLDER/NAME --name "{index:04}"
    python -m train.evaluate score FOLDER         # the table of docs/model.md, sheets in samples/model
    python -m train.evaluate memory FOLDER        # nearest training scenes: is it a copying machine?

Colours, counts, places and plain backgrounds are measured in the pixels, objects by the judge (independent-judge), diversity
as the mean distance of 16 seeds' pictures, beside that of 16 training scenes of the same captions. The autoencoder is
measured on the validation pool.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from scipy import ndimage

from . import captions, data, nouns
from .autoencoder import psnr
from .captions import PLACES, article, held_out, plural
from .judge import exported, to_side
from .recolour import BACKGROUNDS, HUES, Painter, hue_name, nearest_background, to_hsv
from .runtime import HERE, log, set_up, sheet, write_json
from .scenes import draw
from .sprites import Catalogue

# Name of the pictures' folder -> (words for the table, request fields of its job file, kinds of tasks, or all).
SETTINGS = {
    "ddim-25": ("DDIM, 25 steps", {"scheduler": "ddim", "steps": 25}, None),
    "ddim-4": ("DDIM, 4 steps", {"scheduler": "ddim", "steps": 4},
               ("object", "background", "colour", "held-out-colour", "pair", "count", "place", "strange")),
    "dpmpp2m-12": ("DPM++ 2M, 12 steps", {"scheduler": "dpm++2m", "steps": 12},
                   ("object", "background", "colour", "held-out-colour", "pair", "count", "place", "strange")),
}
DIVERSE = ("a cat", "a dog", "a house", "a car", "a tree", "a flower", "a fish", "a robot")
SEEDS = 16
SHEET_SIDE = 96  # pixels of a picture on the sheets
# Words that are in no caption of the training, for prompts with a known noun: (before it, after it).
STRANGE = (("zealous", ""), ("quantum", ""), ("bureaucratic", "of yesterday"), ("", "contemplating its existence"),
           ("rustic", "by candlelight"), ("baroque", ""), ("", "wearing pyjamas"), ("melancholic", "in fashion"),
           ("steampunk", ""), ("", "that remembers everything"))
# Measure -> what the project asks of it, in percent (or dB): at least, and wished for. What the judge finds alone is held
# against the column of the training's drawings.
BARS = {
    "background colour": (90, 98), "object colour, trained": (70, 90),
    "object colour, held out": (50, 75), "two objects both there": (45, 80), "count of 1 to 4": (60, 85),
    "position": (60, 85),
}
BEGIN, END = "<!-- measured: make eval-model -->", "<!-- end -->"
HUE_COLOURS = tuple(c for c in HUES if c not in ("brown", "pink"))  # told apart by hue alone


# --- what is asked for ---

def tasks(count=40, first=80, objects=200, seed=11):
    """List of dicts with prompt, seed, kind and what the answer must show: the ``objects`` commonest nouns
    alone, and ``count`` prompts of each other kind about the ``first`` commonest."""
    rng = np.random.default_rng(seed)
    catalogue = Catalogue()
    grammar = captions.Grammar(catalogue, Painter(catalogue))
    rows = catalogue.rows(nouns.FIRST) + catalogue.rows(nouns.COMMON)
    paintable = [names[0] for names, label in rows if grammar.paintable(names[0], label)]
    out = []

    def add(kind, prompt, **answer):
        out.append({"prompt": prompt, "seed": len(out), "kind": kind, **answer})

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
    for k in range(count // 2):
        add("white", f"{article(names[k])} on a white background")
    for k in range(count):
        noun, (before, after) = names[(7 * k) % len(names)], STRANGE[k % len(STRANGE)]
        add("strange", " ".join(filter(None, (article(f"{before} {noun}".strip()), after))), noun=noun)
    for prompt in DIVERSE:
        # Seeds that no other task has: a batch draws the same request once.
        out.extend({"prompt": prompt, "seed": 1000 + seed, "kind": "diversity"} for seed in range(SEEDS))
    prompts = HERE.parent / "samples" / "prompts.txt"
    for line in prompts.read_text().splitlines() if prompts.exists() else ():
        add("newcomer", line)
    return out


def write_tasks(folder, wanted):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in wanted))
    for name, (_, request, _) in SETTINGS.items():
        jobs = [{"defaults": request}] + [{"prompt": task["prompt"], "seed": task["seed"]} for task in of(name, wanted)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    log(f"evaluate: {len(wanted)} prompts in {folder}")


def of(setting, wanted):
    """The tasks that are drawn with a setting."""
    kinds = SETTINGS[setting][2]
    return [task for task in wanted if kinds is None or task["kind"] in kinds]


# --- measuring ---

def read(pictures, number):
    """uint8 256 x 256 x 3 of the task with that number, from 0."""
    return np.asarray(Image.open(pictures / f"{number + 1:04}.png").convert("RGB"))


def halved(picture):
    """128 x 128 x 3: the size that regions are measured at."""
    return np.asarray(Image.fromarray(picture).resize((128, 128), Image.BOX))


def background_spread(picture):
    """Standard deviation, in grey levels, of what is well outside of the foreground."""
    mask = ndimage.binary_dilation(np.abs(picture.astype(int) - border_colour(picture)).max(-1) > 24, iterations=8)
    plain = picture[~mask]
    return float(plain.astype(float).std(0).mean()) if len(plain) > 500 else float("nan")


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
    return nearest_background(colour)


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
    x, y = 2 * columns.mean(), 2 * rows.mean()  # of the halved picture
    return min(PLACES, key=lambda name: (PLACES[name][1] - x) ** 2 + (PLACES[name][2] - y) ** 2)


class Scorer:
    def __init__(self, folder=HERE / "independent-judge"):
        self.judge, self.nouns, _ = exported(folder)

    def top(self, picture, count=5):
        """The judge's best nouns for a picture of any even size."""
        tensor = torch.nn.functional.interpolate(data.to_tensor(picture[None]), size=(128, 128), mode="bilinear")
        with torch.no_grad():
            scores = self.judge(to_side(tensor))["noun"][0]
        return [self.nouns[k] for k in scores.topk(min(count, len(scores))).indices]

    def right(self, task, picture):
        """dict of measure -> bool for the task."""
        kind = task["kind"]
        picture = halved(picture)
        if kind == "strange":
            return {"object beside unknown words": task["noun"] in self.top(picture)}
        if kind == "object":
            top = self.top(picture)
            return {"object alone, judge's first choice": top[0] == task["noun"],
                    "object alone, among its first five": task["noun"] in top}
        if kind == "background":
            return {"background colour": background_name(picture) == task["background"]}
        if kind in ("colour", "held-out-colour"):
            words = "object colour, trained" if kind == "colour" else "object colour, held out"
            return {words: object_colour(picture) == task["colour"],
                    words + ": and the object among the first five": task["noun"] in self.top(picture)}
        if kind == "pair":
            halves = self._half(picture, 0), self._half(picture, 64)
            found = [noun in self.top(half) for noun, half in zip(task["nouns"], halves)]
            return {"two objects both there": all(found)}
        if kind == "count":
            return {"count of 1 to 4": objects(picture) == task["count"]}
        if kind == "place":
            return {"position": place_name(picture) == task["place"]}
        return {}

    @staticmethod
    def _half(picture, x):
        """A half of the picture as a square scene: its middle 64 rows."""
        return picture[32:96, x:x + 64]


    @torch.no_grad()
    def distances(self, pictures):
        """Mean distance of all pairs of pictures (N x 256 x 256 x 3): of the judge's last features; of its first
        layers' features, each position's of unit length, as LPIPS does; of the pixels at 32 x 32."""
        x = to_side(data.to_tensor(pictures))
        last = torch.nn.functional.normalize(self.judge.features(x), dim=1)
        early = self.judge.body[:9](x)
        early = torch.nn.functional.normalize(early, dim=1).flatten(1) / early[0, 0].numel() ** 0.5
        pixels = torch.nn.functional.avg_pool2d(x, 2).flatten(1) / (3 * 32 * 32) ** 0.5
        return [torch.pdist(f).mean().item() for f in (last, early, pixels)]


def score(folder, wanted, model):
    scorer, results = Scorer(), {}
    for name in SETTINGS:
        tally = {}
        for k, task in enumerate(of(name, wanted)):
            for measure, right in scorer.right(task, read(folder / name, k)).items():
                tally.setdefault(measure, []).append(bool(right))
        results[name] = {measure: {"share": float(np.mean(r)), "of": len(r)} for measure, r in tally.items()}
    results["drawings"] = of_drawings(scorer, wanted)
    first = next(iter(SETTINGS))
    white = [background_spread(read(folder / first, k)) for k, task in enumerate(of(first, wanted)) if task["kind"] == "white"]
    results["white, grey levels"] = float(np.nanmedian(white)) if white else float("nan")
    results["diversity"] = diversity(scorer, folder / first, of(first, wanted))
    results["autoencoder PSNR, dB"] = autoencoder_psnr(model / "vae")
    write_json(results, folder / "evaluation.json")
    return results


def training_scenes(prompt, count, painter):
    """uint8 pictures of ``count`` training scenes whose caption is the prompt, "a cat"."""
    grammar = captions.Grammar(painter.catalogue, painter, captions.Mix(colour=0, background=0, sized=0, styled=0, facing=0))
    grammar.rows = [(names[:1], label) for names, label in grammar.rows if article(names[0]) == prompt]
    grammar.weights, rng = np.ones(1), np.random.default_rng(3)
    scenes = []
    while len(scenes) < count:
        chance = rng.random(captions.CHANCES)
        scene = grammar._single(rng, chance)
        scene.look = grammar.look(chance)
        scenes.append(draw(scene, painter))
    return np.stack(scenes)


def of_drawings(scorer, wanted):
    """Shares by measure of what the judge finds in training scenes of the single objects: it knows other drawings of
    these things, so it finds no more in pictures of the model."""
    painter, tally = Painter(Catalogue()), {}
    for task in wanted:
        if task["kind"] == "object":
            for measure, right in scorer.right(task, training_scenes(task["prompt"], 1, painter)[0]).items():
                tally.setdefault(measure, []).append(bool(right))
    return {measure: float(np.mean(r)) for measure, r in tally.items()}


def diversity(scorer, pictures, wanted):
    """Mean distances of the seeds of each prompt, as shares of those of training scenes: (judge, early, pixels)."""
    painter, drawn, trained = Painter(Catalogue()), [], []
    for prompt in DIVERSE:
        at = [k for k, task in enumerate(wanted) if task["kind"] == "diversity" and task["prompt"] == prompt]
        if not at or not any(article(names[0]) == prompt for names, _ in captions.Grammar(painter.catalogue, painter).rows):
            continue
        drawn.append(scorer.distances(np.stack([read(pictures, k) for k in at])))
        trained.append(scorer.distances(training_scenes(prompt, len(at), painter)))
    return (np.mean(drawn, 0) / np.mean(trained, 0)).tolist() if drawn else [float("nan")] * 3


def autoencoder_psnr(model):
    """Of the autoencoder in a folder, on scenes that it never saw."""
    scenes = data.to_tensor(data.pictures(data.VALIDATION)[:256])
    vae = AutoencoderKL.from_pretrained(model, torch_dtype=torch.float32).eval()
    with torch.no_grad():
        copies = torch.cat([vae.decode(vae.encode(x).latent_dist.mean).sample for x in scenes.split(4)])
    return psnr(copies, scenes)


def table(results):
    """The results in Markdown."""
    lines = ["| what | bar | goal | " + " | ".join(words for words, *_ in SETTINGS.values()) + " | training's drawings | of |",
             "|---|---|---|" + "---|" * len(SETTINGS) + "---|---|",
             f"| autoencoder, PSNR on unseen scenes | 27 dB | 31 dB | {results['autoencoder PSNR, dB']:.1f} dB"
             + " |" * (len(SETTINGS) + 1) + " 256 |",
             f"| spread of a plain white background, grey levels | | 2 | {results['white, grey levels']:.1f}"
             + " |" * (len(SETTINGS) + 1) + " |"]
    for words, share in zip(("judge's features", "early features", "pixels"), results["diversity"]):
        lines.append(f"| diversity of {SEEDS} seeds, of the training data's: {words} | 60 % | | {100 * share:.0f} %"
                     + " |" * (len(SETTINGS) + 1) + f" {len(DIVERSE)} |")
    first = results[next(iter(SETTINGS))]
    for measure, r in first.items():
        bar, goal = (f"{b} %" for b in BARS[measure]) if measure in BARS else ("", "")
        shares = " | ".join(f"{100 * results[name][measure]['share']:.0f} %" if measure in results[name] else ""
                            for name in SETTINGS)
        drawings = f"{100 * results['drawings'][measure]:.0f} %" if measure in results["drawings"] else ""
        lines.append(f"| {measure} | {bar} | {goal} | {shares} | {drawings} | {r['of']} |")
    return "\n".join(lines)


def write_table(text, path=HERE.parent / "docs" / "model.md"):
    page = path.read_text()
    start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    path.write_text(page[:start] + "\n" + text + "\n" + page[end:])


def write_sheets(folder, wanted, target=HERE.parent / "samples" / "model"):
    """Contact sheets of the first setting's pictures, a file for each kind of prompt."""
    target.mkdir(exist_ok=True)
    pictures = folder / next(iter(SETTINGS))
    for kind in dict.fromkeys(task["kind"] for task in wanted):
        if kind == "white":
            continue
        at = [k for k, task in enumerate(wanted) if task["kind"] == kind]
        small = (Image.fromarray(read(pictures, k)).resize((SHEET_SIDE, SHEET_SIDE), Image.LANCZOS) for k in at)
        columns = SEEDS if kind == "diversity" else 10
        sheet(data.to_tensor(np.stack([np.asarray(p) for p in small])), target / f"{kind}.jpg", columns=columns, quality=80)


def memory(folder, wanted):
    """Root-mean-square distance (grey levels) to the nearest training scene, beside the same for fresh scenes."""
    small = lambda x: x[:, ::8, ::8].reshape(len(x), -1).astype(np.float32)
    trained_on = np.concatenate([small(data.pictures(n)) for n in data.pool_numbers("latents", ".npy")])

    def nearest(pictures):
        q = small(pictures)
        squared = (q ** 2).sum(1)[:, None] + (trained_on ** 2).sum(1)[None] - 2 * q @ trained_on.T
        return np.sqrt(np.maximum(squared.min(1), 0) / q.shape[1])

    pictures = folder / next(iter(SETTINGS))
    drawn = nearest(np.stack([read(pictures, k) for k in range(len(wanted))]))
    fresh = nearest(data.pictures(data.VALIDATION)[:64])
    log(f"evaluate: nearest training scene: generated median {np.median(drawn):.1f} grey levels, below 8: "
        f"{100 * (drawn < 8).mean():.0f} %; fresh scenes median {np.median(fresh):.1f}, below 8: "
        f"{100 * (fresh < 8).mean():.0f} %")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("prompts", "score", "memory"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=40, help="prompts of each kind")
    parser.add_argument("--first", type=int, default=80, help="commonest nouns that those are about")
    parser.add_argument("--objects", type=int, default=200, help="commonest nouns that are asked for alone")
    parser.add_argument("--model", type=Path, default=HERE.parent / "models" / "default", help="folder of the model")
    parser.add_argument("--dry", action="store_true", help="print the table, leave docs and samples as they are")
    options = parser.parse_args(argv)
    set_up()
    if options.stage == "prompts":
        write_tasks(options.folder, tasks(options.count, options.first, options.objects))
        return
    wanted = [json.loads(line) for line in (options.folder / "tasks.jsonl").read_text().splitlines()]
    if options.stage == "memory":
        memory(options.folder, wanted)
        return
    text = table(score(options.folder, wanted, options.model))
    print(text)
    if not options.dry:
        write_table(text)
        write_sheets(options.folder, wanted)


if __name__ == "__main__":
    main()
