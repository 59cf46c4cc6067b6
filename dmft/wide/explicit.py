"""Discrete gradient descent (THEORY section 4.7): row n is known, its samples follow, and row n + 1 from them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.compiled.executables import compilable
from dmft.twotime.steps import Steps
from dmft.wide.averages import bulk_force_row, force_rows, target_drift
from dmft.wide.local import Local, local_row
from dmft.wide.seeding import explicit_seeding_row, feedback_row, noise_row, store_seeding, with_noise
from dmft.wide.state import Couplings, Row, Seeding, State, put
from dmft.wide.store import store_row


@compilable(donated=["state"])
def advance_explicit(c: Couplings, steps: Steps, state: State, first: Array, stop: Array, *, seeded: bool) -> State:
    """Rows first <= n < stop: evaluate row n, and step to row n + 1."""

    def body(n: Array, state: State) -> State:
        row = state.kernels.rows(lambda rows: rows[n])
        # R(n, n) = 0: the forces of row n, still missing from `row`, do not act on its own fields
        local = local_row(c, steps.weights, state, n, row)
        row = with_forces(c, state, n, row, local)
        seeding, source = explicit_seeding(c, steps, state, n, row, local) if seeded else (state.seeding, 0.0)
        state = store_row(c, steps.weights, state, n, row, local)
        # the last row has no successor: an index out of range is dropped
        kernels = put(state.kernels, n + 1, **next_row(c, steps, state, n, row, local, source))
        return state._replace(kernels=kernels, seeding=seeding)

    return jax.lax.fori_loop(first, stop, body, state)


def with_forces(c: Couplings, state: State, n: Array, row: Row, local: Local) -> Row:
    """Row n with the forces of its own samples, equation 4.6."""
    common, outlier = force_rows(c, state, local)
    return row._replace(
        factor_common=common.factor, factor_outlier=outlier.factor, force_bulk=bulk_force_row(state, n, local)
    )


def next_row(
    c: Couplings, steps: Steps, state: State, n: Array, row: Row, local: Local, source: Array | float
) -> dict[str, Array]:
    """Equations 4.8 and 4.10: responses and b of row n + 1 from row n, which `state` holds."""
    strength, weight, history = c.epsilon / c.alpha, state.samples.weight, state.history

    def step(rows: Array, force: Array) -> Array:
        return steps.explicit(rows, n, force, c.weight_decay)

    kick = jnp.arange(len(row.response_bulk)) == n  # a force at step n enters w(n+1)
    initial = weight @ (local.residual * state.fields.initial[n])
    return {
        "response_common": step(row.response_common, weight @ history.under_common.common[n] / c.alpha) + kick,
        "response_outlier": step(row.response_outlier, strength * (weight @ history.under_outlier.outlier[n])) + kick,
        "response_bulk": step(row.response_bulk, strength * (weight @ history.force_response[n])) + kick,
        "target_overlap": step(row.target_overlap, target_drift(c, state, local)) + source,
        "response_initial": step(row.response_initial, strength * initial),
    }


def explicit_seeding(
    c: Couplings, steps: Steps, state: State, n: Array, row: Row, local: Local
) -> tuple[Seeding, Float[Array, ""]]:
    """The seeding with row n + 1, and the source of b(n + 1)."""
    seeding = with_noise(state.seeding, n, noise_row(c, state, n, local))
    feedback = feedback_row(c, steps.weights, state, n, row, local)
    following = explicit_seeding_row(c, steps, seeding, n, feedback)
    return store_seeding(seeding, n + 1, following), following.source
