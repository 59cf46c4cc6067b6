"""What finite D changes along beta, the direction that the labels depend on: the mean weight gets a component.

The forces (1 + epsilon p) Delta of the samples at hand have E[u g] != 0 by chance, and c moves along beta,

    d_t c_beta = -(1/alpha) (E[u g] + K_cb c_beta),   K_cb(t,s) = E[u^2 dg(t)/dp_ext(s)],

so that c_beta^2 has the mean C_cb/D with C_cb = (1/(alpha^2 kappa)) R_cb E[u^2 g g'] R_cb^T, several times that of
another component.  C_c is an average over all D directions in which beta has the response R_c of the others: it counts
(1/(alpha^2 kappa)) R_c E[u^2 g g'] R_c^T for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dmft.wide.answers import answers, blocks

if TYPE_CHECKING:
    from dmft.models.model import Model
    from dmft.twotime.grid import Grid
    from dmft.wide.replica import Replica


def common_along_beta(model: Model, grid: Grid, solution: Replica) -> tuple[np.ndarray, np.ndarray]:
    """C_cb(t, t), and what C_c counts for it, each (T,), in a solution without."""
    samples, h, one = solution.samples, grid.weights, np.eye(grid.size)
    weight = samples.weight * samples.u**2
    kernel = np.zeros_like(one)
    for chosen in blocks(grid, np.arange(len(samples.u))):
        of = answers(model, grid, solution, chosen)
        moved = np.linalg.solve(one + of.feedback, model.alpha * of.feature * of.bath_common)  # dDelta/dp_ext
        field = of.bath_common - of.p_by_residual @ moved  # dp/dp_ext
        kernel += np.tensordot(weight[chosen], of.feature * moved + model.epsilon * of.residual * field, axes=1)
    force = (1 + model.epsilon * samples.p) * samples.residual
    noise = (force * weight) @ force.T / (model.alpha**2 * model.kappa)
    response = response_to(grid, kernel / model.alpha, model.weight_decay)

    def variance(response: np.ndarray) -> np.ndarray:
        return np.einsum("tm,mn,tn->t", response * h, noise, response * h, optimize=True)

    return variance(response), variance(solution.rule[0])


def response_to(grid: Grid, kernel: np.ndarray, weight_decay: float) -> np.ndarray:
    """R of d_t R(t,s) = delta(t - s) - int K(t,t') R(t',s) dt' - lambda R(t,s) as the multistep rule has it, (T, T).

    Args:
        kernel: K integrated by the rule: (K x)(n) = sum_m kernel[n, m] x(m).
    """
    size, h = grid.size, grid.weights
    response = np.zeros((size, size))
    if grid.explicit:
        for n in range(size - 1):
            response[n + 1] = (1 - h[n] * weight_decay) * response[n] - h[n] * kernel[n] @ response
            response[n + 1, n] += 1
        return response
    response[0, 0] = 1.0
    for n in range(1, size):
        row = grid.history(response, n) - h[n] * kernel[n, :n] @ response[:n]
        row[n] += 1
        response[n] = row / (1 + h[n] * (weight_decay + kernel[n, n]))
    return response
