"""What is said, and saved, when a replica cannot go on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from dmft.checks import ConvergenceError, DivergenceError, RunError
from dmft.twotime.engine import Plan
from dmft.twotime.grid import explicit_grid
from dmft.twotime.loop import ReplicaStopped, solve_replica
from dmft.twotime.prediction import prediction
from dmft.twotime.request import MIN_REPLICAS
from dmft.twotime.tolerance import Unsolved, add_replicas

if TYPE_CHECKING:
    import xarray

#: Halvings of the step when looking for a stable one; shortest horizon and largest number of its steps.
HALVINGS, SHORTEST, LONGEST = 8, 40, 600


def failure(unsolved: Unsolved, output: np.ndarray | None) -> RunError:
    """The error to raise, in one line, with the curves up to where the replica stopped, on the times asked for."""
    plan, stopped = unsolved.plan, unsolved.stopped
    if plan.grid.explicit and stopped.reason == "diverged":
        error: RunError = DivergenceError(
            f"Gradient descent with step = {plan.grid.weights[0]:g} diverges at t = {stopped.time:g}; "
            f"{_stable_step(plan, stopped.time)}."
        )
    else:
        error = ConvergenceError(
            f"The theory's time point t = {stopped.time:g} was not solved ({stopped.reason}); raise `points` (now "
            f"{plan.grid.size - 1}) or `sample_count` (now {plan.sampling.samples})."
        )
    error.curves = _curves(plan, stopped, output)
    return error


def _curves(plan: Plan, stopped: ReplicaStopped, output: np.ndarray | None) -> xarray.Dataset | None:
    """The dataset up to the last time that every replica solves, or None if that is too early."""
    while True:
        rows = int(np.searchsorted(plan.grid.times, stopped.time * (1 - 1e-9)))  # those before the failure
        head = plan.grid.head(min(rows, plan.grid.size - 1))
        if head.size < plan.engine.least_rows[0 if head.explicit else 1]:
            return None
        plan = dataclasses.replace(plan, grid=head, replicas=plan.replicas or MIN_REPLICAS)
        try:
            evidence = add_replicas(plan.engine.evidence(plan, _silent), _silent)
        except ReplicaStopped as again:
            stopped = again
            continue
        inside = None if output is None else output[output <= head.times[-1]]
        return None if inside is not None and inside.size == 0 else prediction(evidence, inside, complete=False)


def _silent(done: int, total: int) -> None:
    """No report."""


def _stable_step(plan: Plan, time: float) -> str:
    """Halve the step until a cheap replica survives to twice the time of divergence."""
    step = float(plan.grid.weights[0])
    for _ in range(HALVINGS):
        step /= 2
        horizon = max(2 * time, SHORTEST * step)
        if horizon / step > LONGEST:
            break
        rule = plan.grid.momentum and plan.grid.momentum.stretched(step / plan.grid.weights[0], round(horizon / step))
        grid = explicit_grid(step, horizon, rule)
        try:
            solve_replica(dataclasses.replace(plan, grid=grid, sampling=plan.engine.trial(grid, plan.sampling)), 0)
        except ReplicaStopped:
            continue
        return f"step = {step:.3g} is stable up to t = {horizon:.3g}"
    return f"a step below {step:.3g} may be stable"
