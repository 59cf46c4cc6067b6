"""One replica of the wide theory: draw samples, solve all rows, read off the curves (THEORY section 4)."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dmft.compiled.executables import executable
from dmft.losses.quadratic import test_loss_terms
from dmft.models.model import Model
from dmft.twotime.grid import ORDER, Grid
from dmft.twotime.kernels import physical_response
from dmft.twotime.noise import Samples, draw_samples
from dmft.wide.advance import Iteration, advance_explicit, advance_implicit, initial_row, start_state
from dmft.wide.consistency import (
    differential_correlations,
    forces,
    seed_source,
    target_overlap_violation,
    violation,
)
from dmft.wide.scatter import MODES, BulkScatter
from dmft.wide.state import Bases, Couplings, Residual, Scatter, State, Steps, empty_state, grow_state, state_bytes

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


class SampleCurves(NamedTuple):
    """The samples of a replica and their processes."""

    u: np.ndarray  # (S,)
    weight: np.ndarray  # (S,)
    residual: np.ndarray  # Delta, (T, S)
    p: np.ndarray  # (T, S)
    q: np.ndarray  # (T, S)


class Replica(NamedTuple):
    """What one replica predicts on its grid."""

    curves: dict[str, np.ndarray]  # OBSERVABLES, (T,) each, correlations in propagator form
    differential: dict[str, np.ndarray]  # the same with correlations in differential form
    controls: (
        np.ndarray
    )  # (T, 3), (T, 2) at finite D: zero-mean violations of exact identities, see dmft.wide.consistency
    kernels: dict[str, np.ndarray]  # KERNELS, (T, T) each
    second: dict[str, np.ndarray]  # the correlations in differential form, (T, T) each
    rule: tuple[np.ndarray, ...]  # R_c, R_d, R_r as the multistep rule has them, and C_r, (T, T) each
    samples: SampleCurves
    bases: Bases  # of the forces in sample space, (K, S) each
    rounds: np.ndarray  # (T,) inner iterations
    mismatch: np.ndarray  # (T,) what they left, relative


class Stopped(NamedTuple):
    """A replica that could not go on: the first row that failed, and the number of good rows' losses."""

    row: int
    reason: str


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
    scatter: BulkScatter | None = None,
    like: Replica | None = None,
) -> Replica | Stopped:
    """Solve one replica on `grid`.  Runs inside a precision context.

    Args:
        scatter: of the bulk, if the model's dim is set; None for none.
        like: a replica of the same seed and sampling on another grid.  The noise is then made of its modes first, so
            that both have the same noise but for what the grids differ by.
    """
    scatter = scatter or BulkScatter.none(grid.size)
    dtype = jnp.dtype(sampling.precision)
    couplings = Couplings(
        *(
            jnp.asarray(x, dtype)
            for x in (model.alpha, model.epsilon, model.kappa, model.weight_decay, _seed_overlap(model))
        )
    )
    function, static = _method(model, grid, iteration)
    state = _start(model, sampling, seed, couplings, grid, scatter)
    if like is not None:
        state = state._replace(bases=jax.tree.map(jnp.asarray, like.bases))
    row = 0 if grid.explicit else 1
    while row < grid.size:
        capacity = state.rounds.shape[0]
        # an explicit step also writes the kernels of the next row
        stop = grid.size if capacity >= grid.size else capacity - int(grid.explicit)
        arguments = (couplings, _steps(grid, capacity, dtype), state, np.int32(row), np.int32(stop))
        state = executable(function, arguments, static)(*arguments)
        failure = _failure(state, row, stop, iteration)
        if failure is not None:
            return failure
        row = stop
        if row < grid.size:
            capacity = min(last for last in capacities_for(grid.size) if last > capacity)
            state = grow_state(state, _scatter(model, scatter, state.samples, capacity), capacity)
    return _read(model, grid, state, scatter)


def _seed_overlap(model: Model) -> float:
    """overlap(0) of a random initialisation, 1/D; 0 if the overlap is planted or D is infinite."""
    return 0.0 if model.dim is None or model.initial_overlap > 0 else 1.0 / model.dim


def initial_overlap(model: Model) -> float:
    """overlap(0) = b(0)^2: planted, or 1/D."""
    return model.initial_overlap or _seed_overlap(model)


