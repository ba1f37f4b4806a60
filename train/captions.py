"""The grammar: what a scene contains and the caption that says so.

A prompt should fix its picture as far as words can: "a cat" is always the same drawing, of the same size,
in the middle, on white. What the words leave open a small model can only answer with a blur, so little is
left open; ``Mix.jitter`` and ``Mix.flip`` say how much.

Held-out combinations: one (colour, noun) pair in eight, chosen by a hash, and a few named ones are never
drawn for training (held_out). Evaluation asks for them.
"""

import hashlib
from dataclasses import dataclass, field, replace

from . import nouns
from .recolour import BACKGROUNDS, OBJECT_COLOURS, OUTLINE
from .sprites import DEFAULT_SET

SCENE_SIZE = 128  # pixels, square

SETTINGS = {
    "grass": ("on the grass", "on grass", "in a field", "in a park"),
    "beach": ("on the beach", "at the beach", "on the sand"),
    "sky": ("in the sky", "in the clouds"),
    "sea": ("in the sea", "in the ocean", "on the water", "in the water"),
    "space": ("in space", "in outer space", "among the stars"),
    "night": ("at night", "under the stars"),
    "snow": ("in the snow", "in winter"),
    "desert": ("in the desert",),
    "room": ("in a room", "on the floor"),
    "forest": ("in the forest", "in the woods"),
}
STYLES = {
    "fluent-emoji-flat": ("a flat {}", "{}, flat icon", "{}, flat"),
    "noto": ("a cartoon {}", "{}, cartoon", "{}, emoji"),
    "fluent-emoji": ("a 3d {}", "{}, 3d", "{}, glossy 3d"),
}
OUTLINES = ("an outline of {}", "{}, outline", "{}, line drawing", "an outline drawing of {}")
# name of a place -> (words, centre x, centre y)
PLACES = {
    "left": (("on the left", "on the left side"), 32, 64),
    "right": (("on the right", "on the right side"), 96, 64),
    "top": (("at the top",), 64, 32),
    "bottom": (("at the bottom",), 64, 96),
    "top left": (("in the top left corner", "in the top left"), 32, 32),
    "top right": (("in the top right corner", "in the top right"), 96, 32),
    "bottom left": (("in the bottom left corner", "in the bottom left"), 32, 96),
    "bottom right": (("in the bottom right corner", "in the bottom right"), 96, 96),
}
COUNTS = {
    2: (("two", "a pair of", "2"), ((32, 64), (96, 64))),
    3: (("three", "3"), ((64, 32), (32, 96), (96, 96))),
    4: (("four", "4"), ((32, 32), (96, 32), (32, 96), (96, 96))),
}
SIZES = {"": 96, "small": 48, "big": 124}  # longest side in pixels
SIZE_WORDS = {"small": ("small", "tiny", "little"), "big": ("big", "large", "huge")}
FILLERS = ("cute", "nice", "beautiful", "simple")  # words that change nothing
COLOUR_WORDS = {"gray": ("gray", "grey"), "yellow": ("yellow", "yellow", "yellow", "golden", "gold"),
                "purple": ("purple", "purple", "purple", "violet")}
PREFIXES = ("a picture of ", "a drawing of ", "an icon of ", "a photo of ")

NAMED_HELD_OUT = {
    ("purple", "apple"), ("blue", "cat"), ("green", "dog"), ("pink", "car"), ("yellow", "elephant"),
    ("red", "frog"), ("blue", "banana"), ("purple", "tree"), ("green", "pig"), ("red", "penguin"),
    ("black", "sheep"), ("blue", "strawberry"), ("purple", "house"),
}
_ONE_COLOUR_ONLY = {"rainbow", "earth", "island", "beach", "bridge", "christmas tree", "santa", "fire", "sun", "leaf"}
_PAINTED_FACES = {"ghost", "robot", "alien", "heart"}
_MASS_NOUNS = {"milk", "bread", "money", "fire", "popcorn", "coffee", "tea", "wine", "beer", "earth", "santa",
               "chocolate", "corn", "cheese", "sushi", "lightning", "saturn", "broccoli", "planet earth"}


def held_out(colour, noun):
    """True for the colour-noun pairs that training never shows."""
    digest = hashlib.md5(f"{colour}|{noun}".encode()).hexdigest()
    return (colour, noun) in NAMED_HELD_OUT or int(digest, 16) % 8 == 0


@dataclass(frozen=True)
class Item:
    """One drawing in a scene: which, in what colour ("" as drawn), longest side and centre in pixels."""

    label: str
    noun: str
    drawing: int
    colour: str = ""
    size: int = SIZES[""]
    x: int = 64
    y: int = 64
    flip: bool = False


