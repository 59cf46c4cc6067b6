"""Replicas run side by side: on the plan's grid, on a coarser one, with fewer samples."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from dmft.checks import precision_context
from dmft.twotime.grid import ORDER, implicit_grid, resampled_times
from dmft.twotime.plan import COARSENING, Plan, coarse_size, fewer_samples
from dmft.twotime.tolerance import Coarse, Pilot, Solved
from dmft.wide import replica as engine
from dmft.wide.replica import Replica, Sampling, Stopped, solve_replica
from dmft.wide.scatter import BulkScatter

if TYPE_CHECKING:
    from dmft.twotime.grid import Grid

#: Pilot replicas on the coarser grid for each one on the plan's: the bias is measured there, and they are cheap.
COARSE_PILOT = 2

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

    few, sizes = fewer_samples(plan.sampling), [plan.grid.size]
    if not plan.full:
        sizes.append(coarse_size(plan.grid))
    capacities = [engine.capacities_for(size) for size in sizes]
    work = {(capacity, few) for chain in capacities for capacity in chain}
    # at finite dimension one replica of all samples is solved on the plan's grid too, see `prepare`
    many = capacities[-1] if plan.model.dim is None else {*capacities[0], *capacities[-1]}
    work |= {(capacity, plan.sampling) for capacity in many}
    with ThreadPoolExecutor(plan.workers) as pool:
        list(pool.map(one, sorted(work, key=lambda item: (-item[0], item[1].samples))))


def prepare(plan: Plan, like: BulkScatter | None = None) -> Plan:
    """The plan with what finite D adds, measured in a solution without it, if the model's dim is set.

    Args:
        like: what was measured on another grid, if the two are to be compared.
    """
    if plan.model.dim is None:
        return plan
    without = dataclasses.replace(plan, scatter=None)
    solution = run(without, range(1), lambda _: None)[0]
    return dataclasses.replace(plan, scatter=BulkScatter.measure(plan.model, plan.grid, solution, plan.seed, like))


def run_pilot(plan: Plan, count: int, report: Report) -> Pilot:
    """Replicas of fewer samples: `count` on the plan's grid, those and more (flow) on a coarser one."""
    few = few_of(plan)
    divisor = plan.sampling.samples / few.sampling.samples - 1
    if plan.grid.explicit:
        return Pilot(run(few, range(count), lambda done: report(done, count)), divisor, None)
    total = (1 + COARSE_PILOT) * count
    coarse = _run_coarse(plan, COARSE_PILOT * count, lambda done, _: report(done, total))
    like = coarse.replicas[:count]
    return Pilot(run(few, range(count), lambda done: report(total - count + done, total), like), divisor, coarse)


def _run_coarse(plan: Plan, count: int, report: Report) -> Coarse:
    """The pilot on a grid of half the points, or of more if its steps are too large to be solved."""
    for ratio in COARSENING:
        grid = implicit_grid(resampled_times(plan.grid.times, coarse_size(plan.grid, ratio) - 1))
        try:
            thin = prepare(dataclasses.replace(plan, grid=grid, scatter=None), plan.scatter)
            replicas = run(few_of(thin), range(count), lambda done: report(done, count))
        except ReplicaStopped:
            if ratio == COARSENING[-1]:
                raise
            continue
        return Coarse(thin, replicas, ((plan.grid.size - 1) / (grid.size - 1)) ** ORDER - 1)
    raise AssertionError("unreachable: the last ratio returns or raises")


def more_pilot(solved: Solved, on: Plan, report: Report) -> Pilot:
    """The pilot with twice as many replicas on the grid of `on`, that of `solved`."""
    pilot, done = solved.pilot, len(solved.few)
    few = solved.few + run(few_of(on), range(done, 2 * done), lambda new: report(done + new, 2 * done))
    if pilot.coarse is not None and pilot.coarse.plan.grid is on.grid:
        return dataclasses.replace(pilot, coarse=dataclasses.replace(pilot.coarse, replicas=few))
    return dataclasses.replace(pilot, replicas=few)


def few_of(plan: Plan) -> Plan:
    """The plan with the pilot's samples."""
    return dataclasses.replace(plan, sampling=fewer_samples(plan.sampling))


def run(
    plan: Plan, indices: range, report: Callable[[int], None], like: Sequence[Replica] | None = None
) -> list[Replica]:
    """Solve the replicas of the given indices, several at a time; `like`: the same ones on another grid."""

    def one(index: int) -> Replica | Stopped:
        with precision_context(plan.sampling.precision):
            seed = np.random.SeedSequence(plan.seed, spawn_key=(index,))
            model, grid, start = plan.model, plan.grid, like[index] if like else None
            return solve_replica(model, grid, plan.sampling, seed, plan.iteration, plan.scatter, start)

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
