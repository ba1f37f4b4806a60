"""Draw a Scene (captions.py) as pixels: a plain colour or a simple landscape, and sprites on it.

A landscape has a few looks, chosen by two numbers of the scene: where its horizon is and which of four
versions of its details it shows. They are drawn at twice the size and averaged down, so edges are smooth.
"""

import functools
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from .recolour import BACKGROUNDS, OBJECT_COLOURS, PIXEL, from_hsv, outline, pixelate, turn_hue, watercolour
from .sprites import TRAINED_SETS

S = 256        # pixels of a scene, square
HORIZON = 80   # where ground meets sky, in units of 1/128 of the picture from the top
LOOKS = 4      # versions of a landscape
HORIZONS = 3   # heights of its horizon


@dataclass(frozen=True)
class Item:
    """One drawing in a scene: which, in what colour ("" as drawn) and turned by how many degrees of hue, its longest
    side and centre in pixels, mirrored or not, rotated by an angle in degrees, and an effect of EFFECTS or ""."""

    label: str
    noun: str
    drawing: int
    colour: str = ""
    size: int = 192
    x: int = S // 2
    y: int = S // 2
    flip: bool = False
    angle: float = 0.0
    hue: float = 0.0
    effect: str = ""


@dataclass
class Scene:
    """A picture in words: the kind of scene, its background (a colour's name or triple, or a landscape) and that
    landscape's look, what is on it, back to front, and the caption. ``chance`` holds the numbers in 0..1 that
    decided what the caption leaves open (captions.py)."""

    kind: str
    background: object
    items: list
    caption: str = ""
    look: tuple = (0, 1)
    chance: np.ndarray = field(default_factory=lambda: np.zeros(0))


def draw(scene, painter):
    """uint8 RGB array of shape (256, 256, 3)."""
    picture = background(scene.background, scene.look).copy()
    for item in scene.items:
        _paste(picture, painter.paint(item.drawing, item.colour), item)
    return np.asarray(picture)


def _paste(picture, rgba, item):
    sprite = Image.fromarray(rgba)
    if item.flip:
        sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    scale = item.size / max(sprite.size)
    size = (max(1, round(sprite.width * scale)), max(1, round(sprite.height * scale)))
    # Premultiplied, so that the transparent surroundings do not bleed into the edge.
    sprite = sprite.convert("RGBa").resize(size, Image.LANCZOS)
    if item.angle:
        sprite = sprite.rotate(item.angle, Image.BICUBIC, expand=True)
    sprite = sprite.convert("RGBA")
    if item.hue:
        sprite = Image.fromarray(turn_hue(np.asarray(sprite), item.hue))
    if item.effect:
        sprite = Image.fromarray(EFFECTS[item.effect](np.asarray(sprite)))
    left, top = (round(middle - side / 2) for middle, side in zip((item.x, item.y), sprite.size))
    if item.effect == "pixel art":
        left, top = (round(k / PIXEL) * PIXEL for k in (left, top))
    picture.paste(sprite, (left, top), sprite)


EFFECTS = {"outline": outline, "pixel art": pixelate, "watercolour": watercolour}


def pastel(hue, strength=0.22):
    """A light colour, as a triple."""
    return tuple(int(c) for c in from_hsv(np.array([360.0 * hue]), np.array([strength]), np.array([0.97]))[0])


