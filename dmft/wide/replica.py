"""One replica of the wide theory: draw samples, solve all rows, read off the curves (THEORY section 4)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import solve_triangular

from dmft.models.model import Model
from dmft.twotime.engine import Iteration
from dmft.twotime.grid import Grid
from dmft.twotime.kernels import physical_response
from dmft.twotime.noise import Samples, draw_samples
from dmft.twotime.tolerance import MAX_REPLICAS
from dmft.wide.consistency import (
    differential_correlations,
    forces,
    seeding_source,
    target_overlap_violation,
    violation,
)
from dmft.wide.explicit import advance_explicit
from dmft.wide.history import Block
from dmft.wide.implicit import advance_implicit
from dmft.wide.observables import of_each, wide_observables
from dmft.wide.sectors import BySector
from dmft.wide.solution import Replica, SampleCurves
from dmft.wide.start import first_state, kinds, seed_overlaps, start_overlaps
from dmft.wide.state import Couplings, Kernels, Labels, State, empty_state


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How one replica is sampled: S samples (a power of two), K noise modes in each sector, "float64" or "float32".

    There is room for at least `capacity` rows.
    """

    samples: int
    modes: int
    precision: str
    capacity: int = 32


def couplings(model: Model, precision: str) -> Couplings:
    """The model's numbers."""
    numbers = (model.alpha, model.epsilon, model.kappa, model.weight_decay, seed_overlaps(model)[: kinds(model)])
    return Couplings(*(np.asarray(x, precision) for x in numbers))  # type: ignore[arg-type]


def start(model: Model, sampling: Sampling, seed: np.random.SeedSequence, capacity: int) -> State:
    """The state at t = 0, before any row."""
    about = sampling.samples, sampling.modes, sampling.precision, model.directions
    drawn = map(np.copy, _drawn(*about, seed.entropy, seed.spawn_key))  # what is given to a program is lost
    samples = Samples(*drawn)  # type: ignore[arg-type]
    return first_state(model, samples, capacity)


@functools.lru_cache(maxsize=2 * MAX_REPLICAS)
def _drawn(
    samples: int, modes: int, precision: str, directions: int, entropy: Any, spawn_key: tuple[int, ...]
) -> list[np.ndarray]:
    """The samples of a seed in NumPy: on another grid, and of another model, they are the same."""
    seed = np.random.SeedSequence(entropy, spawn_key=spawn_key)
    return [np.asarray(array) for array in draw_samples(samples, modes, seed, np.dtype(precision), directions)]


def state_shapes(model: Model, sampling: Sampling, capacity: int) -> State:
    """The arrays of a state with room for `capacity` rows, as shapes."""
    dtype = jnp.dtype(sampling.precision)

    def array(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    s, m, k = sampling.samples, sampling.modes, model.directions
    drawn = Samples(array(s), array(k, s), array(s), array(m, s), array(k, m, s))
    about = Labels(target=array(s), initial_output=array(s), slope=array(s))
    shapes = empty_state(drawn, about, capacity, kinds(model), array)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), shapes)


def method(grid: Grid, iteration: Iteration) -> tuple[Any, dict[str, Any]]:
    """The jitted function that advances the rows of this grid, and its static arguments."""
    return (advance_explicit, {}) if grid.explicit else (advance_implicit, {"iteration": iteration})


def read(model: Model, grid: Grid, state: State) -> Replica:
    """Curves and kernels of a finished replica as NumPy float64."""
    size = grid.size
    kernels = jax.tree.map(lambda array: np.asarray(array, np.float64)[:size], state.kernels)
    every = kernels.response[:, :, :size].swapaxes(0, 1)
    responses = by_sector(every)
    physical = by_sector(np.stack([physical_response(grid, array) for array in every]))
    first = propagator_correlations(model, grid, kernels, responses)
    force, source = forces(model, grid, state), seeding_source(grid, state)
    second = differential_correlations(model, start_overlaps(model), grid, force, source)
    train = (np.asarray(state.fields.residual) ** 2 @ np.asarray(state.samples.weight))[:size]
    along = mean_weight_overlap(model, grid, state)
    b = kernels.target_overlap
    return Replica(
        curves=wide_observables(model, train, b, first, along),
        differential=wide_observables(model, train, b, second, along),
        controls=control_variates(model, grid, state, force, source, first),
        kernels=named(model, first, "correlation") | named(model, physical, "response"),
        second=named(model, second, "correlation"),
        responses=responses,
        samples=sample_curves(state, size),
        mean_weight_overlap=along,
        bases=jax.tree.map(np.asarray, state.bases),
        rounds=np.asarray(state.rounds)[:size],
        mismatch=np.asarray(state.mismatch)[:size],
        rows=state.kernels.rows(np.asarray),
    )


