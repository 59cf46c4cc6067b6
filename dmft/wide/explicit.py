"""Discrete gradient descent (THEORY section 4.7): row n is known, its samples follow, and row n + 1 from them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dmft.compiled.executables import compilable
from dmft.twotime.steps import Steps
from dmft.wide.averages import target_drift
from dmft.wide.responses import rates
from dmft.wide.row import Sampled, sampled_row
from dmft.wide.seeding import explicit_seeding
from dmft.wide.state import Couplings, Moving, Row, State, Velocity, put_next
from dmft.wide.store import store_row


@compilable(donated=["state"])
def advance_explicit(c: Couplings, steps: Steps, state: State, first: Array, stop: Array) -> State:
    """Rows first <= n < stop: evaluate row n, and step to row n + 1."""

    def body(n: Array, state: State) -> State:
        row = state.kernels.rows(lambda rows: rows[n])
        # R(n, n) = 0: the forces of row n, still missing from `row`, do not act on its own fields
        sampled = sampled_row(c, steps.weights, state, n, row)
        row = row._replace(factor=sampled.force.factor, force_bulk=sampled.force_bulk)
        grown = explicit_seeding(c, steps, state.seeding, n, sampled.growth, state.velocity.seeding)
        state = store_row(c, state, n, row, sampled)
        moved, velocity = next_row(c, steps, state, n, row, sampled)
        source = jnp.stack([following.source for following, _ in grown])
        moved = moved._replace(target_overlap=moved.target_overlap + source)
        return state._replace(
            kernels=put_next(state.kernels, n, **moved._asdict()),
            seeding=tuple(put_next(of, n, **row._asdict()) for of, (row, _) in zip(state.seeding, grown, strict=True)),
            velocity=Velocity(velocity, tuple(glide for _, glide in grown)),
        )

    return jax.lax.fori_loop(first, stop, body, state)


def next_row(c: Couplings, steps: Steps, state: State, n: Array, row: Row, sampled: Sampled) -> tuple[Moving, Moving]:
    """Equations 4.8 and 4.10: responses and b of row n + 1 from row n, which `state` holds, and their velocity."""

    def step(rows: Array, force: Array) -> Array:
        return steps.explicit(rows, n, force, c.weight_decay)

    kick = jnp.arange(len(steps.weights)) == n  # a force at step n enters w(n+1)
    initial = state.samples.weight @ (sampled.local.residual * sampled.local.bath.initial)
    plain = Moving(
        response=step(row.response, rates(c, len(row.target_overlap))[:, None] * sampled.change) + kick,
        target_overlap=step(row.target_overlap, target_drift(c, state, sampled.local)),
        response_initial=step(row.response_initial, c.epsilon / c.alpha * initial),
    )
    before = Moving(row.response, row.target_overlap, row.response_initial)
    return steps.gliding(n, before, plain, state.velocity.rows)
