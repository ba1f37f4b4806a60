"""The grammar: what a scene contains and the caption that says so.

A caption means many pictures. What its words leave open (the drawing style, which way an object faces, its size
and place, shades, an unnamed background) is decided by CHANCES numbers between 0 and 1, ``Scene.chance``, and by
nothing else: caption and numbers together fix the picture. The denoiser's training ties these numbers to the noise
(denoiser.py), so that each noise means one picture and none is learned as a blur of several.

Held-out combinations: one (colour, noun) pair in eight, chosen by a hash, and a few named ones are never
drawn for training (held_out). Evaluation asks for them.
"""

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np

from . import nouns
from .recolour import BACKGROUNDS, OBJECT_COLOURS
from .scenes import HORIZONS, LANDSCAPES, LOOKS, Item, Scene, pastel
from .scenes import S as SIDE
from .sprites import DEFAULT_SET

MIDDLE = SIDE // 2
CELL = 64  # pixels of a picture that one cell of the U-Net's lowest level stands for
# What each of a scene's numbers decides. Those of a pair's second object come after the first's. DOWN decides nothing now; the
# numbers after it keep their channels of noise.
(STYLE, FLIP, RIGHT, DOWN, SIZE, GROUND, TINT, HUE, PAINT, VERSION, HORIZON, VARIANT, QUIET, FLIP_2,
 VARIANT_2, PAINT_2) = range(16)
CHANCES = 16

SETTINGS = {
    "grass": ("on the grass", "on grass", "in a field", "in a park", "in a meadow", "in the garden"),
    "beach": ("on the beach", "at the beach", "on the sand"),
    "sky": ("in the sky", "in the clouds"),
    "sea": ("in the sea", "in the ocean", "on the water", "in the water", "on a lake"),
    "space": ("in space", "in outer space"),
    "night": ("at night", "in the night"),
    "snow": ("in the snow", "in winter"),
    "desert": ("in the desert",),
    "room": ("in a room", "on the floor", "at home"),
    "forest": ("in the forest", "in the woods", "in a forest"),
    "mountains": ("in the mountains", "in front of mountains"),
    "city": ("in the city", "on the street", "in a city"),
    "sunset": ("at sunset", "at sunrise", "in the evening"),
}
SCENERY = {
    "grass": ("a meadow", "a green field", "a park", "hills"), "beach": ("a sandy beach", "the beach", "a seaside"),
    "sky": ("the sky", "a blue sky", "clouds"), "sea": ("the sea", "the ocean", "a lake"),
    "space": ("outer space", "a galaxy"), "night": ("a night sky", "the night"),
    "snow": ("a snowy landscape", "snow", "winter"), "desert": ("a desert", "sand dunes"),
    "room": ("an empty room", "a room"), "forest": ("a forest", "the woods", "many trees"),
    "mountains": ("mountains", "a mountain landscape"), "city": ("a city", "a city skyline", "skyscrapers"),
    "sunset": ("a sunset", "a sunrise", "a beautiful sunset"),
}
QUIET_SETTINGS = ("grass", "beach", "sky", "mountains", "sunset", "sea", "snow", "forest")
LANDSCAPE_WORDS = ("a landscape", "a beautiful landscape", "nature", "the countryside", "scenery")
# Style -> (words, share of the scenes that do not name it). The first two are icon sets,
# of the same shapes; the others are effects. So a noun has one shape, or few, to be learned in all styles. The first is
# what is drawn without a word, too, so captions name it half as often as each of the others.
STYLES = {
    "fluent-emoji-flat": (("a flat {}", "{}, flat icon", "{}, flat", "{}, vector art", "a cartoon {}", "{}, emoji"), 0.7),
    "fluent-emoji": (("a 3d {}", "{}, 3d", "{}, glossy 3d", "{}, 3d render"), 0.3),
    "watercolour": (("a watercolor {}", "{}, watercolor", "a watercolor painting of {}", "{}, watercolour painting"), 0.0),
    "pixel art": (("a pixel art {}", "{}, pixel art", "pixel art of {}", "{}, 8-bit"), 0.0),
    "outline": (("an outline of {}", "{}, outline", "{}, line drawing", "a line drawing of {}", "a sketch of {}"), 0.0),
}
STYLES_TO_NAME = (DEFAULT_SET, *2 * list(STYLES)[1:])
# name of a place -> (words, centre x, centre y)
PLACES = {
    "left": (("on the left", "on the left side"), 64, 128),
    "right": (("on the right", "on the right side"), 192, 128),
    "top": (("at the top",), 128, 64),
    "bottom": (("at the bottom",), 128, 192),
    "top left": (("in the top left corner", "in the top left"), 64, 64),
    "top right": (("in the top right corner", "in the top right"), 192, 64),
    "bottom left": (("in the bottom left corner", "in the bottom left"), 64, 192),
    "bottom right": (("in the bottom right corner", "in the bottom right"), 192, 192),
}
COUNTS = {
    2: (("two", "a pair of", "2"), ((64, 128), (192, 128))),
    3: (("three", "3"), ((128, 64), (64, 192), (192, 192))),
    4: (("four", "4"), ((64, 64), (192, 64), (64, 192), (192, 192))),
}
SOME = ("", "some", "many")  # before a plural without a number: three of them
# Longest side in pixels, one of these. Few sizes, the same for all kinds of scenes: each is a new shape to the network.
SIZES = {"": (192, 192, 160), "small": (112,), "big": (240,)}
OUTDOORS = 0.82    # from this GROUND on, a single object without a named background stands in a landscape
SIZE_WORDS = {"small": ("small", "tiny", "little"), "big": ("big", "large", "huge", "giant")}
# Words that change nothing: before a noun, after it, at the end.
FILLERS = ("cute", "nice", "beautiful", "simple", "happy", "funny", "lovely", "pretty", "adorable", "fluffy", "shiny",
           "wonderful", "sweet", "classic", "fresh", "delicious", "modern", "colorful")
