"""The tolerance loop: a first look, a finer grid if the step asks for it, replicas until more would not help.

The error of a curve is the root sum square of its parts. It must be at most rtol |value| + atol (initial value) on the
controlled observables at every time.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np

from dmft.twotime.engine import Evidence, Plan, Report
from dmft.twotime.errors import MEANINGS
from dmft.twotime.grid import ORDER, Grid, denser_times, halved_steps, implicit_grid
from dmft.twotime.loop import ReplicaStopped
from dmft.twotime.replicas import OutOfTime

#: How often steps are shortened: everywhere for the tolerance, or where a row was not solved.
REFINEMENTS, RESCUES = 2, 4
#: Step error over tolerance aimed at by a finer grid, the factors of points it may take in a region, and what these may
#: differ by between neighbouring points.
AIM, FINER, SMOOTH = 0.7, (0.8, 4.0), 1.3
#: A step's error is seen until so many times its time.
REACH = 4.0
#: Share of the tolerance beyond which another error than sampling makes more replicas useless.
SHARE = 0.9
#: Share of the tolerance beyond which the bias is worth a second look.
BIAS_SHARE = 0.5
#: Tolerances that are met on the way where time is limited, over the one asked for; and the loosest.
LOOSER, LOOSEST = (3.0, 10.0, 30.0, 100.0), 0.3
#: Replicas at most, and added at least: the same on every machine, so that the numbers are.
MAX_REPLICAS, MORE = 64, 2


@dataclasses.dataclass(frozen=True)
class Excess:
    """Error over tolerance at the worst: the total, each part, and all but sampling."""

    total: float
    parts: dict[str, float]
    other: float
    limited_by: str
    message: str


def tolerance_excess(evidence: Evidence) -> Excess:
    """Compare the total error with the tolerance on the controlled observables."""
    plan = evidence.plan
    found: list[Excess] = []
    for name in plan.engine.controlled:
        errors = evidence.errors(name)
        allowed = _allowed(plan, errors.value)
        total = errors.total
        at = int(np.argmax(total / allowed))
        limit = errors.limited_by(at)
        message = (
            f"error of {name} {total[at]:.2g}, most of it {MEANINGS[limit]}, at t = {plan.grid.times[at]:.4g} where "
            f"the value is {errors.value[at]:.3g} and the tolerance {allowed[at]:.2g} ({len(evidence.replicas)} "
            f"replicas of {plan.sampling.samples} samples, {plan.grid.size - 1} steps)"
        )
        other = np.sqrt(np.maximum(total**2 - errors.parts["sampling"] ** 2, 0.0))
        parts = {part: float((size / allowed).max()) for part, size in errors.parts.items()}
        found.append(Excess(float((total / allowed).max()), parts, float((other / allowed).max()), limit, message))
    worst = max(found, key=lambda excess: excess.total)
    parts = {part: max(excess.parts[part] for excess in found) for part in worst.parts}
    return dataclasses.replace(worst, parts=parts, other=max(excess.other for excess in found))


def step_excess(evidence: Evidence) -> np.ndarray:
    """Step error over tolerance in the first look, the worst of the controlled observables, (T,)."""
    looks = [evidence.first_look(name) for name in evidence.plan.engine.controlled]
    return np.max([step / _allowed(evidence.plan, value) for value, step in looks], axis=0)


def _allowed(plan: Plan, value: np.ndarray) -> np.ndarray:
    return plan.rtol * np.abs(value) + plan.atol * value[0]


def to_tolerance(
    make_plan: Callable[[Grid, bool], Plan], grid: Grid, full: bool, adapt: bool, report: Report
) -> Evidence:
    """Solve until the tolerance is met, or as near to it as replicas and steps allow.

    Args:
        make_plan: the plan on a grid; the flag says whether all replicas are on it.
        grid: to begin with.
        full: whether all replicas must be on the grid itself.
        adapt: whether steps may be shortened.

    Raises:
        Unsolved: a replica could not go on, whatever was tried.
    """
    refinements, rescues = (REFINEMENTS, RESCUES) if adapt else (0, 0)
    while True:
        plan = make_plan(grid, full)
        try:
            evidence = plan.engine.evidence(plan, report)
            excess = step_excess(evidence)
            if refinements > 0 and excess.max() > SHARE:
                refinements, grid = refinements - 1, _finer(grid, excess)
                continue
            return add_replicas(evidence, report)
        except ReplicaStopped as stopped:
            if rescues > 0:
                rescues, grid = rescues - 1, implicit_grid(halved_steps(grid.times, stopped.solved))
            elif not full:  # the coarser grid may be what is not solved
                full = True
            else:
                raise Unsolved(plan, stopped) from None


def within_time(
    make_plan: Callable[[Grid, bool], Plan],
    first_grid: Callable[[float], Grid],
    rtol: float,
    max_seconds: float,
    full: bool,
    adapt: bool,
    report: Report,
) -> Evidence:
    """Looser tolerances first, each once the one before is met, until `max_seconds` have passed; the last evidence.

    The loosest is solved whatever it takes.

    Args:
        first_grid: the grid to begin with for a tolerance.
    """
    end = time.monotonic() + max_seconds
    looser = sorted((rtol * factor for factor in LOOSER if rtol * factor <= LOOSEST), reverse=True)
    grids = [(tolerance, first_grid(tolerance)) for tolerance in (*looser, rtol)]
    # of several on the same grid the first and the last are enough
    levels = [one for one, (_, grid) in pairwise(grids) if one[1].size < grid.size or one is grids[0]]

    def plan(tolerance: float, deadline: float, grid: Grid, full: bool) -> Plan:
        return dataclasses.replace(make_plan(grid, full), rtol=tolerance, deadline=deadline)

    best = None
    for tolerance, grid in [*levels, grids[-1]]:
        deadline = math.inf if best is None else end
        try:
            best = to_tolerance(partial(plan, tolerance, deadline), grid, full, adapt, report)
        except OutOfTime:
            break
        if time.monotonic() > end:
            break
    assert best is not None
    return dataclasses.replace(best, plan=dataclasses.replace(best.plan, rtol=rtol))


class Unsolved(Exception):
    """A replica of `plan` could not go on."""

    def __init__(self, plan: Plan, stopped: ReplicaStopped) -> None:
        super().__init__(stopped.reason)
        self.plan, self.stopped = plan, stopped


def add_replicas(evidence: Evidence, report: Report) -> Evidence:
    """Replicas until the tolerance is met, or until more of them would not help."""
    plan = evidence.plan
    target = plan.first_replicas
    while True:
        evidence = evidence.more(target, report)
        excess = tolerance_excess(evidence)
        while plan.replicas is None and excess.total > 1 and excess.parts.get("bias", 0.0) > BIAS_SHARE:
            surer = evidence.surer(report)
            if surer is None:
                break
            evidence, excess = surer, tolerance_excess(surer)
        if plan.replicas is not None or excess.total <= 1 or target >= MAX_REPLICAS or excess.other > SHARE:
            return evidence
        wanted = target * excess.parts["sampling"] ** 2 / max(0.2, 1 - excess.other**2)
        target = int(min(MAX_REPLICAS, max(target + MORE, np.ceil(wanted))))


def _finer(grid: Grid, excess: np.ndarray) -> Grid:
    """Steps shorter, where and by as much as brings the error to AIM times the tolerance, at the rule's order.

    Args:
        excess: step error over tolerance on the grid, (T,).
    """
    times = grid.times
    seen = (times >= times[:, None]) & (times <= np.maximum(REACH * times[:, None], times[min(4, grid.size - 1)]))
    caused = np.max(np.where(seen, excess, 0.0), axis=1)
    density = np.clip((caused / AIM) ** (1 / ORDER), *FINER)
    apart = np.abs(np.arange(grid.size)[:, None] - np.arange(grid.size))
    density = np.max(density * SMOOTH ** (-1.0 * apart), axis=1)
    return implicit_grid(denser_times(times, density))
