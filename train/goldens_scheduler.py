"""Makes scheduler/testdata/*.jsonl.gz: trajectories of diffusers' schedulers on a toy denoiser.

Run: python train/goldens_scheduler.py [family...]     (needs diffusers, torch, torchsde, numpy, scipy)

Each line of a file is one run: the sampler's name in this program, its options, the model's
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


def step_ends(scheduler, steps):
    """Indices of the model calls that end a step, for the samplers that make several calls in some."""
    calls = len(scheduler.timesteps)
    if type(scheduler).__name__ == "PNDMScheduler":
        if scheduler.config.skip_prk_steps:
            return range(min(1, steps - 1), calls)
        return [3, 7, *range(11, calls)]
    return None


def run(cls, config, steps, kwargs):
    stream = Stream()
    exact = config.get("_float64", False)
    scheduler = getattr(diffusers, cls)(**{k: v for k, v in config.items() if k != "_float64"})
    module(scheduler).randn_tensor = stream
    module(scheduler).BrownianTreeNoiseSampler = lambda *args: stream
    scheduler.set_timesteps(num_inference_steps=steps)
    ends = step_ends(scheduler, steps)
    if exact:  # the same levels, but coefficients computed in float64
        scheduler.sigmas = scheduler.sigmas.double()
    # Without this, diffusers looks its place up by timestep, and skips a step where rounding has made two equal.
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    x = stream() * getattr(scheduler, "init_noise_sigma", 1.0)  # flow schedulers have none
    trajectory = []
    for i, t in enumerate(scheduler.timesteps):
        u = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(toy(u, t), t, x, **kwargs).prev_sample
        # A sampler with two calls a step moves x provisionally in between.
        if ends is not None:
            if i in ends:
                trajectory.append(x.numpy().reshape(N).astype(f32))
        elif getattr(scheduler, "state_in_first_order", True) or i == len(scheduler.timesteps) - 1:
            trajectory.append(x.numpy().reshape(N).astype(f32))
    return np.array(trajectory), stream.draws - 1


def kept(n):
    """Which steps of n are stored: all of a short run, five of a long one."""
    return list(range(n)) if n <= 7 else [0, 1, n // 2, n - 2, n - 1]


LINES = []


def case(name, cls, config, steps, options=None, kwargs=None, cut=False):
    config = {k: v for k, v in config.items() if v is not None}
    options, kwargs = dict(options or {}), kwargs or {}
    with np.errstate(all="ignore"):
        x, draws = run(cls, config, steps, kwargs)
    if cut:
        x = x[:-1]
    assert np.isfinite(x).all(), (name, config, steps)
    LINES.append({
        "name": name, "options": options, "config": {"_class_name": cls, **config}, "steps": steps, "rows": len(x), "draws": draws,
        "x": base64.b64encode(np.ascontiguousarray(x[kept(len(x))], dtype="<f4").tobytes()).decode(),
    })


def grid(name, cls, spacings=("leading", "trailing", "linspace"), predictions=("epsilon", "v_prediction", "sample"),
         sigmas=("",), extra=None, options=None, kwargs=None, steps=STEPS, skip=lambda *a: False, cut=False):
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
        case(name, cls, config, n, options, kwargs, cut)


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


def dpmpp_variants():
    cls = "DPMSolverMultistepScheduler"
    sde = {"algorithm_type": "sde-dpmsolver++"}
    grid("dpm++2m-sde", cls, extra=sde, sigmas=SCHEDULES, skip=own_spacing, predictions=V)
    grid("dpm++2m-sde", cls, extra={**sde, "solver_type": "heun"}, spacings=("trailing",), steps=[4, 20])
    grid("dpm++3m", cls, extra={"solver_order": 3}, sigmas=SCHEDULES, skip=own_spacing, predictions=V)
    # Not dpm++3m-sde: the sign in diffusers' third-order term is wrong (see dpmpp.go); orders below agree.
    grid("dpm++3m-sde", cls, extra={**sde, "solver_order": 3}, spacings=("linspace",), steps=[1, 2], predictions=V)
    grid("dpm++2s", "DPMSolverSinglestepScheduler", sigmas=SCHEDULES, skip=own_spacing, spacings=("",))
    grid("dpm++2s", "DPMSolverSinglestepScheduler", extra={"solver_type": "heun", "lower_order_final": True}, spacings=("",), steps=[3, 4, 20])
    grid("dpm++2s", "DPMSolverSinglestepScheduler", extra={"final_sigmas_type": "sigma_min"}, spacings=("",), steps=[4, 7, 20])
    grid("deis", "DEISMultistepScheduler")
    grid("deis", "DEISMultistepScheduler", extra={"solver_order": 3}, predictions=V, spacings=("linspace",))
    # The coefficients are differences of nearly equal numbers; in float32 they err by 1e-4, so also without that.
    grid("deis", "DEISMultistepScheduler", extra={"_float64": True})
    grid("deis", "DEISMultistepScheduler", extra={"solver_order": 3, "_float64": True}, predictions=V, spacings=("linspace",))
    grid("deis", "DEISMultistepScheduler", extra={"_float64": True}, sigmas=SCHEDULES[1:], predictions=V, spacings=("linspace",), steps=STEPS[1:], cut=True)
    # With these schedules diffusers repeats the last sigma, so that its last step does nothing; here it goes to 0.
    grid("deis", "DEISMultistepScheduler", sigmas=SCHEDULES[1:], predictions=V, spacings=("linspace",), steps=STEPS[1:], cut=True)
    for order, kind in itertools.product([1, 2, 3], ["bh1", "bh2"]):
        full = order == 2 and kind == "bh2"
        # diffusers' bh1 gives NaN in a step to 0.
        extra = {"solver_order": order, "solver_type": kind, "final_sigmas_type": "sigma_min" if kind == "bh1" else "zero"}
        grid("unipc", "UniPCMultistepScheduler", extra=extra, sigmas=SCHEDULES if full else ("",), skip=own_spacing,
             predictions=V, spacings=("leading", "trailing", "linspace") if full else ("linspace",))
    grid("unipc", "UniPCMultistepScheduler", extra={"disable_corrector": [0, 2]}, spacings=("linspace",), steps=[4, 7], predictions=V)
    grid("unipc", "UniPCMultistepScheduler", extra={"final_sigmas_type": "sigma_min"}, spacings=("trailing",), steps=[4, 20], predictions=V)
    grid("sa-solver", "SASolverScheduler", predictions=V)
    grid("sa-solver", "SASolverScheduler", extra={"predictor_order": 3, "corrector_order": 3}, spacings=("linspace",), predictions=V)
    grid("sa-solver", "SASolverScheduler", sigmas=SCHEDULES[1:], predictions=V, spacings=("linspace",), steps=STEPS[1:], cut=True)
    for n in STEPS:
        case("unipc", "UniPCMultistepScheduler", ZERO, n)


def multistep():
    release = {"skip_prk_steps": True, "set_alpha_to_one": False}
    grid("pndm", "PNDMScheduler", extra=release, predictions=V)
    grid("pndm", "PNDMScheduler", extra={"skip_prk_steps": False}, predictions=V, steps=[4, 7, 20, 50])
    grid("lms", "LMSDiscreteScheduler", sigmas=SCHEDULES, skip=one_step_karras, predictions=V)
    grid("lms", "LMSDiscreteScheduler", predictions=V, spacings=("linspace",), steps=[7], options={"order": 2}, kwargs={"order": 2})


def two_calls():
    grid("heun", "HeunDiscreteScheduler", sigmas=SCHEDULES, skip=one_step_karras, predictions=V)
    grid("dpm2", "KDPM2DiscreteScheduler", sigmas=SCHEDULES, skip=one_step_karras, predictions=V)
    grid("dpm2-a", "KDPM2AncestralDiscreteScheduler", sigmas=SCHEDULES, skip=one_step_karras, predictions=V)
    grid("dpm++sde", "DPMSolverSDEScheduler", sigmas=SCHEDULES, skip=one_step_karras, predictions=V)


def distilled():
    for cls, name in [("LCMScheduler", "lcm"), ("TCDScheduler", "tcd")]:
        for prediction, n in itertools.product(["epsilon", "v_prediction", "sample"], STEPS):
            base = {"prediction_type": prediction, "clip_sample": False}
            case(name, cls, base, n)
            if name == "tcd":
                case(name, cls, base, n, {"eta": 0.7}, {"eta": 0.7})
    case("lcm", "LCMScheduler", {"original_inference_steps": 100, "timestep_scaling": 5.0, "clip_sample": True}, 8)


def flow():
    for n, shift in itertools.product(STEPS, [1.0, 3.0]):
        config = {"shift": shift, "prediction_type": "flow_prediction"}
        case("flow-euler", "FlowMatchEulerDiscreteScheduler", {"shift": shift}, n)
        case("flow-heun", "FlowMatchHeunDiscreteScheduler", {"shift": shift}, n)
        for schedule in ["karras", "exponential", "beta"]:
            if n > 1:
                case("flow-euler", "FlowMatchEulerDiscreteScheduler", {"shift": shift, f"use_{schedule}_sigmas": True}, n)
        lam = {"use_flow_sigmas": True, "flow_shift": shift, "prediction_type": "flow_prediction"}
        case("dpm++2m", "DPMSolverMultistepScheduler", lam, n)
        case("unipc", "UniPCMultistepScheduler", lam, n)
    case("flow-euler", "FlowMatchEulerDiscreteScheduler", {"shift": 2.0, "shift_terminal": 0.1}, 7)
    case("flow-euler", "FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}, 7)


FAMILIES = [first_order, dpmpp, dpmpp_variants, multistep, two_calls, distilled, flow]


def main():
    os.makedirs(OUT, exist_ok=True)
    for family in FAMILIES:
        if len(sys.argv) > 1 and family.__name__ not in sys.argv[1:]:
            continue
        LINES.clear()
        family()
        path = os.path.join(OUT, family.__name__ + ".jsonl.gz")
        with open(path, "wb") as f, gzip.GzipFile("", "wb", 9, f, mtime=0) as z:
            for line in LINES:
                z.write((json.dumps(line, separators=(",", ":")) + "\n").encode())
        print(family.__name__, len(LINES), "runs,", os.path.getsize(path), "bytes, diffusers", diffusers.__version__, flush=True)


if __name__ == "__main__":
    main()