@dataclass
class Scene:
    """A picture in words: the kind of scene, its background (a colour or a setting) and what is on it."""

    kind: str
    background: str
    items: list
    caption: str = ""


@dataclass
class Mix:
    """How often each kind of scene is drawn, and how much a caption leaves open. A curriculum is a list of
    these (see data.py)."""

    kinds: dict = field(default_factory=lambda: {
        "single": 0.62, "setting": 0.11, "place": 0.08, "pair": 0.11, "count": 0.08})
    first_weight: float = 4.0    # of a noun of nouns.FIRST against one of nouns.COMMON
    rare: float = 0.05           # share of objects from all the other icons
    colour: float = 0.45         # share of objects with a colour word
    background: float = 0.5      # share of plain scenes that name their background
    sized: float = 0.12          # share of single objects that are small or big
    styled: float = 0.12         # share of objects with a style word
    outlined: float = 0.02       # share of objects drawn in lines alone, on white
    jitter: float = 0.0          # share of single objects moved by up to 8 pixels
    flip: float = 0.0            # share of single objects mirrored


def article(phrase):
    """The phrase with "a" or "an", or as it is if it has a plural or a mass noun."""
    if phrase in _MASS_NOUNS or phrase.split()[-1] in _MASS_NOUNS or is_plural(phrase):
        return phrase
    vowel = phrase[0] in "aeiou" and not phrase.startswith(("uni", "ufo"))
    return ("an " if vowel else "a ") + phrase


def is_plural(noun):
    return noun.endswith("s") and not noun.endswith(("ss", "us", "bus", "is", "cactus", "octopus"))


