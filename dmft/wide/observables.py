"""The losses from the equal-time kernels (THEORY section 4.6)."""

from __future__ import annotations

import numpy as np

from dmft.losses.quadratic import test_loss_terms
from dmft.models.model import Model
from dmft.wide.sectors import BySector


def wide_observables(
    model: Model, train_loss: np.ndarray, target_overlap: np.ndarray, correlations: BySector
) -> dict[str, np.ndarray]:
    """Every observable from the equal-time kernels, equation 4.13.

    trace = C_r + C_c + C_q, overlap = b^2, and with E = alpha epsilon M' - beta beta^T
    tr E/D = alpha epsilon trace' - 1,
    |E|_F^2/D^2 = (alpha epsilon)^2 (C_q'^2 + C_c^2) - 2 alpha epsilon b'^2 + 1.
    Centred: trace' = trace - trace(0), and the spike part is that of d d^T - d(0) d(0)^T with d(0) = m0 beta.
    If the model's dim is set, what finite D changes in these formulas alone is included: the bulk fills D - 1 of the
    D directions, and its own |M'|_F^2/D^2 is (1 - 1/D)/D C_r^2, or (C_r - 1)^2 in place of C_r^2 if centred, as for a
    bulk that is a multiple of one.  That is exact at t = 0.

    Args:
        model: the model.
        train_loss: (T,).
        target_overlap: b, (T,).
        correlations: C_c, C_q (b b^T included) and C_r, (T, T) each.
    """
    c_c, c_q, c_r = (np.diagonal(correlation) for correlation in correlations)
    per_dim = 0.0 if model.dim is None else 1.0 / model.dim
    trace, overlap = (1 - per_dim) * c_r + c_c + c_q, target_overlap**2
    planted = overlap[0] if model.centered else 0.0
    spike = c_q**2 - 2 * planted * overlap + planted**2
    bulk = per_dim * (1 - per_dim) * (c_r - (1.0 if model.centered else 0.0)) ** 2
    strength = model.alpha * model.epsilon
    loss = test_loss_terms(
        model.alpha,
        strength * (trace - (trace[0] if model.centered else 0.0)) - 1,
        strength**2 * (spike + c_c**2 + bulk) - 2 * strength * (overlap - planted) + 1,
        c_c,
    )
    values = {"train_loss": train_loss, "trace": trace, "overlap": overlap, "mean_weight_norm": c_c}
    return values | loss._asdict()
