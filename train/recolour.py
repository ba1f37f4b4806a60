"""Colour names, and drawings in another colour: "a blue cat" is the cat's drawing with its main hue turned."""

import functools

import numpy as np
from PIL import Image
from scipy import ndimage

BACKGROUNDS = {
    "white": (252, 252, 252), "black": (22, 22, 26), "gray": (150, 152, 158), "red": (222, 45, 48),
    "orange": (245, 140, 40), "yellow": (250, 208, 55), "green": (60, 165, 75), "blue": (55, 115, 215),
    "purple": (140, 75, 190), "pink": (245, 150, 190), "brown": (135, 88, 55), "light blue": (165, 212, 245),
    "dark blue": (28, 45, 105), "light green": (170, 225, 160), "beige": (238, 222, 190),
}
HUES = {"red": 0, "orange": 28, "yellow": 50, "green": 120, "blue": 215, "purple": 278, "pink": 335, "brown": 25}
OBJECT_COLOURS = (*HUES, "black", "white", "gray")
# Hues, in degrees, at which one name gives way to the next.
_HUE_NAMES = ((12, "red"), (40, "orange"), (66, "yellow"), (170, "green"), (250, "blue"), (300, "purple"),
              (348, "pink"), (360, "red"))


def nearest_background(colour):
    """Name of the background colour that is nearest to a triple."""
    return min(BACKGROUNDS, key=lambda name: np.abs(np.asarray(colour, float) - np.array(BACKGROUNDS[name])).sum())


def to_hsv(rgb):
    """uint8 RGB (..., 3) to hue in degrees, saturation and value in 0..1."""
    a = rgb.astype(np.float32) / 255
    r, g, b = a[..., 0], a[..., 1], a[..., 2]
    high, low = np.maximum(np.maximum(r, g), b), np.minimum(np.minimum(r, g), b)
    span = high - low + 1e-8
    sector = np.where(high == r, ((g - b) / span) % 6, np.where(high == g, (b - r) / span + 2, (r - g) / span + 4))
    return sector * 60, np.where(high > 0, (high - low) / np.maximum(high, 1e-6), 0), high


def from_hsv(hue, saturation, value):
    """Inverse of to_hsv."""
    sector = (hue % 360) / 60
    chroma = value * saturation
    second = chroma * (1 - np.abs(sector % 2 - 1))
    zero, which = np.zeros_like(chroma), sector.astype(int) % 6
    r = np.choose(which, [chroma, second, zero, zero, second, chroma])
    g = np.choose(which, [second, chroma, chroma, second, zero, zero])
    b = np.choose(which, [zero, zero, second, chroma, chroma, second])
    rgb = np.stack([r, g, b], -1) + (value - chroma)[..., None]
    return (rgb * 255).round().clip(0, 255).astype(np.uint8)


def hue_distance(hue, other):
    """Signed difference in degrees, in -180..180."""
    return (hue - other + 180) % 360 - 180


def hue_name(hue):
    return next(name for bound, name in _HUE_NAMES if hue < bound)


def main_hue(rgba):
    """(dominant hue, mean saturation, colour name or None when no one colour covers half the drawing)."""
    solid = rgba[..., 3] > 128
    hue, saturation, value = (channel[solid] for channel in to_hsv(rgba[..., :3]))
    histogram = np.bincount((hue / 10).astype(int) % 36, weights=saturation * value, minlength=36)
    smooth = histogram + np.roll(histogram, 1) + np.roll(histogram, -1)
    dominant = int(smooth.argmax()) * 10 + 5
    near = (np.abs(hue_distance(hue, dominant)) < 20) & (saturation > 0.3)
    if near.mean() > 0.5:
        name = hue_name(dominant)
        if dominant < 45 and value[near].mean() < 0.68:
            name = "brown"
        elif (dominant >= 320 or dominant < 15) and saturation[near].mean() < 0.55 and value[near].mean() > 0.8:
            name = "pink"
    elif (saturation < 0.2).mean() > 0.7:
        bright = value.mean()
        name = "white" if bright > 0.86 else "black" if bright < 0.36 else "gray"
    else:
        name = None
    return dominant, float(saturation.mean()), name


def recolour(rgba, colour):
    """The drawing with its main colour replaced; outlines, eyes and other small parts keep theirs."""
    hue, saturation, value = to_hsv(rgba[..., :3])
    dominant, mean_saturation, _ = main_hue(rgba)
    if mean_saturation < 0.22:  # a gray drawing: tint all that is not black
        mask, base = (value > 0.12).astype(np.float32), np.full_like(saturation, 0.7)
        drift = np.zeros_like(hue)
    else:
        off = hue_distance(hue, dominant)
        mask = np.clip((38 - np.abs(off)) / 10 + 0.5, 0, 1) * np.clip((saturation - 0.12) / 0.15, 0, 1)
        base, drift = saturation, np.clip(off, -25, 25) * 0.3
    painted = from_hsv(*_target(colour, hue, base, value, drift)).astype(np.float32)
    out = rgba.copy()
    out[..., :3] = rgba[..., :3] * (1 - mask[..., None]) + painted * mask[..., None]
    return out