def plural(noun):
    head, of, rest = noun.partition(" of ")
    if of:
        return plural(head) + of + rest
    if noun in ("mouse", "computer mouse"):
        return noun[:-5] + "mice"
    if noun in ("man", "woman", "old man", "old woman", "fireman"):
        return noun[:-2] + "en"
    if noun in ("fish", "sheep", "deer") or is_plural(noun):
        return noun
    if noun in ("leaf", "wolf"):
        return noun[:-1] + "ves"
    if noun.endswith(("ch", "sh", "x", "s")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


class Grammar:
    """Draws scenes at random. painter answers for the drawings' own colours (recolour.Painter)."""

    def __init__(self, catalogue, painter, mix=None):
        self.catalogue, self.painter, self.mix = catalogue, painter, mix or Mix()
        first, common = catalogue.rows(nouns.FIRST), catalogue.rows(nouns.COMMON)
        self.rare = catalogue.rare_rows()
        self.rows = first + common
        self.weights = [self.mix.first_weight] * len(first) + [1.0] * len(common)
        total = sum(self.weights)
        self.weights = [w / total for w in self.weights]

    # --- objects ---

    def phrase(self, rng, item, before=""):
        """The object in words: "a small red apple", now and then "the", a filler, another word for the colour."""
        words = COLOUR_WORDS.get(item.colour, (item.colour,))
        colour = words[rng.integers(len(words))]
        filler = FILLERS[rng.integers(len(FILLERS))] if rng.random() < 0.04 else ""
        text = " ".join(filter(None, (before, filler, colour, item.noun)))
        dice = rng.random()
        return text if dice < 0.08 else "the " + text if dice < 0.14 else article(text)

    def paintable(self, noun, label):
        record = self.catalogue.records[self.catalogue.lookup(label)]
        if noun in _ONE_COLOUR_ONLY or record["category"] == "People & Body":
            return False
        return record["category"] != "Smileys & Emotion" or noun in _PAINTED_FACES

    def item(self, rng, colour=True, style=DEFAULT_SET, **place):
        """A random object. The colour word, if any, is never a held-out one."""
        if self.rare and rng.random() < self.mix.rare:
            names, label = self.rare[rng.integers(len(self.rare))]
        else:
            names, label = self.rows[rng.choice(len(self.rows), p=self.weights)]
        noun = names[0] if rng.random() < 0.7 else names[rng.integers(len(names))]
        drawing = self.catalogue.lookup(label, style)
        word = ""
        if colour and rng.random() < self.mix.colour and self.paintable(names[0], label):
            word = OBJECT_COLOURS[rng.integers(len(OBJECT_COLOURS))]
            if rng.random() < 0.15:
                word = self.painter.natural(drawing) or word
            if any(held_out(word, name) for name in names):
                word = ""
        return Item(label, noun, drawing, word, **place)

    def background(self, rng, *items):
        """(colour name, words). No words mean white. No object stands on its own colour, where it would
        vanish, so a white one always has a named background."""
        taken = {item.colour or self.painter.natural(item.drawing) for item in items}
        painted_white = any(item.colour == "white" for item in items)
        if rng.random() >= self.mix.background and not painted_white:
            return "white", ""
        free = [name for name in BACKGROUNDS if name not in taken]
        colour = free[rng.integers(len(free))]
        words = f" on {article(colour)} background" if rng.random() < 0.85 else f", {colour} background"
        return colour, words

    # --- kinds of scenes ---

    def scene(self, rng):
        kinds = list(self.mix.kinds)
        share = list(self.mix.kinds.values())
        kind = kinds[rng.choice(len(kinds), p=[s / sum(share) for s in share])]
        scene = getattr(self, "_" + kind)(rng)
        scene.caption = scene.caption.lower()
        return scene

    def _single(self, rng):
        if rng.random() < self.mix.outlined:
            item = self.item(rng, colour=False)
            words = OUTLINES[rng.integers(len(OUTLINES))].format(article(item.noun))
            return Scene("outline", "white", [replace(item, colour=OUTLINE)], words)
        style, pattern = DEFAULT_SET, "{}"
        if rng.random() < self.mix.styled:
            style = list(STYLES)[rng.integers(len(STYLES))]
        item = self.item(rng, style=style)
        drawn = self.catalogue.records[item.drawing]["set"]
        if drawn != DEFAULT_SET or style != DEFAULT_SET:
            pattern = STYLES[drawn][rng.integers(3)] if drawn in STYLES else "{}"
        size, size_word = "", ""
        if rng.random() < self.mix.sized:
            size = ("small", "big")[rng.integers(2)]
            size_word = SIZE_WORDS[size][rng.integers(3)]
        dx = dy = 0
        if rng.random() < self.mix.jitter and size != "big":
            dx, dy = (int(d) for d in rng.integers(-8, 9, 2))
        flip = bool(rng.random() < self.mix.flip)
        item = Item(item.label, item.noun, item.drawing, item.colour, SIZES[size], 64 + dx, 64 + dy, flip)
        colour, words = self.background(rng, item)
        if pattern.startswith("a "):
            text = pattern.format(" ".join(filter(None, (size_word, coloured(item)))))
        else:
            text = pattern.format(self.phrase(rng, item, size_word))
        if pattern == "{}" and rng.random() < 0.1:
            text = PREFIXES[rng.integers(len(PREFIXES))] + text
        if pattern.startswith("{},"):
            head, _, style_words = text.partition(",")
            return Scene("single", colour, [item], head + words + "," + style_words)
        return Scene("single", colour, [item], text + words)

    def _setting(self, rng):
        setting = list(SETTINGS)[rng.integers(len(SETTINGS))]
        item = self.item(rng)  # of a single object's size and place, so that its shape is learned once
        words = SETTINGS[setting][rng.integers(len(SETTINGS[setting]))]
        return Scene("setting", setting, [item], f"{self.phrase(rng, item)} {words}")

    def _place(self, rng):
        words, x, y = PLACES[list(PLACES)[rng.integers(len(PLACES))]]
        item = self.item(rng, size=56, x=x, y=y)
        colour, background = self.background(rng, item)
        text = f"{self.phrase(rng, item)} {words[rng.integers(len(words))]}"
        return Scene("place", colour, [item], text + background)

    def _pair(self, rng):
        vertical = rng.random() < 0.25
        at = ((64, 32), (64, 96)) if vertical else ((32, 64), (96, 64))
        first, second = (self.item(rng, size=60, x=x, y=y) for x, y in at)
        while second.label == first.label:
            second = self.item(rng, size=60, x=at[1][0], y=at[1][1])
        joints = ("above", "on top of") if vertical else ("and", "and", "and", "next to", "to the left of")
        joint = joints[rng.integers(len(joints))]
        colour, background = self.background(rng, first, second)
        text = f"{self.phrase(rng, first)} {joint} {self.phrase(rng, second)}"
        return Scene("pair", colour, [first, second], text + background)

    def _count(self, rng):
        number = (2, 3, 4)[rng.integers(3)]
        words, at = COUNTS[number]
        item = self.item(rng)
        items = [Item(item.label, item.noun, item.drawing, item.colour, 56, x, y) for x, y in at]
        colour, background = self.background(rng, item)
        paint = item.colour + " " if item.colour else ""
        text = f"{words[rng.integers(len(words))]} {paint}{plural(item.noun)}"
        return Scene("count", colour, items, text + background)


def coloured(item):
    return f"{item.colour} {item.noun}" if item.colour else item.noun
