"""Icons as sprites: rasterise the icon sets, pack them into one small file, and look drawings up by name.

    python -m train.sprites            # node renders, then the pack is written to WORK/sprites.{bin,json}

The pack is what a training machine needs of the data: about 6,400 RGBA drawings of 256 x 256 as lossless
WebP, some 42 MB. Scenes are composed from it on the fly (train/scenes.py).
"""

import argparse
import functools
import io
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from . import nouns
from .runtime import HERE, log, work_dir

SIZE = 256
TRAINED_SETS = ("fluent-emoji-flat", "fluent-emoji")
# The judge learns from these, the model never: so the judge does not know the drawings that the model copies.
JUDGE_SETS = ("noto", "noto-v1", "twemoji", "emojione", "fxemoji", "streamline-emojis")
DEFAULT_SET = "fluent-emoji-flat"  # what a prompt without a style word means

# One object drawn in several colours has several labels; they are one concept with a natural colour.
_COLOURED = {
    "red apple": ("apple", "red"), "green apple": ("apple", "green"),
    "blue book": ("book", "blue"), "green book": ("book", "green"), "orange book": ("book", "orange"),
    "closed book": ("book", "red"), "black cat": ("black cat", "black"),
}
_COLOURED_SHAPES = ("heart", "circle", "square", "question mark", "exclamation mark")


def clean_label(label):
    return label.replace("“", "").replace("”", "").replace("’", "'").replace(":", "")


def concept(label):
    """The concept that a label stands for: "green book" is a book, "yellow heart" a heart."""
    if label in _COLOURED:
        return _COLOURED[label][0]
    colour, _, shape = label.partition(" ")
    return shape if shape in _COLOURED_SHAPES and colour != "beating" else label


class Catalogue:
    """The packed drawings, decoded when asked for.

    ``records[i]`` is a dict with set, name, category, label, tags; ``image(i)`` its uint8 RGBA array of
    shape (256, 256, 4), cropped to what is drawn (so smaller, in fact).
    """

    def __init__(self, folder=None):
        folder = Path(folder or work_dir())
        self.records = json.loads((folder / "sprites.json").read_text())
        self._bytes = (folder / "sprites.bin").read_bytes()
        self.drawings = {}  # label -> {set: index}
        for i, record in enumerate(self.records):
            self.drawings.setdefault(record["label"], {})[record["set"]] = i

    @functools.lru_cache(maxsize=2048)
    def image(self, index):
        record = self.records[index]
        blob = self._bytes[record["offset"]:record["offset"] + record["length"]]
        rgba = np.asarray(Image.open(io.BytesIO(blob)).convert("RGBA"))
        rows, columns = np.where(rgba[..., 3] > 8)
        return rgba[rows.min():rows.max() + 1, columns.min():columns.max() + 1]

    def lookup(self, label, style=DEFAULT_SET):
        """Index of the label's drawing in the given set, or in the first trained set that has one."""
        sets = self.drawings[label]
        for name in (style, *TRAINED_SETS):
            if name in sets:
                return sets[name]
        raise KeyError(f"{label!r} is drawn only in {sorted(sets)}")

    def trained(self, label):
        return any(name in TRAINED_SETS for name in self.drawings.get(label, ()))

    def rows(self, text):
        """The lines of a table of nouns.py that have a drawing here (all, but in a tiny run)."""
        return [(names, label) for names, label in nouns.table(text) if self.trained(label)]

    def rare_rows(self):
        """Every other concept with a trained drawing: (names, label), the label being its own name."""
        listed = {label for text in (nouns.FIRST, nouns.COMMON) for _, label in nouns.table(text)}
        named = {name for text in (nouns.FIRST, nouns.COMMON) for names, _ in nouns.table(text) for name in names}
        return [([label.lower()], label) for label in sorted(self.drawings)
                if label not in listed and concept(label).lower() not in named and self.trained(label)]


def pack(rendered, folder):
    """Write sprites.bin and sprites.json to folder from the renderer's raw output."""
    records = json.loads((rendered / "sprites.json").read_text())
    raw = np.memmap(rendered / "sprites.raw", np.uint8, "r").reshape(-1, SIZE, SIZE, 4)
    if len(raw) != len(records):
        raise ValueError(f"{len(records)} records but {len(raw)} drawings in {rendered}")
    kept, blobs, offset = [], [], 0
    for record, rgba in zip(records, raw):
        if (rgba[..., 3] > 8).sum() < 50:
            continue  # an empty drawing
        out = io.BytesIO()
        Image.fromarray(rgba).save(out, "WEBP", lossless=True, quality=60, method=1)
        blob = out.getvalue()
        kept.append({**record, "label": clean_label(record["label"]), "offset": offset, "length": len(blob)})
        blobs.append(blob)
        offset += len(blob)
    (folder / "sprites.bin").write_bytes(b"".join(blobs))
    (folder / "sprites.json").write_text(json.dumps(kept))
    return kept, offset


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=100000, help="icons of each set (for a tiny run)")
    args = parser.parse_args(argv)
    folder = work_dir()
    if (folder / "sprites.json").exists():
        log(f"sprites: {folder / 'sprites.json'} is there already")
        return
    with tempfile.TemporaryDirectory() as temporary:
        subprocess.run(["node", str(HERE / "render_icons.js"), temporary, str(args.limit)], check=True)
        kept, size = pack(Path(temporary), folder)
    log(f"sprites: {len(kept)} drawings, {size / 1e6:.1f} MB in {folder / 'sprites.bin'}")


if __name__ == "__main__":
    main()
