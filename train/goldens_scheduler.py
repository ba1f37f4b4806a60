"""Makes scheduler/testdata/diffusers.jsonl.gz: trajectories of diffusers' schedulers on a toy denoiser.

Run: python train/goldens_scheduler.py        (needs diffusers, torch, numpy, scipy)

Each line of the file is one run: the sampler's name in this program, its options, the model's
scheduler_config.json, the number of steps, the number of noise draws, and x after some of the steps
(float32, little endian, base64). The toy denoiser and the stream of "noise" are written once here and once in
scheduler/golden_test.go, in operations which IEEE 754 rounds alike in both languages, so that only the
samplers can differ.
"""

import base64, gzip, itertools, json, os, sys, warnings

import numpy as np
import torch
import diffusers
from diffusers.utils import logging

warnings.filterwarnings("ignore")
logging.set_verbosity_error()

N = 3  # values in x
STEPS = [1, 2, 3, 4, 7, 20, 50]
OUT = os.path.join(os.path.dirname(__file__), "..", "scheduler", "testdata")
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
f32 = np.float32


class Stream:
    """Numbers in [-2, 2) from a linear congruential generator: a stand-in for unit noise."""

    def __init__(self):
        self.state, self.draws = 12345, 0

    def __call__(self, *args, **kw):
        self.draws += 1
        values = []
        for _ in range(N):
            self.state = (self.state * 1664525 + 1013904223) % 2**32
            values.append(f32(self.state >> 16) / f32(16384) - f32(2))
        return torch.tensor(np.array(values, dtype=f32)).reshape(1, N, 1, 1)


def toy(u, t):
    """A model with a nonlinearity, coupling between values, and a dependence on time."""
    u = u.numpy().reshape(N).astype(f32)
    b = np.array([0.5, -0.25, 0.75], dtype=f32)
    out = u / (f32(1) + u * u) + f32(0.125) * np.roll(u, 1) + b * (f32(t) / f32(1024))
    return torch.tensor(out.astype(f32)).reshape(1, N, 1, 1)


def module(scheduler):
    return sys.modules[type(scheduler).__module__]


def run(cls, config, steps, kwargs, timesteps_kw=None):
    stream = Stream()
    scheduler = getattr(diffusers, cls)(**config)
    module(scheduler).randn_tensor = stream
    scheduler.set_timesteps(**(timesteps_kw or {"num_inference_steps": steps}))
    # Without this, diffusers looks its place up by timestep, and skips a step where rounding has made two equal.
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    x = stream() * scheduler.init_noise_sigma
    trajectory = []
    for i, t in enumerate(scheduler.timesteps):
        u = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(toy(u, t), t, x, **kwargs).prev_sample
        # A sampler with two calls a step moves x provisionally in between.
        if getattr(scheduler, "state_in_first_order", True) or i == len(scheduler.timesteps) - 1:
            trajectory.append(x.numpy().reshape(N).astype(f32))
    return np.array(trajectory), stream.draws - 1


