"""The bulk as each sample sees it at row n: its resolvent H, response G = H R_r and correlation B (THEORY section 4.2).

r(t) = zeta^r(t) - e int R_r(t,s) Delta(s) r(s) ds is linear given Delta.  With v_j = h_j R_r(n,j) Delta_j and
a_r = 1/(1 + v_n) the row H(n, :) follows from those before, and G = H R_r and B = H C_r H^T from H alone.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.wide.drawn import AnyKernels, AnyRow, AnyState
from dmft.wide.history import bath_sums, past_sums
from dmft.wide.state import Couplings


class Bath(NamedTuple):
    """Row n of the bath of every sample."""

    resolvent: Float[Array, "T S"]  # H(n, :)
    response: Float[Array, "T S"]  # G(n, :)
    correlation: Float[Array, "T S"]  # B(n, :)
    variance: Float[Array, " S"]  # V = B(n, n)
    initial: Float[Array, " S"]  # G_0(n), G_0 = H R_0
    correlation_bulk: Float[Array, " T"]  # C_r(n, :)


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


def past_bath(c: Couplings, h: Float[Array, " T"], state: AnyState, n: Array, row: AnyRow) -> Bath:
    """Equation 4.5 without the feedback of row n itself, a_r = 1: H = delta - e R_r Delta H, and V_0 = H C_r H^T."""
    kernels, here = state.kernels, jnp.arange(len(h)) == n
    v = (row.response_bulk * h)[:, None] * state.fields.residual
    fed = past_sums(state.history, n, {"bath": v})["bath"]
    resolvent = here[:, None] - c.e * fed
    correlation_bulk = correlation_bulk_row(c, h, kernels, n, row)
    bulk = jnp.where(here, correlation_bulk[:, None], kernels.correlation_bulk)
    seen = jnp.where(here[:, None], correlation_bulk, bulk) @ resolvent  # E_r[zeta^r(:) r(n)]
    return Bath(
        resolvent=resolvent,
        response=jnp.where(here[:, None], row.response_bulk, kernels.response_bulk).T @ resolvent,
        correlation=bath_sums(state.history, n, seen),
        variance=jnp.maximum(jnp.sum(resolvent * seen, 0), 0.0),
        initial=jnp.where(here, row.response_initial, kernels.response_initial) @ resolvent,
        correlation_bulk=correlation_bulk,
    )


def bath_row(past: Bath, n: Array, gain: Float[Array, " S"]) -> Bath:
    """Row n with its own feedback.

    Args:
        past: without it.
        gain: a_r.
    """
    variance, here = gain**2 * past.variance, jnp.arange(len(past.resolvent))[:, None] == n
    return Bath(
        resolvent=gain * past.resolvent,
        response=gain * past.response,
        correlation=jnp.where(here, variance, gain * past.correlation),
        variance=variance,
        initial=gain * past.initial,
        correlation_bulk=past.correlation_bulk,
    )
