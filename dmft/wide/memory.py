"""What finite D changes through pairs of samples: each is answered by the others through the quadratic features.

Samples nu and mu share, beside the linear feature x_nu . x_mu, the quadratic one: the force of mu moves x_nu^T M x_nu
by -2 e int [x_nu^T R(t,s) x_mu] [x_mu^T C(s,t) x_nu] Delta_mu(s) ds, of order (x_nu . x_mu)^2 ~ 1/D.  The P = kappa D
others answer, and what comes back to mu is of order P/D^2 = kappa/D, a memory of its own residual:

    x_mu^T M x_mu  gains  (V_mu/C_r)(t) int Lambda(t,s) Delta_mu(s) ds,
    Lambda = 4 e^2 (kappa/D) <..> E_nu[L' chi L],   L(t,s) = G(t,s) (H C_r)(t,s),   L'(t,s) = G(t,s) (H C_r)(s,t),

chi(t,s) = dDelta_nu(t) / d[x_nu^T M x_nu](s).  It slows the relaxation along the samples that the linear features
cannot tell apart: in the lazy limit it is the first effect of the spread of the eigenvalues of the quadratic kernel,
whose off-diagonal entries (x_nu . x_mu)^2 are not all equal.

<..> is the mean of [x_nu^T R x_mu]^2 [x_mu^T C x_nu]^2 in units of its factors' squared means over D: 3, that of a
normal z^4, where R and M are multiples of one.  But M has the spikes of the other samples, so that x_mu^T M x_nu has
the covariance tr M(t) M(s)/D^2, and R(t,s) is near one between the late times that matter: <..> = 2 + spread(t,s),
spread = (tr M(t) M(s)/D) / (tr M(t)/D tr M(s)/D).  And mu has a spike of its own along x_mu: what answers it stands in
M beside it, and counts by the square of what the spike has grown by, V_mu/C_r.

Without resummation this is small only for <..> kappa/D < 1.  A sample that answers fully within a step gets the
fraction c = <..> kappa/D of its own force back, and its answer that of the answer, and so on: c/(1 + c), used here for
every step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dmft.wide.answers import answers, blocks, columns

if TYPE_CHECKING:
    from dmft.models.model import Model
    from dmft.twotime.grid import Grid
    from dmft.wide.replica import Replica, SampleCurves

#: Samples over which the answer is averaged.
SAMPLES = 64


def pair_memory(model: Model, grid: Grid, solution: Replica, spread: np.ndarray) -> np.ndarray:
    """Lambda(t, s), (T, T), zero above the diagonal, in a solution without it.

    Args:
        spread: (tr M(t) M(s)/D) / (tr M(t)/D tr M(s)/D), (T, T), see dmft.wide.scatter.
    """
    assert model.dim is not None
    alpha, epsilon, h, one = model.alpha, model.epsilon, grid.weights, np.eye(grid.size)
    mean = np.zeros((grid.size, grid.size))
    for chosen in blocks(grid, stratified(solution.samples)):
        of = answers(model, grid, solution, chosen)
        moved = np.linalg.solve(one + of.feedback, of.response * of.seen)  # chi L / (alpha epsilon/2)
        mean = mean + ((of.response * columns(of.seen) * h) @ moved).sum(axis=0) / SAMPLES
    e = epsilon / (alpha * model.kappa)
    feedback = (2 + spread) * model.kappa / model.dim
    return 2 * alpha * epsilon * e**2 * feedback / (1 + feedback) * mean


def stratified(samples: SampleCurves) -> np.ndarray:
    """Indices of SAMPLES samples, one in the middle of each of as many strata of equal probability in u."""
    order = np.argsort(samples.u)
    levels = (np.arange(SAMPLES) + 0.5) / SAMPLES * samples.weight.sum()
    return order[np.minimum(np.searchsorted(np.cumsum(samples.weight[order]), levels), len(order) - 1)]
