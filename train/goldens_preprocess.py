"""Golden pictures of preprocessors, by OpenCV: preprocess/testdata.

    python train/goldens_preprocess.py       writes in.png, noise.png, canny-*.png, edges.png, lightness.png

in.png has edges of every direction and strength, noise.png as many slopes that are equal as one can wish for.
"""
import os

import cv2
import numpy as np

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "preprocess", "testdata")


def pictures():
    y, x = np.mgrid[0:96, 0:128]
    img = np.stack([120 + 100 * np.sin(x / 9 + y / 17), 2 * y, np.where((x - 60) ** 2 + (y - 50) ** 2 < 900, 230, 40)], -1)
    img[20:60, 80:110] = [255, 30, 90]
    cv2.line(img, (5, 90), (120, 10), (0, 0, 0), 2)
    rng = np.random.default_rng(7)
    return img.clip(0, 255).astype(np.uint8), (rng.integers(0, 5, (61, 47, 3)) * 60).astype(np.uint8)


def save(name, img):
    cv2.imwrite(os.path.join(OUT, name), img[..., ::-1] if img.ndim == 3 else img)


def main():
    os.makedirs(OUT, exist_ok=True)
    for name, img in zip(("in", "noise"), pictures()):
        save(name + ".png", img)
        for low, high in ((100, 200), (250, 640)):
            edges = cv2.Canny(img, low, high)
            print(name, low, high, f"{(edges > 0).mean():.3f} of it edges")
            save(f"canny-{name}-{low}-{high}.png", edges)
    img = pictures()[0]
    lab = cv2.cvtColor(img.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    save("lightness.png", (lab[..., 0] * 2.55).round().clip(0, 255).astype(np.uint8))
    save("grey.png", np.asarray(__import__("PIL.Image").Image.fromarray(img).convert("L")))


if __name__ == "__main__":
    main()