VERBS = ("sleeping", "sitting", "standing", "running", "flying", "jumping", "smiling", "playing", "walking", "resting",
         "waiting", "lying")
ENDINGS = (", high quality", ", detailed", ", 4k", ", masterpiece", ", digital art", ", illustration", ", centered",
           ", minimalist", ", sharp", ", best quality")
COLOUR_WORDS = {"gray": ("gray", "grey"), "yellow": ("yellow", "yellow", "yellow", "golden", "gold"),
                "purple": ("purple", "purple", "purple", "violet")}
PREFIXES = ("a picture of ", "a drawing of ", "an icon of ", "a photo of ", "an image of ", "an illustration of ")
# Two objects, one of which carries, shelters or stands behind the other.
RELATIONS = {
    "on": (("on", "on top of", "on"), ("sofa", "bed", "chair", "car", "horse", "book", "boat", "elephant", "truck")),
    "in front of": (("in front of", "near", "by"), ("house", "castle", "school", "church", "tent", "hospital", "factory")),
    "under": (("under", "below", "beneath"), ("tree", "palm tree", "umbrella", "rainbow", "cloud", "pine tree")),
}

NAMED_HELD_OUT = {
    ("purple", "apple"), ("blue", "cat"), ("green", "dog"), ("pink", "car"), ("yellow", "elephant"),
    ("red", "frog"), ("blue", "banana"), ("purple", "tree"), ("green", "pig"), ("red", "penguin"),
    ("black", "sheep"), ("blue", "strawberry"), ("purple", "house"),
}
_ONE_COLOUR_ONLY = {"rainbow", "earth", "island", "beach", "bridge", "christmas tree", "santa", "fire", "sun", "leaf"}
_PAINTED_FACES = {"ghost", "robot", "alien", "heart"}
# Things that come in all colours: without a colour word one in three is painted.
_ANY_COLOUR = ("Objects", "Activities", "Travel & Places")
_MASS_NOUNS = {"milk", "bread", "money", "fire", "popcorn", "coffee", "tea", "wine", "beer", "earth", "santa",
               "chocolate", "corn", "cheese", "sushi", "lightning", "saturn", "broccoli", "planet earth", "bacon",
               "butter", "garlic", "honey", "rice", "salad", "spaghetti", "pasta", "soap", "yarn", "wood"}
# Drawings that mean something else in a mirror, or nothing.
_NEVER_MIRRORED = {"question mark", "check mark", "clock", "watch", "calendar", "newspaper", "arrow", "stop sign"}


