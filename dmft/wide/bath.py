"""The bulk as each sample sees it at row n: its resolvent H, response G = H R_r and correlation B (THEORY section 4.2).

r(t) = zeta^r(t) - e int R_r(t,s) Delta(s) r(s) ds is linear given Delta.  With v_j = h_j R_r(n,j) Delta_j and
a_r = 1/(1 + v_n) the rows of H, G, B follow from those before.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.wide.state import Couplings, Kernels, Row, State


class PastBath(NamedTuple):
    """What row n of the bath is made of, without the feedback of row n itself."""

    correlation_bulk: Float[Array, " T"]  # C_r(n, :)
    seen: Float[Array, "T S"]  # (H C_r)(:, n) = E_r[r(:) zeta^r(n)]
    fed: Float[Array, "S T"]  # sum_j h_j R_r(n,j) Delta_j B(j, :)
    variance: Float[Array, " S"]  # V_0


class Bath(NamedTuple):
    """Row n of the bath of every sample."""

    response: Float[Array, "S T"]  # G(n, :)
    correlation: Float[Array, "S T"]  # B(n, :)
    variance: Float[Array, " S"]  # V = B(n, n)
    correlation_bulk: Float[Array, " T"]  # C_r(n, :)


def past_sum(weights: Float[Array, " T"], history: Float[Array, "T S T"]) -> Float[Array, "S T"]:
    """sum_j weights_j history[j, s, m]."""
    t, s, m = history.shape
    return (weights @ history.reshape(t, s * m)).reshape(s, m)


def correlation_bulk_row(
    c: Couplings, h: Float[Array, " T"], kernels: Kernels, n: Array, row: Row
) -> Float[Array, " T"]:
    """C_r(n, :) of equation 4.11: C_r = R_0 R_0^T + (epsilon^2/(alpha^2 kappa)) R_r Gamma_r R_r^T."""
    weights = row.response_bulk * h
    forced = weights @ kernels.force_bulk + weights[n] * row.force_bulk  # (R_r Gamma_r)(n, :)
    forced = forced.at[n].set(weights @ row.force_bulk)
    noise = ((kernels.response_bulk * h) @ forced).at[n].set(weights @ forced)
    start = kernels.response_initial.at[n].set(row.response_initial)
    initial = row.response_initial * start * (jnp.arange(len(h)) <= n)
    return initial + c.epsilon**2 / (c.alpha**2 * c.kappa) * noise


def past_bath(c: Couplings, h: Float[Array, " T"], state: State, n: Array, row: Row) -> PastBath:
    """V_0 = E_r[(zeta^r(n) - e sum_{j<n} v_j r(j))^2], and its parts."""
    history, weights = state.history, row.response_bulk * h
    correlation_bulk = correlation_bulk_row(c, h, state.kernels, n, row)
    v = weights[:, None] * state.fields.residual
    seen = jnp.sum(history.bath * correlation_bulk, axis=2)
    fed = past_sum(weights, history.force_correlation)
    variance = correlation_bulk[n] - 2 * c.e * jnp.sum(v * seen, 0) + c.e**2 * jnp.sum(fed * v.T, 1)
    return PastBath(correlation_bulk, seen, fed, jnp.maximum(variance, 0.0))


def bath_row(
    c: Couplings, h: Float[Array, " T"], state: State, n: Array, row: Row, past: PastBath, gain: Float[Array, " S"]
) -> Bath:
    """Rows n of G and B, equation 4.5: G = R_r - e R_r Delta G and B = H C_r H^T.

    Args:
        gain: a_r.
    """
    variance = gain**2 * past.variance
    fed = past_sum(row.response_bulk * h, state.history.force_response)  # R_r Delta G
    response = gain[:, None] * (row.response_bulk - c.e * fed)
    correlation = gain[:, None] * (past.seen.T - c.e * past.fed)
    return Bath(response, correlation.at[:, n].set(variance), variance, past.correlation_bulk)


def resolvent_row(
    c: Couplings, h: Float[Array, " T"], state: State, n: Array, row: Row, gain: Float[Array, " S"]
) -> Float[Array, "S T"]:
    """H(n, :) of equation 4.5: H = delta - e R_r Delta H."""
    v = (row.response_bulk * h)[:, None] * state.fields.residual
    fed = jnp.einsum("js,jsm->sm", v, state.history.bath)
    return gain[:, None] * ((jnp.arange(len(h)) == n) - c.e * fed)


def initial_fed(h: Float[Array, " T"], state: State, row: Row) -> Float[Array, " S"]:
    """(R_r Delta G_0)(n) of the rows before, where G_0 = H R_0 = R_0 - e R_r Delta G_0."""
    return (row.response_bulk * h) @ (state.fields.residual * state.fields.initial)
