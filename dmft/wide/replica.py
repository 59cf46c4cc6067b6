"""One replica of the wide theory: draw samples, solve all rows, read off the curves (THEORY section 4)."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dmft.models.model import Model
from dmft.twotime.compiled import executable
from dmft.twotime.grid import ORDER, Grid
from dmft.twotime.kernels import physical_response
from dmft.twotime.noise import Samples, draw_samples
from dmft.twotime.steps import Steps, multistep
from dmft.wide.advance import Iteration
from dmft.wide.consistency import (
    differential_correlations,
    forces,
    seeding_source,
    target_overlap_violation,
    violation,
)
from dmft.wide.explicit import advance_explicit
from dmft.wide.implicit import advance_implicit
from dmft.wide.observables import wide_observables
from dmft.wide.sectors import BySector
from dmft.wide.solution import Replica, SampleCurves, Stopped
from dmft.wide.start import initial_row, labels, start_state
from dmft.wide.state import Couplings, Kernels, Labels, State, empty_state, grow_state, state_bytes

#: Row capacities: the work on rows of one capacity is compiled once.  A replica starts in a small one and grows.
CAPACITIES = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How one replica is sampled: S samples (a power of two), K noise modes in each sector, "float64" or "float32"."""

    samples: int
    modes: int
    precision: str

    @classmethod
    def choose(cls, samples: int, points: int, precision: str) -> Sampling:
        """As many modes as points, up to half the samples."""
        return cls(samples, min(points, samples // 2), precision)


def replica_bytes(points: int, sampling: Sampling) -> int:
    """Memory of one replica at its largest, in bytes: the state, and its copy while it grows or is read."""
    itemsize = 8 if sampling.precision == "float64" else 4
    return int(1.6 * state_bytes(capacity_for(points), sampling.samples, sampling.modes, itemsize))


def capacities_for(points: int) -> list[int]:
    """The capacities that a replica of `points` rows passes through."""
    last = capacity_for(points)
    doubling = (32 * 2**power for power in range(9))
    return [capacity for capacity in doubling if capacity < last] + [last]


def capacity_for(points: int) -> int:
    """The smallest capacity that holds `points` rows."""
    return next((capacity for capacity in CAPACITIES if capacity >= points), points)


def solve_replica(
    model: Model,
    grid: Grid,
    sampling: Sampling,
    seed: np.random.SeedSequence,
    iteration: Iteration,
    like: Replica | None = None,
) -> Replica | Stopped:
    """Solve one replica on `grid`.  Runs inside a precision context.

    Args:
        like: a replica of the same seed and sampling on another grid.  The noise is then made of its modes first, so
            that both have the same noise but for what the grids differ by.
    """
    capacities, c = capacities_for(grid.size), couplings(model, sampling.precision)
    function, static = method(model, grid, iteration)
    state = start(model, grid, sampling, seed, capacities[0])
    if like is not None:
        state = state._replace(bases=jax.tree.map(jnp.asarray, like.bases))
    row = 0 if grid.explicit else 1
    for capacity in capacities:
        state = grow_state(state, capacity)
        # an explicit step also writes the kernels of the next row
        stop = grid.size if capacity >= grid.size else capacity - int(grid.explicit)
        arguments = (c, multistep(grid, capacity, c.alpha.dtype), state, jnp.int32(row), jnp.int32(stop))
        state = executable(function, arguments, static)(*arguments)
        failure = _failure(state, row, stop, iteration)
        if failure is not None:
            return failure
        row = stop
    return read(model, grid, state)


def seed_overlap(model: Model) -> float:
    """overlap(0) of a random initialisation, 1/D; 0 if the overlap is planted or D is infinite."""
    return 0.0 if model.dim is None or model.initial_overlap > 0 else 1.0 / model.dim


def initial_overlap(model: Model) -> float:
    """overlap(0) = b(0)^2: planted, or 1/D."""
    return model.initial_overlap or seed_overlap(model)


def couplings(model: Model, precision: str) -> Couplings:
    """The model's numbers."""
    numbers = (model.alpha, model.epsilon, model.kappa, model.weight_decay, seed_overlap(model))
    return Couplings(*(jnp.asarray(x, jnp.dtype(precision)) for x in numbers))


def start(model: Model, grid: Grid, sampling: Sampling, seed: np.random.SeedSequence, capacity: int) -> State:
    """The state at t = 0, with row 0 of the flow."""
    c = couplings(model, sampling.precision)
    dtype = c.alpha.dtype
    samples = draw_samples(sampling.samples, sampling.modes, seed, dtype)
    about = labels(c, samples, initial_overlap(model), model.label_noise, float(model.centered))
    m_0 = jnp.asarray(initial_overlap(model) ** 0.5, dtype)
    state = start_state(c, about, samples, m_0, capacity)
    return state if grid.explicit else initial_row(c, state)


def state_shapes(sampling: Sampling, capacity: int) -> State:
    """The arrays of a state with room for `capacity` rows, as shapes."""
    dtype = jnp.dtype(sampling.precision)

    def array(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    s, k = sampling.samples, sampling.modes
    samples = Samples(weight=array(s), u=array(s), label=array(s), common=array(k, s), outlier=array(k, s))
    about = Labels(target=array(s), initial_output=array(s), initial_slope=array())
    return jax.eval_shape(partial(empty_state, capacity=capacity), samples, about)


def compile_ahead(model: Model, grid: Grid, sampling: Sampling, iteration: Iteration, capacity: int) -> None:
    """Compile the work on rows of one capacity.  Several threads may call it for several capacities at once."""
    dtype = jnp.dtype(sampling.precision)

    def array(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    c, steps = Couplings(*(array() for _ in Couplings._fields)), Steps(array(capacity), array(capacity, ORDER))
    row = jax.ShapeDtypeStruct((), jnp.int32)
    function, static = method(model, grid, iteration)
    executable(function, (c, steps, state_shapes(sampling, capacity), row, row), static)


def method(model: Model, grid: Grid, iteration: Iteration) -> tuple[Any, dict[str, Any]]:
    """The jitted function that advances the rows of this grid, and its static arguments."""
    seeded = seed_overlap(model) > 0
    if grid.explicit:
        return advance_explicit, {"seeded": seeded}
    return advance_implicit, {"seeded": seeded, "iteration": iteration}


def _failure(state: State, first: int, stop: int, iteration: Iteration) -> Stopped | None:
    """The first row of first <= n < stop that did not converge, is not finite or exploded."""
    loss = np.asarray(state.fields.residual**2 @ state.samples.weight)[:stop]
    mismatch = np.asarray(state.mismatch)[:stop]
    rounds = np.asarray(state.rounds)[:stop]
    for row in range(first, stop):
        if not np.isfinite(loss[row]) or loss[row] > 1e3 * max(loss[0], 1e-300):
            return Stopped(row, "diverged")
        if not mismatch[row] <= iteration.accepted:
            return Stopped(row, f"residual {mismatch[row]:.1e} after {rounds[row]} rounds")
        if np.any(np.asarray(state.fields.variance[row]) < 0):
            return Stopped(row, "negative variance of the bath")
    return None


def read(model: Model, grid: Grid, state: State) -> Replica:
    """Curves and kernels of a finished replica as NumPy float64."""
    size = grid.size
    kernels = jax.tree.map(lambda array: np.asarray(array, np.float64)[:size], state.kernels)
    rule = (kernels.response_common, kernels.response_outlier, kernels.response_bulk)
    responses = BySector(*(array[:, :size] for array in rule))
    physical = BySector(*(physical_response(grid, array) for array in responses))
    first = propagator_correlations(model, grid, kernels, responses)
    force, source = forces(model, grid, state), seeding_source(grid, state)
    second = differential_correlations(model, initial_overlap(model), grid, force, source)
    train, b = np.asarray(state.fields.residual**2 @ state.samples.weight)[:size], kernels.target_overlap
    return Replica(
        curves=wide_observables(model, train, b, first),
        differential=wide_observables(model, train, b, second),
        controls=control_variates(model, grid, state, force, source, first),
        kernels=first.named("correlation") | physical.named("response"),
        second=second.named("correlation"),
        responses=responses,
        samples=sample_curves(state, size),
        bases=jax.tree.map(np.asarray, state.bases),
        rounds=np.asarray(state.rounds)[:size],
        mismatch=np.asarray(state.mismatch)[:size],
    )


def propagator_correlations(model: Model, grid: Grid, kernels: Kernels, responses: BySector) -> BySector:
    """C_c, C_q and C_r of equation 4.11, (T, T) each, from kernels cut to the grid."""
    strength = 1 / (model.alpha**2 * model.kappa)
    common = (responses.common * grid.weights) @ kernels.factor_common
    outlier = (responses.outlier * grid.weights) @ kernels.factor_outlier
    b = kernels.target_overlap
    bulk = np.tril(kernels.correlation_bulk[:, : grid.size])
    return BySector(
        strength * common @ common.T,
        strength * model.epsilon**2 * outlier @ outlier.T + np.outer(b, b),
        bulk + np.tril(bulk, -1).T,
    )


def control_variates(
    model: Model, grid: Grid, state: State, force: BySector, source: np.ndarray, correlations: BySector
) -> np.ndarray:
    """Violations of equation 4.12 for C_c and C_q and of Stein's identity in u, (T, 3)."""
    common = violation(grid, model.weight_decay, force.common, correlations.common, np.zeros_like(source))
    outlier = violation(grid, model.weight_decay, force.outlier, correlations.outlier, source)
    return np.stack([common, outlier, target_overlap_violation(model, grid, state)], axis=-1)


def sample_curves(state: State, size: int) -> SampleCurves:
    """The samples and their processes on `size` times."""
    samples, fields = state.samples, state.fields
    residual, p, q = (np.asarray(array, np.float64)[:size] for array in (fields.residual, fields.p, fields.q))
    return SampleCurves(np.asarray(samples.u, np.float64), np.asarray(samples.weight, np.float64), residual, p, q)
