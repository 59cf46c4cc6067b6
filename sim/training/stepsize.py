"""How fast the training dynamics are: how large a step of gradient descent may be, how dense its curves are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sim.training.system import System

#: Rate x time between two reported times of gradient flow, where they are dense.
RESOLVED = 0.05
#: The smallest relative error of the losses that can be asked of gradient flow.
FINEST_RTOL = {"float64": 1e-9, "float32": 1e-4}
#: And the largest.
COARSEST_RTOL = 0.1
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


def initial_rate(system: System, seed: int) -> float:
    """The largest rate of the first replica: the system's own bound, or the spectral radius at the start."""
    if system.curvature is not None:
        return system.curvature(seed, 0, None)
    import jax

    from dmft.checks import precision_context
    from sim.training.flow import make_velocity, shaken, spectral_radius

    with precision_context("float64"):
        state, data = jax.tree.map(jax.numpy.asarray, system.draw(seed, 0))
        data = system.equations.prepare(state, data)
        velocity = make_velocity(system.equations, data, jax.numpy.asarray(system.decay))
        return float(spectral_radius(velocity, state, shaken(velocity(state)))[0])


def expected_evaluations(rate: float, t_max: float, rtol: float) -> int:
    """About how many evaluations gradient flow takes; measured at rtol 1e-3 to 1e-2, rate t_max from 100 to 3 10^4."""
    return round(60.0 + 12.0 * math.sqrt(rate * t_max) * (1e-3 / rtol) ** 0.3)


def output_spacing(rate: float, t_max: float) -> float:
    """A part of t_max between whose multiples linear interpolation errs by 0.03 %: RESOLVED / rate."""
    return t_max / max(1, math.ceil(t_max * rate / RESOLVED)) if math.isfinite(rate) else t_max


def stable_step(curvature: float) -> float:
    """Half the stability limit 2 / curvature, rounded down to two digits: a step to recommend."""
    return round_down(1.0 / curvature)


def round_down(value: float) -> float:
    """The largest two-digit decimal number <= value > 0."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.floor(value / unit) * unit:.2g}")
