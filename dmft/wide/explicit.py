"""Discrete gradient descent (THEORY section 4.7): row n is known, its samples follow, and row n + 1 from them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.compiled.executables import compilable
from dmft.twotime.steps import Steps
from dmft.wide.averages import target_drift
from dmft.wide.responses import rates
from dmft.wide.row import Sampled, sampled_row
from dmft.wide.seeding import SeedingRow, explicit_seeding_row
from dmft.wide.state import Couplings, Row, State, put
from dmft.wide.store import store_row


@compilable(donated=["state"])
def advance_explicit(c: Couplings, steps: Steps, state: State, first: Array, stop: Array) -> State:
    """Rows first <= n < stop: evaluate row n, and step to row n + 1."""

    def body(n: Array, state: State) -> State:
        row = state.kernels.rows(lambda rows: rows[n])
        # R(n, n) = 0: the forces of row n, still missing from `row`, do not act on its own fields
        sampled = sampled_row(c, steps.weights, state, n, row)
        row = row._replace(factor=sampled.force.factor, force_bulk=sampled.force_bulk)
        following = explicit_seeding_row(c, steps, state.seeding, n, sampled.growth)
        state = store_row(c, state, n, row, sampled)
        return store_next(c, steps, state, n, row, sampled, following)

    return jax.lax.fori_loop(first, stop, body, state)


def store_next(
    c: Couplings, steps: Steps, state: State, n: Array, row: Row, sampled: Sampled, following: SeedingRow
) -> State:
    """Row n + 1 of responses, b and seeding; the last row has no successor."""
    kernels, seeding, last = state.kernels, state.seeding, n + 1 == len(steps.weights)
    at = jnp.where(last, 0, n + 1)

    def new(rows: Array, value: Array) -> Array:
        return jnp.where(last, rows[at], value)

    rows = next_row(c, steps, state, n, row, sampled, following.source)
    return state._replace(
        kernels=put(kernels, at, **{name: new(getattr(kernels, name), value) for name, value in rows.items()}),
        seeding=put(
            seeding, at, **{name: new(getattr(seeding, name), value) for name, value in following._asdict().items()}
        ),
    )


def next_row(
    c: Couplings, steps: Steps, state: State, n: Array, row: Row, sampled: Sampled, source: Float[Array, ""]
) -> dict[str, Array]:
    """Equations 4.8 and 4.10: responses and b of row n + 1 from row n, which `state` holds."""

    def step(rows: Array, force: Array) -> Array:
        return steps.explicit(rows, n, force, c.weight_decay)

    kick = jnp.arange(len(steps.weights)) == n  # a force at step n enters w(n+1)
    initial = state.samples.weight @ (sampled.local.residual * sampled.local.bath.initial)
    return {
        "response": step(row.response, rates(c)[:, None] * sampled.change) + kick,
        "target_overlap": step(row.target_overlap, target_drift(c, state, sampled.local)) + source,
        "response_initial": step(row.response_initial, c.epsilon / c.alpha * initial),
    }
