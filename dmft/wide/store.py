"""Write a solved row into the state: its kernels, and what its samples are and answer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.wide.averages import all_residuals, extended_bases, forces
from dmft.wide.bath import initial_fed, resolvent_row
from dmft.wide.row import Sampled
from dmft.wide.seeding import with_noise
from dmft.wide.state import Couplings, Fields, History, Kernels, Row, State, put


def store_row(c: Couplings, h: Float[Array, " T"], state: State, n: Array, row: Row, sampled: Sampled) -> State:
    """The state with row n; its seeding has Sigma(n, :) alone."""
    return state._replace(
        kernels=store_kernels(state.kernels, n, row, sampled),
        seeding=with_noise(state.seeding, n, sampled.growth.noise),
        fields=put(state.fields, n, **fields_row(c, h, state, row, sampled)._asdict()),
        bases=extended_bases(state.bases, sampled.force),
        history=store_history(c, h, state, n, row, sampled),
    )


def store_kernels(kernels: Kernels, n: Array, row: Row, sampled: Sampled) -> Kernels:
    """The row, Gamma_r(:, n), C_r(n, :) and the mean changes of the forces."""
    correlation = sampled.local.bath.correlation_bulk
    kernels = put(kernels, n, **row._asdict(), correlation_bulk=correlation, change=sampled.change)
    here = jnp.arange(len(row.force_bulk)) == n
    return kernels._replace(force_bulk=jnp.where(here, row.force_bulk[:, None], kernels.force_bulk))


def fields_row(c: Couplings, h: Float[Array, " T"], state: State, row: Row, sampled: Sampled) -> Fields:
    """Row n of all per-sample processes, (S,) each."""
    local = sampled.local
    common, outlier = forces(c, local)
    return Fields(
        p=local.p,
        q=local.q,
        residual=local.residual,
        variance=local.bath.variance,
        force_common=common,
        force_outlier=outlier,
        initial=local.gain.bulk * (row.response_initial - c.e * initial_fed(h, state, row)),
        **sampled.target._asdict(),
    )


def store_history(c: Couplings, h: Float[Array, " T"], state: State, n: Array, row: Row, sampled: Sampled) -> History:
    """H(n, :), Delta G, Delta B in row and column n, and the tangents D, X, Y of row n."""
    past, local = state.history, sampled.local
    bath, delta = local.bath, local.residual[:, None]
    column = all_residuals(state, n, local) * bath.correlation.T
    past = put(
        past,
        n,
        bath=resolvent_row(c, h, state, n, row, local.gain.bulk),
        force_response=delta * bath.response,
        force_correlation=delta * bath.correlation,
    )
    return past._replace(
        force_correlation=jax.lax.dynamic_update_index_in_dim(past.force_correlation, column, n, 2),
        tangent=put(past.tangent, n, **sampled.tangent._asdict()),
    )
