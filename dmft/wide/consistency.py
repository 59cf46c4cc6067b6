"""The correlation kernels a second way: from their equations of motion (THEORY section 4.5).

The engine builds C from the noise (propagator form).  Equation 4.12 holds exactly and in the same multistep form on the
grid.  The two forms differ by sampling error alone.  What one step violates the equation by is therefore a control
variate: its mean is known to be zero, and it is strongly correlated with the errors of the curves (`regress_out`).
"""

from __future__ import annotations

import numpy as np

from dmft.models.model import Model
from dmft.twotime.grid import Grid
from dmft.twotime.steps import next_row
from dmft.wide.sectors import BySector
from dmft.wide.state import State


def forces(model: Model, grid: Grid, state: State) -> BySector:
    """(1/alpha) E[g p], (epsilon/alpha) E[q Delta q] and (epsilon/alpha) E[Delta B] of equation 4.12, (T, T) each.

    Their first time is that of the force. Of the outlier there is one for each kind of direction, (G, T, T).
    """
    size, strength = grid.size, model.epsilon / model.alpha
    weight = np.asarray(state.samples.weight, np.float64)
    p, q, g, outlier = (
        np.asarray(array, np.float64)[:size]
        for array in (state.fields.p, state.fields.q, state.fields.force_common, state.fields.force_outlier)
    )
    bulk = np.asarray(state.kernels.force_correlation, np.float64)[:size, :size]
    kinds = range(len(state.seeding))
    each = np.stack([strength * (outlier[:, k] * weight) @ q[:, k].T for k in kinds])
    return BySector((g * weight) @ p.T / model.alpha, each, strength * bulk)


def seeding_source(grid: Grid, state: State) -> np.ndarray:
    """source(n) b(m), (G, T, T): what the seeding of a random initialisation adds to C_q(n, m) in row n; else 0."""
    b = np.asarray(state.kernels.target_overlap, np.float64)[: grid.size].T
    sources = [np.asarray(seeding.source, np.float64)[: grid.size] for seeding in state.seeding]
    return np.stack([np.outer(source, own) for source, own in zip(sources, b, strict=True)])


def violation(
    grid: Grid, weight_decay: float, force: np.ndarray, correlation: np.ndarray, source: np.ndarray
) -> np.ndarray:
    """What the propagator form of C(n, n) differs by from a step of its equation of motion, shape (T,).

    Args:
        force: (T, T), see `forces`.
        correlation: (T, T), propagator form.
        source: (T, T), added in row n beside the force (see `seeding_source`).
    """
    result = np.zeros(grid.size)
    for n in range(1, grid.size):
        stepped = next_row(grid, correlation[:, n], n, force[:, n], weight_decay, source[n, n])
        result[n] = correlation[n, n] - stepped
    return result


def target_overlap_violation(model: Model, grid: Grid, state: State) -> np.ndarray:
    """What b(n) of the first direction would change by if E[q Delta u] were E[d(q Delta)/du] (Stein), (T,)."""
    weight, u = np.asarray(state.samples.weight, np.float64), np.asarray(state.samples.u[0], np.float64)
    force, slope = (
        np.asarray(array, np.float64)[: grid.size]
        for array in (state.fields.force_outlier[:, 0], state.fields.target_outlier)
    )
    mismatch = model.epsilon / model.alpha * (slope @ weight - force @ (weight * u))
    result = np.zeros(grid.size)
    for n in range(1, grid.size):
        result[n] = next_row(grid, result, n, mismatch, model.weight_decay)
    return result


def differential_correlations(
    model: Model, overlaps: np.ndarray, grid: Grid, force: BySector, source: np.ndarray
) -> BySector:
    """C_c, C_q (b b^T included; (G, T, T)) and C_r, each (T, T), integrated from their equations of motion.

    Args:
        overlaps: overlap(0) of each direction, (K,).
        force, source: see `forces` and `seeding_source`.
    """
    none, own = np.zeros_like(source[0]), zip(force.outlier, overlaps, source, strict=False)
    return BySector(
        integrate(grid, model.weight_decay, force.common, 0.0, none),
        np.stack([integrate(grid, model.weight_decay, *one) for one in own]),
        integrate(grid, model.weight_decay, force.bulk, 1.0, none),
    )


def integrate(grid: Grid, weight_decay: float, force: np.ndarray, start: float, source: np.ndarray) -> np.ndarray:
    """Equation 4.12, d_t C(t,s) = -force(t,s) - weight_decay C(t,s), for a symmetric C with C(0,0) = start; (T, T).

    Args:
        force: (T, T), force[n, m] the expectation at first time n and second time m, needed for m <= n
            (explicit steps: m <= n + 1).
        source: (T, T), added in row n as it stands.
    """
    correlation = np.zeros((grid.size, grid.size))
    correlation[0, 0] = start
    for n in range(1, grid.size):
        row = next_row(grid, correlation, n, force, weight_decay, source[n])
        correlation[n, :n] = correlation[:n, n] = row[:n]
        correlation[n, n] = next_row(grid, correlation[:, n], n, force[:, n], weight_decay, source[n, n])
    return correlation


def regress_out(values: np.ndarray, controls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over replicas of `values` at zero `controls`, and its standard error, by least squares at each time.

    The controls have zero mean, so this is the usual control-variate estimate of the mean, with coefficients fitted
    on the replicas themselves.  With fewer than MIN_FOR_CONTROLS replicas it is the plain mean.  A control that is more
    than OFF standard errors off zero is not used at that time: it is but what the inner iteration left.

    Args:
        values: (R, T).
        controls: (R, T, C).

    Returns:
        Mean and standard error, each (T,).
    """
    count, center = len(values), controls.mean(axis=0)
    scale = controls.std(axis=0, ddof=1)
    used = (count >= MIN_FOR_CONTROLS) & (scale > 0) & (np.abs(center) <= OFF * scale / np.sqrt(count))
    scale = np.where(used, scale, 1.0)
    # about their own mean, so that a control that hardly scatters is not taken for a constant
    scaled = np.where(used, (controls - center) / scale, 0.0)
    design = np.concatenate([np.ones((count, values.shape[1], 1)), scaled], axis=-1).transpose(1, 0, 2)
    inverse = np.linalg.pinv(design, rcond=1e-6)  # (T, 1 + C, R)
    coefficients = np.einsum("tcr,rt->tc", inverse, values)
    rest = values.T - np.einsum("trc,tc->tr", design, coefficients)
    at_zero = np.concatenate([np.ones((len(center), 1)), np.where(used, -center / scale, 0.0)], axis=-1)
    weights = np.einsum("tc,tcr->tr", at_zero, inverse)
    freedom = count - np.linalg.matrix_rank(design, rtol=1e-6)
    variance = np.sum(rest**2, axis=1) / freedom * np.sum(weights**2, axis=1)
    return np.einsum("tr,rt->t", weights, values), np.sqrt(variance)


#: Replicas needed before the three control variates are worth their degrees of freedom.
MIN_FOR_CONTROLS = 8
#: Standard errors of its mean that a control may be off zero: of 8 replicas, one in 5000 is by chance.
OFF = 7.0
