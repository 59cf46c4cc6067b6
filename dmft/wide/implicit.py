"""Gradient flow by implicit multistep rows (THEORY section 4.7): each row is the fixed point of `implied_row`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dmft.compiled.executables import compilable
from dmft.twotime.anderson import solve_row
from dmft.twotime.engine import Iteration
from dmft.twotime.steps import Steps
from dmft.wide.row import Sampled, implied_row, sampled_row
from dmft.wide.seeding import implicit_seeding
from dmft.wide.state import Couplings, Row, State, put, put_rows
from dmft.wide.store import store_row


@compilable(donated=["state"])
def advance_implicit(
    c: Couplings, steps: Steps, state: State, first: Array, stop: Array, *, iteration: Iteration
) -> State:
    """Solve rows first <= n < stop of the gradient flow; row 0 has no past, and no force (h_0 = 0)."""

    def body(n: Array, state: State) -> State:
        past = state.kernels.rows(lambda rows: steps.history(rows, n))

        def function(row: Row) -> tuple[Row, Sampled]:
            sampled = sampled_row(c, steps.weights, state, n, row)
            return implied_row(c, steps, state, n, row, past, sampled), sampled

        row, solution = solve_row(function, predicted_row(state, n), iteration, state.kernels.rows(lambda rows: rows))
        seen = solution.seen
        seeding = implicit_seeding(c, steps, state.seeding, n, seen.growth)
        state = store_row(c, state, n, row, seen)
        state = state._replace(seeding=put_rows(state.seeding, n, seeding))
        return put(state, n, rounds=solution.rounds, mismatch=solution.mismatch)

    return jax.lax.fori_loop(first, stop, body, state)


#: The first row whose guess uses two rows before it: those of full order.
STEADY = 4


def predicted_row(state: State, n: Array) -> Row:
    """First guess of row n: another replica's, and the deviation from it continued from the last two rows.

    Without another replica the rows themselves are continued, as deviations from 0.
    """
    weight, delta, other = state.samples.weight, state.fields.residual, state.guide
    here, before = n - 1, jnp.maximum(n - 2, 0)
    one, two = (
        jax.tree.map(lambda own, known: own[at] - known[at], state.kernels.rows(lambda rows: rows), other)  # noqa: B023
        for at in (here, before)
    )
    size = jnp.sqrt(weight @ delta[here] ** 2 / (weight @ delta[before] ** 2))
    size = jnp.where(n >= STEADY, size, 1.0)
    forced = size**2 * one.force_bulk
    continued = Row(
        response=along_diagonal(one.response, two.response, n),
        factor=size * one.factor,
        force_bulk=jnp.where(jnp.arange(len(forced)) == n, forced[here], forced),
        target_overlap=on_line(one.target_overlap, two.target_overlap, n),
        response_initial=on_line(one.response_initial, two.response_initial, n),
    )
    return jax.tree.map(lambda known, deviation: known[n] + deviation, other, continued)


def along_diagonal(one: Array, two: Array, n: Array) -> Array:
    """Row n from the two before it, moved along with n but for the first two columns."""
    columns = jnp.arange(one.shape[-1])
    moved = 2 * jnp.roll(one, 1, axis=-1) - jnp.roll(two, 2, axis=-1)
    late = jnp.where(columns < 2, 2 * one - two, moved) * (columns <= n)
    early = jnp.where(columns == n, jnp.roll(one, 1, axis=-1), one)
    return jnp.where(n >= STEADY, late, early)


def on_line(one: Array, two: Array, n: Array) -> Array:
    """Row n on the line through the two before it."""
    return jnp.where(n >= STEADY, 2 * one - two, one)
