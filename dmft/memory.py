"""What finite D changes through pairs of samples: each is answered by the others through the quadratic features.

Samples nu and mu share, beside the linear feature x_nu . x_mu, the quadratic one: the force of mu moves x_nu^T M x_nu
by -2 e int [x_nu^T R(t,s) x_mu] [x_mu^T C(s,t) x_nu] Delta_mu(s) ds, of order (x_nu . x_mu)^2 ~ 1/D.  The P = kappa D
others answer, and what comes back to mu is of order P/D^2 = kappa/D, a memory of its own residual:

    x_mu^T M x_mu  gains  int Lambda(t,s) Delta_mu(s) ds,
    Lambda = 4 e^2 (kappa/D) E[z^4] E_nu[L' chi L],   L(t,s) = G(t,s) (H C_r)(t,s),   L'(t,s) = G(t,s) (H C_r)(s,t),

chi(t,s) = dDelta_nu(t) / d[x_nu^T M x_nu](s) and z = sqrt(D) x_nu . x_mu, E[z^4] = 3.  It slows the relaxation along
the samples that the linear features cannot tell apart: in the lazy limit it is the first effect of the spread of the
eigenvalues of the quadratic kernel, whose off-diagonal entries (x_nu . x_mu)^2 are not all equal.

Without resummation this is small only for 3 kappa/D < 1.  A sample that answers fully within a step gets the fraction
c = 3 kappa/D of its own force back, and its answer that of the answer, and so on: c/(1 + c), used here for every step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dmft.grid import Grid
    from dmft.model import Model
    from dmft.replica import Replica, SampleCurves

#: Samples over which the answer is averaged.
SAMPLES = 64


def pair_memory(model: Model, grid: Grid, solution: Replica) -> np.ndarray:
    """Lambda(t, s), (T, T), zero above the diagonal, in a solution without it."""
    assert model.dim is not None
    e = model.epsilon / (model.alpha * model.kappa)
    mean = np.zeros((grid.size, grid.size))
    for chosen in np.array_split(stratified(solution.samples), 8):
        mean = mean + _answers(model, grid, solution, chosen)
    feedback = 3 * model.kappa / model.dim
    return 4 * e**2 * feedback / (1 + feedback) * mean


def stratified(samples: SampleCurves) -> np.ndarray:
    """Indices of SAMPLES samples, one in the middle of each of as many strata of equal probability in u."""
    order = np.argsort(samples.u)
    levels = (np.arange(SAMPLES) + 0.5) / SAMPLES * samples.weight.sum()
    return order[np.minimum(np.searchsorted(np.cumsum(samples.weight[order]), levels), len(order) - 1)]


def _answers(model: Model, grid: Grid, solution: Replica, chosen: np.ndarray) -> np.ndarray:
    """sum over the chosen samples of L' h chi L, (T, T), divided by SAMPLES."""
    alpha, epsilon, h, one = model.alpha, model.epsilon, grid.weights, np.eye(grid.size)
    e, k = epsilon / (alpha * model.kappa), 1 / (alpha * model.kappa)
    response_common, response_outlier, response_bulk, correlation = solution.rule
    samples = solution.samples
    p, q, delta = (array[:, chosen].T[:, :, None] for array in (samples.p, samples.q, samples.residual))  # (S, T, 1)

    def columns(rows: np.ndarray) -> np.ndarray:
        return np.swapaxes(rows, 1, 2)

    bath = np.linalg.inv(one + e * response_bulk * h * columns(delta))  # H
    response, seen = bath @ response_bulk, bath @ correlation  # G, H C_r
    pairs = response * (seen @ columns(bath))  # G B
    feature = 1 + epsilon * p
    # dp, dq and dV by dDelta: p = -k int R_c (1 + epsilon p) Delta, and so on
    by_p = np.linalg.solve(one + e * response_common * h * columns(delta), k * response_common * h * columns(feature))
    by_q = np.linalg.solve(one + e * response_outlier * h * columns(delta), e * response_outlier * h * columns(q))
    feedback = alpha * (feature * by_p + epsilon * q * by_q + epsilon * e * pairs * h)
    moved = np.linalg.solve(one + feedback, response * seen)  # chi L = (1 + feedback)^-1 (alpha epsilon/2) L
    return 0.5 * alpha * epsilon * ((response * columns(seen) * h) @ moved).sum(axis=0) / SAMPLES
