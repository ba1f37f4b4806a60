#!/usr/bin/env python3
"""Writes polynomials.h: nearly minimax polynomials for vec.h, by Lawson's reweighted least squares.

    python3 polynomials.py > polynomials.h     (needs numpy and mpmath)
"""
import numpy as np
from mpmath import erf, erfc, log, mp, mpf
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


def show(comment, name, coefficients, error):
    print(f"\n// {comment}: error {error:.1e} before rounding.")
    for i, c in enumerate(coefficients):
        print(f"#define {name}_{i} {np.float32(c):#.9g}f")


mp.dps = 30
print("// Coefficients for vec.h, lowest power first. Written by polynomials.py.")
show("2^r for |r| <= 1/2, relative; for the softmax", "EXP2", *fit(lambda r: mpf(2) ** r, -0.5, 0.5, 5, lambda r: mpf(2) ** -r))
show("2^r for |r| <= 1/2, relative; for activations", "EXP", *fit(lambda r: mpf(2) ** r, -0.5, 0.5, 6, lambda r: mpf(2) ** -r))
show("erf(sqrt(s)) / sqrt(s) for s <= 1", "ERF", *fit(lambda s: erf(mp.sqrt(s)) / mp.sqrt(s), 0, 1, 6, lambda s: 1))
show("ln erfc(t) for 0.95 <= t <= 4, weighted by erfc", "ERFC", *fit(lambda t: log(erfc(t)), 0.95, 4, 7, lambda t: erfc(t)))
