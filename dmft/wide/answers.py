"""How single samples answer, as matrices over time, in a given solution: for terms of order 1/D.

A sample whose fields are moved has d Delta = alpha [(1 + epsilon p) dp + epsilon q dq + (epsilon/2) dV], and its own
past forces answer: dp = H_c (dp_ext - k int R_c (1 + epsilon p) d Delta) and so on, H_c = (1 + e R_c Delta)^-1.
Together (1 + feedback) d Delta = alpha [(1 + epsilon p) H_c dp_ext + ...].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from dmft.models.model import Model
    from dmft.twotime.grid import Grid
    from dmft.wide.replica import Replica

#: Entries of the largest array that is worked on at a time.
BLOCK = 2**21


class Answers(NamedTuple):
    """Of n samples on T times; entry (s, t, t') is what the time t' does at t."""

    residual: np.ndarray  # Delta, (n, T, 1)
    feature: np.ndarray  # 1 + epsilon p, (n, T, 1)
    bath_common: np.ndarray  # H_c, (n, T, T)
    p_by_residual: np.ndarray  # -dp/dDelta, (n, T, T)
    response: np.ndarray  # G = H R_r, (n, T, T)
    seen: np.ndarray  # H C_r, (n, T, T)
    feedback: np.ndarray  # (n, T, T)


def columns(rows: np.ndarray) -> np.ndarray:
    """(n, T, 1) -> (n, 1, T), and (n, T, T) transposed."""
    return np.swapaxes(rows, 1, 2)


def blocks(grid: Grid, chosen: np.ndarray) -> list[np.ndarray]:
    """The chosen samples, so many at a time that arrays over pairs of times stay small."""
    return np.array_split(chosen, max(1, -(-len(chosen) * grid.size**2 // BLOCK)))


def answers(model: Model, grid: Grid, solution: Replica, chosen: np.ndarray) -> Answers:
    """The answers of the samples of these indices."""
    alpha, epsilon, h, one = model.alpha, model.epsilon, grid.weights, np.eye(grid.size)
    e, k = epsilon / (alpha * model.kappa), 1 / (alpha * model.kappa)
    response_common, response_outlier, response_bulk, correlation = solution.rule
    samples = solution.samples
    p, q, delta = (array[:, chosen].T[:, :, None] for array in (samples.p, samples.q, samples.residual))
    bath = np.linalg.inv(one + e * response_bulk * h * columns(delta))  # H
    bath_common = np.linalg.inv(one + e * response_common * h * columns(delta))
    response, seen = bath @ response_bulk, bath @ correlation
    pairs = response * (seen @ columns(bath))  # G B
    feature = 1 + epsilon * p
    # dp, dq and dV by dDelta: p = -k int R_c (1 + epsilon p) Delta, and so on
    by_p = bath_common @ (k * response_common * h * columns(feature))
    by_q = np.linalg.solve(one + e * response_outlier * h * columns(delta), e * response_outlier * h * columns(q))
    feedback = alpha * (feature * by_p + epsilon * q * by_q + epsilon * e * pairs * h)
    return Answers(delta, feature, bath_common, by_p, response, seen, feedback)
