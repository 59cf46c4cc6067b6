"""The wide engine: N = infinity, D and P -> infinity at fixed kappa (THEORY section 4), row after row in time."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from dmft.compiled.executables import compilable
from dmft.twotime.anderson import anderson
from dmft.twotime.noise import Samples
from dmft.wide.rows import (
    Local,
    Slopes,
    bulk_force_row,
    implied_row,
    local_fields,
    row_forces,
    seed_row,
    slopes,
    tangent_row,
    target_tangent_row,
)
from dmft.wide.seeding import explicit_seed_step, feedback_row, force_row, start_seed, store_seed_row
from dmft.wide.state import (
    Bases,
    Couplings,
    Fields,
    History,
    Kernels,
    Residual,
    Row,
    Scatter,
    State,
    Steps,
    Tangent,
    empty_state,
)


class Iteration(NamedTuple):
    """Settings of the row solve (static).

    The iteration aims at a relative residual of `tolerance`; after `max_rounds`, a residual above `accepted` is a
    failure.  1e-4 changes the curves by under 1 %, so what was accepted is recorded with every result.
    """

    tolerance: float = 1e-6
    accepted: float = 1e-5
    depth: int = 16
    max_rounds: int = 200


def start_state(
    c: Couplings, residual: Residual, samples: Samples, scatter: Scatter, m_0: Float[Array, ""], capacity: int
) -> State:
    """The state at t = 0: nothing solved yet but b(0) = m0, R_0(0) = 1."""
    state = empty_state(samples, residual, scatter, capacity)
    kernels = state.kernels._replace(
        target_overlap=state.kernels.target_overlap.at[0].set(m_0),
        response_initial=state.kernels.response_initial.at[0].set(1.0),
    )
    return state._replace(kernels=kernels, seed=start_seed(c, state.seed))


def initial_row(c: Couplings, state: State) -> State:
    """Row 0 of the implicit scheme: p = 0, q = m0 u, V = |x|^2.  It carries no force (h_0 = 0).

    Column 0 of the responses is the response to a change of the initial value.
    """
    kernels, fields, u = state.kernels, state.fields, state.samples.u
    q = kernels.target_overlap[0] * u
    variance, zero = 1 + state.scatter.amplitude.T @ state.scatter.correlation[:, 0, 0], jnp.zeros_like(u)
    delta = 0.5 * c.alpha * c.epsilon * (q**2 + variance) - state.residual.initial_output - state.residual.target
    responses = {name: getattr(kernels, name).at[0, 0].set(1.0) for name in _RESPONSES}
    kernels = kernels._replace(**responses, correlation_bulk=kernels.correlation_bulk.at[0, 0].set(1.0))
    slope = (c.alpha * c.epsilon * kernels.target_overlap[0] ** 2 - 1 - state.residual.initial_slope) * u
    values = (zero, q, delta, variance, delta, q * delta, variance)
    values += (slope, slope, kernels.target_overlap[0] * delta + q * slope)
    fields = Fields._make(array.at[0].set(value) for array, value in zip(fields, values, strict=True))
    history = state.history._replace(
        bath=state.history.bath.at[0, :, 0].set(1.0),
        force_correlation=state.history.force_correlation.at[0, :, 0].set(delta * variance),
    )
    return state._replace(kernels=kernels, fields=fields, history=history)


_RESPONSES = ("response_common", "response_outlier", "response_bulk")


def past_row(steps: Steps, kernels: Kernels, n: Array) -> Row:
    """The multistep history of every kernel at row n >= 1."""
    return Row._make(steps.history(array, n) for array in kernels[:8])


def predicted_row(kernels: Kernels, fields: Fields, weight: Array, n: Array) -> Row:
    """First guess of row n: responses along their diagonals, the rest continued from the last two rows."""
    one, two = n - 1, jnp.maximum(n - 2, 0)
    late = n >= 4

    def shift(row: Array, by: int) -> Array:
        return jnp.roll(row, by)

    def along_diagonal(array: Array) -> Array:
        moved = 2 * shift(array[one], 1) - shift(array[two], 2)
        straight = 2 * array[one] - array[two]
        columns = jnp.arange(array.shape[1])
        early = array[one].at[n].set(array[one, one])
        return jnp.where(late, jnp.where(columns < 2, straight, moved) * (columns <= n), early)

    def linear(array: Array) -> Array:
        return jnp.where(late, 2 * array[one] - array[two], array[one])

    size = jnp.sqrt(weight @ fields.residual[one] ** 2 / (weight @ fields.residual[two] ** 2))
    size = jnp.where(late, size, 1.0)
    return Row(
        response_common=along_diagonal(kernels.response_common),
        response_outlier=along_diagonal(kernels.response_outlier),
        response_bulk=along_diagonal(kernels.response_bulk),
        factor_common=size * kernels.factor_common[one],
        factor_outlier=size * kernels.factor_outlier[one],
        force_bulk=(size**2 * kernels.force_bulk[one]).at[n].set(size**2 * kernels.force_bulk[one, one]),
        target_overlap=linear(kernels.target_overlap),
        response_initial=linear(kernels.response_initial),
    )


def store_row(c: Couplings, steps: Steps, state: State, n: Array, row: Row, local: Local) -> tuple[State, Array, Array]:
    """Write the final row n and its samples into the state.

    Returns the state and the averages E X (under a force on c) and E Y (under a force on d) of row n.
    """
    h = steps.weights
    s = slopes(c, h, n, state.scatter, local)
    history = state.history
    under_common = tangent_row(c, h, history.under_common, row, s, on_common=True)
    under_outlier = tangent_row(c, h, history.under_outlier, row, s, on_common=False)
    # H(n, :) = a_r (delta - e v H)
    fed = jnp.einsum("js,jsm->sm", local.bulk_weights * state.fields.residual, history.bath)
    bath = local.gain_r[:, None] * ((jnp.arange(h.shape[0]) == n) - c.e * fed)
    force_correlation = history.force_correlation.at[n].set(local.residual[:, None] * local.correlation)
    residuals = state.fields.residual.at[n].set(local.residual)
    force_correlation = force_correlation.at[:, :, n].set(residuals * local.correlation.T)

    def put(past: Tangent, new: Tangent) -> Tangent:
        return Tangent._make(array.at[n].set(value) for array, value in zip(past, new, strict=True))

    history = History(
        history.bath.at[n].set(bath),
        history.force_response.at[n].set(local.residual[:, None] * local.response),
        force_correlation,
        put(history.under_common, under_common),
        put(history.under_outlier, under_outlier),
    )
    state = _store_fields(c, h, state, n, row, local, s)
    state = state._replace(history=history, kernels=_store_kernels(state.kernels, n, row, local))
    return state, state.samples.weight @ under_common.common, state.samples.weight @ under_outlier.outlier


def _store_fields(c: Couplings, h: Array, state: State, n: Array, row: Row, local: Local, s: Slopes) -> State:
    fields = state.fields
    (_, unit_common), (_, unit_outlier) = row_forces(c, state, local)
    fed = (local.bulk_weights * fields.residual * fields.initial).sum(0)
    seen = row.response_initial + state.scatter.amplitude.T @ state.scatter.correlation[:, n, 0]  # x^T U(n) x
    initial = local.gain_r * (seen - c.e * fed)
    common, outlier = (1 + c.epsilon * local.p) * local.residual, local.q * local.residual
    values = (local.p, local.q, local.residual, local.variance, common, outlier, initial)
    values += target_tangent_row(c, h, state, row, s)
    stored = Fields._make(array.at[n].set(value) for array, value in zip(fields, values, strict=True))
    bases, units = state.bases, jnp.stack([unit_common, unit_outlier])
    bases = Bases(
        common=bases.common.at[bases.modes[0]].add(unit_common, mode="drop"),
        outlier=bases.outlier.at[bases.modes[1]].add(unit_outlier, mode="drop"),
        modes=bases.modes + jnp.any(units != 0, axis=1),
    )
    return state._replace(fields=stored, bases=bases)


def _store_kernels(kernels: Kernels, n: Array, row: Row, local: Local) -> Kernels:
    stored = [array.at[n].set(value) for array, value in zip(kernels[:8], row, strict=True)]
    stored[5] = stored[5].at[:, n].set(row.force_bulk)
    return Kernels._make([*stored, kernels.correlation_bulk.at[n].set(local.correlation_bulk)])


@compilable(donated=["state"])
def advance_implicit(
    c: Couplings, steps: Steps, state: State, first: Array, stop: Array, *, seeded: bool, iteration: Iteration
) -> State:
    """Solve rows first <= n < stop of the gradient flow; row 0 must be there."""

    def body(n: Array, state: State) -> State:
        past = past_row(steps, state.kernels, n)
        guess = predicted_row(state.kernels, state.fields, state.samples.weight, n)
        start, unravel = ravel_pytree(guess)
        scale = ravel_pytree(jax.tree.map(_block_scale, guess))[0]

        def function(x: Array) -> Array:
            return ravel_pytree(implied_row(c, steps, state, n, unravel(x), past, seeded=seeded))[0]

        solution = anderson(
            function,
            start,
            scale,
            tolerance=iteration.tolerance,
            depth=iteration.depth,
            max_rounds=iteration.max_rounds,
        )
        row = unravel(solution.value)
        local, seed = local_fields(c, steps.weights, state, n, row), state.seed
        if seeded:
            seed = store_seed_row(seed, n, seed_row(c, steps, state, n, local))
        state = store_row(c, steps, state, n, row, local)[0]._replace(seed=seed)
        return state._replace(
            rounds=state.rounds.at[n].set(solution.rounds), mismatch=state.mismatch.at[n].set(solution.mismatch)
        )

    return jax.lax.fori_loop(first, stop, body, state)


def _block_scale(block: Array) -> Array:
    """Every entry of a block is measured in the block's largest one."""
    size = jnp.max(jnp.abs(block))
    return jnp.broadcast_to(jnp.where(size > 0, size, 1.0), jnp.shape(block))


