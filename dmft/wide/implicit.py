"""Gradient flow by implicit multistep rows (THEORY section 4.7): each row is the fixed point of `implied_row`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from dmft.compiled.executables import compilable
from dmft.twotime.anderson import FixedPoint, anderson
from dmft.twotime.engine import Iteration
from dmft.twotime.steps import Steps
from dmft.wide.local import local_row
from dmft.wide.row import implied_row
from dmft.wide.seeding import seeding_row, store_seeding
from dmft.wide.state import Couplings, Row, State
from dmft.wide.store import store_row


@compilable(donated=["state"])
def advance_implicit(
    c: Couplings, steps: Steps, state: State, first: Array, stop: Array, *, seeded: bool, iteration: Iteration
) -> State:
    """Solve rows first <= n < stop of the gradient flow; row 0 must be there."""

    def body(n: Array, state: State) -> State:
        row, solution = solve_row(c, steps, state, n, seeded=seeded, iteration=iteration)
        local, seeding = local_row(c, steps.weights, state, n, row), state.seeding
        if seeded:
            seeding, seeded_row = seeding_row(c, steps, state, n, row, local)
            seeding = store_seeding(seeding, n, seeded_row)
        return store_row(c, steps.weights, state, n, row, local)._replace(
            seeding=seeding,
            rounds=state.rounds.at[n].set(solution.rounds),
            mismatch=state.mismatch.at[n].set(solution.mismatch),
        )

    return jax.lax.fori_loop(first, stop, body, state)


def solve_row(
    c: Couplings, steps: Steps, state: State, n: Array, *, seeded: bool, iteration: Iteration
) -> tuple[Row, FixedPoint]:
    """Row n by Anderson iteration from the predicted one, every block measured in its largest entry."""
    past = state.kernels.rows(lambda rows: steps.history(rows, n))
    guess = predicted_row(state, n)
    start, unravel = ravel_pytree(guess)

    def function(x: Array) -> Array:
        return ravel_pytree(implied_row(c, steps, state, n, unravel(x), past, seeded=seeded))[0]

    solution = anderson(
        function,
        start,
        ravel_pytree(jax.tree.map(_block_scale, guess))[0],
        tolerance=iteration.tolerance,
        depth=iteration.depth,
        max_rounds=iteration.max_rounds,
    )
    return unravel(solution.value), solution


def _block_scale(block: Array) -> Array:
    """Every entry of a block is measured in the block's largest one."""
    size = jnp.max(jnp.abs(block))
    return jnp.broadcast_to(jnp.where(size > 0, size, 1.0), jnp.shape(block))


#: The first row whose guess uses two rows before it: those of full order.
STEADY = 4


def predicted_row(state: State, n: Array) -> Row:
    """First guess of row n: responses along their diagonals, the rest continued from the last two rows."""
    kernels, one, two = state.kernels, n - 1, jnp.maximum(n - 2, 0)
    weight, delta = state.samples.weight, state.fields.residual
    size = jnp.sqrt(weight @ delta[one] ** 2 / (weight @ delta[two] ** 2))
    size = jnp.where(n >= STEADY, size, 1.0)
    forced = size**2 * kernels.force_bulk[one]
    return Row(
        response_common=along_diagonal(kernels.response_common, n),
        response_outlier=along_diagonal(kernels.response_outlier, n),
        response_bulk=along_diagonal(kernels.response_bulk, n),
        factor_common=size * kernels.factor_common[one],
        factor_outlier=size * kernels.factor_outlier[one],
        force_bulk=forced.at[n].set(forced[one]),
        target_overlap=continued(kernels.target_overlap, n),
        response_initial=continued(kernels.response_initial, n),
    )


def along_diagonal(rows: Array, n: Array) -> Array:
    """Row n from the two before it, moved along with n but for the first two columns."""
    one, two = rows[n - 1], rows[jnp.maximum(n - 2, 0)]
    columns = jnp.arange(rows.shape[1])
    moved = 2 * jnp.roll(one, 1) - jnp.roll(two, 2)
    late = jnp.where(columns < 2, 2 * one - two, moved) * (columns <= n)
    return jnp.where(n >= STEADY, late, one.at[n].set(one[n - 1]))


def continued(values: Array, n: Array) -> Array:
    """Row n on the line through the two before it."""
    one, two = values[n - 1], values[jnp.maximum(n - 2, 0)]
    return jnp.where(n >= STEADY, 2 * one - two, one)
