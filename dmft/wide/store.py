"""Write a solved row into the state: its kernels, and what its samples are and answer."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array

from dmft.wide.averages import all_residuals, extended_bases, forces
from dmft.wide.history import Block, with_row
from dmft.wide.row import Sampled
from dmft.wide.seeding import with_noises
from dmft.wide.state import Couplings, Fields, Kernels, Row, State, put


def store_row(c: Couplings, state: State, n: Array, row: Row, sampled: Sampled) -> State:
    """The state with row n; its seeding has Sigma(n, :) alone."""
    return state._replace(
        kernels=store_kernels(state, n, row, sampled),
        seeding=with_noises(state.seeding, n, sampled.growth),
        fields=put(state.fields, n, **fields_row(c, sampled)._asdict()),
        bases=extended_bases(state.bases, sampled.force),
        history=with_row(state.history, n, Block(sampled.local.bath.resolvent, *sampled.tangent[:3], sampled.answer)),
    )


def store_kernels(state: State, n: Array, row: Row, sampled: Sampled) -> Kernels:
    """The row, Gamma_r(:, n), C_r(n, :) and C_r(:, n), and the mean changes of the forces."""
    weight, bath = state.samples.weight, sampled.local.bath
    here, bulk = jnp.arange(len(row.force_bulk)) == n, bath.correlation_bulk
    kernels = put(
        state.kernels,
        n,
        **row._asdict(),
        correlation_bulk=bulk,
        change=sampled.change,
        force_correlation=bath.correlation @ (weight * sampled.local.residual),
    )

    def with_column(column: Array, rows: Array) -> Array:
        return jnp.where(here, column[:, None], rows)

    column = (all_residuals(state, n, sampled.local) * bath.correlation) @ weight
    return kernels._replace(
        force_bulk=with_column(row.force_bulk, kernels.force_bulk),
        correlation_bulk=with_column(bulk, kernels.correlation_bulk),
        force_correlation=with_column(column, kernels.force_correlation),
    )


def fields_row(c: Couplings, sampled: Sampled) -> Fields:
    """Row n of all per-sample processes."""
    local = sampled.local
    return Fields(
        p=local.p,
        q=local.q,
        residual=local.residual,
        variance=local.bath.variance,
        force_common=forces(c, local)[0],
        force_outlier=local.q * local.residual,
        **sampled.target._asdict(),
    )
