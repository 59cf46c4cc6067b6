"""The correlation kernels a second way: from their equations of motion (THEORY section 4, "Kernels").

The engine builds C from the noise (propagator form).  The exact identities
d_t C_c(t,s) = -(1/alpha) E[g(t) p(s)],  d_t C_q(t,s) = -(epsilon/alpha) E[q Delta(t) q(s)],
d_t C_r(t,s) = -(epsilon/alpha) E[Delta(t) B(t,s)],  each with -lambda C(t,s) under weight decay,
hold in the same multistep form on the grid.  The two forms differ by sampling error alone.  What one step violates
them by is therefore a control variate: its mean is known to be zero, and it is strongly correlated with the errors of
the curves (`regress_out`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from dmft.models.model import Model
    from dmft.twotime.grid import Grid
    from dmft.wide.state import State


def forces(model: Model, grid: Grid, state: State) -> dict[str, np.ndarray]:
    """(1/alpha) E[g p], (epsilon/alpha) E[q Delta q] and (epsilon/alpha) E[Delta B], each (T, T), first time first."""
    size = grid.size
    weight = np.asarray(state.samples.weight, np.float64)
    p, q, g, outlier = (
        np.asarray(array, np.float64)[:size]
        for array in (state.fields.p, state.fields.q, state.fields.force_common, state.fields.force_outlier)
    )
    bulk = np.einsum("s,nsm->nm", weight, np.asarray(state.history.force_correlation)[:size, :, :size])
    return {
        "correlation_common": (g * weight) @ p.T / model.alpha,
        "correlation_outlier": model.epsilon / model.alpha * (outlier * weight) @ q.T,
        "correlation_bulk": model.epsilon / model.alpha * bulk,
    }


def seed_source(grid: Grid, state: State) -> np.ndarray:
    """source(n) b(m), (T, T): what the seeding of a random initialisation adds to C_q(n, m) in row n; else 0."""
    source, b = (
        np.asarray(array, np.float64)[: grid.size] for array in (state.seed.source, state.kernels.target_overlap)
    )
    return np.outer(source, b)


def violation(
    grid: Grid, weight_decay: float, force: np.ndarray, correlation: np.ndarray, source: np.ndarray
) -> np.ndarray:
    """What the propagator form of C(n, n) violates its equation of motion by in step n alone, shape (T,).

    Args:
        force: (T, T) as returned by `forces`.
        correlation: (T, T), propagator form.
        source: (T, T), added in row n beside the force (see `seed_source`).
    """
    result = np.zeros(grid.size)
    for n in range(1, grid.size):
        past = grid.history(correlation[:, n], n)
        if grid.explicit:
            h = grid.weights[n - 1]
            result[n] = correlation[n, n] - (1 - h * weight_decay) * past + h * force[n - 1, n]
        else:
            h = grid.weights[n]
            result[n] = (1 + h * weight_decay) * correlation[n, n] - past + h * force[n, n]
    return result - np.diagonal(source)


def target_overlap_violation(model: Model, grid: Grid, state: State) -> np.ndarray:
    """What b(n) would change by if E[q Delta u] were replaced by E[d(q Delta)/du] (Stein's identity in u), (T,)."""
    weight, u = np.asarray(state.samples.weight, np.float64), np.asarray(state.samples.u, np.float64)
    force, slope = (
        np.asarray(array, np.float64)[: grid.size]
        for array in (state.fields.force_outlier, state.fields.target_outlier)
    )
    mismatch = model.epsilon / model.alpha * (slope @ weight - force @ (weight * u))
    result = np.zeros(grid.size)
    for n in range(1, grid.size):
        at = n - 1 if grid.explicit else n
        h, past = grid.weights[at], grid.history(result, n)
        if grid.explicit:
            result[n] = (1 - h * model.weight_decay) * past - h * mismatch[at]
        else:
            result[n] = (past - h * mismatch[at]) / (1 + h * model.weight_decay)
    return result


def regress_out(values: np.ndarray, controls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over replicas of `values` at zero `controls`, and its standard error, by least squares at each time.

    The controls have zero mean, so this is the usual control-variate estimate of the mean, with coefficients fitted
    on the replicas themselves.  With fewer than MIN_FOR_CONTROLS replicas it is the plain mean.  A control that is more
    than OFF standard errors off zero, as where nothing but the residual of the inner iteration is left of it, is not
    used at that time.

    Args:
        values: (R, T).
        controls: (R, T, C).

    Returns:
        Mean and standard error, each (T,).
    """
    count = len(values)
    scale = np.sqrt(np.mean(controls**2, axis=0))
    error = controls.std(axis=0, ddof=1) / np.sqrt(count)
    used = (count >= MIN_FOR_CONTROLS) & (scale > 0) & (np.abs(controls.mean(axis=0)) <= OFF * error)
    scaled = np.where(used, controls / np.where(used, scale, 1.0), 0.0)
    design = np.concatenate([np.ones((count, values.shape[1], 1)), scaled], axis=-1).transpose(1, 0, 2)
    inverse = np.linalg.pinv(design, rcond=1e-8)  # (T, 1 + C, R)
    mean = np.einsum("tcr,rt->tc", inverse, values)
    rest = values.T - np.einsum("trc,tc->tr", design, mean)
    freedom = count - np.linalg.matrix_rank(design, rtol=1e-8)
    variance = np.sum(rest**2, axis=1) / freedom * np.sum(inverse[:, 0] ** 2, axis=1)
    return mean[:, 0], np.sqrt(variance)


#: Replicas needed before the three control variates are worth their degrees of freedom.
MIN_FOR_CONTROLS = 8
#: Standard errors of its mean that a control may be off zero: of 8 replicas, one in 5000 is by chance.
OFF = 7.0


def differential_correlations(
    model: Model, initial_overlap: float, grid: Grid, forces: dict[str, np.ndarray], source: np.ndarray
) -> dict[str, np.ndarray]:
    """C_c, C_q (b b^T included) and C_r, each (T, T), integrated from their equations of motion."""
    start = {"correlation_common": 0.0, "correlation_outlier": initial_overlap, "correlation_bulk": 1.0}
    sources = {name: source if name == "correlation_outlier" else np.zeros_like(source) for name in forces}
    return {
        name: integrate(grid, model.weight_decay, force, start[name], sources[name]) for name, force in forces.items()
    }


def integrate(grid: Grid, weight_decay: float, force: np.ndarray, start: float, source: np.ndarray) -> np.ndarray:
    """Solve d_t C(t,s) = -force(t,s) - weight_decay C(t,s) for a symmetric C with C(0,0) = start, on the grid.

    `source` (T, T) is added in row n as it stands.

    Args:
        force: (T, T), force[n, m] the expectation at first time n and second time m, needed for m <= n
            (explicit steps: m <= n + 1).

    Returns:
        C, shape (T, T).
    """
    correlation = np.zeros((grid.size, grid.size))
    correlation[0, 0] = start
    for n in range(1, grid.size):
        past = grid.history(correlation, n)
        if grid.explicit:

            def advance(value: Any, m: slice | int, n: int = n) -> Any:
                h = grid.weights[n - 1]
                return (1 - h * weight_decay) * value - h * force[n - 1, m] + source[n, m]
        else:

            def advance(value: Any, m: slice | int, n: int = n) -> Any:
                h = grid.weights[n]
                return (value - h * force[n, m] + source[n, m]) / (1 + h * weight_decay)

        correlation[n, :n] = advance(past[:n], slice(0, n))
        correlation[:n, n] = correlation[n, :n]
        correlation[n, n] = advance(grid.history(correlation[:, n], n), n)
    return correlation
