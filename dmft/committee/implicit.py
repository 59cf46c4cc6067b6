"""Gradient flow of a committee on a non-uniform implicit grid (THEORY sections 4 and 8), row after row.

The multistep rule w_n = sum_j a_{n,j} w_{n-j} + h_n (-F_n + force) has its own exact mean-field theory. Row n acts on
itself, so it is a fixed point: fields from a proposed row, forces, and the row that their averages imply.
With G = E[dg/dh_ext], the average response of the forces to an outer field in row n, each of

    (1 + h lambda + (h/alpha) G) X = (multistep history of X) + sources - (h/alpha) (average - G X_proposed)

is one Newton step for X = m and noise alike, exact where the sample average is linear in X; R(n; n) is the inverse of
the bracket, and Anderson acceleration does the rest. Other responses are not needed (`dmft.committee.response`).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.committee.network import Network
from dmft.committee.rows import Local, factor_rows, free_fields, local_forces
from dmft.committee.state import Couplings, Fields, Kernels, Row, State
from dmft.compiled.executables import compilable
from dmft.twotime.anderson import solve_row
from dmft.twotime.engine import Iteration
from dmft.twotime.steps import Steps

#: Newton steps for the fields of a row at most, and the relative change at which they end.
NEWTON_STEPS = 40


@compilable(donated=["state"])
def advance_implicit(
    c: Couplings, steps: Steps, state: State, first: Array, stop: Array, *, network: Network, iteration: Iteration
) -> State:
    """Solve rows first <= n < stop of the gradient flow; row 0 must be there."""

    def body(n: Array, state: State) -> State:
        past = Row._make(steps.history(array, n) for array in state.kernels)

        def function(row: Row) -> tuple[Row, tuple[()]]:
            return implied_row(c, network, steps, state, n, row, past), ()

        row, solution = solve_row(function, predicted_row(state, n), iteration, Row._make(state.kernels))
        state = store_row(c, network, steps, state, n, row)
        return state._replace(
            rounds=state.rounds.at[n].set(solution.rounds), mismatch=state.mismatch.at[n].set(solution.mismatch)
        )

    return jax.lax.fori_loop(first, stop, body, state)


def predicted_row(state: State, n: Array) -> Row:
    """First guess of row n: the instant response as it was, the rest continued from the last rows."""
    kernels, one, two = state.kernels, n - 1, jnp.maximum(n - 2, 0)
    late = n >= 4

    def continued(rows: Array) -> Array:
        return rows[one] + jnp.where(late, rows[one] - rows[two], 0.0)

    return Row(
        instant=kernels.instant[one],
        target_overlap=continued(kernels.target_overlap),
        readout=continued(kernels.readout),
        noise=continued(kernels.noise),
        carried=continued(kernels.carried),
    )


def instant_gain(c: Couplings, steps: Steps, row: Row, n: Array) -> Float[Array, "N N"]:
    """B = k h_n R(n; n)."""
    return c.k * steps.weights[n] * row.instant


def force_slopes(local: Local) -> Float[Array, "N N S"]:
    """A_il = dg_i/dh_l at equal times."""
    return local.shared[:, None] * local.slope[None] + jnp.eye(local.h.shape[0])[:, :, None] * local.own[:, None]


def solve_fields(
    c: Couplings, network: Network, state: State, row: Row, n: Array, history: Float[Array, "N S"], gain: Array
) -> Float[Array, "N S"]:
    """The root of h + B g(h) = history for every sample, by damped Newton steps from the previous row's fields."""

    def excess(h: Array) -> tuple[Array, Local]:
        local = local_forces(c, network, state, row, n, h)
        return h + gain @ local.force - history, local

    def body(carry: Any) -> Any:
        h, value, local, _, count = carry
        jacobian = jnp.eye(h.shape[0])[:, :, None] + jnp.einsum("il,ljs->ijs", gain, force_slopes(local))
        move = solve_small(jacobian, value[:, None])[:, 0]
        size = jnp.max(jnp.abs(value), axis=0)
        new, (new_value, new_local) = h - move, excess(h - move)
        worse = ~(jnp.max(jnp.abs(new_value), axis=0) <= 2 * size + 1e-12)  # also if it is not a number
        half = h - 0.25 * jnp.where(jnp.isfinite(move), move, 0.0)
        new = jnp.where(worse, half, new)
        new_value, new_local = excess(new)
        change = jnp.max(jnp.abs(new - h) / (jnp.abs(new) + 1.0))
        return new, new_value, new_local, change, count + 1

    def unfinished(carry: Any) -> Array:
        return (carry[3] > 64 * jnp.finfo(history.dtype).eps) & (carry[4] < NEWTON_STEPS)

    start = state.fields.h[n - 1]
    value, local = excess(start)
    return jax.lax.while_loop(unfinished, body, (start, value, local, jnp.asarray(jnp.inf, start.dtype), 0))[0]


