"""How far curves of one data set lie from the theory's: the scatter of several that are drawn (`dmft.wide.dataset`).

A standard deviation over data sets falls like D^-1/2. So data sets of fewer samples than asked for tell it as well, by
(D'/D)^1/2 and relative to their own mean, and cost less. What they tell differently is of order 1/D'. The scatter of
N draws is known to (2 N)^-1/2, and D' grows like N^1/2, so that both fall together.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from dmft.checks import ConvergenceError, precision_context
from dmft.compiled.executables import executable
from dmft.losses.quadratic import overlaps
from dmft.models.model import Model
from dmft.twotime.engine import Plan, Report, capacity_of
from dmft.twotime.grid import Grid, implicit_grid, resampled_times
from dmft.twotime.replicas import side_by_side
from dmft.twotime.spread import DRAWS, SOURCES, Spread, Spreads
from dmft.twotime.steps import multistep
from dmft.wide.dataset_rows import draw_explicit, draw_implicit, draw_numbers, first_draw
from dmft.wide.drawn import Draw
from dmft.wide.observables import of_each, wide_observables
from dmft.wide.replica import couplings
from dmft.wide.sectors import BySector
from dmft.wide.solution import Replica
from dmft.wide.start import seed_overlaps

#: Samples and coordinates of each of DRAWS data sets that are drawn, at least, unless the one asked for is smaller.
SAMPLES, COORDINATES = 512, 96
#: Of the iteration of a row, which is worse conditioned for one data set than for their mean.
DEPTH, ROUNDS = 48, 400
#: Steps in place of each of the theory's: the second, which takes longer, where too many data sets are not solved.
FINER = (1, 2)
#: Share of the draws that may fail; a mean that is off the theory by more than this factor is not its scale.
FAILED, OFF = 0.1, 2.0


def data_set_size(model: Model, count: int) -> int:
    """P' = kappa D' of `count` data sets that are drawn."""
    assert model.dim is not None
    finer = math.sqrt(max(count / DRAWS, 1.0))
    return round(min(model.kappa * model.dim, finer * max(SAMPLES, COORDINATES * model.kappa)))


def data_sets(
    plan: Plan, replica: Replica, count: int, sources: tuple[str, ...], report: Report
) -> dict[str, np.ndarray]:
    """Curves of data sets on the plan's grid, (count, T) each.

    Args:
        replica: of the theory on the same grid.
        sources: what differs from one data set to the next, of SOURCES.
    """
    samples = data_set_size(plan.engine.model, count)
    for finer in (1,) if plan.grid.explicit else FINER:
        iteration = plan.iteration._replace(depth=DEPTH, max_rounds=ROUNDS)
        # the deadline was that of the curves
        on = dataclasses.replace(plan, grid=finer_grid(plan.grid, finer), iteration=iteration, deadline=math.inf)
        curves = solved_data_sets(on, instant_responses(on, plan.grid, replica), count, samples, sources, report)
        if curves:
            return {name: np.stack([one[name][::finer] for one in curves]) for name in curves[0]}
    raise ConvergenceError(
        f"More than {FAILED:.0%} of {count} data sets that were drawn could not be solved: t_max may be too late."
    )


def solved_data_sets(
    plan: Plan, instant: np.ndarray, count: int, samples: int, sources: tuple[str, ...], report: Report
) -> list[dict[str, np.ndarray]]:
    """Those of `count` data sets that were solved; none if too few were."""
    failed: list[int] = []

    def solve(index: int) -> dict[str, np.ndarray] | None:
        if len(failed) > FAILED * count:
            return None
        with precision_context("float64"):
            found = one_data_set(plan, instant, index, samples, sources)
        if found is None:
            failed.append(index)
        return found

    found = side_by_side(plan, solve, range(count), lambda done: report(done, count))
    return [one for one in found if one is not None] if len(failed) <= FAILED * count else []


def finer_grid(grid: Grid, finer: int) -> Grid:
    """The grid with so many steps in place of each."""
    return grid if finer == 1 else implicit_grid(resampled_times(grid.times, finer * (grid.size - 1)))


def instant_responses(plan: Plan, solved: Grid, replica: Replica) -> np.ndarray:
    """h_n R(n, n) of c and of each outlier, (T, 1 + K): what a row moves by in answer to a force on it.

    An implicit step has R(n, n) = 1/(1 + h_n k_n). The rates k_n are those of the theory, on its grid `solved`, and
    between its times on a line.
    """
    grid, directions = plan.grid, plan.engine.model.directions
    if grid.explicit:
        return np.zeros((grid.size, 1 + directions))
    responses = replica.responses
    outlier = of_each(np.diagonal(responses.outlier, axis1=1, axis2=2), directions)
    moved = np.maximum(solved.weights[:, None] * np.stack([np.diagonal(responses.common), *outlier], axis=1), 0.0)
    if grid is solved:
        return moved
    rates = 1 / np.maximum(moved[1:], 1e-300) - 1 / solved.weights[1:, None]
    rows, weights = np.linspace(0, solved.size - 1, grid.size), grid.weights[:, None]
    slowing = 1 + weights * np.stack([np.interp(rows, np.arange(1, solved.size), rate) for rate in rates.T], axis=1)
    return np.divide(weights, slowing, out=np.zeros_like(slowing), where=slowing > 0)


def one_data_set(
    plan: Plan, instant: np.ndarray, index: int, samples: int, sources: tuple[str, ...]
) -> dict[str, np.ndarray] | None:
    """The curves of one data set; None if it was not solved. What is no source is the same in all of them."""
    model, grid = plan.engine.model, plan.grid
    capacity = capacity_of(grid.size)
    modes = int(max(1, min(capacity, samples / model.kappa - 1, samples - 1)))
    seeds = {
        name: np.random.SeedSequence(plan.seed, spawn_key=(place, index if name in sources else 0))
        for place, name in enumerate(("samples", "coordinates"), start=1)
    }
    drawn, lengths = draw_numbers(
        samples, samples / model.kappa, modes, model.directions, seeds["samples"], seeds["coordinates"], np.float64
    )
    if "coordinates" not in sources:
        lengths = np.ones_like(lengths)
    c = couplings(model, "float64")._replace(seed_overlap=seed_overlaps(model))
    state = first_draw(model, drawn, lengths, capacity)
    padded = np.zeros((capacity, instant.shape[1]))
    padded[: grid.size] = instant
    function, static = (draw_explicit, {}) if grid.explicit else (draw_implicit, {"iteration": plan.iteration})
    arguments = (c, multistep(grid, capacity, np.dtype(np.float64)), state, padded, np.int32(0), np.int32(grid.size))
    return read_draw(model, grid, executable(function, arguments, static)(*arguments), plan.iteration.accepted)


def read_draw(model: Model, grid: Grid, state: Draw, accepted: float) -> dict[str, np.ndarray] | None:
    """The observables of a data set, (T,) each: C_c = N N^T/(alpha^2 kappa), and C_q likewise with b b^T."""
    size = grid.size
    if not np.all(np.asarray(state.mismatch)[:size] <= accepted):
        return None
    components = np.asarray(state.kernels.components)[:size]
    b = np.asarray(state.kernels.target_overlap)[:size]
    common, *outlier = (components**2).sum(axis=-1).T / (model.alpha**2 * model.kappa)
    bulk = np.diagonal(np.asarray(state.kernels.correlation_bulk))[:size]
    train = (np.asarray(state.fields.residual) ** 2).mean(axis=1)[:size]
    outliers = np.stack([np.diag(model.epsilon**2 * one + own**2) for one, own in zip(outlier, b.T, strict=True)])
    equal = BySector(np.diag(common), outliers, np.diag(bulk))
    curves = wide_observables(model, train, b, equal)
    return curves if all(np.isfinite(curve).all() for curve in curves.values()) else None


def spreads(
    plan: Plan,
    replica: Replica,
    means: dict[str, np.ndarray],
    count: int,
    sources: tuple[str, ...],
    report: Report,
) -> Spreads:
    """Standard deviation of every observable over data sets, on the plan's grid.

    Args:
        means: the theory's observables, (T,) each.
        count: data sets drawn.
    """
    model = plan.engine.model
    assert model.dim is not None
    curves = data_sets(plan, replica, count, sources, report)
    samples = data_set_size(model, count)
    scale = np.sqrt(samples / model.kappa / model.dim)
    along = overlaps(model, each := of_each(replica.mean_weight_overlap.T, model.directions))
    apart = along | {"overlap": np.sqrt((each**2).sum(axis=0))}  # independent of each other
    found = {}
    for name, values in curves.items():
        center, none = values.mean(axis=0), np.zeros(plan.grid.size)
        size = np.clip((means[name] - along.get(name, none)) / np.where(center == 0, 1.0, center), 1 / OFF, OFF) * scale
        drawn = Spread.of(values * size)
        found[name] = with_square(drawn, apart.get(name, none)) if "samples" in sources else drawn
    pair = (curves["test_loss"], curves["overlap"])
    return Spreads(found, correlation(*pair), len(curves["test_loss"]), samples, sources)


def with_square(drawn: Spread, mean: np.ndarray) -> Spread:
    """The spread with that of an independent square of a normal, whose variance is twice the square of its mean.

    (c . beta)^2/D^2 is one: c . beta vanishes by symmetry but for its scatter, and no data set that is drawn has it.
    """
    value = np.sqrt(drawn.value**2 + 2 * mean**2)
    return Spread(value, drawn.stderr * drawn.value / np.where(value > 0, value, 1.0))


def deviations(plan: Plan, replica: Replica, count: int) -> dict[str, np.ndarray]:
    """Relative deviations of single data sets of the model's dim from their mean, (count, T) each, on the plan's grid.

    Args:
        replica: of the theory on the same grid.
        count: data sets drawn.
    """
    model = plan.engine.model
    assert model.dim is not None
    scale = np.sqrt(data_set_size(model, count) / model.kappa / model.dim)
    curves = data_sets(plan, replica, count, SOURCES, lambda *_: None)
    return {name: scale * (values / np.maximum(values.mean(axis=0), 1e-300) - 1) for name, values in curves.items()}


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Over data sets, at each time, (T,); 0 where one of the two does not scatter."""
    a, b = (values - values.mean(axis=0) for values in (first, second))
    norm = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return (a * b).sum(axis=0) / np.where(norm > 0, norm, 1.0)
