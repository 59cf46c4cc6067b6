"""How a sample answers at row n to a force on c or on d, and to a change of u (THEORY section 4.4).

P, Q, W, D are the changes of p, q, V, Delta.  P_0, Q_0, W_0 are the parts that the rows before make,

    P_0 = R_c - k int R_c X,   Q_0 = -e int R_d Y,   W_0 = -2 e int G B D

under a force on c; under one on d the head R_d of Q_0 replaces the head R_c of P_0.  X = epsilon P Delta +
(1 + epsilon p) D and Y = Q Delta + q D are the changes of the forces.  Of several directions Q and Y are those of the
first, and the others are part of W (`dmft.wide.directions`).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.wide.directions import Further, further_row, heads, memory, own_changes, own_weights
from dmft.wide.fields import instant_weights
from dmft.wide.history import past_sums
from dmft.wide.local import Local
from dmft.wide.state import Couplings, Row, State


class Slopes(NamedTuple):
    """The linearised row n: D = d_p P_0 + d_q Q_0 + d_w W_0,  X = x_p P_0 + x_d D,  Y = y_q Q_0 + y_d D; (S,) each.

    Of q and Y they are those of the first direction.
    """

    d_p: Float[Array, " S"]
    d_q: Float[Array, " S"]
    d_w: Float[Array, " S"]
    d_y: Float[Array, " S"]  # dDelta/dy = -d_y at fixed p_0, q_0, V_0
    x_p: Float[Array, " S"]
    x_d: Float[Array, " S"]
    y_q: Float[Array, " S"]
    y_d: Float[Array, " S"]
    bath: Float[Array, "T S"]  # -dV(n)/dDelta_j = 2 e h_j G(n,j) B(n,j), the weights of W_0; zero at j = n
    further: Further


def slopes(c: Couplings, h: Float[Array, " T"], state: State, n: Array, row: Row, local: Local) -> Slopes:
    """Equation 4.9 with the feedback of row n on itself solved: D = alpha [(1 + epsilon p) P + epsilon q Q + ...].

    There P = a_c (P_0 - k h_n R_c(n,n) (1 + epsilon p) D), Q = a_d (Q_0 - e h_n R_d(n,n) q D) and
    W = W_0 - 2 e h_n G(n,n) B(n,n) D.
    """
    q, gain, feature = local.q[0], local.gain, 1 + c.epsilon * local.p
    instant, further = instant_weights(h, n, row), further_row(c, h, state, n, row, local)
    bath = 2 * c.e * h[:, None] * local.bath.response * local.bath.correlation
    if len(further.now):
        bath = bath + 2 * c.e * h[:, None] * memory(further)
    fed = feature**2 * c.k * instant.common * gain.common
    fed = fed + c.epsilon * (q**2 * c.e * instant.outlier[0] * gain.outlier[0] + 0.5 * bath[n])
    answer = 1 / (1 + c.alpha * fed)
    return Slopes(
        d_p=c.alpha * feature * gain.common * answer,
        d_q=c.alpha * c.epsilon * q * gain.outlier[0] * answer,
        d_w=0.5 * c.alpha * c.epsilon * answer,
        d_y=answer,
        x_p=c.epsilon * local.residual * gain.common,
        x_d=feature * gain.common,
        y_q=local.residual * gain.outlier[0],
        y_d=q * gain.outlier[0],
        bath=jnp.where(jnp.arange(len(h))[:, None] == n, 0.0, bath),
        further=further,
    )


class TangentRow(NamedTuple):
    """Row n of the tangents: [force on c or on d, its time, sample]."""

    residual: Float[Array, "cd T S"]  # D
    common: Float[Array, "cd T S"]  # X
    outlier: Float[Array, "cd T S"]  # Y of the first direction
    own: Float[Array, "O T S"]  # Y of each direction beyond it, under the force on it


def tangent_row(
    c: Couplings, h: Float[Array, " T"], n: Array, state: State, row: Row, local: Local, s: Slopes
) -> TangentRow:
    """Equations 4.9 and 15.4 at row n: D, X, Y of every sample under forces on c and on each d."""
    kinds = len(row.response_outlier)
    weights = {
        "common": -c.k * row.response_common * h,
        "outlier": -c.e * row.response_outlier[0] * h,
        "residual": -s.bath,
    } | ({"own": own_weights(c, h, s.further)} if kinds > 1 else {})
    past, none = past_sums(state.history, n, weights), [jnp.zeros_like(h)]
    p_0 = past["common"] + jnp.stack([row.response_common, *none * kinds])[..., None]
    q_0 = past["outlier"] + jnp.stack([*none, row.response_outlier[0], *none * (kinds - 1)])[..., None]
    w_0 = past["residual"] + heads(s.further, 1 + kinds) if kinds > 1 else past["residual"]
    d = s.d_p * p_0 + s.d_q * q_0 + s.d_w * w_0
    own = own_changes(local, s.further, past["own"], d[2:]) if kinds > 1 else d[2:]
    return TangentRow(d, common=s.x_p * p_0 + s.x_d * d, outlier=s.y_q * q_0 + s.y_d * d, own=own)


class TargetTangent(NamedTuple):
    """Derivatives with respect to u at row n, (S,) each."""

    target_residual: Float[Array, " S"]  # dDelta/du
    target_common: Float[Array, " S"]  # d[(1 + epsilon p) Delta]/du
    target_outlier: Float[Array, " S"]  # d[q Delta]/du


def target_tangent_row(c: Couplings, h: Float[Array, " T"], state: State, row: Row, s: Slopes) -> TargetTangent:
    """The same under a change of the first u, which moves y and zeta^q = b u + ...: for Stein's identity in u."""
    fields = state.fields
    p_0 = -c.k * ((row.response_common * h) @ fields.target_common)
    q_0 = row.target_overlap[0] - c.e * ((row.response_outlier[0] * h) @ fields.target_outlier)
    w_0 = -jnp.sum(s.bath * fields.target_residual, 0)
    d = s.d_p * p_0 + s.d_q * q_0 + s.d_w * w_0 - s.d_y * state.labels.slope
    return TargetTangent(d, s.x_p * p_0 + s.x_d * d, s.y_q * q_0 + s.y_d * d)
