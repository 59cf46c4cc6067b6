"""The state at t = 0 (THEORY section 4): d = m0 beta, c = 0, and a bulk that is the initial weights.

Row 0 is solved like every other. What it has of its own is that its past is what stands there at the start.
"""

from __future__ import annotations

import numpy as np

from dmft.models.model import Model
from dmft.twotime.noise import Samples
from dmft.wide.state import Labels, State, empty_state


def labels(model: Model, overlap: float, samples: Samples) -> Labels:
    """y = u^2/2 + noise, and f(0) = (alpha epsilon/2)(overlap(0) u^2 + 1) if centred, else 0 (equations 1.2, 4.1)."""
    strength, dtype = model.alpha * model.epsilon * model.centered, samples.u.dtype
    target = 0.5 * samples.u**2 + model.label_noise * samples.label
    output = 0.5 * strength * (overlap * samples.u**2 + 1)
    return Labels(*(np.asarray(x, dtype) for x in (target, output, strength * overlap)))  # type: ignore[arg-type]


def first_state(model: Model, overlap: float, seed_overlap: float, samples: Samples, capacity: int) -> State:
    """Nothing solved yet but b(0) = m0, R_0(0) = 1, R_b0(0) = 1 and b_lin(0) = D^-1/2, in NumPy."""

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, samples.u.dtype)

    state = empty_state(samples, labels(model, overlap, samples), capacity, zeros)
    kernels, seeding = state.kernels, state.seeding
    kernels.target_overlap[0], kernels.response_initial[0] = np.sqrt(overlap), 1.0  # type: ignore[index]
    seeding.response_initial[0], seeding.linear_overlap[0] = 1.0, np.sqrt(seed_overlap)  # type: ignore[index]
    return state
