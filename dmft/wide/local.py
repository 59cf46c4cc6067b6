"""Every sample at row n, from a proposed row of kernels: fields, residual and bath."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.wide.bath import Bath, bath_row, past_bath
from dmft.wide.fields import (
    common_field,
    feedback_gains,
    instant_weights,
    offsets,
    past_fields,
    solve_residual,
)
from dmft.wide.sectors import BySector
from dmft.wide.state import Couplings, Row, State


class Local(NamedTuple):
    """What the samples are at row n, (S,) each but for the outliers, with their baths."""

    p: Float[Array, " S"]
    q: Float[Array, "K S"]
    residual: Float[Array, " S"]  # Delta
    gain: BySector  # a_i = 1/(1 + e h_n R_i(n,n) Delta)
    bath: Bath


def local_row(c: Couplings, h: Float[Array, " T"], state: State, n: Array, row: Row) -> Local:
    """Equations 4.1, 4.4 and 4.5 at row n: the histories, then the root Delta, then what follows from it."""
    p_0, q_0 = past_fields(c, h, state, n, row)
    past = past_bath(c, h, state, n, row)
    instant = instant_weights(h, n, row)
    guess = state.fields.residual[jnp.maximum(n - 1, 0)]
    delta = solve_residual(c, guess, p_0, q_0, past.variance, offsets(state.labels), instant)
    gain = feedback_gains(c, instant, delta)
    bath = bath_row(past, n, gain.bulk)
    shared = len(gain.outlier) - 1
    q = jnp.stack([gain.outlier[min(k, shared)] * one for k, one in enumerate(q_0)])
    return Local(common_field(c, p_0, delta, instant), q, delta, gain, bath)