def outline(rgba):
    """The drawing as a line drawing: dark strokes, four to six pixels wide, where its colours change."""
    padded = np.pad(rgba.astype(np.float32) / 255, ((6, 6), (6, 6), (0, 0)))
    alpha = padded[..., 3:]
    on_white = np.concatenate([padded[..., :3] * alpha + 1 - alpha, alpha], -1)
    smooth = ndimage.gaussian_filter(on_white, (1.5, 1.5, 0))
    change = np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1)).max(-1)
    stroke = np.clip((ndimage.maximum_filter(change, 3) - 0.3) * 4, 0, 1)
    stroke = ndimage.gaussian_filter(stroke, 0.6)
    lines = np.full((*stroke.shape, 4), 25, np.uint8)
    lines[..., 3] = (255 * stroke).round()
    return lines


PIXEL = 8  # side of a block of pixel art; two of them are one cell of the latents


def pixelate(rgba):
    """The drawing in blocks of PIXEL x PIXEL pixels, solid or not there. Its sides grow to multiples of PIXEL."""
    height, width = (-(-n // PIXEL) * PIXEL for n in rgba.shape[:2])
    grown = np.zeros((height, width, 4), np.float32)
    top, left = (height - rgba.shape[0]) // 2, (width - rgba.shape[1]) // 2
    grown[top:top + rgba.shape[0], left:left + rgba.shape[1]] = rgba
    alpha = grown[..., 3:] / 255
    blocks = np.concatenate([grown[..., :3] * alpha, alpha], -1)
    blocks = blocks.reshape(height // PIXEL, PIXEL, width // PIXEL, PIXEL, 4).mean((1, 3))
    colour = blocks[..., :3] / np.maximum(blocks[..., 3:], 1e-3)
    solid = 255 * (blocks[..., 3:] > 0.45)
    out = np.concatenate([(colour / 24).round() * 24, solid], -1).clip(0, 255).astype(np.uint8)
    return out.repeat(PIXEL, 0).repeat(PIXEL, 1)


@functools.lru_cache(maxsize=1)
def _wash():
    """Smooth random fields of 320 x 320, each of unit variance, always the same: (tone, shift down, shift right)."""
    rng = np.random.default_rng(12)
    fields = [ndimage.gaussian_filter(rng.standard_normal((320, 320)), s) for s in (14, 9, 9)]
    return [(f / f.std()).astype(np.float32) for f in fields]


def watercolour(rgba):
    """The drawing as a wash: thin colour of uneven strength, a wavering rim that is a little darker."""
    margin = 8
    padded = np.pad(rgba.astype(np.float32) / 255, ((margin, margin), (margin, margin), (0, 0)))
    padded[..., :3] *= padded[..., 3:]
    height, width = padded.shape[:2]
    tone, down, right = (field[:height, :width] for field in _wash())
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    soft = ndimage.gaussian_filter(padded, (1.6, 1.6, 0))
    moved = np.stack([ndimage.map_coordinates(soft[..., k], [rows + 2.5 * down, columns + 2.5 * right], order=1)
                      for k in range(4)], -1)
    alpha = moved[..., 3]
    colour = moved[..., :3] / np.maximum(alpha, 1e-3)[..., None]
    rim = np.clip(alpha - ndimage.gaussian_filter(alpha, 6), 0, 1)
    strength = np.clip(0.66 + 0.13 * tone + 0.9 * rim, 0.25, 1)
    return (np.concatenate([colour, (alpha * strength)[..., None]], -1) * 255).round().clip(0, 255).astype(np.uint8)


def turn_hue(rgba, degrees):
    """The drawing with all its hues turned by some degrees: a rotation about the grey axis."""
    angle = np.deg2rad(degrees)
    third, skew = (1 - np.cos(angle)) / 3, np.sin(angle) / 3 ** 0.5
    turn = np.full((3, 3), third) + np.eye(3) * np.cos(angle) + skew * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    picture = Image.fromarray(np.ascontiguousarray(rgba[..., :3]))
    turned = picture.convert("RGB", [float(k) for row in turn for k in (*row, 0)])
    return np.dstack([np.asarray(turned), rgba[..., 3]])


def _target(colour, hue, base, value, drift):
    if colour == "black":
        return hue, base * 0.06, value * 0.28
    if colour == "white":
        return hue, base * 0.06, np.clip(0.8 + 0.2 * value, 0, 1)
    if colour == "gray":
        return hue, base * 0.06, 0.25 + 0.45 * value
    saturation = np.clip(base * 1.1 + 0.1, 0, 1)
    target = HUES[colour] + drift
    if colour == "pink":
        return target, saturation * 0.5, 0.45 + 0.55 * value
    if colour == "brown":
        return target, saturation * 0.75, value * 0.62
    lift = {"yellow": 0.12}.get(colour, 0.0)
    dim = {"green": 0.84}.get(colour, 1.0)
    return target, np.clip(saturation, 0.55, 0.88), np.clip(value + lift, 0, 1) * dim


class Painter:
    """Drawings of a catalogue in any colour, remembered."""

    def __init__(self, catalogue):
        self.catalogue = catalogue

    @functools.lru_cache(maxsize=8192)
    def natural(self, index):
        """The name of the drawing's own colour, or None."""
        return main_hue(self.catalogue.image(index))[2]

    @functools.lru_cache(maxsize=1024)
    def paint(self, index, colour):
        """RGBA of the drawing in the colour; colour "" or the drawn one leaves it as it is."""
        rgba = self.catalogue.image(index)
        if not colour or colour == self.natural(index):
            return rgba
        return recolour(rgba, colour)
