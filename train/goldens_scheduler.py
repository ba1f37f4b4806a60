"""Makes scheduler/testdata/*.jsonl.gz: trajectories of diffusers' schedulers on a toy denoiser.

Run: python train/goldens_scheduler.py [family...]     (needs diffusers, torch, torchsde, k-diffusion, numpy, scipy)

Each line of a file is one run: the sampler's name in this program, its options, the model's
scheduler_config.json, the number of steps, the number of noise draws, and x after some of the steps
(float32, little endian, base64). The toy denoiser and the stream of "noise" are written once here and once in
scheduler/golden_test.go, in operations which IEEE 754 rounds alike in both languages, so that only the
samplers can differ.
"""

import base64, gzip, importlib.util, itertools, json, os, sys, types, warnings

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


def kdiffusion_sampling():
    """k-diffusion's samplers without the rest of that package, which wants much that they do not use."""
    path = next(p for p in (os.path.join(d, "k_diffusion") for d in sys.path) if os.path.isdir(p))
    package, utils = types.ModuleType("kd"), types.ModuleType("kd.utils")
    package.__path__ = []
    utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]
    package.utils = utils
    ode = types.ModuleType("torchdiffeq")
    ode.odeint = None  # for log-likelihoods only
    sys.modules.update({"kd": package, "kd.utils": utils, "torchdiffeq": ode})
    spec = importlib.util.spec_from_file_location("kd.sampling", os.path.join(path, "sampling.py"))
    sampling = importlib.util.module_from_spec(spec)
    sys.modules["kd.sampling"] = sampling
    spec.loader.exec_module(sampling)
    return sampling


class Exploding:
    """The toy as a k-diffusion model on the levels of SD: (x, sigma) -> the picture."""

    def __init__(self, steps, karras=False, zero=False):
        self.scheduler = diffusers.EulerDiscreteScheduler(**SD, use_karras_sigmas=karras)
        self.scheduler.set_timesteps(steps)
        ac = self.scheduler.alphas_cumprod.numpy()
        self.trained = ((1 - ac) / ac) ** 0.5
        self.log_sigmas = np.log(self.trained)
        self.sigmas, self.calls = self.scheduler.sigmas, 0

    def list(self):
        """The levels by hand, so that no schedule's rounding of timesteps comes in."""
        return ",".join(repr(float(s)) for s in self.sigmas[:-1])

    def __call__(self, x, sigma, **kwargs):
        self.calls += 1
        s = f32(float(sigma.reshape(-1)[0]))
        t = f32(self.scheduler._sigma_to_t(np.float64(s), self.log_sigmas))
        return x - torch.tensor(s) * toy(x / torch.tensor(np.sqrt(s * s + f32(1))), t)