def solve_small(matrix: Float[Array, "N N S"], right: Float[Array, "N M S"]) -> Float[Array, "N M S"]:
    """matrix^-1 right for every sample, by Gauss-Jordan elimination with all samples side by side.

    LAPACK, called for one sample after the other, takes 30, 11, 6 and 1.4 times as long for N = 1, 2, 4, 8. There is no
    pivoting: where a pivot vanishes the row does not converge, and the replica stops there.
    """
    count = matrix.shape[0]
    for i in range(count):
        pivot = 1.0 / matrix[i, i]
        scaled, answer = matrix[i] * pivot, right[i] * pivot
        factor = matrix[:, i].at[i].set(0.0)
        matrix = (matrix - factor[:, None] * scaled[None]).at[i].set(scaled)
        right = (right - factor[:, None] * answer[None]).at[i].set(answer)
    return right


def row_forces(c: Couplings, network: Network, steps: Steps, state: State, n: Array, row: Row) -> Local:
    """Fields and forces of a proposed row, whose own force acts on them."""
    gain = instant_gain(c, steps, row, n)
    history = free_fields(c, state, row, row.carried)
    return local_forces(c, network, state, row, n, solve_fields(c, network, state, row, n, history, gain))


def fed_back(local: Local, gain: Array) -> tuple[Array, Array]:
    """A_il = dg_i/dh_l and P = (1 + B A)^-1 of every sample."""
    slopes = force_slopes(local)
    one = jnp.eye(len(gain))[:, :, None]
    feedback = one + jnp.einsum("il,ljs->ijs", gain, slopes)
    return slopes, solve_small(feedback, jnp.broadcast_to(one, slopes.shape))


def implied_row(c: Couplings, network: Network, steps: Steps, state: State, n: Array, row: Row, past: Row) -> Row:
    """The row that the samples of a proposed row imply: the fixed-point map of an implicit step."""
    weight, h_n = state.samples.weight, steps.weights[n]
    local = row_forces(c, network, steps, state, n, row)
    slopes, inverse = fed_back(local, instant_gain(c, steps, row, n))
    response = jnp.einsum("ils,ljs,s->ij", slopes, inverse, weight)  # G
    width = len(response)
    rate, decay = h_n / c.alpha, 1 + h_n * c.weight_decay
    solver = jnp.linalg.inv(decay * jnp.eye(width) + rate * response)

    def newton(history: Array, average: Array, proposed: Array) -> Array:
        return solver @ (history - rate * (average - response @ proposed))

    weighted = local.force * weight
    factor, _ = factor_rows(local.force, state.basis, weight, state.modes)
    carried = newton(past.noise, weighted @ state.samples.modes.T, row.noise)
    learned = (local.value * state.presence[n]) @ (weight * local.push)
    return Row(
        instant=solver,
        target_overlap=newton(past.target_overlap, weighted @ state.samples.u.T, row.target_overlap),
        readout=(past.readout - rate * learned) / decay if network.train_readout else row.readout,
        noise=carried + h_n * c.strength * solver @ factor,
        carried=carried,
    )


def store_row(c: Couplings, network: Network, steps: Steps, state: State, n: Array, row: Row) -> State:
    """Write the solved row n, its fields and its forces."""
    local = row_forces(c, network, steps, state, n, row)
    factor, basis = factor_rows(local.force, state.basis, state.samples.weight, state.modes)
    return state._replace(
        kernels=Kernels._make(array.at[n].set(value) for array, value in zip(state.kernels, row, strict=True)),
        fields=Fields(state.fields.h.at[n].set(local.h), state.fields.residual.at[n].set(local.residual)),
        factor=state.factor.at[n].set(factor),
        basis=basis,
        modes=state.modes + row.readout.shape[0],
    )


def initial_fields(c: Couplings, network: Network, state: State) -> State:
    """Fields and residuals of row 0, which carries no force (h_0 = 0)."""
    row = Row._make(array[0] for array in state.kernels)
    local = local_forces(c, network, state, row, jnp.int32(0), free_fields(c, state, row, row.noise))
    fields = Fields(state.fields.h.at[0].set(local.h), state.fields.residual.at[0].set(local.residual))
    return state._replace(fields=fields)
