"""The responses that the samples of row n imply (THEORY section 4.4): implicit steps.

Each row is linear in itself, X(n, :) and Y(n, :) being linear in P_0, which contains R_c(n, :), or in Q_0 with
R_d(n, :).  So one triangular solve gives the row that is consistent with itself, given the fields.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from dmft.twotime.steps import Steps
from dmft.wide.bath import past_sum
from dmft.wide.local import Local
from dmft.wide.state import Couplings, Row, State
from dmft.wide.tangents import Slopes


def sample_mean(weights: Float[Array, " S"], history: Float[Array, "T S T"]) -> Float[Array, "T T"]:
    """sum_s weights_s history[j, s, m]: E[x history] for weights = (sample weight) x."""
    return jnp.sum(weights[:, None] * history, axis=1)


def bath_mean(weights: Float[Array, " S"], s: Slopes, tangent: Float[Array, "T S T"]) -> Float[Array, " T"]:
    """E[x W_0] for weights = (sample weight) x: W_0(n, :) = -sum_j (2 e h_j G B)(n,j) D(j, :)."""
    return (-s.bath * weights).reshape(-1) @ tangent.reshape(-1, tangent.shape[-1])


def respond(
    diagonal: Array,
    feedback: Float[Array, "T T"],
    right: Float[Array, " T"],
) -> Float[Array, " T"]:
    """The row R with R [diagonal - feedback] = right; `feedback` is zero on its diagonal and above."""
    matrix = jnp.diag(jnp.broadcast_to(diagonal, right.shape)) - feedback
    return solve_triangular(matrix, right, lower=True, trans=1)


def kick(past: Float[Array, " T"], n: Array) -> Float[Array, " T"]:
    """The history of row n and a unit force at n."""
    return past + (jnp.arange(len(past)) == n)


def response_common_row(
    c: Couplings, steps: Steps, state: State, n: Array, row: Row, past: Row, s: Slopes
) -> Float[Array, " T"]:
    """R_c(n, :) of equation 4.10, d_t R_c = delta - (1/alpha) E[X] - lambda R_c, X under a force on c."""
    h, weight, under = steps.weights, state.samples.weight, state.history.under_common
    rate, gain = h[n] / c.alpha, s.x_p + s.x_d * s.d_p  # X = gain P_0 + x_d (d_q Q_0 + d_w W_0)
    others = (weight * s.x_d * s.d_q) @ (-c.e * past_sum(row.response_outlier * h, under.outlier))
    others = others + bath_mean(weight * s.x_d * s.d_w, s, under.residual)
    feedback = rate * c.k * h[:, None] * sample_mean(weight * gain, under.common)
    diagonal = 1 + h[n] * c.weight_decay + rate * (weight @ gain)
    return respond(diagonal, feedback, kick(past.response_common, n) - rate * others)


def response_outlier_row(
    c: Couplings, steps: Steps, state: State, n: Array, row: Row, past: Row, s: Slopes
) -> Float[Array, " T"]:
    """R_d(n, :) of equation 4.10, d_t R_d = delta - (epsilon/alpha) E[Y] - lambda R_d, Y under a force on d."""
    h, weight, under = steps.weights, state.samples.weight, state.history.under_outlier
    rate, gain = h[n] * c.epsilon / c.alpha, s.y_q + s.y_d * s.d_q  # Y = gain Q_0 + y_d (d_p P_0 + d_w W_0)
    others = (weight * s.y_d * s.d_p) @ (-c.k * past_sum(row.response_common * h, under.common))
    others = others + bath_mean(weight * s.y_d * s.d_w, s, under.residual)
    feedback = rate * c.e * h[:, None] * sample_mean(weight * gain, under.outlier)
    diagonal = 1 + h[n] * c.weight_decay + rate * (weight @ gain)
    return respond(diagonal, feedback, kick(past.response_outlier, n) - rate * others)


def response_bulk_row(
    c: Couplings, steps: Steps, state: State, n: Array, past: Row, local: Local
) -> Float[Array, " T"]:
    """R_r(n, :) of equation 4.10, d_t R_r = delta - (epsilon/alpha) E[Delta G] - lambda R_r."""
    h, weight = steps.weights, state.samples.weight
    rate, gain = h[n] * c.epsilon / c.alpha, local.residual * local.gain.bulk  # Delta G = gain (R_r - e R_r Delta G)
    feedback = rate * c.e * h[:, None] * sample_mean(weight * gain, state.history.force_response)
    diagonal = 1 + h[n] * c.weight_decay + rate * (weight @ gain)
    return respond(diagonal, feedback, kick(past.response_bulk, n))
