"""What is said, and saved, when a replica cannot go on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from dmft.checks import ConvergenceError, DivergenceError, RunError, precision_context
from dmft.twotime.grid import explicit_grid
from dmft.twotime.plan import Plan
from dmft.twotime.prediction import prediction
from dmft.twotime.replicas import ReplicaStopped
from dmft.twotime.tolerance import Solved
from dmft.wide.replica import Replica, solve_replica

if TYPE_CHECKING:
    import xarray

#: Fewest rows that make a curve, for discrete steps and for the flow, which is interpolated.
FEWEST_STEPS, FEWEST_TIMES = 2, 6


def failure(
    plan: Plan, stopped: ReplicaStopped, solve_part: Callable[[Plan], Solved], output: np.ndarray | None
) -> RunError:
    """The error to raise, in one line, with the curves up to where the replica stopped.

    Args:
        plan: what was being solved.
        stopped: how that ended.
        solve_part: solves a shorter plan.
        output: the times asked for, or None.
    """
    if plan.grid.explicit and stopped.reason == "diverged":
        message = (
            f"Gradient descent with step = {plan.grid.weights[0]:g} diverges at t = {stopped.time:g}; "
            f"{_stable_step(plan, stopped.time)}."
        )
        error: RunError = DivergenceError(message)
    else:
        error = ConvergenceError(
            f"The theory's time point t = {stopped.time:g} was not solved ({stopped.reason}); raise `points` (now "
            f"{plan.grid.size - 1}) or `samples` (now {plan.sampling.samples})."
        )
    error.curves = _curves(plan, stopped, solve_part, output)
    return error


def _curves(
    plan: Plan, stopped: ReplicaStopped, solve_part: Callable[[Plan], Solved], output: np.ndarray | None
) -> xarray.Dataset | None:
    """The dataset up to the last time that every replica solves, or None if that is too early."""
    while True:
        rows = int(np.searchsorted(plan.grid.times, stopped.time * (1 - 1e-9)))  # those before the failure
        plan = plan.head(min(rows, plan.grid.size - 1))
        if plan.grid.size < (FEWEST_STEPS if plan.grid.explicit else FEWEST_TIMES):
            return None
        try:
            solved = solve_part(plan)
        except ReplicaStopped as again:
            stopped = again
            continue
        inside = None if output is None else output[output <= plan.grid.times[-1]]
        if inside is not None and inside.size == 0:
            return None
        return prediction(plan, solved, inside, complete=False)


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