@compilable(donated=["state"])
def advance_explicit(c: Couplings, steps: Steps, state: State, first: Array, stop: Array, *, seeded: bool) -> State:
    """Rows first <= n < stop of discrete gradient descent: row n is known, evaluate it and step to n + 1."""

    def body(n: Array, state: State) -> State:
        kernels, h = state.kernels, steps.weights
        row = Row._make(array[n] for array in kernels[:8])
        # R(n, n) = 0: the forces of row n, still missing from `row`, do not act on its own fields
        local = local_fields(c, h, state, n, row)
        forces = row_forces(c, state, local)
        row = row._replace(
            factor_common=forces[0][0], factor_outlier=forces[1][0], force_bulk=bulk_force_row(state, n, local)
        )
        seed, source = state.seed, 0.0
        if seeded:
            feedback = feedback_row(c, local.bulk_weights, state, n, local.residual, local.gain_r)
            force = force_row(c, state, n, local.residual, local.correlation)
            seed, source = explicit_seed_step(c, steps, seed, n, feedback, force)
        state, mean_x, mean_y = store_row(c, steps, state, n, row, local)
        fields, kernels = state.fields, state.kernels
        rate, keep = h[n] * c.epsilon / c.alpha, 1 - h[n] * c.weight_decay
        force = jnp.arange(h.shape[0]) == n  # a force at step n enters w(n+1)
        delta, weight = fields.residual[n], state.samples.weight
        mean_g = weight @ state.history.force_response[n]
        drift = weight @ (fields.force_outlier[n] * state.samples.u)
        following = {
            "response_common": keep * row.response_common + force - h[n] / c.alpha * mean_x,
            "response_outlier": keep * row.response_outlier + force - rate * mean_y,
            "response_bulk": keep * row.response_bulk + force - rate * mean_g,
            "target_overlap": keep * row.target_overlap - rate * drift + source,
            "response_initial": keep * row.response_initial - rate * (weight @ (delta * fields.initial[n])),
        }
        # the last row has no successor: an index out of range is dropped
        kernels = kernels._replace(
            **{name: getattr(kernels, name).at[n + 1].set(value, mode="drop") for name, value in following.items()}
        )
        return state._replace(kernels=kernels, seed=seed)

    return jax.lax.fori_loop(first, stop, body, state)
