"""One replica of the wide theory: draw samples, solve all rows, read off the curves (THEORY section 4)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dmft.losses.quadratic import test_loss_terms
from dmft.models.model import Model
from dmft.twotime.engine import Iteration
from dmft.twotime.grid import Grid
from dmft.twotime.kernels import physical_response
from dmft.twotime.noise import Samples, draw_samples
from dmft.wide.advance import advance_explicit, advance_implicit, initial_row, start_state
from dmft.wide.consistency import (
    differential_correlations,
    forces,
    seed_source,
    target_overlap_violation,
    violation,
)
from dmft.wide.solution import Replica, SampleCurves
from dmft.wide.state import Couplings, Residual, State, empty_state


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How one replica is sampled: S samples (a power of two), K noise modes in each sector, "float64" or "float32"."""

    samples: int
    modes: int
    precision: str


def _seed_overlap(model: Model) -> float:
    """overlap(0) of a random initialisation, 1/D; 0 if the overlap is planted or D is infinite."""
    return 0.0 if model.dim is None or model.initial_overlap > 0 else 1.0 / model.dim


def initial_overlap(model: Model) -> float:
    """overlap(0) = b(0)^2: planted, or 1/D."""
    return model.initial_overlap or _seed_overlap(model)


def couplings(model: Model, precision: str) -> Couplings:
    """The model's numbers."""
    numbers = (model.alpha, model.epsilon, model.kappa, model.weight_decay, _seed_overlap(model))
    return Couplings(*(np.asarray(x, precision) for x in numbers))  # type: ignore[arg-type]


def state_shapes(sampling: Sampling, capacity: int) -> State:
    """The arrays of a state with room for `capacity` rows, as shapes."""
    dtype = jnp.dtype(sampling.precision)

    def array(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    s, k = sampling.samples, sampling.modes
    samples = Samples(array(s), array(s), array(s), array(k, s), array(k, s))
    residual = Residual(array(s), array(s), array())
    return jax.eval_shape(lambda a, b: empty_state(a, b, capacity), samples, residual)


def start(model: Model, grid: Grid, sampling: Sampling, seed: np.random.SeedSequence, capacity: int) -> State:
    """The state at t = 0, with row 0 of the flow."""
    c, dtype = couplings(model, sampling.precision), jnp.dtype(sampling.precision)
    samples = draw_samples(sampling.samples, sampling.modes, seed, dtype)
    target = 0.5 * samples.u**2 + model.label_noise * samples.label
    output = 0.5 * model.alpha * model.epsilon * (initial_overlap(model) * samples.u**2 + 1)
    switch = jnp.asarray(float(model.centered), dtype)
    slope = model.alpha * model.epsilon * initial_overlap(model)
    residual = Residual(target, switch * output, switch * slope)
    m_0 = jnp.asarray(initial_overlap(model) ** 0.5, dtype)
    state = start_state(c, residual, samples, m_0, capacity)
    return state if grid.explicit else initial_row(c, state)


def method(model: Model, grid: Grid, iteration: Iteration) -> tuple[Any, dict[str, Any]]:
    """The jitted function that advances the rows of this grid, and its static arguments."""
    seeded = _seed_overlap(model) > 0
    if grid.explicit:
        return advance_explicit, {"seeded": seeded}
    return advance_implicit, {"seeded": seeded, "iteration": iteration}


def read(model: Model, grid: Grid, state: State) -> Replica:
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
    controls.append(target_overlap_violation(model, grid, state))
    train = np.asarray(state.fields.residual**2 @ state.samples.weight, np.float64)[:size]
    return Replica(
        curves=wide_observables(model, train, b, propagator),
        differential=wide_observables(model, train, b, differential),
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
) -> dict[str, np.ndarray]:
    """Every observable from the equal-time kernels (THEORY section 4, "Losses").

    trace = C_r + C_c + C_q, overlap = b^2, and with E = alpha epsilon M' - beta beta^T
    tr E/D = alpha epsilon trace' - 1,
    |E|_F^2/D^2 = (alpha epsilon)^2 (C_q'^2 + C_c^2) - 2 alpha epsilon b'^2 + 1.
    Centred: trace' = trace - trace(0), and the spike part is that of d d^T - d(0) d(0)^T with d(0) = m0 beta.
    If the model's dim is set, what finite D changes in these formulas alone is included: the bulk fills D - 1 of the
    D directions, and its own |M'|_F^2/D^2 is (1 - 1/D)/D C_r^2, or (C_r - 1)^2 in place of C_r^2 if centred, as for a
    bulk that is a multiple of one.  That is exact at t = 0.
    """
    c_c, c_q, c_r = (np.diagonal(correlations[f"correlation_{sector}"]) for sector in ("common", "outlier", "bulk"))
    per_dim = 0.0 if model.dim is None else 1.0 / model.dim
    trace, overlap = (1 - per_dim) * c_r + c_c + c_q, target_overlap**2
    planted = overlap[0] if model.centered else 0.0
    spike = c_q**2 - 2 * planted * overlap + planted**2
    bulk = per_dim * (1 - per_dim) * (c_r - (1.0 if model.centered else 0.0)) ** 2
    strength = model.alpha * model.epsilon
    loss = test_loss_terms(
        model.alpha,
        strength * (trace - (trace[0] if model.centered else 0.0)) - 1,
        strength**2 * (spike + c_c**2 + bulk) - 2 * strength * (overlap - planted) + 1,
        c_c,
    )
    values = {"train_loss": train_loss, "trace": trace, "overlap": overlap, "mean_weight_norm": c_c}
    return values | loss._asdict()