def k_diffusion():
    """k-diffusion's samplers, for those that diffusers has not, or has with a difference."""
    K = kdiffusion_sampling()

    def record(name, steps, sample, options=None, karras=True, final=False, vp=False):
        model, stream, rows = Exploding(steps, karras), Stream(), []
        K.torch.randn_like = stream
        top = model.sigmas[0] if karras else torch.tensor(model.trained[-1])
        x = stream() * (top**2 + 1) ** 0.5 if vp else stream() * top
        draws = stream.draws
        callback = lambda info: rows.append(info["x"].numpy().reshape(N).astype(f32))
        result = sample(model, x, callback, lambda *a: stream())
        rows = rows[1:] + [result.numpy().reshape(N).astype(f32)]
        rows = np.array(rows)
        config = {**SD, "prediction_type": "epsilon", **({"lower_order_final": False} if vp else {})}
        # Draws of which 0 is added: diffusers' euler-a makes one for the last step, k-diffusion's dpm-fast without eta.
        draws = -1 if name == "euler-a" or options == {"eta": 0.0} else stream.draws - draws
        LINES.append({
            "name": name, "options": {**(options or {}), "sigmas": model.list() if karras else ""}, "config": config, "steps": steps, "rows": len(rows),
            "draws": draws, "final": final, "calls": model.calls,
            "x": base64.b64encode(np.ascontiguousarray(rows[kept(len(rows))], dtype="<f4").tobytes()).decode(),
        })

    for n in [2, 3, 7, 20]:
        for eta in [1.0, 0.5]:
            for name, f in [("euler-a", K.sample_euler_ancestral), ("dpm2-a", K.sample_dpm_2_ancestral),
                            ("dpm++2s-a", K.sample_dpmpp_2s_ancestral), ("dpm++sde", K.sample_dpmpp_sde)]:
                record(name, n, lambda m, x, cb, ns: f(m, x, m.sigmas, callback=cb, disable=True, eta=eta, noise_sampler=ns), {"eta": eta})
        # These run at alpha = 1 there and variance preserving here, which meet at the end only.
        for solver in ["midpoint", "heun"]:
            record("dpm++2m-sde", n, lambda m, x, cb, ns: K.sample_dpmpp_2m_sde(m, x, m.sigmas, callback=cb, disable=True, eta=0.5, noise_sampler=ns, solver_type=solver),
                   {"eta": 0.5, "variant": solver}, final=True, vp=True)
        record("dpm++3m-sde", n, lambda m, x, cb, ns: K.sample_dpmpp_3m_sde(m, x, m.sigmas, callback=cb, disable=True, noise_sampler=ns), {"variant": "heun"}, final=True, vp=True)
        record("euler", n, lambda m, x, cb, ns: K.sample_euler(m, x, m.sigmas, callback=cb, disable=True, s_churn=2.0), {"churn": 2.0}, final=True)  # the callback sees x with the noise of the next step
        record("heun", n, lambda m, x, cb, ns: K.sample_heun(m, x, m.sigmas, callback=cb, disable=True, s_churn=2.0), {"churn": 2.0}, final=True)  # the callback sees x with the noise of the next step
        record("lms", n, lambda m, x, cb, ns: K.sample_lms(m, x, m.sigmas, callback=cb, disable=True))
    for n in [1, 2, 3, 4, 5, 6, 7, 20]:
        for eta in [0.0, 0.6]:
            record("dpm-fast", n, lambda m, x, cb, ns: K.sample_dpm_fast(m, x, float(m.trained[0]), float(m.trained[-1]), n, callback=cb, disable=True, eta=eta, noise_sampler=ns),
                   {"eta": eta}, karras=False)
    for order, eta in itertools.product([2, 3], [0.0, 0.6]):
        record("dpm-adaptive", 0 or 1, lambda m, x, cb, ns: K.sample_dpm_adaptive(m, x, float(m.trained[0]), float(m.trained[-1]), order=order, disable=True, eta=eta, noise_sampler=ns),
               {"order": order, "eta": eta}, karras=False, final=True)


