"""Curves of a replica and of all replicas, free of the leading errors of samples and kinks.

A replica of S samples is off by O(1/S), since its samples' noise has been fitted to them, and by O(w^2) where kinks are
smoothed over a width w. Each is solved again with S/4 of its samples, and once more with kinks twice as wide:

    value = fine + (fine - few)/3 + (few - wide)/3.

The samples of `few` are the first ones of `fine`, so that the corrections add little noise, and the scatter of the
values contains it. What the corrections leave is of higher order: a quarter of them counts as an error. On the flow's
grid the replica of few samples is solved on a coarser grid too; what that changes, over (ratio^3 - 1), is the error of
the step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dmft.checks import precision_context
from dmft.committee.plan import FEWER, Plan
from dmft.committee.replica import Sampling, Solution, Stopped, read_state, solve_state
from dmft.losses.committee import OBSERVABLES, READOUTS, Neurons, centered, test_loss
from dmft.models.committee import Committee
from dmft.twotime.grid import ORDER, Grid, implicit_grid, resampled_times
from dmft.twotime.tolerance import interpolate

if TYPE_CHECKING:
    import jax

#: Ratios of points, fine to coarse, that the step error may be estimated from.
COARSENING = (1.5, 1.25)
#: Share of the corrections that counts as an error.
LEFT = 0.25

Curves = dict[str, np.ndarray]


class ReplicaStopped(Exception):
    """A replica could not go on: the last time solved, the next one, and the reason ("diverged" or what was wrong)."""

    def __init__(self, grid: Grid, stopped: Stopped) -> None:
        super().__init__(stopped.reason)
        self.reason, self.row = stopped.reason, stopped.row
        self.solved, self.time = float(grid.times[max(stopped.row - 1, 0)]), float(grid.times[stopped.row])


class Replica(NamedTuple):
    """What one replica predicts; curves have time first."""

    value: Curves
    sample_correction: Curves
    kink_correction: Curves
    step_change: Curves | None  # coarse minus fine over (ratio^3 - 1); None for discrete steps
    solution: Solution


def solve_replica(plan: Plan, index: int) -> Replica:
    """Solve replica `index` in all its variants.

    Raises:
        ReplicaStopped: one of them could not go on.
    """

    def solution(sampling: Sampling, grid: Grid) -> Solution:
        with precision_context(sampling.precision):
            seed = np.random.SeedSequence(plan.seed, spawn_key=(index,))
            state = solve_state(plan.model, grid, sampling, seed, plan.iteration)
            if isinstance(state, Stopped):
                raise ReplicaStopped(grid, state)
            return read_state(state, grid)

    best = solution(plan.sampling, plan.grid)
    fine, few = order_parameters(best), order_parameters(solution(plan.fewer, plan.grid))
    for_samples = {name: (fine[name] - few[name]) / (FEWER - 1) for name in fine}
    for_kinks = {name: np.zeros_like(fine[name]) for name in fine}
    if plan.kinked:
        wide = order_parameters(solution(plan.wider, plan.grid))
        for_kinks = {name: (few[name] - wide[name]) / 3 for name in fine}
    parts = [_sum(fine, for_samples, for_kinks), _sum(fine, for_kinks), _sum(fine, for_samples)]
    complete, without_samples, without_kinks = (with_test_loss(plan.model, part) for part in parts)
    change = None if plan.grid.explicit else _step_change(plan, with_test_loss(plan.model, few), solution)
    return Replica(
        value=_public(plan.model, complete),
        sample_correction=_difference(plan.model, complete, without_samples),
        kink_correction=_difference(plan.model, complete, without_kinks),
        step_change=change,
        solution=best,
    )


def _sum(*parts: Curves) -> Curves:
    return {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}


def _public(model: Committee, curves: Curves) -> Curves:
    return {name: curves[name] for name in observables(model)}


def _difference(model: Committee, first: Curves, second: Curves) -> Curves:
    return {name: first[name] - second[name] for name in observables(model)}


def observables(model: Committee) -> dict[str, str]:
    """Names and meanings of what the model's dataset holds."""
    return OBSERVABLES | (READOUTS if model.train_readout else {})


