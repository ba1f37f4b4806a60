"""Draw a Scene (captions.py) as pixels: a plain colour or a simple landscape, and sprites on it."""

import functools

import numpy as np
from PIL import Image, ImageDraw

from .captions import SCENE_SIZE as S
from .captions import SETTINGS
from .recolour import BACKGROUNDS

HORIZON = 80  # the line where ground meets sky, in pixels from the top


def draw(scene, painter):
    """uint8 RGB array of shape (128, 128, 3)."""
    picture = _background(scene.background).copy()
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
    sprite = sprite.convert("RGBa").resize(size, Image.LANCZOS).convert("RGBA")
    corner = (round(item.x - size[0] / 2), round(item.y - size[1] / 2))
    picture.paste(sprite, corner, sprite)


@functools.lru_cache(maxsize=64)
def _background(name):
    if name in BACKGROUNDS:
        return Image.new("RGB", (S, S), BACKGROUNDS[name])
    if name not in SETTINGS:
        raise ValueError(f"no background {name!r}")
    return _SETTINGS[name]()


def _gradient(top, bottom):
    k = np.linspace(0, 1, S)[:, None, None]
    rows = np.array(top) * (1 - k) + np.array(bottom) * k
    return Image.fromarray(np.broadcast_to(rows, (S, S, 3)).round().astype(np.uint8))


def _day():
    return _gradient((135, 205, 250), (205, 235, 252))


def _dark(top, bottom):
    picture = _gradient(top, bottom)
    pen = ImageDraw.Draw(picture)
    stars = np.random.default_rng(4).integers(0, S, (28, 2))  # the same sky every time
    for x, y in stars:
        pen.ellipse((x, y, x + 1, y + 1), fill=(255, 250, 220))
    return picture


def _cloud(pen, x, y, size):
    for dx, dy, r in ((-0.8, 0.1, 0.5), (0, -0.2, 0.7), (0.8, 0.1, 0.5), (0.3, 0.2, 0.5), (-0.3, 0.2, 0.5)):
        cx, cy, rx, ry = x + dx * size, y + dy * size, r * size, r * size * 0.7
        pen.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), fill=(255, 255, 255))


def _grass():
    picture = _day()
    pen = ImageDraw.Draw(picture)
    _cloud(pen, 26, 20, 13)
    _cloud(pen, 100, 28, 11)
    pen.ellipse((-60, HORIZON - 12, 110, HORIZON + 60), fill=(110, 190, 85))
    pen.ellipse((30, HORIZON - 8, 210, HORIZON + 60), fill=(95, 178, 75))
    pen.rectangle((0, HORIZON + 12, S, S), fill=(90, 172, 70))
    return picture


def _beach():
    picture = _day()
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, HORIZON - 22, S, HORIZON), fill=(45, 140, 205))
    pen.rectangle((0, HORIZON, S, S), fill=(240, 214, 150))
    return picture


def _sky():
    picture = _day()
    pen = ImageDraw.Draw(picture)
    for x, y, size in ((24, 22, 14), (104, 40, 12), (30, 104, 15), (98, 110, 12)):
        _cloud(pen, x, y, size)
    return picture


def _sea():
    picture = _day()
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 56, S, S), fill=(35, 120, 195))
    for row, y in enumerate(range(64, S, 12)):
        for x in range(-12 * (row % 2), S, 24):
            pen.arc((x, y, x + 16, y + 6), 200, 340, fill=(85, 165, 235), width=1)
    return picture


def _space():
    return _dark((12, 14, 40), (20, 16, 48))


def _night():
    picture = _dark((12, 14, 40), (40, 36, 90))
    ImageDraw.Draw(picture).rectangle((0, HORIZON + 8, S, S), fill=(24, 40, 38))
    return picture


def _snow():
    picture = _gradient((150, 200, 240), (215, 235, 250))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, HORIZON, S, S), fill=(245, 249, 255))
    pen.ellipse((-40, HORIZON - 10, 100, HORIZON + 40), fill=(238, 244, 252))
    for x, y in np.random.default_rng(9).integers(0, S, (24, 2)):
        pen.ellipse((x, y, x + 2, y + 2), fill=(255, 255, 255))
    return picture


def _desert():
    picture = _gradient((250, 205, 140), (253, 232, 190))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, HORIZON, S, S), fill=(226, 178, 105))
    pen.ellipse((-50, HORIZON - 14, 90, HORIZON + 50), fill=(218, 168, 95))
    return picture


def _room():
    picture = Image.new("RGB", (S, S), (238, 222, 190))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, HORIZON + 8, S, S), fill=(170, 120, 78))
    pen.rectangle((0, HORIZON + 6, S, HORIZON + 9), fill=(245, 245, 240))
    return picture


def _forest():
    picture = _day()
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, HORIZON, S, S), fill=(70, 125, 60))
    for x, height in ((4, 58), (22, 44), (40, 62), (60, 40), (78, 56), (96, 46), (112, 64), (126, 50)):
        pen.rectangle((x - 2, HORIZON - 4, x + 2, HORIZON + 6), fill=(95, 65, 40))
        half = height * 0.28
        pen.polygon([(x - half, HORIZON), (x, HORIZON - height), (x + half, HORIZON)], fill=(35, 105, 60))
    return picture


_SETTINGS = {"grass": _grass, "beach": _beach, "sky": _sky, "sea": _sea, "space": _space, "night": _night,
             "snow": _snow, "desert": _desert, "room": _room, "forest": _forest}