def papers():
    """Samplers that neither has: written here from the papers, apart from the program's own code, in float64."""

    def record(name, steps, step, options=None, karras=True, vp=False):
        model, stream = Exploding(steps, karras), Stream()
        sigmas = [float(s) for s in model.sigmas]
        x = stream().numpy().reshape(N).astype(np.float64) * (sigmas[0] ** 2 + vp) ** 0.5
        draws = stream.draws

        def denoise(x, s):
            return model(torch.tensor(x.astype(f32)).reshape(1, N, 1, 1), torch.tensor([s])).numpy().reshape(N).astype(np.float64)

        noise = lambda: stream().numpy().reshape(N).astype(np.float64)
        rows, memory = [], {}
        for i in range(steps):
            x = step(x, i, sigmas, denoise, noise, memory)
            rows.append(x.astype(f32))
        rows = np.array(rows)
        LINES.append({
            "name": name, "options": {**(options or {}), "sigmas": model.list() if karras else ""}, "config": {**SD, "prediction_type": "epsilon"}, "steps": steps, "rows": len(rows),
            "draws": stream.draws - draws, "calls": model.calls,
            "x": base64.b64encode(np.ascontiguousarray(rows[kept(len(rows))], dtype="<f4").tobytes()).decode(),
        })

    def ipndm(order):
        """Zhang and Chen 2023, section 3.2: Adams-Bashforth weights of equal steps."""
        weights = {1: [1], 2: [3 / 2, -1 / 2], 3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}

        def step(x, i, s, denoise, noise, memory):
            past = memory.setdefault("past", [])
            past.insert(0, (x - denoise(x, s[i])) / s[i])
            del past[order:]
            return x + (s[i + 1] - s[i]) * sum(w * d for w, d in zip(weights[len(past)], past))
        return step

    def res(eta):
        """Zhang et al. 2023: exponential multistep of order 2, as phi functions."""
        def step(x, i, s, denoise, noise, memory):
            x0 = denoise(x, s[i])
            up = min(s[i + 1], eta * (s[i + 1] ** 2 * (s[i] ** 2 - s[i + 1] ** 2) / s[i] ** 2) ** 0.5)
            down = (s[i + 1] ** 2 - up**2) ** 0.5
            if "x0" not in memory or down == 0:
                y = x + (down - s[i]) * (x - x0) / s[i]
            else:
                t, t_next, t_old, t_prev = -np.log(s[i]), -np.log(down), -np.log(memory["down"]), -np.log(s[i - 1])
                h = t_next - t
                c2 = (t_prev - t_old) / h
                phi1 = np.expm1(-h) / -h
                phi2 = (phi1 - 1) / -h
                y = np.exp(-h) * x + h * ((phi1 - phi2 / c2) * x0 + phi2 / c2 * memory["x0"])
            if eta and s[i + 1] > 0:
                y = y + up * noise()
            memory.update(x0=x0, down=down)
            return y
        return step

    def gradient_estimation(x, i, s, denoise, noise, memory):
        """Permenter and Yuan 2024, algorithm 2, gamma = 2."""
        d = (x - denoise(x, s[i])) / s[i]
        mean = 2 * d - memory["d"] if "d" in memory and s[i + 1] > 0 else d
        memory["d"] = d
        return x + (s[i + 1] - s[i]) * mean

    for n in [1, 2, 3, 4, 7, 20]:
        for order in [1, 2, 3, 4]:
            record("ipndm", n, ipndm(order), {"order": order}, karras=n > 1)
        record("res-multistep", n, res(0), karras=n > 1)
        record("res-multistep", n, res(0.5), {"eta": 0.5}, karras=n > 1)
        record("gradient-estimation", n, gradient_estimation, karras=n > 1)

    def er_sde(order):
        """Cui et al. 2023, VP ER-SDE-Solver with the noise scale x (exp(x^0.3) + 10), at alpha = 1; integrals of 200 points."""
        phi = lambda u: u * (np.exp(u**0.3) + 10)

        def step(x, i, s, denoise, noise, memory):
            x0 = denoise(x, s[i])
            a, b = s[i], s[i + 1]
            if b == 0:
                return x0
            past = memory.setdefault("x0", [])
            past.insert(0, x0)
            r = phi(b) / phi(a)
            y = r * x + (1 - r) * x0
            v = b + np.arange(200) * (a - b) / 200
            if min(order, len(past)) >= 2:
                d1 = (past[0] - past[1]) / (a - s[i - 1])
                y = y + (b - a + phi(b) * np.sum(1 / phi(v)) * (a - b) / 200) * d1
                if min(order, len(past)) >= 3:
                    d2 = (d1 - memory["d1"]) / ((a - s[i - 2]) / 2)
                    y = y + ((b - a) ** 2 / 2 + phi(b) * np.sum((v - a) / phi(v)) * (a - b) / 200) * d2
                memory["d1"] = d1
            return y + np.sqrt(b * b - a * a * r * r) * noise()
        return step

    def er_sde_vp(name, n, order):
        """er-sde runs variance preserving in the program: the same levels, scaled."""
        before = len(LINES)
        record(name, n, er_sde(order), {"order": order}, vp=True)
        LINES[before]["final"] = True

    for n in [2, 3, 4, 7, 20]:
        for order in [1, 2, 3]:
            er_sde_vp("er-sde", n, order)

    def euler_cfg_pp(x, i, s, denoise, noise, memory):
        """Chung et al. 2024: x0 guided, noise unguided. The test's unguided noise is eps/2."""
        x0 = denoise(x, s[i])
        return x0 + s[i + 1] * ((x - x0) / s[i] / 2)

    def dpmpp_2m_cfg_pp(x, i, s, denoise, noise, memory):
        x0 = denoise(x, s[i])
        u0 = x - s[i] * ((x - x0) / s[i] / 2)
        if s[i + 1] == 0:
            return x0
        h = np.log(s[i] / s[i + 1])
        y = x0 - np.exp(-h) * u0 + np.exp(-h) * x
        if "u0" in memory:
            r = np.log(s[i - 1] / s[i]) / h
            y = y - np.expm1(-h) / (2 * r) * (x0 - memory["u0"])
        memory["u0"] = u0
        return y

    for n in [1, 2, 3, 7, 20]:
        record("euler-cfg++", n, euler_cfg_pp, karras=n > 1)
        record("dpm++2m-cfg++", n, dpmpp_2m_cfg_pp, karras=n > 1)


