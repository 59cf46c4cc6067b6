"""Write a solved row into the state: its kernels, and what its samples are and answer."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.wide.averages import force_rows, forces
from dmft.wide.bath import initial_fed, resolvent_row
from dmft.wide.local import Local
from dmft.wide.state import Bases, Couplings, Fields, History, Kernels, Row, State, put
from dmft.wide.tangents import Slopes, slopes, tangent_row, target_tangent_row


def store_row(c: Couplings, h: Float[Array, " T"], state: State, n: Array, row: Row, local: Local) -> State:
    """The state with row n."""
    s = slopes(c, h, n, row, local)
    return state._replace(
        kernels=store_kernels(state.kernels, n, row, local),
        fields=put(state.fields, n, **fields_row(c, h, state, row, local, s)._asdict()),
        bases=extended_bases(c, state, local),
        history=store_history(c, h, state, n, row, local, s),
    )


def store_kernels(kernels: Kernels, n: Array, row: Row, local: Local) -> Kernels:
    """The row, Gamma_r(:, n) and C_r(n, :)."""
    kernels = put(kernels, n, **row._asdict(), correlation_bulk=local.bath.correlation_bulk)
    return kernels._replace(force_bulk=kernels.force_bulk.at[:, n].set(row.force_bulk))


def fields_row(c: Couplings, h: Float[Array, " T"], state: State, row: Row, local: Local, s: Slopes) -> Fields:
    """Row n of all per-sample processes, (S,) each."""
    common, outlier = forces(c, local)
    return Fields(
        p=local.p,
        q=local.q,
        residual=local.residual,
        variance=local.bath.variance,
        force_common=common,
        force_outlier=outlier,
        initial=local.gain.bulk * (row.response_initial - c.e * initial_fed(h, state, row)),
        **target_tangent_row(c, h, state, row, s)._asdict(),
    )


def extended_bases(c: Couplings, state: State, local: Local) -> Bases:
    """The bases of the forces with what row n adds to them."""
    bases, (common, outlier) = state.bases, force_rows(c, state, local)
    added = jnp.any(jnp.stack([common.unit, outlier.unit]) != 0, axis=1)
    return Bases(
        common=bases.common.at[bases.modes[0]].add(common.unit, mode="drop"),
        outlier=bases.outlier.at[bases.modes[1]].add(outlier.unit, mode="drop"),
        modes=bases.modes + added,
    )


def store_history(
    c: Couplings, h: Float[Array, " T"], state: State, n: Array, row: Row, local: Local, s: Slopes
) -> History:
    """H(n, :), Delta G, Delta B in row and column n, and the tangents D, X, Y of row n."""
    past, bath, delta = state.history, local.bath, local.residual
    residuals = state.fields.residual.at[n].set(delta)
    correlation = past.force_correlation.at[n].set(delta[:, None] * bath.correlation)
    under_common = tangent_row(c, h, past.under_common, row, s, on_common=True)
    under_outlier = tangent_row(c, h, past.under_outlier, row, s, on_common=False)
    return History(
        bath=past.bath.at[n].set(resolvent_row(c, h, state, n, row, local.gain.bulk)),
        force_response=past.force_response.at[n].set(delta[:, None] * bath.response),
        force_correlation=correlation.at[:, :, n].set(residuals * bath.correlation.T),
        under_common=put(past.under_common, n, **under_common._asdict()),
        under_outlier=put(past.under_outlier, n, **under_outlier._asdict()),
    )