def held_out(colour, noun):
    """True for the colour-noun pairs that training never shows."""
    digest = hashlib.md5(f"{colour}|{noun}".encode()).hexdigest()
    return (colour, noun) in NAMED_HELD_OUT or int(digest, 16) % 8 == 0


@dataclass
class Mix:
    """How often each kind of scene is drawn, and how often a caption names what it could leave open. A curriculum
    is a list of these (data.py)."""

    kinds: dict = field(default_factory=lambda: {
        "single": 0.50, "setting": 0.11, "place": 0.05, "pair": 0.11, "count": 0.09, "relation": 0.08, "scenery": 0.03,
        "unknown": 0.03})
    first_weight: float = 3.0    # of a noun of nouns.FIRST
    common_weight: float = 1.2   # of a noun of nouns.COMMON
    more_weight: float = 1.2     # of a noun of nouns.MORE
    rare: float = 0.0            # share of objects from all the other icons
    colour: float = 0.36         # share of objects with a colour word
    background: float = 0.36     # share of plain scenes that name their background
    sized: float = 0.18          # share of single objects that are small or big
    styled: float = 0.36         # share of single objects with a style word
    plain: float = 0.0           # share of scenes without a style, drawn flat, in the middle, on white
    mirrored: float = 0.0        # share of objects that are mirrored
    facing: float = 0.0          # share of the objects that face somewhere whose caption says where
    alternatives: float = 0.0    # share of nouns with several icons that show another one than their own


def article(phrase):
    """The phrase with "a" or "an", or as it is if it has a plural or a mass noun."""
    if phrase in _MASS_NOUNS or phrase.split()[-1] in _MASS_NOUNS or is_plural(phrase):
        return phrase
    vowel = phrase[0] in "aeiou" and not phrase.startswith(("uni", "ufo"))
    return ("an " if vowel else "a ") + phrase


def is_plural(noun):
    return noun.endswith("s") and not noun.endswith(("ss", "us", "bus", "is", "cactus", "octopus", "compass"))