def image_to_image():
    """Runs that start in the middle of a schedule, from a noised picture, as diffusers' img2img pipelines do."""
    picture = torch.tensor(np.array([0.5, -0.25, 1.0], dtype=f32)).reshape(1, N, 1, 1)
    for name, cls, extra in [
        ("ddim", "DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}), ("ddpm", "DDPMScheduler", {"clip_sample": False}),
        ("euler", "EulerDiscreteScheduler", {}), ("euler-a", "EulerAncestralDiscreteScheduler", {}), ("heun", "HeunDiscreteScheduler", {}),
        ("dpm2", "KDPM2DiscreteScheduler", {}), ("dpm2-a", "KDPM2AncestralDiscreteScheduler", {}), ("dpm++2m", "DPMSolverMultistepScheduler", {}),
        ("dpm++2m-sde", "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}), ("dpm++2s", "DPMSolverSinglestepScheduler", {}),
        ("deis", "DEISMultistepScheduler", {}), ("unipc", "UniPCMultistepScheduler", {}), ("sa-solver", "SASolverScheduler", {}),
    ]:
        for steps, strength in itertools.product([7, 20], [0.25, 0.6, 0.95]):
            config = {**SD, **extra}
            stream, scheduler = Stream(), getattr(diffusers, cls)(**config)
            module(scheduler).randn_tensor = stream
            scheduler.set_timesteps(num_inference_steps=steps)
            start = steps - min(int(steps * strength), steps)
            first = start * scheduler.order
            # The index of the first call of the step: a step but the first two levels has two entries with order 2.
            if scheduler.order == 2:
                first = 2 * start
            timesteps = scheduler.timesteps[first:]
            if hasattr(scheduler, "set_begin_index"):
                scheduler.set_begin_index(first)
            noise = stream()
            x, rows = scheduler.add_noise(picture, noise, timesteps[:1]), []
            for i, t in enumerate(timesteps):
                x = scheduler.step(toy(scheduler.scale_model_input(x, t), t), t, x).prev_sample
                if getattr(scheduler, "state_in_first_order", True) or i == len(timesteps) - 1:
                    rows.append(x.numpy().reshape(N).astype(f32))
            rows = np.array(rows)
            LINES.append({
                "name": name, "options": {"strength": strength}, "config": {"_class_name": cls, **config}, "steps": steps, "rows": len(rows),
                "draws": stream.draws - 1, "x": base64.b64encode(np.ascontiguousarray(rows[kept(len(rows))], dtype="<f4").tobytes()).decode(),
            })


def schedules():
    """Sigma schedules by k-diffusion's functions, and by ComfyUI's definitions written again here."""
    K = kdiffusion_sampling()
    scheduler = diffusers.EulerDiscreteScheduler(**SD)
    ac = scheduler.alphas_cumprod.numpy().astype(np.float64)
    trained = ((1 - ac) / ac) ** 0.5
    low, high = trained[0], trained[-1]
    at = lambda t: np.exp(np.interp(t, np.arange(1000), np.log(trained)))
    sd15 = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029]
    sdxl = [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029]

    def interpolated(table, n):  # as NVIDIA's page on align-your-steps has it
        new = np.interp(np.linspace(0, 1, n + 1), np.linspace(0, 1, len(table)), np.log(table[::-1]))
        return np.exp(new)[::-1][:n]

    out = []
    for n in [2, 3, 4, 7, 10, 20, 50]:
        for name, sigmas in [
            ("karras", K.get_sigmas_karras(n, low, high)[:n]), ("karras:5", K.get_sigmas_karras(n, low, high, 5)[:n]),
            ("exponential", K.get_sigmas_exponential(n, low, high)[:n]), ("polyexponential:2", K.get_sigmas_polyexponential(n, low, high, 2)[:n]),
            ("kl-optimal", np.tan(np.arange(n) / (n - 1) * np.arctan(low) + (1 - np.arange(n) / (n - 1)) * np.arctan(high))),
            ("normal", at(np.linspace(999, 0, n))), ("sgm-uniform", at(np.linspace(999, 0, n + 1))[:n]),
            ("simple", np.array([trained[-(1 + int(i * (1000 / n)))] for i in range(n)])),
            ("ddim-uniform", np.array([trained[1 + i * (1000 // n)] for i in reversed(range(n))])),
            *[(f"{name}-discard", sigmas(n + 1)[:n]) for name, sigmas in [  # sigmas and 0 without the last but one
                ("karras", lambda m: K.get_sigmas_karras(m, low, high)), ("exponential", lambda m: K.get_sigmas_exponential(m, low, high)),
                ("normal", lambda m: at(np.linspace(999, 0, m)))]],
            ("ays", interpolated(sd15, n)), ("align-your-steps-xl", interpolated(sdxl, n)),
        ]:
            out.append({"name": name, "sigmas": [float(s) for s in sigmas]})
    path = os.path.join(OUT, "sigmas.json.gz")
    with open(path, "wb") as f, gzip.GzipFile("", "wb", 9, f, mtime=0) as z:
        z.write(json.dumps(out, separators=(",", ":")).encode())


def configs():
    """The scheduler_config.json that each class of diffusers writes by default."""
    out = {}
    for name in sorted(n for n in dir(diffusers) if n.endswith("Scheduler")):
        try:
            out[name] = getattr(diffusers, name)().to_json_string()  # as text: it may have -Infinity
        except Exception:  # a class without defaults, or not for PyTorch
            continue
    with open(os.path.join(OUT, "configs.json.gz"), "wb") as f, gzip.GzipFile("", "wb", 9, f, mtime=0) as z:
        z.write(json.dumps(out, separators=(",", ":")).encode())
    print(len(out), "classes")


def brownian():
    """torchsde's Brownian intervals as k-diffusion uses them, with every normal number that they draw."""
    import torchsde._brownian.brownian_interval as bi

    K, goldens, randn = kdiffusion_sampling(), [], bi._randn
    for seed, low, high in [(0, 0.0291675, 14.614647), (12345, 0.0291675, 14.614647), (2**40 + 7, 0.002, 80.0)]:
        drawn = {}

        def recorded(size, dtype, device, seed):
            z = randn(size, dtype, device, seed)
            drawn[int(seed)] = z.tolist()
            return z

        bi._randn = recorded
        sampler = K.BrownianTreeNoiseSampler(torch.zeros(3), torch.tensor(low), torch.tensor(high), seed=seed)
        levels = [f32(s) for s in [high, high * 0.7, high / 2, 1.25, 0.5, 0.1, low]]
        queries = []
        for a, b in [*zip(levels, levels[1:]), (levels[0], levels[3]), (levels[5], levels[2])]:
            w = sampler(torch.tensor(a), torch.tensor(b))
            queries.append({"from": float(a), "to": float(b), "w": w.tolist()})
        goldens.append({"seed": seed, "low": float(f32(low)), "high": float(f32(high)), "normals": drawn, "queries": queries})
    bi._randn = randn
    path = os.path.join(OUT, "brownian.json.gz")
    with open(path, "wb") as f, gzip.GzipFile("", "wb", 9, f, mtime=0) as z:
        z.write(json.dumps(goldens, separators=(",", ":")).encode())


FAMILIES = [first_order, dpmpp, dpmpp_variants, multistep, two_calls, distilled, flow, k_diffusion, papers, image_to_image, schedules, configs, brownian]


def main():
    os.makedirs(OUT, exist_ok=True)
    for family in FAMILIES:
        if len(sys.argv) > 1 and family.__name__ not in sys.argv[1:]:
            continue
        LINES.clear()
        family()
        if not LINES:
            continue  # it wrote its own file
        path = os.path.join(OUT, family.__name__ + ".jsonl.gz")
        with open(path, "wb") as f, gzip.GzipFile("", "wb", 9, f, mtime=0) as z:
            for line in LINES:
                z.write((json.dumps(line, separators=(",", ":")) + "\n").encode())
        print(family.__name__, len(LINES), "runs,", os.path.getsize(path), "bytes, diffusers", diffusers.__version__, flush=True)


if __name__ == "__main__":
    main()