def _scatter(model: Model, scatter: BulkScatter, samples: Samples, capacity: int) -> Scatter:
    """The scatter of each sample, for `capacity` rows; no modes at infinite D."""
    kept = 0 if model.dim is None else len(scatter.norm)
    dtype, rows = samples.u.dtype, min(capacity, len(scatter.spread))

    def padded(modes: np.ndarray) -> Any:
        array = np.zeros((kept, capacity, capacity))
        array[:, :rows, :rows] = modes[:kept, :rows, :rows]
        return jnp.asarray(array, dtype)

    amplitude = jnp.concatenate([samples.bulk, (samples.u**2 - 1)[None] / 2**0.5])[:kept]
    norm = jnp.asarray(scatter.norm[:kept], dtype)
    across = 1 + norm[:MODES] @ amplitude[:MODES]
    memory = np.zeros((capacity, capacity))
    memory[:rows, :rows] = scatter.memory[:rows, :rows]
    return Scatter(
        amplitude=amplitude,
        correlation=padded(scatter.correlation),
        response=padded(scatter.response),
        norm=across + norm[MODES:] @ amplitude[MODES:],
        across=across,
        memory=jnp.asarray(memory, dtype),
    )


def _start(
    model: Model,
    sampling: Sampling,
    seed: np.random.SeedSequence,
    couplings: Couplings,
    grid: Grid,
    scatter: BulkScatter,
) -> State:
    dtype = couplings.alpha.dtype
    samples = draw_samples(sampling.samples, sampling.modes, seed, dtype)
    target = 0.5 * samples.u**2 + model.label_noise * samples.label
    capacity = capacities_for(grid.size)[0]
    seen = _scatter(model, scatter, samples, capacity)
    variance = 1 + seen.amplitude.T @ seen.correlation[:, 0, 0]
    output = 0.5 * model.alpha * model.epsilon * (initial_overlap(model) * samples.u**2 + variance)
    switch = jnp.asarray(float(model.centered), dtype)
    slope = model.alpha * model.epsilon * initial_overlap(model)
    residual = Residual(target, switch * output, switch * slope)
    m_0 = jnp.asarray(initial_overlap(model) ** 0.5, dtype)
    state = start_state(couplings, residual, samples, seen, m_0, capacity)
    return state if grid.explicit else initial_row(couplings, state)


def _steps(grid: Grid, capacity: int, dtype: Any) -> Steps:
    """The grid's multistep weights for `capacity` rows; rows beyond the grid get weight 0."""

    rows = min(capacity, grid.size)
    weights, past = np.zeros(capacity), np.zeros((capacity, grid.past.shape[1]))
    weights[:rows], past[:rows] = grid.weights[:rows], grid.past[:rows]
    return Steps(jnp.asarray(weights, dtype), jnp.asarray(past, dtype))


