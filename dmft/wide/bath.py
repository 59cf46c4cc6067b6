"""The bulk as each sample sees it at row n: its resolvent H, response G = H R_r and correlation B (THEORY section 4.2).

r(t) = zeta^r(t) - e int R_r(t,s) Delta(s) r(s) ds is linear given Delta.  With v_j = h_j R_r(n,j) Delta_j and
a_r = 1/(1 + v_n) the rows of H, G, B follow from those before.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.wide.drawn import AnyKernels, AnyRow, AnyState
from dmft.wide.state import Couplings


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


def past_sum(weights: Float[Array, " T"], history: Float[Array, "T ..."]) -> Float[Array, ...]:
    """sum_j weights_j history[j]: one matrix-vector product for all samples."""
    return (weights @ history.reshape(len(weights), -1)).reshape(history.shape[1:])


def sample_sum(weights: Float[Array, "T S"], n: Array, history: Float[Array, "T S ..."]) -> Float[Array, "S ..."]:
    """sum_{j<n} weights[j, s] history[j, s]: row after row, since the weights differ from sample to sample."""
    shape = (weights.shape[1],) + (1,) * (history.ndim - 2)

    def add(j: Array, total: Array) -> Array:
        return total + weights[j].reshape(shape) * history[j]

    return jax.lax.fori_loop(0, n, add, jnp.zeros(history.shape[1:], history.dtype))


def correlation_bulk_row(
    c: Couplings, h: Float[Array, " T"], kernels: AnyKernels, n: Array, row: AnyRow
) -> Float[Array, " T"]:
    """C_r(n, :) of equation 4.11: C_r = R_0 R_0^T + (epsilon^2/(alpha^2 kappa)) R_r Gamma_r R_r^T."""
    weights = row.response_bulk * h
    forced = weights @ kernels.force_bulk + weights[n] * row.force_bulk  # (R_r Gamma_r)(n, :)
    columns = jnp.arange(len(h))
    forced = jnp.where(columns == n, weights @ row.force_bulk, forced)
    noise = jnp.where(columns == n, weights @ forced, (kernels.response_bulk * h) @ forced)
    start = jnp.where(columns == n, row.response_initial, kernels.response_initial)
    initial = row.response_initial * start * (columns <= n)
    return initial + c.epsilon**2 / (c.alpha**2 * c.kappa) * noise


def past_bath(c: Couplings, h: Float[Array, " T"], state: AnyState, n: Array, row: AnyRow) -> PastBath:
    """V_0 = E_r[(zeta^r(n) - e sum_{j<n} v_j r(j))^2], and its parts."""
    history, weights = state.history, row.response_bulk * h
    correlation_bulk = correlation_bulk_row(c, h, state.kernels, n, row)
    v = weights[:, None] * state.fields.residual
    seen = (history.bath.reshape(-1, len(h)) @ correlation_bulk).reshape(v.shape)
    fed = past_sum(weights, history.force_correlation)
    variance = correlation_bulk[n] - 2 * c.e * jnp.sum(v * seen, 0) + c.e**2 * jnp.sum(fed * v.T, 1)
    return PastBath(correlation_bulk, seen, fed, jnp.maximum(variance, 0.0))


def bath_row(
    c: Couplings,
    h: Float[Array, " T"],
    state: AnyState,
    n: Array,
    row: AnyRow,
    past: PastBath,
    gain: Float[Array, " S"],
) -> Bath:
    """Rows n of G and B, equation 4.5: G = R_r - e R_r Delta G and B = H C_r H^T.

    Args:
        gain: a_r.
    """
    variance = gain**2 * past.variance
    fed = past_sum(row.response_bulk * h, state.history.force_response)  # R_r Delta G
    response = gain[:, None] * (row.response_bulk - c.e * fed)
    correlation = gain[:, None] * (past.seen.T - c.e * past.fed)
    correlation = jnp.where(jnp.arange(len(h)) == n, variance[:, None], correlation)
    return Bath(response, correlation, variance, past.correlation_bulk)


def resolvent_row(
    c: Couplings, h: Float[Array, " T"], state: AnyState, n: Array, row: AnyRow, gain: Float[Array, " S"]
) -> Float[Array, "S T"]:
    """H(n, :) of equation 4.5: H = delta - e R_r Delta H."""
    v = (row.response_bulk * h)[:, None] * state.fields.residual
    fed = sample_sum(v, n, state.history.bath)
    return gain[:, None] * ((jnp.arange(len(h)) == n) - c.e * fed)


def initial_fed(h: Float[Array, " T"], state: AnyState, row: AnyRow) -> Float[Array, " S"]:
    """(R_r Delta G_0)(n) of the rows before, where G_0 = H R_0 = R_0 - e R_r Delta G_0."""
    return (row.response_bulk * h) @ (state.fields.residual * state.fields.initial)
