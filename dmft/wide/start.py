"""The state at t = 0 (THEORY sections 4 and 15): d = m0 beta, c = 0, and a bulk that is the initial weights.

Row 0 is solved like every other. What it has of its own is that its past is what stands there at the start.
"""

from __future__ import annotations

import numpy as np

from dmft.models.model import Model
from dmft.twotime.noise import Samples
from dmft.wide.state import Labels, Seeding, State, empty_state


def labels(model: Model, samples: Samples) -> Labels:
    """y = sum_k s_k u_k^2 / 2 + noise, f(0) = (alpha epsilon/2)(sum_k m_k^2 u_k^2 + 1) if centred (eqs 1.2, 4.1)."""
    dtype, gain = samples.u.dtype, model.alpha * model.epsilon * model.centered
    strengths, overlaps = (np.array(numbers, dtype) for numbers in (model.strengths, start_overlaps(model)))
    squares = np.asarray(samples.u) ** 2
    target = 0.5 * (strengths[:, None] * squares).sum(0) + model.label_noise * samples.label
    output = 0.5 * gain * ((overlaps[:, None] * squares).sum(0) + 1)
    slope = samples.u[0] * (strengths[0] + np.array(gain * overlaps[0], dtype))
    values = (target, output, slope)
    return Labels(*(np.asarray(x, dtype) for x in values))  # type: ignore[arg-type]


def seed_overlaps(model: Model) -> np.ndarray:
    """overlap(0) of a random initialisation, 1/D, of each direction; 0 if it is planted or D is infinite; (K,)."""
    planted = np.array(model.initial_overlaps) > 0
    return np.where(planted | (model.dim is None), 0.0, 1.0 / (model.dim or 1))


def start_overlaps(model: Model) -> np.ndarray:
    """overlap(0) = b(0)^2 of each direction: planted, or 1/D; (K,)."""
    return np.array(model.initial_overlaps) + seed_overlaps(model)


def kinds(model: Model) -> int:
    """G: directions that are alike share their kernels."""
    return 1 if model.alike else model.directions


def first_state(model: Model, samples: Samples, capacity: int) -> State:
    """Nothing solved yet but b(0) = m0, R_0(0) = 1, R_b0(0) = 1 and b_lin(0) = D^-1/2, in NumPy."""
    count = kinds(model)

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, samples.u.dtype)

    state = empty_state(samples, labels(model, samples), capacity, count, zeros)
    kernels = state.kernels
    kernels.target_overlap[0], kernels.response_initial[0] = np.sqrt(start_overlaps(model)[:count]), 1.0  # type: ignore[index]
    begin_seeding(model, state.seeding)
    return state


def begin_seeding(model: Model, seedings: tuple[Seeding, ...]) -> None:
    """Write row 0 of each direction in NumPy: R_b0 = 1, b_lin = D^-1/2."""
    for seeding, overlap in zip(seedings, seed_overlaps(model), strict=False):
        seeding.response_initial[0], seeding.linear_overlap[0] = 1.0, np.sqrt(overlap)  # type: ignore[index]
