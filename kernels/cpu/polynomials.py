#!/usr/bin/env python3
"""Writes polynomials.h: nearly minimax approximations for vec.h, by Lawson's reweighted least squares.

    python3 polynomials.py > polynomials.h     (needs numpy and mpmath)
"""
import numpy as np
from mpmath import erf, erfc, log, mp, mpf, sqrt
from numpy.polynomial import Polynomial, chebyshev


def fit(f, lo, hi, degree, weight, nodes=4000, rounds=60):
    """Coefficients of the polynomial with the least max |p - f| * weight, and that maximum."""
    x = np.cos(np.pi * (np.arange(nodes) + 0.5) / nodes)
    t = (x + 1) / 2 * (hi - lo) + lo
    y, w = np.array([float(f(mpf(v))) for v in t]), np.array([float(weight(mpf(v))) for v in t])
    basis, lawson = chebyshev.chebvander(x, degree), np.ones(nodes) / nodes
    for _ in range(rounds):
        scale = np.sqrt(lawson) * w
        c = np.linalg.lstsq(basis * scale[:, None], y * scale, rcond=None)[0]
        error = np.abs((basis @ c - y) * w)
        lawson *= error
        lawson /= lawson.sum()
    return chebyshev.Chebyshev(c, domain=[lo, hi]).convert(kind=Polynomial).coef, error.max()


def ratio(f, hi, degree, nodes=4000, rounds=200):
    """P and Q of one degree, Q(0) = 1, with the least max |P/Q - f| * min(sqrt(s), 1) for s <= hi."""
    t = (np.cos(np.pi * (np.arange(nodes) + 0.5) / nodes) + 1) / 2 * np.sqrt(hi)
    y, w = np.array([float(f(mpf(v) ** 2)) for v in t]), np.minimum(t, 1)
    powers = np.vander(t * t / hi, degree + 1, increasing=True)
    matrix = np.concatenate([powers, -y[:, None] * powers[:, 1:]], axis=1)  # P - f (Q - 1) = f
    lawson, below, best = np.ones(nodes) / nodes, np.ones(nodes), (np.inf,)
    for _ in range(rounds):
        scale = np.sqrt(lawson) * w / below  # divided by the last Q: P/Q - f instead of P - f Q
        c = np.linalg.lstsq(matrix * scale[:, None], y * scale, rcond=1e-16)[0]
        p, q = c[: degree + 1], np.concatenate([[1], c[degree + 1 :]])
        below = powers @ q
        error = np.abs(powers @ p / below - y) * w
        if error.max() < best[0]:
            best = error.max(), p / hi ** np.arange(degree + 1), q / hi ** np.arange(degree + 1)
        lawson *= np.sqrt(error + 1e-300)
        lawson /= lawson.sum()
    return best[1], best[2], best[0]


def show(comment, name, coefficients, error):
    print(f"\n// {comment}: error {error:.1e} before rounding.")
    for i, c in enumerate(coefficients):
        print(f"#define {name}_{i} {np.float32(c):#.9g}f")


mp.dps = 30
print("// Coefficients for vec.h, lowest power first. Written by polynomials.py.")
show("2^r for |r| <= 1/2, relative; for the softmax", "EXP2", *fit(lambda r: mpf(2) ** r, -0.5, 0.5, 5, lambda r: mpf(2) ** -r))
show("2^r for |r| <= 1/2, relative; for activations", "EXP", *fit(lambda r: mpf(2) ** r, -0.5, 0.5, 6, lambda r: mpf(2) ** -r))
p, q, error = ratio(lambda s: erf(mp.sqrt(s)) / mp.sqrt(s), 3.8**2, 5)
show("erf(t) = t P(t^2) / Q(t^2) for t <= 3.8, absolute; P", "ERF_P", p, error)
show("and Q", "ERF_Q", q, error)
# 1 + r Q(r): 1 exactly at 0, so that a maximum that stays rescales nothing.
c, error = fit(lambda r: (mpf(2) ** r - 1) / r, 0, 1, 2, lambda r: r * mpf(2) ** -r)
show("2^r for 0 <= r < 1, relative, 1 at 0; for the softmax in bfloat16", "EXP2_HALF", np.concatenate([[1], c]), error)
# Relative to what is subtracted from x.
show("log2 of the normal distribution at -t for t <= 5.5, absolute; for GELU in bfloat16", "LOG2_PHI", *fit(lambda t: log(erfc(t / sqrt(mpf(2))) / 2) / log(mpf(2)), 0, 5.5, 5, lambda t: 1))