def by_sector(every: np.ndarray) -> BySector:
    """R_c, R_d of each kind of direction and R_r from all of them in this order, (2 + G, T, T)."""
    return BySector(every[0], every[1:-1], every[-1])


def named(model: Model, kernels: BySector, kind: str) -> dict[str, np.ndarray]:
    """Under the names of the dataset; those of the outlier (T, T), or (K, T, T) of several directions."""
    outlier = kernels.outlier
    each = outlier[0] if model.directions == 1 else of_each(outlier, model.directions)
    return kernels._replace(outlier=each).named(kind)


def propagator_correlations(model: Model, grid: Grid, kernels: Kernels, responses: BySector) -> BySector:
    """C_c, C_q (of each kind of direction) and C_r of equation 4.11, (T, T) each, from kernels cut to the grid."""
    strength = 1 / (model.alpha**2 * model.kappa)
    common = (responses.common * grid.weights) @ kernels.factor[:, 0]
    outlier = (responses.outlier * grid.weights) @ kernels.factor[:, 1:].swapaxes(0, 1)
    b = kernels.target_overlap.T
    return BySector(
        strength * common @ common.T,
        strength * model.epsilon**2 * outlier @ outlier.swapaxes(1, 2) + b[:, :, None] * b[:, None],
        kernels.correlation_bulk[:, : grid.size],
    )


def mean_weight_overlap(model: Model, grid: Grid, state: State) -> np.ndarray:
    """(c . beta)^2/D^2 at finite D, which is C_cbeta(t, t)/D of equation 5.3, of each kind of direction, (T, G).

    The coordinate of c along beta obeys (4.7) with averages that u^2 weighs. With X the change of g, it is R_c f with
    f = xi - (1/alpha) int E[(u^2 - 1) X] f, and cov xi = E[u^2 g g]/(alpha^2 kappa).
    """
    size, count = grid.size, len(state.seeding)
    if model.dim is None:
        return np.zeros((size, count))
    weight, force, response = (
        np.asarray(array, np.float64)
        for array in (state.samples.weight, state.fields.force_common, state.kernels.response)
    )
    force, response = force[:size], response[:size, 0, :size]
    found = []
    for u in np.asarray(state.samples.u, np.float64)[:count]:
        changes = np.zeros((size, size))
        for block in state.history:
            assert isinstance(block, Block)
            rows = np.asarray(block.common)[: max(size - block.first, 0), 0, :size] @ (weight * (u**2 - 1))
            changes[block.first : block.first + len(rows), : rows.shape[1]] = rows
        source = solve_triangular(np.eye(size) + changes * grid.weights / model.alpha, force, lower=True)
        moved = (response * grid.weights) @ source
        found.append(moved**2 @ (weight * u**2) / (model.alpha**2 * model.kappa * model.dim))
    return np.stack(found, axis=1)


def control_variates(
    model: Model, grid: Grid, state: State, force: BySector, source: np.ndarray, correlations: BySector
) -> np.ndarray:
    """Violations of equation 4.12 for C_c and C_q (all directions) and of Stein's identity in u, (T, 3)."""
    common = violation(grid, model.weight_decay, force.common, correlations.common, np.zeros_like(source[0]))
    each = zip(force.outlier, correlations.outlier, source, strict=True)
    outlier = sum(violation(grid, model.weight_decay, *one) for one in each)
    return np.stack([common, outlier, target_overlap_violation(model, grid, state)], axis=-1)


def sample_curves(state: State, size: int) -> SampleCurves:
    """The samples and their processes on `size` times."""
    samples, fields = state.samples, state.fields
    residual, p, q = (np.asarray(array, np.float64)[:size] for array in (fields.residual, fields.p, fields.q))
    return SampleCurves(np.asarray(samples.u, np.float64), np.asarray(samples.weight, np.float64), residual, p, q)
