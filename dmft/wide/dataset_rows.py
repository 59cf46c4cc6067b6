"""The rows of one data set that is drawn (equations 12.1 and 12.2): the start, the flow's rows, and discrete steps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmft.compiled.executables import compilable
from dmft.models.model import Model
from dmft.twotime.anderson import solve_row
from dmft.twotime.engine import Iteration
from dmft.twotime.noise import Samples
from dmft.twotime.steps import Steps
from dmft.wide.averages import bulk_force_row, target_drift
from dmft.wide.dataset import Drawn, bulk_change, drawn_row, drift, implied_draw, new_mode, reveal, store_draw
from dmft.wide.drawn import Draw, DrawFields, DrawKernels, DrawRow
from dmft.wide.history import empty_history
from dmft.wide.implicit import along_diagonal, on_line
from dmft.wide.seeding import explicit_seeding, implicit_seeding
from dmft.wide.start import begin_seeding, labels, start_overlaps
from dmft.wide.state import Bases, Couplings, Seeding, put, put_next, put_rows


def draw_numbers(
    samples: int,
    dim: float,
    modes: int,
    directions: int,
    seed: np.random.SeedSequence,
    coordinates: np.random.SeedSequence,
    dtype: Any,
) -> tuple[Samples, np.ndarray]:
    """P independent samples with u > 0 (each stands for a mirror pair), and the lengths t_m, (1 + K, M).

    Args:
        seed, coordinates: of the samples and of the lengths.
    """
    sectors = 1 + directions
    normals = np.random.default_rng(seed).standard_normal((sectors * (1 + modes), samples))
    squares = np.random.default_rng(coordinates).chisquare(dim - np.arange(modes), (sectors, modes))
    u = np.abs(np.delete(normals[:sectors], 1, axis=0))
    noise = normals[sectors:].reshape(modes, sectors, samples).swapaxes(0, 1)
    arrays = (np.full(samples, 1 / samples), u, normals[1], noise[0], noise[1:])
    drawn = Samples(*(np.asarray(array, dtype) for array in arrays))  # type: ignore[arg-type]
    return drawn, np.asarray(np.sqrt(squares / dim), dtype)


def first_draw(model: Model, samples: Samples, lengths: np.ndarray, capacity: int) -> Draw:
    """Nothing solved or revealed yet, as `dmft.wide.start.first_state`."""
    (modes, count), k, t, dtype = samples.common.shape, model.directions, capacity, samples.u.dtype

    def zeros(*shape: int) -> Any:
        return np.zeros(shape, dtype)

    kernels = DrawKernels(
        components=zeros(t, 1 + k, modes),
        factor=zeros(t, 1 + k, modes),
        response_bulk=zeros(t, t),
        force_bulk=zeros(t, t),
        target_overlap=zeros(t, k),
        response_initial=zeros(t),
        correlation_bulk=zeros(t, t),
    )
    seeding = tuple(Seeding(zeros(t, t), zeros(t, t), zeros(t), zeros(t), zeros(t)) for _ in range(k))
    kernels.target_overlap[0], kernels.response_initial[0] = np.sqrt(start_overlaps(model)), 1.0  # type: ignore[index]
    begin_seeding(model, seeding)
    return Draw(
        samples=samples,
        labels=labels(model, samples),
        lengths=lengths,  # type: ignore[arg-type]
        features=np.concatenate([samples.common[None], samples.outlier]),  # type: ignore[arg-type]
        kernels=kernels,
        seeding=seeding,
        fields=DrawFields(zeros(t, count)),
        bases=Bases(zeros(1 + k, modes, count), np.zeros(1 + k, np.int32)),  # type: ignore[arg-type]
        history=empty_history(t, count, zeros),
        rounds=np.zeros(t, np.int32),  # type: ignore[arg-type]
        mismatch=zeros(t),
    )


@compilable(donated=["state"])
def draw_implicit(
    c: Couplings,
    steps: Steps,
    state: Draw,
    instant: Float[Array, "T cd"],
    first: Array,
    stop: Array,
    *,
    iteration: Iteration,
) -> Draw:
    """Solve rows first <= n < stop of the gradient flow; row 0 has no past, and moves nothing (h_0 = 0).

    It ends at a row that is not solved: nothing follows from it. That row and the later ones have a mismatch above
    `iteration.accepted`.
    """

    def body(reached: tuple[Array, Draw]) -> tuple[Array, Draw]:
        n, state = reached
        past = state.kernels.rows(lambda rows: steps.history(rows, n))

        def function(row: DrawRow) -> tuple[DrawRow, Drawn]:
            drawn = drawn_row(c, steps.weights, state, n, row, instant[n])
            return implied_draw(c, steps, state, n, row, past, drawn), drawn

        row, solution = solve_row(function, predicted_draw(state, n), iteration, state.kernels.rows(lambda rows: rows))
        seeding = implicit_seeding(c, steps, state.seeding, n, solution.seen.growth)
        state = revealed_row(c, steps, state, n, row, solution.seen)
        state = state._replace(seeding=put_rows(state.seeding, n, seeding))
        return n + 1, put(state, n, rounds=solution.rounds, mismatch=solution.mismatch)

    def goes_on(reached: tuple[Array, Draw]) -> Array:
        n, state = reached
        return (n < stop) & ((n == first) | (state.mismatch[n - 1] <= iteration.accepted))

    end, state = jax.lax.while_loop(goes_on, body, (first, state))
    rows = jnp.arange(len(state.mismatch))
    return state._replace(mismatch=jnp.where((end <= rows) & (rows < stop), jnp.inf, state.mismatch))


def revealed_row(c: Couplings, steps: Steps, state: Draw, n: Array, row: DrawRow, drawn: Drawn) -> Draw:
    """The state with row n, and the component on the v_m that it adds: without a past, it acts from the next row on."""
    revealed = reveal(c, state, drawn.force)
    new = steps.implicit(jnp.zeros_like(row.components), n, -drift(c, revealed, drawn.local), c.weight_decay)
    row = row._replace(components=jnp.where(new_mode(state, drawn.force), new, row.components))
    return store_draw(revealed, n, row, drawn)


def predicted_draw(state: Draw, n: Array) -> DrawRow:
    """First guess of row n: the response along its diagonal, the rest continued from the last two rows."""
    one, two = (state.kernels.rows(lambda rows: rows[at]) for at in (n - 1, jnp.maximum(n - 2, 0)))  # noqa: B023
    continued = jax.tree.map(lambda one, two: on_line(one, two, n), one, two)
    return continued._replace(
        response_bulk=along_diagonal(one.response_bulk, two.response_bulk, n), force_bulk=one.force_bulk
    )


@compilable(donated=["state"])
def draw_explicit(
    c: Couplings, steps: Steps, state: Draw, instant: Float[Array, "T cd"], first: Array, stop: Array
) -> Draw:
    """Rows first <= n < stop of gradient descent: evaluate row n, and step to row n + 1. `instant` is zero."""

    def body(n: Array, state: Draw) -> Draw:
        row = state.kernels.rows(lambda rows: rows[n])
        drawn = drawn_row(c, steps.weights, state, n, row, instant[n])
        row = row._replace(force_bulk=bulk_force_row(state, n, drawn.local))
        none = (None,) * len(state.seeding)
        grown = [row for row, _ in explicit_seeding(c, steps, state.seeding, n, drawn.growth, none)]
        state = store_draw(reveal(c, state, drawn.force), n, row, drawn)
        rows = next_draw(c, steps, state, n, row, drawn, jnp.stack([following.source for following in grown]))
        seeding = (put_next(of, n, **following._asdict()) for of, following in zip(state.seeding, grown, strict=True))
        return state._replace(kernels=put_next(state.kernels, n, **rows), seeding=tuple(seeding))

    return jax.lax.fori_loop(first, stop, body, state)


def next_draw(
    c: Couplings, steps: Steps, state: Draw, n: Array, row: DrawRow, drawn: Drawn, source: Float[Array, " K"]
) -> dict[str, Array]:
    """Equations 12.2, 4.8 and 4.10: row n + 1 from row n, which `state` holds."""
    local, kick = drawn.local, jnp.where(jnp.arange(len(steps.weights)) == n, 1.0, 0.0)

    def step(rows: Array, force: Array) -> Array:
        return steps.explicit(rows, n, force, c.weight_decay)

    initial = c.epsilon / c.alpha * (state.samples.weight @ (local.residual * local.bath.initial))
    return {
        "components": step(row.components, -drift(c, state, local)),
        "response_bulk": step(row.response_bulk, bulk_change(c, state, local)[0]) + kick,
        "target_overlap": step(row.target_overlap, target_drift(c, state, local)) + source,
        "response_initial": step(row.response_initial, initial),
    }