def kept(n):
    """Which steps of n are stored: all of a short run, five of a long one."""
    return list(range(n)) if n <= 7 else [0, 1, n // 2, n - 2, n - 1]


LINES = []


def case(name, cls, config, steps, options=None, kwargs=None):
    config = {k: v for k, v in config.items() if v is not None}
    options, kwargs = dict(options or {}), kwargs or {}
    with np.errstate(all="ignore"):
        x, draws = run(cls, config, steps, kwargs)
    assert np.isfinite(x).all(), (name, config, steps)
    LINES.append({
        "name": name, "options": options, "config": {"_class_name": cls, **config}, "steps": steps, "rows": len(x), "draws": draws,
        "x": base64.b64encode(np.ascontiguousarray(x[kept(len(x))], dtype="<f4").tobytes()).decode(),
    })


def grid(name, cls, spacings=("leading", "trailing", "linspace"), predictions=("epsilon", "v_prediction", "sample"),
         sigmas=("",), extra=None, options=None, kwargs=None, steps=STEPS, skip=lambda *a: False):
    """All combinations; the offset 1 goes with leading spacing, as in the releases of Stable Diffusion."""
    for spacing, prediction, sigma, n in itertools.product(spacings, predictions, sigmas, steps):
        if skip(spacing, prediction, sigma, n):
            continue
        config = {**SD, "prediction_type": prediction, **(extra or {})}
        if spacing:
            config["timestep_spacing"] = spacing
        if spacing == "leading":
            config["steps_offset"] = 1
        if sigma:
            config[f"use_{sigma}_sigmas"] = True
        case(name, cls, config, n, options, kwargs)


# With a schedule of its own a sampler of the dpm++ family does not look at the spacing.
def own_spacing(spacing, prediction, sigma, n):
    return bool(sigma) and spacing != "linspace"


def one_step_karras(spacing, prediction, sigma, n):
    """One step of linspace starts at the model's least noise, so that a schedule has no range."""
    return bool(sigma) and n == 1


SCHEDULES = ("", "karras", "exponential", "beta")
V = ("epsilon", "v_prediction")
ZERO = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing", **SD}


def first_order():
    plain = {"clip_sample": False, "set_alpha_to_one": False}
    grid("ddim", "DDIMScheduler", extra=plain)
    grid("ddim", "DDIMScheduler", predictions=V, extra=plain, options={"eta": 0.7}, kwargs={"eta": 0.7}, spacings=("leading", "trailing"))
    grid("ddim", "DDIMScheduler", predictions=V, extra={"clip_sample": True, "set_alpha_to_one": True}, steps=[3, 20], spacings=("leading",))
    grid("ddim", "DDIMScheduler", predictions=V, extra={"clip_sample": False, "set_alpha_to_one": False, "thresholding": True, "sample_max_value": 1.5}, steps=[3, 20], spacings=("leading",))
    grid("ddpm", "DDPMScheduler", extra={"clip_sample": False})
    grid("ddpm", "DDPMScheduler", extra={"clip_sample": True, "variance_type": "fixed_large"}, steps=[3, 20], spacings=("leading",))
    grid("euler", "EulerDiscreteScheduler", sigmas=SCHEDULES, skip=one_step_karras)
    grid("euler-a", "EulerAncestralDiscreteScheduler", predictions=V)
    for n in STEPS:
        case("ddim", "DDIMScheduler", {**ZERO, "clip_sample": False, "set_alpha_to_one": False}, n)
        case("euler", "EulerDiscreteScheduler", ZERO, n)
        case("euler-a", "EulerAncestralDiscreteScheduler", ZERO, n)
    for schedule in ["linear", "squaredcos_cap_v2"]:
        config = {"beta_schedule": schedule, "clip_sample": False, "set_alpha_to_one": False}
        case("ddim", "DDIMScheduler", config, 7)
        case("euler", "EulerDiscreteScheduler", {"beta_schedule": schedule}, 7)
    case("euler", "EulerDiscreteScheduler", {**SD, "interpolation_type": "log_linear"}, 7)
    case("euler", "EulerDiscreteScheduler", {**SD, "final_sigmas_type": "sigma_min"}, 7)
    case("euler", "EulerDiscreteScheduler", {**SD, "timestep_type": "continuous", "prediction_type": "v_prediction", "use_karras_sigmas": True, "sigma_min": 0.002, "sigma_max": 80.0}, 7)


def dpmpp():
    cls = "DPMSolverMultistepScheduler"
    grid("dpm++2m", cls, sigmas=SCHEDULES, skip=own_spacing)
    grid("dpm++2m", cls, extra={"solver_type": "heun"}, spacings=("leading",), steps=[4, 20])
    grid("dpm++2m", cls, extra={"use_lu_lambdas": True}, spacings=("linspace",), steps=[4, 20])
    grid("dpm++2m", cls, extra={"euler_at_final": True, "final_sigmas_type": "sigma_min"}, spacings=("trailing",), steps=[4, 20], predictions=V)
    grid("dpm++2m", cls, extra={"lower_order_final": False}, spacings=("trailing",), steps=[4, 20], predictions=V)
    grid("dpm++2m", cls, extra={"lambda_min_clipped": -1.5}, steps=[4, 20], predictions=V, spacings=("leading", "linspace"))
    for n in STEPS:
        case("dpm++2m", cls, ZERO, n)
    case("dpm++2m", cls, {"beta_schedule": "squaredcos_cap_v2", "use_karras_sigmas": True, "lambda_min_clipped": -5.1}, 7)


def main():
    first_order()
    dpmpp()
    os.makedirs(OUT, exist_ok=True)
    path = os.path.join(OUT, "diffusers.jsonl.gz")
    with open(path, "wb") as f, gzip.GzipFile("", "wb", 9, f, mtime=0) as z:
        for line in LINES:
            z.write((json.dumps(line, separators=(",", ":")) + "\n").encode())
    print(len(LINES), "runs,", os.path.getsize(path), "bytes, diffusers", diffusers.__version__)


if __name__ == "__main__":
    main()
