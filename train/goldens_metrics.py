"""Makes compare/metrics/testdata: pictures and features, and what well-known programs measure of them.

Run: python train/goldens_metrics.py
Needs scikit-image, torchmetrics, clean-fid, vendi-score, prdc, scikit-learn, scipy, torch, Pillow.
CMMD has no package of its own: its formula is evaluated here with scikit-learn's kernel.
"""

import json
import pathlib

import numpy as np
import torch
from cleanfid.fid import frechet_distance, kernel_distance
from PIL import Image
from prdc import compute_prdc
from scipy.ndimage import laplace
from scipy.spatial.distance import pdist
from skimage.color import rgb2hsv
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from sklearn.metrics.pairwise import rbf_kernel
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure
from vendi_score import vendi

OUT = pathlib.Path(__file__).parent.parent / "compare" / "metrics" / "testdata"
BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def scene(width, height, phase):
    """Discs on a gradient, burnt in places."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    picture = np.stack([255 * x / width, 255 * y / height, 128 + 120 * np.sin(x / 9 + phase)], 2)
    for k in range(5):
        inside = (x - width * (0.15 + 0.17 * k) - 3 * phase) ** 2 + (y - height * (0.3 + 0.1 * (k % 3))) ** 2 < (height / 7) ** 2
        picture[inside] = (255, 40 * k, 10 * k)
    return picture.clip(0, 255).round().astype(np.uint8)


def similar(a, b):
    """The measures of two pictures."""
    scales = 0
    side = min(a.shape[:2])
    while scales < 5 and side >= 11:
        scales, side = scales + 1, side // 2
    betas = np.array(BETAS[:scales]) / sum(BETAS[:scales])
    tensors = [torch.tensor(p.transpose(2, 0, 1)[None].astype(np.float64)) for p in (a, b)]
    return {
        "psnr": peak_signal_noise_ratio(a, b, data_range=255),
        "ssim": structural_similarity(a, b, channel_axis=2, gaussian_weights=True, sigma=1.5,
                                      use_sample_covariance=False, data_range=255),
        "scales": scales,
        # torchmetrics wants more room than it uses: its own check of the size is for a factor 2 more.
        "msssim": float(multiscale_structural_similarity_index_measure(
            *tensors, sigma=1.5, data_range=255.0, betas=tuple(map(float, betas)), normalize="relu")),
    }


def look(p):
    luma = p.astype(float) @ [0.299, 0.587, 0.114]
    r, g, b = (p[..., c].astype(float) for c in range(3))
    rg, yb = r - g, (r + g) / 2 - b
    burnt = (p.max(2) == 255) & (p.min(2) < 64)
    return {
        "sharpness": laplace(luma, mode="nearest").var(), "brightness": luma.mean(), "contrast": luma.std(),
        "colourful": np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()),
        "saturation": rgb2hsv(p)[..., 1].mean(), "burnt": burnt.mean(),
    }


def sets(rng, n, m, d):
    a = rng.normal(size=(n, d)).round(4)
    b = (rng.normal(size=(m, d)) * 0.7 + 0.3).round(4)
    unit = [f / np.linalg.norm(f, axis=1, keepdims=True) for f in (a, b)]
    k = lambda x, y: rbf_kernel(x, y, gamma=1 / (2 * 10**2)).mean()
    both = compute_prdc(real_features=b, fake_features=a, nearest_k=3)
    same = min(n, m)  # clean-fid wants sets of one size
    return {
        "a": a.tolist(), "b": b.tolist(), "same": same,
        "frechet": frechet_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False)),
        "kid": kernel_distance(a[:same], b[:same], num_subsets=1),
        "cmmd": 1000 * (k(unit[0], unit[0]) + k(unit[1], unit[1]) - 2 * k(*unit)),
        "precision": both["precision"], "recall": both["recall"],
        "vendi": vendi.score_X(a, normalize=True),
        "distance": pdist(a, "cosine").mean(),
    }


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    pictures = []
    for name, (width, height) in {"small": (56, 48), "large": (200, 184)}.items():
        a, b = scene(width, height, 0.0), scene(width, height, 0.6)
        b = (b + rng.integers(-6, 7, b.shape)).clip(0, 255).astype(np.uint8)
        if name == "large":  # noise does not compress
            b = scene(width, height, 0.6)
        Image.fromarray(a).save(OUT / f"{name}-a.png", optimize=True)
        Image.fromarray(b).save(OUT / f"{name}-b.png", optimize=True)
        pictures.append({"name": name, **similar(a, b), "look": look(b)})
    latents = rng.normal(size=(2, 24)).round(3)
    golden = {
        "pictures": pictures,
        "sets": [sets(rng, 30, 26, 5), sets(rng, 9, 7, 12)],
        "latents": latents.tolist(), "rmse": float(np.sqrt(mean_squared_error(*latents))),
    }
    (OUT / "goldens.json").write_text(json.dumps(golden, separators=(",", ":"), default=float) + "\n")


if __name__ == "__main__":
    main()
