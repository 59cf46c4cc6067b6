"""The losses from the equal-time kernels (THEORY section 4.6)."""

from __future__ import annotations

import numpy as np

from dmft.losses.quadratic import overlaps, test_loss_terms
from dmft.models.model import Model
from dmft.wide.sectors import BySector


def wide_observables(
    model: Model,
    train_loss: np.ndarray,
    target_overlap: np.ndarray,
    correlations: BySector,
    along: np.ndarray | float = 0.0,
) -> dict[str, np.ndarray]:
    """Every observable from the equal-time kernels: equations 4.13 and 15.5.

    Centred: trace' = trace - trace(0), and the spike part is that of d d^T - d(0) d(0)^T with d(0) = m0 beta.
    If the model's dim is set, what finite D changes in these formulas alone is included: the bulk fills D - K of the
    D directions, and its own |M'|_F^2/D^2 is (1 - K/D)/D C_r^2, or (C_r - 1)^2 in place of C_r^2 if centred, as for a
    bulk that is a multiple of one.  That is exact at t = 0.

    Args:
        model: the model.
        train_loss: (T,).
        target_overlap: b, (T, G).
        correlations: C_c, C_q (b b^T included; one for each kind of direction) and C_r, (T, T) each.
        along: (c . beta)^2/D^2, (T, G), of the overlap. In the losses it is one of many terms of order 1/D: left out.
    """
    count = model.directions
    c_c, c_r = np.diagonal(correlations.common), np.diagonal(correlations.bulk)
    c_q = of_each(np.diagonal(correlations.outlier, axis1=1, axis2=2), count)
    squares, strengths = of_each(target_overlap.T**2, count), np.array(model.strengths)[:, None]
    per_dim = 0.0 if model.dim is None else 1.0 / model.dim
    trace, planted = (1 - count * per_dim) * c_r + c_c + c_q.sum(0), squares[:, :1] if model.centered else 0.0
    spike = (c_q**2 - 2 * planted * squares + planted**2).sum(0)
    learnt = (strengths * (squares - planted)).sum(0)
    bulk = per_dim * (1 - count * per_dim) * (c_r - (1.0 if model.centered else 0.0)) ** 2
    gain = model.alpha * model.epsilon
    loss = test_loss_terms(
        model.alpha,
        gain * (trace - (trace[0] if model.centered else 0.0)) - strengths.sum(),
        gain**2 * (spike + c_c**2 + bulk) - 2 * gain * learnt + (strengths**2).sum(),
        c_c,
    )
    values = {"train_loss": train_loss, "trace": trace, "mean_weight_norm": c_c}
    values |= overlaps(model, of_each(target_overlap.T**2 + np.transpose(along), count))
    return values | loss._asdict()


def of_each(kinds: np.ndarray, directions: int) -> np.ndarray:
    """What directions that are alike share, for each of them; (K, ...)."""
    return np.broadcast_to(kinds, (directions, *kinds.shape[1:]))