def plural(noun):
    head, of, rest = noun.partition(" of ")
    if of:
        return plural(head) + of + rest
    if noun in ("mouse", "computer mouse"):
        return noun[:-5] + "mice"
    if noun.endswith(("fireman", "policeman", "snowman")) or noun in ("man", "woman", "old man", "old woman"):
        return noun[:-2] + "en"
    if noun == "child":
        return "children"
    if noun in ("foot", "goose"):
        return {"foot": "feet", "goose": "geese"}[noun]
    if noun in ("fish", "sheep", "deer", "moose", "bison", "shrimp", "squid") or is_plural(noun):
        return noun
    if noun in ("leaf", "wolf", "calf", "elf"):
        return noun[:-1] + "ves"
    if noun.endswith(("ch", "sh", "x", "s")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def pick(rng, items):
    return items[rng.integers(len(items))]


def chosen(chance, items):
    """The item that a number between 0 and 1 means."""
    return items[int(chance * len(items) * 0.9999)]


def coloured(item):
    return f"{item.colour} {item.noun}" if item.colour else item.noun


class Grammar:
    """Draws scenes at random. painter answers for the drawings' own colours (recolour.Painter)."""

    def __init__(self, catalogue, painter, mix=None):
        self.catalogue, self.painter, self.mix = catalogue, painter, mix or Mix()
        shares = {nouns.FIRST: self.mix.first_weight, nouns.COMMON: self.mix.common_weight, nouns.MORE: self.mix.more_weight}
        tables = [catalogue.rows(table) for table, share in shares.items() if share]
        self.rare = catalogue.rare_rows()
        self.rows = [row for table in tables for row in table]
        self.weights = np.concatenate([np.full(len(table), share) for table, share in zip(tables, filter(None, shares.values()))])
        self.weights /= self.weights.sum()
        self.by_noun = {names[0]: (names, label) for names, label in self.rows}
        # What a short run without some icons cannot draw is not asked for.
        self.bases = {kind: [n for n in bases if n in self.by_noun] for kind, (_, bases) in RELATIONS.items()}

    # --- objects ---

    def paintable(self, noun, label):
        record = self.catalogue.records[self.catalogue.lookup(label)]
        if noun in _ONE_COLOUR_ONLY or record["category"] == "People & Body":
            return False
        return record["category"] != "Smileys & Emotion" or noun in _PAINTED_FACES

    def row(self, rng):
        if self.rare and rng.random() < self.mix.rare:
            return pick(rng, self.rare)
        return self.rows[rng.choice(len(self.rows), p=self.weights)]

    def drawing(self, label, style, chance):
        """Index of a drawing of the noun: of its own icon or, for a low chance, of one of the alternatives."""
        others = [a for a in nouns.ALTERNATIVES.get(label, ()) if a in self.catalogue.drawings and self.catalogue.trained(a)]
        if others and chance < self.mix.alternatives:
            label = chosen(chance / self.mix.alternatives, others)
        return self.catalogue.lookup(label, style if style == "fluent-emoji" else DEFAULT_SET)

    def item(self, rng, chance, style=DEFAULT_SET, colour=True, second=False, row=None, **place):
        """A random object. The colour word, if any, is never a held-out one."""
        names, label = row or self.row(rng)
        noun = names[0] if rng.random() < 0.7 else pick(rng, names)
        drawing = self.drawing(label, style, chance[VARIANT_2 if second else VARIANT])
        word = ""
        free = [w for w in OBJECT_COLOURS if not any(held_out(w, name) for name in names)]
        paintable = bool(free) and self.paintable(names[0], label) and style != "outline"
        if colour and paintable and rng.random() < self.mix.colour:
            word = pick(rng, free)
            natural = self.painter.natural(drawing)
            if rng.random() < 0.15 and natural in free:
                word = natural
        flip = chance[FLIP_2 if second else FLIP] < self.mix.mirrored and names[0] not in _NEVER_MIRRORED
        item = Item(label, noun, drawing, word, flip=bool(flip), hue=12 * (chance[HUE] - 0.5), **place)
        return item, self.paint(item, names, free if paintable else (), chance[PAINT_2 if second else PAINT])

    def paint(self, item, names, free, chance):
        """The item as it is drawn when its caption says no colour: things that come in all colours are painted in
        one of them for the upper third of chance."""
        category = self.catalogue.records[item.drawing]["category"]
        free = [w for w in free if w != "white"]
        if item.colour or not free or category not in _ANY_COLOUR or chance < 0.67:
            return item
        return replace(item, colour=chosen((chance - 0.67) / 0.33, free))

    def phrase(self, rng, item, before=""):
        """The object in words: "a small red apple", now and then "the", a filler, another word for the colour, a verb."""
        colour = pick(rng, COLOUR_WORDS.get(item.colour, (item.colour,)))
        filler = pick(rng, FILLERS) if rng.random() < 0.07 else ""
        text = " ".join(filter(None, (before, filler, colour, item.noun)))
        dice = rng.random()
        text = text if dice < 0.08 else "the " + text if dice < 0.14 else article(text)
        return text + " " + pick(rng, VERBS) if rng.random() < 0.05 else text

    # --- what is behind them ---

    def background(self, rng, chance, *items):
        """(colour name or triple, words). Without words it is white for GROUND below 0.55 and else a light tint.
        No object stands on its own colour, where it would vanish: one painted white always has a named background, one
        that is white by nature has a tint."""
        taken = {item.colour or self.painter.natural(item.drawing) for item in items}
        painted_white = any(item.colour == "white" for item in items)
        if rng.random() >= self.mix.background and not painted_white:
            return ("white" if chance[GROUND] < 0.55 and "white" not in taken else pastel(chance[TINT])), ""
        colour = pick(rng, [name for name in BACKGROUNDS if name not in taken])
        words = f" on {article(colour)} background" if rng.random() < 0.8 else f", {colour} background"
        return colour, words

    @staticmethod
    def look(chance):
        return chosen(chance[VERSION], range(LOOKS)), chosen(chance[HORIZON], range(HORIZONS))

    @staticmethod
    def place(chance):
        """Centre of a small object: the middle or, for two in five, a cell of the U-Net's lowest level beside it. To the
        network a drawing that is moved by whole cells is the same drawing, by a part of a cell it is another one."""
        return MIDDLE + chosen(chance[RIGHT], (-CELL, 0, 0, 0, CELL)), MIDDLE

    # --- kinds of scenes ---

    def scene(self, rng):
        kinds, share = list(self.mix.kinds), np.array(list(self.mix.kinds.values()))
        kind = kinds[rng.choice(len(kinds), p=share / share.sum())]
        chance = rng.random(CHANCES)
        if rng.random() < self.mix.plain:
            chance[STYLE] *= STYLES[DEFAULT_SET][1]
            chance[GROUND] *= 0.55
            chance[PAINT] *= 0.67
            chance[SIZE] *= 0.66
        scene = getattr(self, "_" + kind)(rng, chance)
        scene.chance, scene.look = chance, self.look(chance)
        if rng.random() < 0.04:
            scene.caption += pick(rng, ENDINGS)
        scene.caption = scene.caption.lower()
        return scene

    def style(self, rng, chance):
        """(style, its words): named by the caption, or decided by chance and not named ("{}")."""
        if rng.random() < self.mix.styled:
            style = pick(rng, STYLES_TO_NAME)
            return style, pick(rng, STYLES[style][0])
        return self.unnamed_style(chance), "{}"

    @staticmethod
    def unnamed_style(chance):
        left = chance[STYLE]
        for style, (_, share) in STYLES.items():
            if left < share:
                return style
            left -= share
        return DEFAULT_SET

    def _single(self, rng, chance):
        style, pattern = self.style(rng, chance)
        said, item = self.item(rng, chance, style)
        drawn = self.catalogue.records[item.drawing]["set"]
        if style == "fluent-emoji" and drawn != style:
            pattern = "{}"  # this icon has no such drawing
        size, size_word = "", ""
        if rng.random() < self.mix.sized:
            size = ("small", "big")[rng.integers(2)]
            size_word = pick(rng, SIZE_WORDS[size])
        x, y = self.place(chance) if size == "small" else (MIDDLE, MIDDLE)
        flip, facing = item.flip, ""
        if self.facing(item, said) and rng.random() < self.mix.facing:
            flip = bool(rng.random() < 0.5)
            facing = " facing " + ("right" if flip else "left")
        item = replace(item, size=chosen(chance[SIZE], SIZES[size]), x=x, y=y, flip=flip,
                       effect=style if style in ("watercolour", "pixel art", "outline") else "")
        if style == "outline":
            item, said = replace(item, colour="", hue=0), replace(said, colour="")
            colour, words = "white", ""
        else:
            colour, words = self.background(rng, chance, item)
        if not words and not size and not item.effect and chance[GROUND] > OUTDOORS:
            colour, item = self.quiet(chance), replace(item, size=160)
        if pattern.startswith(("a ", "an ")) and " of " not in pattern:
            text = pattern.format(" ".join(filter(None, (size_word, coloured(said)))))
        else:
            text = pattern.partition(",")[0].format(self.phrase(rng, said, size_word))
        if pattern == "{}" and rng.random() < 0.1:
            text = pick(rng, PREFIXES) + text
        _, comma, style_words = pattern.partition(",")
        return Scene("single", colour, [item], text + facing + words + comma + style_words)

    @staticmethod
    def facing(item, said):
        return said.noun in nouns.FACING and " face" not in item.label

    def _setting(self, rng, chance):
        setting = pick(rng, list(SETTINGS))
        said, item = self.item(rng, chance, self.icon_style(chance))
        item = replace(item, size=160)
        return Scene("setting", setting, [item], f"{self.phrase(rng, said)} {pick(rng, SETTINGS[setting])}")

    def icon_style(self, chance):
        style = self.unnamed_style(chance)
        return style if style == "fluent-emoji" else DEFAULT_SET

    def _place(self, rng, chance):
        words, x, y = PLACES[pick(rng, list(PLACES))]
        said, item = self.item(rng, chance, self.icon_style(chance), size=112, x=x, y=y)
        colour, background = self.background(rng, chance, item)
        return Scene("place", colour, [item], f"{self.phrase(rng, said)} {pick(rng, words)}{background}")

    def two(self, rng, chance, first_row=None, second_row=None):
        style = self.icon_style(chance)
        first = self.item(rng, chance, style, row=first_row)
        second = self.item(rng, chance, style, second=True, row=second_row)
        while second[0].label == first[0].label:
            first = self.item(rng, chance, style)
        return first, second

    def _pair(self, rng, chance):
        vertical = rng.random() < 0.25
        at = ((128, 64), (128, 192)) if vertical else ((64, 128), (192, 128))
        (said_1, first), (said_2, second) = self.two(rng, chance)
        first, second = (replace(i, size=112, x=x, y=y) for i, (x, y) in zip((first, second), at))
        joint = pick(rng, ("above", "over") if vertical else
                     ("and", "and", "and", "next to", "beside", "with", "to the left of"))
        colour, words = self.background(rng, chance, first, second)
        if rng.random() < 0.2:
            colour = pick(rng, list(SETTINGS))
            words = " " + pick(rng, SETTINGS[colour])
        return Scene("pair", colour, [first, second], f"{self.phrase(rng, said_1)} {joint} {self.phrase(rng, said_2)}{words}")

    def _relation(self, rng, chance):
        kinds = [kind for kind, bases in self.bases.items() if bases]
        if not kinds:
            return self._pair(rng, chance)
        kind = pick(rng, kinds)
        base = self.by_noun[pick(rng, self.bases[kind])]
        (said_1, first), (said_2, second) = self.two(rng, chance, second_row=base)
        x, y = MIDDLE, MIDDLE
        if kind == "on":
            first, second = replace(first, size=112, x=x, y=y - 48), replace(second, size=160, x=x, y=y + 32)
        elif kind == "in front of":
            side = 48 if chance[FLIP] < 0.5 else -48
            first, second = replace(first, size=96, x=x + side, y=y + 64), replace(second, size=192, x=x, y=y - 16)
        else:
            side = 48 if chance[FLIP] < 0.5 else -48
            first, second = replace(first, size=96, x=x + side, y=y + 64), replace(second, size=192, x=x, y=y - 16)
        colour, words = self.background(rng, chance, first, second)
        return Scene("relation", colour, [second, first],
                     f"{self.phrase(rng, said_1)} {pick(rng, RELATIONS[kind][0])} {self.phrase(rng, said_2)}{words}")

    def _count(self, rng, chance):
        number = (2, 3, 4)[rng.integers(3)]
        words, at = COUNTS[number]
        if number == 3 and rng.random() < 0.5:
            words = SOME
        said, item = self.item(rng, chance, self.icon_style(chance), size=112)
        items = [replace(item, x=x, y=y) for x, y in at]
        colour, background = self.background(rng, chance, item)
        text = " ".join(filter(None, (pick(rng, words), said.colour, plural(said.noun))))
        return Scene("count", colour, items, text + background)

    def _scenery(self, rng, chance):
        if rng.random() < 0.2:
            return Scene("scenery", self.quiet(chance), [], pick(rng, LANDSCAPE_WORDS))
        name = pick(rng, list(SCENERY))
        return Scene("scenery", name, [], pick(rng, SCENERY[name]))

    @staticmethod
    def quiet(chance):
        return chosen(chance[QUIET], QUIET_SETTINGS)

    def _unknown(self, rng, chance):
        """Words that no drawing belongs to: a landscape without an object, the named one if one is named."""
        words = [pick(rng, nouns.UNKNOWN) if rng.random() < 0.7 else invented(rng)
                 for _ in range(rng.choice((1, 2, 3, 5), p=(0.5, 0.25, 0.15, 0.1)))]
        text = " ".join(words)
        if rng.random() < 0.25:
            text = pick(rng, FILLERS + OBJECT_COLOURS) + " " + text
        text = article(text) if rng.random() < 0.7 else text
        dice = rng.random()
        if dice < 0.2:
            setting = pick(rng, list(SETTINGS))
            return Scene("unknown", setting, [], f"{text} {pick(rng, SETTINGS[setting])}")
        if dice < 0.28:
            colour = pick(rng, list(BACKGROUNDS))
            return Scene("unknown", colour, [], f"{text} on {article(colour)} background")
        return Scene("unknown", self.quiet(chance), [], text)


def invented(rng):
    """A word that there is not."""
    return "".join(pick(rng, "bcdfghjklmnprstvwz") + pick(rng, "aeiouy") for _ in range(rng.integers(2, 4))) + pick(rng, ("", "n", "r", "s", "x"))
