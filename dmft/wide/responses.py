"""The responses that the samples of row n imply (THEORY section 4.4).

The mean change of the force, E[X] for R_c, E[Y] for R_d and E[Delta G] for R_r, is linear in the row of the response.
The samples give it exactly at the proposed row.  How it follows the row is taken from means,

    E[X](n, :) = ... + E[x] (R_c(n, :) - k sum_j R_c(n,j) h_j E[X](j, :)),    x = dX/dP_0,

and the same for the others.  So one triangular solve is a Newton step for the row.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from dmft.twotime.steps import Steps
from dmft.wide.directions import own_gains
from dmft.wide.local import Local
from dmft.wide.state import Couplings, Row, State
from dmft.wide.tangents import Slopes, TangentRow


def mean_changes(weight: Float[Array, " S"], local: Local, tangent: TangentRow) -> Float[Array, "cdr T"]:
    """Row n of E[X] under a force on c, E[Y] under one on each d, and E[Delta G]."""
    bulk = local.bath.response @ (weight * local.residual)
    further = [own @ weight for own in tangent.own]
    return jnp.stack([tangent.common[0] @ weight, tangent.outlier[1] @ weight, *further, bulk])


def mean_gains(c: Couplings, weight: Float[Array, " S"], local: Local, s: Slopes) -> Float[Array, " cdr"]:
    """E[dX/dP_0], E[dY/dQ_0] and E[d(Delta G)/dR_r] at row n: how these follow it."""
    further = own_gains(c, local, s.d_y)
    gains = [s.x_p + s.x_d * s.d_p, s.y_q + s.y_d * s.d_q, *further, local.residual * local.gain.bulk]
    return jnp.stack(gains) @ weight


def rates(c: Couplings, kinds: int) -> Float[Array, " cdr"]:
    """1/alpha for c, epsilon/alpha for d and r: what a force does to the weights."""
    return jnp.stack([1 / c.alpha, *[c.epsilon / c.alpha] * (kinds + 1)])


def response_rows(
    c: Couplings, steps: Steps, state: State, n: Array, row: Row, past: Row, change: Array, gain: Array
) -> Float[Array, "cdr T"]:
    """Equation 4.10: d_t R = delta - rate E[change] - lambda R, by a Newton step from the proposed row.

    Args:
        row, past: the proposed row, and the multistep history.
        change, gain: `mean_changes` and `mean_gains` of the proposed row.
    """
    h, kinds = steps.weights, len(gain) - 2
    rate, own = h[n] * rates(c, kinds), jnp.stack([c.k, *[c.e] * (kinds + 1)])
    decay, kick = 1 + h[n] * c.weight_decay, jnp.arange(len(h)) == n
    missing = past.response + kick - decay * row.response - rate[:, None] * change
    memory = (rate * gain * own)[:, None, None] * h[:, None] * state.kernels.change.transpose(1, 0, 2)
    matrix = (decay + rate * gain)[:, None, None] * jnp.eye(len(h)) - memory

    def solve(matrix: Array, right: Array) -> Array:
        return solve_triangular(matrix, right, lower=True, trans=1)

    return row.response + jax.vmap(solve)(matrix, missing)
