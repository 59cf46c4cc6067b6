"""Replicas run side by side: on the plan's grid, on a coarser one, with fewer samples."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from dmft import replica as engine
from dmft.budget import Coarse, Pilot
from dmft.checks import precision_context
from dmft.grid import ORDER, implicit_grid, resampled_times
from dmft.plan import Plan, fewer_samples
from dmft.replica import Replica, Sampling, Stopped, solve_replica
from dmft.scatter import BulkScatter

if TYPE_CHECKING:
    from dmft.grid import Grid

#: Ratios of points, fine to coarse, that the step error may be estimated from.
COARSENING = (2.0, 1.5, 1.25)

Report = Callable[[int, int], None]


class ReplicaStopped(Exception):
    """A replica could not go on.

    Attributes:
        row: the first time that was not solved, on the grid that was being solved.
        solved: the last time that was solved; `time`, the next one.
        reason: "diverged", or what was wrong with the row.
    """

    def __init__(self, grid: Grid, stopped: Stopped) -> None:
        super().__init__(stopped.reason)
        self.row, self.reason = stopped.row, stopped.reason
        self.solved, self.time = float(grid.times[max(stopped.row - 1, 0)]), float(grid.times[stopped.row])


def compile_plan(plan: Plan) -> None:
    """Compile the work on all row capacities, of all samples and of the pilot's, at once: one core for each."""

    def one(work: tuple[int, Sampling]) -> None:
        capacity, sampling = work
        with precision_context(sampling.precision):
            engine.compile_ahead(plan.model, plan.grid, sampling, plan.iteration, capacity)

    capacities = reversed(engine.capacities_for(plan.grid.size))
    with ThreadPoolExecutor(plan.workers) as pool:
        list(pool.map(one, itertools.product(capacities, (fewer_samples(plan.sampling), plan.sampling))))


def prepare(plan: Plan) -> Plan:
    """The plan with what finite D adds, measured in a solution without it, if the model's dim is set."""
    if plan.model.dim is None:
        return plan
    without = dataclasses.replace(plan, scatter=None)
    solution = run(without, range(1), lambda _: None)[0]
    return dataclasses.replace(plan, scatter=BulkScatter.measure(plan.model, plan.grid, solution, plan.seed))


def run_pilot(plan: Plan, count: int, report: Report) -> Pilot:
    """The first `count` replicas with fewer samples, on the plan's grid and (flow) on a coarser one."""
    few = dataclasses.replace(plan, sampling=fewer_samples(plan.sampling))
    total = count if plan.grid.explicit else 2 * count
    replicas = run(few, range(count), lambda done: report(done, total))
    coarse = None if plan.grid.explicit else _run_coarse(plan, few.sampling, count, report)
    return Pilot(replicas, plan.sampling.samples / few.sampling.samples - 1, coarse)


def _run_coarse(plan: Plan, sampling: Sampling, count: int, report: Report) -> Coarse:
    """Replicas on a grid of half the points, or of more if its steps are too large to be solved."""
    points = plan.grid.size - 1
    for ratio in COARSENING:
        thin = dataclasses.replace(plan, grid=implicit_grid(resampled_times(plan.grid.times, round(points / ratio))))
        try:
            thin = dataclasses.replace(prepare(thin), sampling=sampling)
            replicas = run(thin, range(count), lambda done: report(count + done, 2 * count))
        except ReplicaStopped:
            if ratio == COARSENING[-1]:
                raise
            continue
        return Coarse(thin.grid, replicas, ((points / (thin.grid.size - 1)) ** ORDER - 1))
    raise AssertionError("unreachable: the last ratio returns or raises")


def run(plan: Plan, indices: range, report: Callable[[int], None]) -> list[Replica]:
    """Solve the replicas of the given indices, several at a time."""

    def one(index: int) -> Replica | Stopped:
        with precision_context(plan.sampling.precision):
            seed = np.random.SeedSequence(plan.seed, spawn_key=(index,))
            return solve_replica(plan.model, plan.grid, plan.sampling, seed, plan.iteration, plan.scatter)

    results: list[Replica] = []
    pool = ThreadPoolExecutor(plan.workers)
    try:
        for result in pool.map(one, indices):
            if isinstance(result, Stopped):
                raise ReplicaStopped(plan.grid, result)
            results.append(result)
            report(len(results))
    finally:  # an interrupt does not wait for the replicas under way
        pool.shutdown(wait=False, cancel_futures=True)
    return results


@contextmanager
def progress_report(wanted: bool) -> Iterator[Report]:
    """A function to call with the replicas done and their number; it moves a bar if `wanted` on a terminal."""
    if not (wanted and sys.stderr.isatty()):
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("theory"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("theory", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