def compile_ahead(model: Model, grid: Grid, sampling: Sampling, iteration: Iteration, capacity: int) -> None:
    """Compile the work on rows of one capacity.  Several threads may call it for several capacities at once."""
    dtype = jnp.dtype(sampling.precision)

    def array(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    s, k = sampling.samples, sampling.modes
    modes = 0 if model.dim is None else MODES + 1  # that along beta
    samples = Samples(array(s), array(s), array(s), array(MODES, s), array(k, s), array(k, s))
    residual = Residual(array(s), array(s), array())
    square = array(modes, capacity, capacity)
    scatter = Scatter(array(modes, s), square, square, array(s), array(s), array(capacity, capacity))
    state = jax.eval_shape(lambda a, b, c: empty_state(a, b, c, capacity), samples, residual, scatter)
    couplings = Couplings(*(array() for _ in Couplings._fields))
    row = jax.ShapeDtypeStruct((), jnp.int32)
    function, static = _method(model, grid, iteration)
    executable(function, (couplings, Steps(array(capacity), array(capacity, ORDER)), state, row, row), static)


def _method(model: Model, grid: Grid, iteration: Iteration) -> tuple[Any, dict[str, Any]]:
    """The jitted function that advances the rows of this grid, and its static arguments."""
    seeded = _seed_overlap(model) > 0
    if grid.explicit:
        return advance_explicit, {"seeded": seeded}
    return advance_implicit, {"seeded": seeded, "iteration": iteration}


def _failure(state: State, first: int, stop: int, iteration: Iteration) -> Stopped | None:
    """The first row of first <= n < stop that did not converge, is not finite or exploded."""
    loss = np.asarray(state.fields.residual**2 @ state.samples.weight)[:stop]
    mismatch = np.asarray(state.mismatch)[:stop]
    rounds = np.asarray(state.rounds)[:stop]
    start = loss[0]
    for row in range(first, stop):
        if not np.isfinite(loss[row]) or loss[row] > 1e3 * max(start, 1e-300):
            return Stopped(row, "diverged")
        if not mismatch[row] <= iteration.accepted:
            return Stopped(row, f"residual {mismatch[row]:.1e} after {rounds[row]} rounds")
        if np.any(np.asarray(state.fields.variance[row]) < 0):
            return Stopped(row, "negative variance of the bath")
    return None


def _read(model: Model, grid: Grid, state: State, scatter: BulkScatter) -> Replica:
    """Curves and kernels of a finished replica as NumPy float64."""
    size = grid.size
    kernels = jax.tree.map(lambda array: np.asarray(array, np.float64)[:size], state.kernels)
    square = {
        name: getattr(kernels, name)[:, :size]
        for name in ("response_common", "response_outlier", "response_bulk", "correlation_bulk")
    }
    strength = 1 / (model.alpha**2 * model.kappa)
    noise_c = (square["response_common"] * grid.weights) @ kernels.factor_common
    noise_d = (square["response_outlier"] * grid.weights) @ kernels.factor_outlier
    b = kernels.target_overlap
    bulk = np.tril(square["correlation_bulk"])
    propagator = {
        "correlation_common": strength * noise_c @ noise_c.T,
        "correlation_outlier": strength * model.epsilon**2 * noise_d @ noise_d.T + np.outer(b, b),
        "correlation_bulk": bulk + np.tril(bulk, -1).T,
    }
    force = forces(model, grid, state)
    source = seed_source(grid, state)
    differential = differential_correlations(model, initial_overlap(model), grid, force, source)
    controls = [
        violation(grid, model.weight_decay, force[name], propagator[name], added)
        for name, added in (("correlation_common", np.zeros_like(source)), ("correlation_outlier", source))
    ]
    if model.dim is None:  # else a sample's bath depends on u, and Stein's identity has more terms
        controls.append(target_overlap_violation(model, grid, state))
    train = np.asarray(state.fields.residual**2 @ state.samples.weight, np.float64)[:size]
    return Replica(
        curves=wide_observables(model, train, b, propagator, scatter),
        differential=wide_observables(model, train, b, differential, scatter),
        controls=np.stack(controls, axis=-1),
        kernels=propagator
        | {name: physical_response(grid, square[name]) for name in square if name.startswith("response")},
        second=differential,
        rule=(*list(square.values())[:3], propagator["correlation_bulk"]),
        samples=SampleCurves(
            *(np.asarray(array, np.float64) for array in (state.samples.u, state.samples.weight)),
            *(np.asarray(getattr(state.fields, name), np.float64)[:size] for name in ("residual", "p", "q")),
        ),
        bases=jax.tree.map(np.asarray, state.bases),
        rounds=np.asarray(state.rounds)[:size],
        mismatch=np.asarray(state.mismatch)[:size],
    )


def wide_observables(
    model: Model,
    train_loss: np.ndarray,
    target_overlap: np.ndarray,
    correlations: dict[str, np.ndarray],
    scatter: BulkScatter,
) -> dict[str, np.ndarray]:
    """Every observable from the equal-time kernels (THEORY section 4, "Losses").

    trace = C_r + C_c + C_q, overlap = b^2, and with E = alpha epsilon M' - beta beta^T
    tr E/D = alpha epsilon trace' - 1,
    |E|_F^2/D^2 = (alpha epsilon)^2 (C_q'^2 + C_c^2) - 2 alpha epsilon b'^2 + 1.
    Centred: trace' = trace - trace(0), and the spike part is that of d d^T - d(0) d(0)^T with d(0) = m0 beta.
    If the model's dim is set, what finite D changes in these formulas alone is included: the bulk fills D - 1 of the
    D directions, and its own |M'|_F^2/D^2 is (1 - 1/D)/D times tr M'^2/D = spread C_r^2 (centred: - 2 C_r + 1); and c
    has a component along beta, of the variance C_cb, that adds C_cb/D to the overlap (see dmft.wide.label_direction).
    """
    c_c, c_q, c_r = (np.diagonal(correlations[f"correlation_{sector}"]) for sector in ("common", "outlier", "bulk"))
    per_dim = 0.0 if model.dim is None else 1.0 / model.dim
    along, spiked = per_dim * scatter.common_along, target_overlap**2
    c_c = c_c + along - per_dim * scatter.common_counted
    trace, overlap = (1 - per_dim) * c_r + c_c + c_q, spiked + along
    planted = overlap[0] if model.centered else 0.0
    spike = c_q**2 + 2 * along * spiked - 2 * planted * overlap + planted**2
    bulk = per_dim * (1 - per_dim) * (scatter.spread * c_r**2 - (2 * c_r - 1 if model.centered else 0.0))
    strength = model.alpha * model.epsilon
    loss = test_loss_terms(
        model.alpha,
        strength * (trace - (trace[0] if model.centered else 0.0)) - 1,
        strength**2 * (spike + c_c**2 + bulk) - 2 * strength * (overlap - planted) + 1,
        c_c,
    )
    values = {"train_loss": train_loss, "trace": trace, "overlap": overlap, "mean_weight_norm": c_c}
    return values | loss._asdict()