def _step_change(plan: Plan, fine: Curves, solve: Callable[[Sampling, Grid], Solution]) -> Curves:
    """(coarse - fine) / (ratio^3 - 1) of replicas of few samples, linear between the coarse grid's times."""
    points = plan.grid.size - 1
    for ratio in COARSENING:
        grid = implicit_grid(resampled_times(plan.grid.times, max(4, round(points / ratio))))
        try:
            coarse = with_test_loss(plan.model, order_parameters(solve(plan.fewer, grid)))
        except ReplicaStopped:
            if ratio == COARSENING[-1]:
                raise
            continue
        divisor = (points / (grid.size - 1)) ** ORDER - 1
        changes = {}
        for name in observables(plan.model):
            change = coarse[name] - _on_times(plan.grid, fine[name], grid.times)
            columns = change.reshape(grid.size, -1).T / divisor
            spread = [np.interp(plan.grid.times, grid.times, column) for column in columns]
            changes[name] = np.stack(spread, axis=-1).reshape(-1, *change.shape[1:])
        return changes
    raise AssertionError("unreachable: the last ratio returns or raises")


def _on_times(grid: Grid, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    return np.moveaxis(interpolate(grid, np.moveaxis(values, 0, -1), at), -1, 0)


def order_parameters(solution: Solution) -> Curves:
    """What the extrapolations are linear in: train loss, overlaps, readouts and, for centred test losses, C(t, 0)."""
    correlation = solution.correlation
    return {
        "train_loss": solution.train_loss,
        "teacher_overlap": solution.target_overlap,
        "self_overlap": np.einsum("titj->tij", correlation),
        "across": correlation[:, :, 0],
        "readouts": solution.readout,
    }


def with_test_loss(model: Committee, curves: Curves) -> Curves:
    """The same with the test loss that the overlaps imply."""
    with precision_context("float64"):
        function = _test_losses(model)
        loss = function(curves["readouts"], curves["teacher_overlap"], curves["self_overlap"], curves["across"])
        return curves | {"test_loss": np.asarray(loss)}


@functools.lru_cache(maxsize=16)
def _test_losses(model: Committee) -> jax.stages.Wrapped:
    """The compiled function of (a, m, C(t, t), C(t, 0)), time first, that gives the test losses (T,)."""
    import jax

    loss = test_loss(model.phi, model.psi)
    scale = model.alpha / model.width

    def every_time(readout: jax.Array, m: jax.Array, c: jax.Array, across: jax.Array) -> jax.Array:
        start = Neurons(scale * readout[0], m[0], c[0])

        def one(part: tuple[jax.Array, ...]) -> jax.Array:
            now = Neurons(scale * part[0], part[1], part[2])
            return loss(centered(now, start, part[3]) if model.centered else now)

        return jax.lax.map(one, (readout, m, c, across))

    return jax.jit(every_time)


class Errors(NamedTuple):
    """An observable and its errors on the plan's grid, (T, ...) each; all but `value` are sizes."""

    value: np.ndarray
    sampling: np.ndarray
    samples: np.ndarray  # left of the bias of the number of samples
    kinks: np.ndarray  # left of the smoothing of kinks
    step: np.ndarray

    @property
    def total(self) -> np.ndarray:
        return np.sqrt(sum(part**2 for part in self[1:]))


def combined(plan: Plan, replicas: list[Replica], name: str) -> Errors:
    """Mean and errors of an observable."""

    def stack(field: str) -> np.ndarray:
        return np.stack([getattr(replica, field)[name] for replica in replicas])

    values = stack("value")
    return Errors(
        value=values.mean(axis=0),
        sampling=values.std(axis=0, ddof=1) / np.sqrt(len(replicas)),
        samples=LEFT * np.abs(stack("sample_correction").mean(axis=0)),
        kinks=LEFT * np.abs(stack("kink_correction").mean(axis=0)),
        step=step_error(plan, replicas, name, values.shape[1:]),
    )


def step_error(plan: Plan, replicas: list[Replica], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """What the next refinement would change, on the plan's grid.

    The difference passes through zero where the two curves cross, though the error does not: each time has the largest
    one among itself and two neighbours on each side.
    """
    if plan.grid.explicit:
        return np.zeros(shape)
    changes = [replica.step_change[name] for replica in replicas if replica.step_change is not None]
    size = np.pad(np.abs(np.mean(changes, axis=0)), [(2, 2)] + [(0, 0)] * (len(shape) - 1))
    return np.max([size[shift : shift + shape[0]] for shift in range(5)], axis=0)
