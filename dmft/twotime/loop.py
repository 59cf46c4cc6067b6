"""One replica, row after row: its growing capacity, its compiled work, and what is wrong with a row that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from dmft.checks import precision_context
from dmft.compiled.executables import executable
from dmft.twotime.engine import FIRST_CAPACITY, Engine, Iteration, Plan, Runs
from dmft.twotime.grid import Grid
from dmft.twotime.steps import multistep

Asked = TypeVar("Asked")

#: Growth of the train loss over its start that counts as divergence.
EXPLODED = 1e3


class ReplicaStopped(Exception):
    """A replica could not go on.

    Attributes:
        reason: "diverged", or what was wrong with the row.
        solved: the last time that was solved; `time`, the next one.
    """

    def __init__(self, grid: Grid, row: int, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.solved, self.time = float(grid.times[max(row - 1, 0)]), float(grid.times[row])


def solve_replica(plan: Plan, index: int, like: Any = None) -> Any:
    """Replica `index` of the plan.

    Args:
        like: the same replica on another grid, if the noise of the two should match.

    Raises:
        ReplicaStopped: a row could not be solved.
    """
    with precision_context(plan.sampling.precision):
        seed = np.random.SeedSequence(plan.seed, spawn_key=(index,))
        return solve_one(plan.engine, plan.grid, plan.sampling, seed, plan.iteration, like)


def solve_one(
    engine: Engine,
    grid: Grid,
    sampling: Any,
    seed: np.random.SeedSequence,
    iteration: Iteration,
    like: Any = None,
) -> Any:
    """The replica of a seed. Runs inside a precision context."""
    return engine.read(solve_rows(engine, grid, sampling, seed, iteration, like), grid)


def solve_rows(
    engine: Engine,
    grid: Grid,
    sampling: Any,
    seed: np.random.SeedSequence,
    iteration: Iteration,
    like: Any = None,
) -> Any:
    """The state of a replica after all rows of the grid."""
    capacities = engine.capacities(grid.size, sampling)
    program = engine.program(grid, sampling, iteration)
    dtype = np.dtype(sampling.precision)
    state = engine.start(grid, sampling, seed, capacities[0], like)
    row, has = engine.first_row(grid), capacities[0]
    for stop in stops(grid):
        # an explicit step also writes the next row
        capacity = next(one for one in capacities if one >= min(stop + int(grid.explicit), grid.size))
        if capacity != has:
            state, has = grown(state, engine.shapes(sampling, grid.size, capacity)), capacity
        arguments = (program.couplings, multistep(grid, capacity, dtype), state, np.int32(row), np.int32(stop))
        state = executable(program.function, arguments, dict(program.static))(*arguments)
        _check_rows(engine, grid, state, row, stop, iteration)
        row = stop
    return state


def stops(grid: Grid) -> list[int]:
    """The rows at which a replica is looked at: the last, and before it ever twice as many."""
    found = [FIRST_CAPACITY - int(grid.explicit)]
    while found[-1] < grid.size:
        found.append(2 * (found[-1] + int(grid.explicit)) - int(grid.explicit))
    return [*found[:-1], grid.size]


def grown(state: Any, shapes: Any) -> Any:
    """The state padded with zeros to the given shapes."""

    def pad(array: jax.Array, like: jax.ShapeDtypeStruct) -> Any:
        if array.shape == like.shape:
            return array
        larger = np.zeros(like.shape, array.dtype)
        larger[tuple(slice(size) for size in array.shape)] = array
        return larger

    return jax.tree.map(pad, state, shapes)


def _check_rows(engine: Engine, grid: Grid, state: Any, first: int, stop: int, iteration: Iteration) -> None:
    """ReplicaStopped at the first row of first <= n < stop that exploded, is not finite or did not converge."""
    with np.errstate(over="ignore", invalid="ignore"):  # of rows that diverged
        progress = engine.progress(state)
    for row in range(first, stop):
        loss, mismatch = progress.loss[row], progress.mismatch[row]
        if not np.isfinite(loss) or loss > EXPLODED * max(progress.loss[0], 1e-300):
            raise ReplicaStopped(grid, row, "diverged")
        if not mismatch <= iteration.accepted:
            raise ReplicaStopped(grid, row, f"residual {mismatch:.1e} after {progress.rounds[row]} rounds")
        fault = engine.fault(state, row)
        if fault is not None:
            raise ReplicaStopped(grid, row, fault)


class Work(NamedTuple):
    """What is compiled once: the rows of one capacity, for replicas of one kind."""

    points: int
    capacity: int
    sampling: Any


def works(plan: Plan, runs: Iterable[Runs]) -> list[Work]:
    """The work on all row capacities of these replicas, the largest first; grids of one capacity have the same."""
    found: dict[tuple[int, int, Any], Work] = {}
    for run in runs:
        capacities = plan.engine.capacities(run.points, run.sampling)
        found |= {
            (capacities[-1], capacity, run.sampling): Work(run.points, capacity, run.sampling)
            for capacity in capacities
        }
    return sorted(found.values(), key=lambda work: (-work.capacity, work.sampling.samples))


def asked_of(ask: Callable[..., Asked], plan: Plan, work: Work) -> Asked:
    """`ask(function, arguments, static)` of this work, such as `executable`."""
    with precision_context(work.sampling.precision):
        program = plan.engine.program(plan.grid, work.sampling, plan.iteration)
        state = plan.engine.shapes(work.sampling, work.points, work.capacity)
        steps = multistep(plan.grid, work.capacity, np.dtype(work.sampling.precision))
        return ask(program.function, (program.couplings, steps, state, np.int32(0), np.int32(0)), dict(program.static))


def compile_ahead(plan: Plan, runs: Iterable[Runs]) -> None:
    """Compile the work of these replicas at once, one core for each."""
    with ThreadPoolExecutor(plan.workers) as pool:
        list(pool.map(partial(asked_of, executable, plan), works(plan, runs)))
