"""The rows of one data set that is drawn (equations 12.1 and 12.2): the start, the flow's rows, and discrete steps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from dmft.compiled.executables import compilable
from dmft.twotime.anderson import anderson
from dmft.twotime.engine import Iteration
from dmft.twotime.noise import Samples
from dmft.twotime.steps import Steps
from dmft.wide.averages import bulk_force_row, force_row, target_drift
from dmft.wide.dataset import Drawn, bulk_change, drawn_row, drift, implied_draw, new_mode, reveal, store_draw
from dmft.wide.drawn import Draw, DrawFields, DrawHistory, DrawKernels, DrawRow
from dmft.wide.implicit import along_diagonal, block_scale, continued
from dmft.wide.seeding import explicit_seeding_row, implicit_seeding_row, start_seeding
from dmft.wide.start import labels
from dmft.wide.state import Bases, Couplings, Seeding, put


def draw_numbers(
    samples: int, dim: float, modes: int, seed: np.random.SeedSequence, coordinates: np.random.SeedSequence, dtype: Any
) -> tuple[Samples, np.ndarray]:
    """P independent samples with u > 0 (each stands for a mirror pair), and the lengths t_m, (2, K).

    Args:
        seed, coordinates: of the samples and of the lengths.
    """
    normals = np.random.default_rng(seed).standard_normal((2 + 2 * modes, samples))
    squares = np.random.default_rng(coordinates).chisquare(dim - np.arange(modes), (2, modes))
    arrays = (np.full(samples, 1 / samples), np.abs(normals[0]), normals[1], normals[2::2], normals[3::2])
    return Samples(*(np.asarray(array, dtype) for array in arrays)), np.asarray(np.sqrt(squares / dim), dtype)


@compilable()
def first_draw(
    c: Couplings,
    samples: Samples,
    lengths: Array,
    overlap: Array,
    noise: Array,
    centered: Array,
    *,
    capacity: int,
    flow: bool,
) -> Draw:
    """The state at t = 0, with row 0 of the flow, and room for `capacity` rows."""
    (modes, count), t, dtype = samples.common.shape, capacity, samples.u.dtype

    def zeros(*shape: int) -> Array:
        return jnp.zeros(shape, dtype)

    kernels = DrawKernels(
        zeros(t, 2, modes), zeros(t, 2, modes), *(zeros(*s) for s in ((t, t), (t, t), (t,), (t,), (t, t)))
    )
    state = Draw(
        samples=samples,
        labels=labels(c, samples, overlap, noise, centered),
        lengths=lengths,
        features=jnp.stack([samples.common, samples.outlier]),
        kernels=put(kernels, jnp.int32(0), target_overlap=jnp.sqrt(overlap), response_initial=1.0),
        seeding=start_seeding(c, Seeding(zeros(t, t), zeros(t, t), zeros(t), zeros(t), zeros(t))),
        fields=DrawFields(zeros(t, count), zeros(t, count)),
        bases=Bases(zeros(2, modes, count), jnp.zeros(2, jnp.int32)),
        history=DrawHistory(*(zeros(t, count, t) for _ in DrawHistory._fields)),
        rounds=jnp.zeros(t, jnp.int32),
        mismatch=zeros(t),
    )
    return initial_draw(c, state) if flow else state


def initial_draw(c: Couplings, state: Draw) -> Draw:
    """Row 0 of the flow: p = 0, q = m0 u, V = 1, and the first mode."""
    kernels, history, about = state.kernels, state.history, state.labels
    q = kernels.target_overlap[0] * state.samples.u
    delta = 0.5 * c.alpha * c.epsilon * (q**2 + 1) - about.initial_output - about.target
    state = state._replace(
        kernels=kernels._replace(
            response_bulk=kernels.response_bulk.at[0, 0].set(1.0),
            correlation_bulk=kernels.correlation_bulk.at[0, 0].set(1.0),
        ),
        fields=put(state.fields, jnp.int32(0), residual=delta, initial=jnp.ones_like(delta)),
        history=history._replace(
            bath=history.bath.at[0, :, 0].set(1.0),
            force_correlation=history.force_correlation.at[0, :, 0].set(delta),
        ),
    )
    return reveal(c, state, force_row(state, jnp.stack([delta, q * delta])))


@compilable(donated=["state"])
def draw_implicit(
    c: Couplings,
    steps: Steps,
    state: Draw,
    instant: Float[Array, "T 2"],
    first: Array,
    stop: Array,
    *,
    iteration: Iteration,
) -> Draw:
    """Solve rows first <= n < stop of the gradient flow; row 0 must be there."""

    def body(n: Array, state: Draw) -> Draw:
        past = state.kernels.rows(lambda rows: steps.history(rows, n))
        guess = predicted_draw(state, n)
        start, unravel = ravel_pytree(guess)

        def function(x: Array) -> tuple[Array, Drawn]:
            row = unravel(x)
            drawn = drawn_row(c, steps.weights, state, n, row, instant[n])
            return ravel_pytree(implied_draw(c, steps, state, n, row, past, drawn))[0], drawn

        solution = anderson(
            function,
            start,
            ravel_pytree(jax.tree.map(block_scale, guess))[0],
            tolerance=iteration.tolerance,
            depth=iteration.depth,
            max_rounds=iteration.max_rounds,
        )
        drawn = solution.seen
        seeding = implicit_seeding_row(c, steps, state.seeding, n, drawn.growth)
        revealed = reveal(c, state, drawn.force)
        # the component on the new v_m has no past, and acts from the next row on
        new = steps.implicit(jnp.zeros_like(past.components), n, -drift(c, revealed, drawn.local), c.weight_decay)
        row = unravel(solution.value)
        row = row._replace(components=jnp.where(new_mode(state, drawn.force), new, row.components))
        state = store_draw(c, steps.weights, revealed, n, row, drawn)
        state = state._replace(seeding=put(state.seeding, n, **seeding._asdict()))
        return put(state, n, rounds=solution.rounds, mismatch=solution.mismatch)

    return jax.lax.fori_loop(first, stop, body, state)


def predicted_draw(state: Draw, n: Array) -> DrawRow:
    """First guess of row n: the response along its diagonal, the rest continued from the last two rows."""
    kernels = state.kernels
    return DrawRow(
        components=continued(kernels.components, n),
        factor=continued(kernels.factor, n),
        response_bulk=along_diagonal(kernels.response_bulk, n),
        force_bulk=kernels.force_bulk[n - 1],
        target_overlap=continued(kernels.target_overlap, n),
        response_initial=continued(kernels.response_initial, n),
    )


@compilable(donated=["state"])
def draw_explicit(
    c: Couplings, steps: Steps, state: Draw, instant: Float[Array, "T 2"], first: Array, stop: Array
) -> Draw:
    """Rows first <= n < stop of gradient descent: evaluate row n, and step to row n + 1. `instant` is zero."""

    def body(n: Array, state: Draw) -> Draw:
        row = state.kernels.rows(lambda rows: rows[n])
        drawn = drawn_row(c, steps.weights, state, n, row, instant[n])
        row = row._replace(force_bulk=bulk_force_row(state, n, drawn.local))
        following = explicit_seeding_row(c, steps, state.seeding, n, drawn.growth)
        state = store_draw(c, steps.weights, reveal(c, state, drawn.force), n, row, drawn)
        last = n + 1 == len(steps.weights)
        at = jnp.where(last, 0, n + 1)  # the last row has no successor

        def following_rows(rows: Any, new: dict[str, Array]) -> Any:
            return put(
                rows, at, **{name: jnp.where(last, getattr(rows, name)[at], value) for name, value in new.items()}
            )

        return state._replace(
            kernels=following_rows(state.kernels, next_draw(c, steps, state, n, row, drawn, following.source)),
            seeding=following_rows(state.seeding, following._asdict()),
        )

    return jax.lax.fori_loop(first, stop, body, state)


def next_draw(
    c: Couplings, steps: Steps, state: Draw, n: Array, row: DrawRow, drawn: Drawn, source: Float[Array, ""]
) -> dict[str, Array]:
    """Equations 12.2, 4.8 and 4.10: row n + 1 from row n, which `state` holds."""
    local, kick = drawn.local, jnp.where(jnp.arange(len(steps.weights)) == n, 1.0, 0.0)

    def step(rows: Array, force: Array) -> Array:
        return steps.explicit(rows, n, force, c.weight_decay)

    initial = c.epsilon / c.alpha * (state.samples.weight @ (local.residual * state.fields.initial[n]))
    return {
        "components": step(row.components, -drift(c, state, local)),
        "response_bulk": step(row.response_bulk, bulk_change(c, state, local)[0]) + kick,
        "target_overlap": step(row.target_overlap, target_drift(c, state, local)) + source,
        "response_initial": step(row.response_initial, initial),
    }
