"""How large a gradient-descent step may be, and the step taken when none is given."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

#: Default step x curvature, small enough for gradient descent to stand for gradient flow. Measured by halving the step
#: (D = 60 to 100, one draw, largest relative difference from the extrapolated flow over 40 times of the run):
#:     alpha  eps  kappa  other              train    test      (in %; the bias is proportional to the step)
#:     1      0.5  3                         0.16     0.15
#:     1      0.5  3      planted m0^2 = 0.1 0.07     0.15
#:     0.25   0.5  3                         0.5      0.16
#:     1      0.25 5.5    t = 60             0.16     0.15
#:     4      0.5  2      centred            0.19     0.06
#:     1      0.5  2      N = 3              0.17     0.07
#:     1      0    2                         0.14     0.11
#: The overlap lags most, by 0.5 % (1.2 % in the third line) while it grows; draws differ by tens of per cent then.
SAFETY = 0.05
#: Of the power iteration; its vector need not have converged for the eigenvalue to be good to a few per cent.
ITERATIONS = 100


def batch_curvature(curvature: Callable[[Any], float], replica: Any, batch_size: int | None) -> float:
    """Largest rate of the dynamics of a replica, of which `curvature` is a bound, on batches of B of its P samples.

    A batch stands for all samples: its kernel is that of its samples times P / B. The first B samples are taken as an
    example, and their bound is doubled for the batches that are steeper.
    """
    if batch_size is None:
        return curvature(replica)
    part = replica._replace(inputs=replica.inputs[:batch_size], labels=replica.labels[:batch_size])
    return 2.0 * replica.labels.size / batch_size * curvature(part)


def largest_eigenvalue(inputs: np.ndarray, features: np.ndarray) -> float:
    """lambda_max of (X X^T) o (G G^T) by power iteration; X is (P, D), G is (P, n)."""
    vector = np.random.default_rng(0).standard_normal(len(inputs))
    value = 0.0
    for _ in range(ITERATIONS):
        vector /= np.linalg.norm(vector)
        vector = sum(g * (inputs @ ((g * vector) @ inputs)) for g in features.T)
        value = float(np.linalg.norm(vector))
    return value


def default_step(curvature: float) -> float:
    """The largest step at which gradient descent follows gradient flow to a few tenths of a per cent of the losses."""
    return SAFETY / curvature


def stable_step(curvature: float) -> float:
    """Half the stability limit 2 / curvature, rounded down to two digits: a step to recommend."""
    return round_down(1.0 / curvature)


def round_down(value: float) -> float:
    """The largest two-digit decimal number <= value > 0."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.floor(value / unit) * unit:.2g}")