@functools.lru_cache(maxsize=512)
def background(name, look=(0, 1)):
    """Picture of a plain colour (a name, or a triple) or of a landscape with this look: version, horizon."""
    if isinstance(name, tuple):
        return Image.new("RGB", (S, S), name)
    if name in BACKGROUNDS:
        return Image.new("RGB", (S, S), BACKGROUNDS[name])
    if name not in LANDSCAPES:
        raise ValueError(f"no background {name!r}")
    version, horizon = look
    canvas = _Canvas(version % LOOKS, HORIZON + 8 * (horizon % HORIZONS - HORIZONS // 2))
    LANDSCAPES[name](canvas)
    picture = canvas.picture.resize((S, S), Image.BOX)
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if version % 2 else picture


class _Canvas:
    """A picture that is 128 units wide, at twice the scene's resolution."""

    def __init__(self, version, horizon):
        self.version, self.horizon = version, horizon
        self.random = np.random.default_rng(40 + version // 2)
        self.scale = 2 * S / 128

    def fill(self, top, bottom=None):
        k = np.linspace(0, 1, 2 * S)[:, None, None]
        rows = np.array(top) * (1 - k) + np.array(bottom or top) * k
        self.picture = Image.fromarray(np.broadcast_to(rows, (2 * S, 2 * S, 3)).round().astype(np.uint8))
        self.pen = ImageDraw.Draw(self.picture)

    def day(self):
        self.fill(*(((135, 205, 250), (205, 235, 252)), ((160, 215, 245), (225, 240, 250)))[self.version // 2])

    def _scaled(self, points):
        return [p * self.scale for p in points]

    def box(self, x0, y0, x1, y1, colour):
        self.pen.rectangle(self._scaled((x0, y0, x1, y1)), fill=colour)

    def oval(self, x0, y0, x1, y1, colour):
        self.pen.ellipse(self._scaled((x0, y0, x1, y1)), fill=colour)

    def disc(self, x, y, r, colour):
        self.oval(x - r, y - r, x + r, y + r, colour)

    def polygon(self, colour, *points):
        self.pen.polygon([tuple(self._scaled(p)) for p in points], fill=colour)

    def arc(self, x0, y0, x1, y1, start, end, colour):
        self.pen.arc(self._scaled((x0, y0, x1, y1)), start, end, fill=colour, width=round(self.scale))

    def dots(self, count, r, colour, below=128):
        for x, y in self.random.random((count, 2)) * (128, below):
            self.disc(x, y, r, colour)

    def cloud(self, x, y, size):
        for dx, dy, r in ((-0.8, 0.1, 0.5), (0, -0.2, 0.7), (0.8, 0.1, 0.5), (0.3, 0.2, 0.5), (-0.3, 0.2, 0.5)):
            cx, cy, rx, ry = x + dx * size, y + dy * size, r * size, r * size * 0.7
            self.oval(cx - rx, cy - ry, cx + rx, cy + ry, (255, 255, 255))


def _grass(c):
    c.day()
    c.cloud(26, 20, 13)
    if c.version // 2:
        c.disc(104, 22, 10, (255, 225, 110))
    else:
        c.cloud(100, 28, 11)
    c.oval(-60, c.horizon - 12, 110, c.horizon + 60, (110, 190, 85))
    c.oval(30, c.horizon - 8, 210, c.horizon + 60, (95, 178, 75))
    c.box(0, c.horizon + 12, 128, 128, (90, 172, 70))


def _beach(c):
    c.day()
    if c.version // 2:
        c.disc(100, 24, 11, (255, 225, 110))
    c.box(0, c.horizon - 22, 128, c.horizon, (45, 140, 205))
    c.box(0, c.horizon, 128, 128, (240, 214, 150))
    c.box(0, c.horizon, 128, c.horizon + 2, (225, 240, 245))


def _sky(c):
    c.day()
    low = c.horizon - HORIZON
    places = (((24, 22, 14), (104, 40, 12), (30, 104, 15), (98, 110, 12)),
              ((30, 34, 16), (96, 16, 12), (12, 96, 12), (106, 100, 16)))[c.version // 2]
    for x, y, size in places:
        c.cloud(x, y + low, size)


def _sea(c):
    c.day()
    if c.version // 2:
        c.disc(28, 22, 10, (255, 225, 110))
    top = c.horizon - 24
    c.box(0, top, 128, 128, (35, 120, 195))
    for row, y in enumerate(range(top + 8, 128, 12)):
        for x in range(-12 * (row % 2), 128, 24):
            c.arc(x, y, x + 16, y + 6, 200, 340, (85, 165, 235))


def _space(c):
    c.fill((12, 14, 40), (20, 16, 48))
    c.dots(30, 0.7, (255, 250, 220))
    if c.version // 2:
        c.disc(112, 18 + (c.horizon - HORIZON), 9, (196, 150, 110))
    else:
        c.disc(18, 112 + (c.horizon - HORIZON), 7, (120, 140, 190))


def _night(c):
    c.fill((12, 14, 40), (40, 36, 90))
    c.dots(26, 0.7, (255, 250, 220), c.horizon)
    if c.version // 2:
        c.disc(22, 22, 9, (245, 238, 200))
        c.disc(26, 20, 8, (17, 18, 46))
    c.box(0, c.horizon + 8, 128, 128, (24, 40, 38))


def _snow(c):
    c.fill((150, 200, 240), (215, 235, 250))
    c.box(0, c.horizon, 128, 128, (245, 249, 255))
    c.oval(-40, c.horizon - 10, 100, c.horizon + 40, (238, 244, 252))
    c.dots(26, 1, (255, 255, 255))


def _desert(c):
    c.fill((250, 205, 140), (253, 232, 190))
    if c.version // 2:
        c.disc(98, 26, 11, (255, 244, 214))
    c.box(0, c.horizon, 128, 128, (226, 178, 105))
    c.oval(-50, c.horizon - 14, 90, c.horizon + 50, (218, 168, 95))


def _room(c):
    c.fill(((238, 222, 190), (205, 222, 226))[c.version // 2])
    c.box(0, c.horizon + 8, 128, 128, (170, 120, 78))
    c.box(0, c.horizon + 6, 128, c.horizon + 9, (245, 245, 240))


def _forest(c):
    c.day()
    c.box(0, c.horizon, 128, 128, (70, 125, 60))
    shift = 9 * (c.version // 2)
    for x, height in ((4, 58), (22, 44), (40, 62), (60, 40), (78, 56), (96, 46), (112, 64), (126, 50)):
        x -= shift
        c.box(x - 2, c.horizon - 4, x + 2, c.horizon + 6, (95, 65, 40))
        half = height * 0.28
        c.polygon((35, 105, 60), (x - half, c.horizon), (x, c.horizon - height), (x + half, c.horizon))


def _mountains(c):
    c.day()
    c.cloud(98, 22, 11)
    peaks = (((30, 66, 46), (84, 52, 40), (120, 40, 36)), ((12, 54, 40), (60, 70, 50), (108, 50, 42)))[c.version // 2]
    for x, height, half in peaks:
        c.polygon((120, 135, 160), (x - half, c.horizon), (x, c.horizon - height), (x + half, c.horizon))
        c.polygon((250, 252, 255), (x - half / 4, c.horizon - 0.75 * height), (x, c.horizon - height),
                  (x + half / 4, c.horizon - 0.75 * height))
    c.box(0, c.horizon, 128, 128, (104, 168, 96))


def _city(c):
    c.day()
    greys = ((118, 134, 164), (146, 160, 186), (98, 114, 148))
    shift = 7 * (c.version // 2)
    for k, (x, width, height) in enumerate(((-6, 20, 44), (16, 18, 60), (36, 22, 36), (60, 18, 54), (80, 22, 42),
                                            (104, 18, 62), (124, 18, 40))):
        x -= shift
        c.box(x, c.horizon - height, x + width, c.horizon, greys[k % 3])
        for wy in range(int(c.horizon - height) + 5, int(c.horizon) - 5, 9):
            for wx in (x + 4, x + width - 7):
                c.box(wx, wy, wx + 3, wy + 4, (250, 236, 170))
    c.box(0, c.horizon, 128, 128, (128, 130, 136))


def _sunset(c):
    c.fill(*(((94, 74, 150), (252, 176, 110)), ((232, 108, 92), (255, 208, 128)))[c.version // 2])
    c.disc(64, c.horizon - 16, 16, (255, 232, 160))
    c.box(0, c.horizon, 128, 128, (70, 60, 110))


LANDSCAPES = {"grass": _grass, "beach": _beach, "sky": _sky, "sea": _sea, "space": _space, "night": _night,
              "snow": _snow, "desert": _desert, "room": _room, "forest": _forest, "mountains": _mountains,
              "city": _city, "sunset": _sunset}


def collage(painter, rng):
    """A scene without a caption, for the autoencoder: drawings of every set in every state, anywhere."""
    records, names = painter.catalogue.records, [*BACKGROUNDS, *LANDSCAPES]
    usable = [k for k, record in enumerate(records) if record["set"] in TRAINED_SETS]
    dice = rng.random()
    ground = "white" if dice < 0.35 else pastel(rng.random()) if dice < 0.55 else names[rng.integers(len(names))]
    items = []
    for _ in range(rng.choice((1, 2, 4), p=(0.5, 0.3, 0.2))):
        index = usable[rng.integers(len(usable))]
        colour = "" if rng.random() < 0.7 else OBJECT_COLOURS[rng.integers(len(OBJECT_COLOURS))]
        effect = "" if rng.random() < 0.72 else list(EFFECTS)[rng.integers(len(EFFECTS))]
        x, y = (int(k) for k in rng.integers(50, S - 50, 2))
        items.append(Item("", "", index, colour, int(rng.integers(90, 240)), x, y, bool(rng.random() < 0.5),
                          float(rng.normal(0, 5)), float(rng.normal(0, 8)), effect))
    return Scene("collage", ground, items, look=tuple(int(k) for k in rng.integers(0, (LOOKS, HORIZONS))))
