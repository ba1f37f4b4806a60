"""Makes guidance/testdata/guidance.json.gz: guided predictions by diffusers' guiders, and by formula where it has none.

Run: python train/goldens_guidance.py        (needs diffusers, torch, numpy)

A case is a specification in this program's form, a scale, and three steps of random predictions [4, 3, 5] with what
becomes of them. cfg, cfg-zero and apg are diffusers'; dynamic (after sd-dynamic-thresholding) and perp-neg
(after Armandpour et al. 2023, eq. 6) are written here with numpy.
"""

import gzip, json, os

import numpy as np
import torch
from diffusers.guiders import AdaptiveProjectedGuidance, ClassifierFreeGuidance, ClassifierFreeZeroStarGuidance

SHAPE, STEPS = (1, 4, 3, 5), 3


def by_diffusers(guider):
    def run(step, cond, uncond, empty):
        guider.set_state(step=step, num_inference_steps=STEPS, timestep=torch.tensor(1 - step / STEPS))
        if step == 0 and getattr(guider, "adaptive_projected_guidance_momentum", None) is not None:
            from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer
            guider.momentum_buffer = MomentumBuffer(guider.adaptive_projected_guidance_momentum)
        return guider.forward(torch.tensor(cond), torch.tensor(uncond)).pred.numpy()
    return run


def dynamic(scale, mimic, percentile=1.0, phi=1.0):
    def run(step, cond, uncond, empty):
        full = (uncond + scale * (cond - uncond)).reshape(4, -1).astype(np.float64)
        low = (uncond + mimic * (cond - uncond)).reshape(4, -1).astype(np.float64)
        centred, low = full - full.mean(1, keepdims=True), low - low.mean(1, keepdims=True)
        extent = np.abs(low).max(1, keepdims=True)
        cut = np.maximum(extent, np.quantile(np.abs(centred), percentile, axis=1, keepdims=True))
        result = np.clip(centred, -cut, cut) / cut * extent + full.mean(1, keepdims=True)
        return (phi * result + (1 - phi) * full).reshape(SHAPE)
    return run


def perp_neg(scale, w=1.0):
    def run(step, cond, uncond, empty):
        p, n = (cond - empty).astype(np.float64), (uncond - empty).astype(np.float64)
        return empty + scale * (p - w * (n - (n * p).sum() / (p * p).sum() * p))
    return run


def main():
    rng = np.random.default_rng(4)
    cases = []
    for spec, scale, run in [
        ("cfg", 7.5, by_diffusers(ClassifierFreeGuidance(7.5))),
        ("cfg", 1.0, by_diffusers(ClassifierFreeGuidance(1.0))),
        ("cfg:rescale=0.7", 7.5, by_diffusers(ClassifierFreeGuidance(7.5, guidance_rescale=0.7))),
        ("cfg:start=0.4,stop=0.7", 5.0, by_diffusers(ClassifierFreeGuidance(5.0, start=0.4, stop=0.7))),
        ("cfg-zero:zero=1", 4.0, by_diffusers(ClassifierFreeZeroStarGuidance(4.0))),
        ("cfg-zero:zero=0,rescale=0.5", 4.0, by_diffusers(ClassifierFreeZeroStarGuidance(4.0, zero_init_steps=0, guidance_rescale=0.5))),
        ("apg", 7.5, by_diffusers(AdaptiveProjectedGuidance(7.5))),
        ("apg:eta=0,norm=2.5,momentum=-0.5", 7.5, by_diffusers(AdaptiveProjectedGuidance(7.5, adaptive_projected_guidance_momentum=-0.5, adaptive_projected_guidance_rescale=2.5, eta=0.0))),
        ("apg:eta=0.3,norm=0,rescale=0.4", 7.5, by_diffusers(AdaptiveProjectedGuidance(7.5, adaptive_projected_guidance_rescale=0.0, eta=0.3, guidance_rescale=0.4))),
        ("dynamic:mimic=3", 12.0, dynamic(12.0, 3.0)),
        ("dynamic:mimic=7,percentile=0.9,phi=0.6", 20.0, dynamic(20.0, 7.0, 0.9, 0.6)),
        ("perp-neg", 7.5, perp_neg(7.5)),
        ("perp-neg:negative=2", 7.5, perp_neg(7.5, 2.0)),
    ]:
        steps = []
        for step in range(STEPS):
            cond, uncond, empty = (rng.standard_normal(SHAPE).round(2).astype(np.float32) for _ in range(3))
            got = np.asarray(run(step, cond, uncond, empty), dtype=np.float32)
            steps.append({k: v.reshape(-1).tolist() for k, v in [("cond", cond), ("uncond", uncond), ("empty", empty), ("want", got)]})
        cases.append({"spec": spec, "scale": scale, "steps": steps})
    path = os.path.join(os.path.dirname(__file__), "..", "guidance", "testdata", "guidance.json.gz")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f, gzip.GzipFile("", "wb", 9, f, mtime=0) as z:
        z.write(json.dumps(cases, separators=(",", ":")).encode())
    print(len(cases), "cases,", os.path.getsize(path), "bytes")


if __name__ == "__main__":
    main()
