"""Replicas run side by side, and what is said when one of them cannot go on."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NoReturn

import numpy as np

from dmft import replica as engine
from dmft.budget import Coarse
from dmft.checks import ConvergenceError, DivergenceError, precision_context
from dmft.grid import ORDER, explicit_grid, implicit_grid, thinned_times
from dmft.plan import Plan
from dmft.replica import Replica, Stopped, solve_replica
from dmft.scatter import BulkScatter

#: Ratios of points, fine to coarse, that the step error may be estimated from.
COARSENING = (2.0, 1.5, 1.25)

Report = Callable[[int, int], None]


def compile_plan(plan: Plan) -> None:
    """Compile the work on all row capacities at once: the compiler uses one core for each."""

    def one(capacity: int) -> None:
        with precision_context(plan.sampling.precision):
            engine.compile_ahead(plan.model, plan.grid, plan.sampling, plan.iteration, capacity)

    with ThreadPoolExecutor(plan.workers) as pool:
        list(pool.map(one, reversed(engine.capacities_for(plan.grid.size))))


def prepare(plan: Plan) -> Plan:
    """The plan with the scatter of the bulk, measured in a solution without it, if the model's dim is set."""
    if plan.model.dim is None:
        return plan
    without = dataclasses.replace(plan, scatter=None)
    u, weight, residual = run(without, range(1), lambda _: None)[0].samples
    return dataclasses.replace(plan, scatter=BulkScatter.measure(plan.model, plan.grid, u, weight, residual, plan.seed))


def run_coarse(plan: Plan, count: int, report: Report) -> Coarse:
    """The first replicas on a grid of half the points, or of more if its steps are too large to be solved."""
    points = plan.grid.size - 1
    for ratio in COARSENING:
        thin = dataclasses.replace(plan, grid=implicit_grid(thinned_times(plan.grid.times, round(points / ratio))))
        try:
            thin = prepare(thin)
            replicas = run(thin, range(count), lambda done: report(done, 2 * count))
        except ConvergenceError:
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
                _raise_stopped(plan, result)
            else:
                results.append(result)
                report(len(results))
    finally:  # an interrupt does not wait for the replicas under way
        pool.shutdown(wait=False, cancel_futures=True)
    return results


def _raise_stopped(plan: Plan, stopped: Stopped) -> NoReturn:
    time = plan.grid.times[stopped.row]
    if plan.grid.explicit and stopped.reason == "diverged":
        step = plan.grid.weights[0]
        raise DivergenceError(
            f"Gradient descent with step = {step:g} diverges at t = {time:g}; {_stable_step(plan, time)}."
        )
    raise ConvergenceError(
        f"The theory's time point t = {time:g} was not solved ({stopped.reason}); raise `points` (now "
        f"{plan.grid.size - 1}) or `samples` (now {plan.sampling.samples})."
    )


def _stable_step(plan: Plan, time: float) -> str:
    """Halve the step until a small replica survives to twice the time of divergence."""
    step = plan.grid.weights[0]
    sampling = dataclasses.replace(plan.sampling, samples=64, modes=32)
    with precision_context(sampling.precision):
        for _ in range(8):
            step = step / 2
            horizon = max(2 * time, 40 * step)
            if horizon / step > 600:
                break
            seed = np.random.SeedSequence(plan.seed)
            trial = solve_replica(plan.model, explicit_grid(step, horizon), sampling, seed, plan.iteration)
            if isinstance(trial, Replica):
                return f"step = {step:.3g} is stable up to t = {horizon:.3g}"
    return f"a step below {step:.3g} may be stable"


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
