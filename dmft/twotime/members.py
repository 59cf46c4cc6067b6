"""The machine's own way to know errors: each replica is solved on the plan's grid and, for the flow, on a coarser one.

An engine may correct its curves for more than the step, by further runs of the same replica (`corrected`). What such
corrections leave is of higher order: a quarter of them counts as an error.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np

from dmft.twotime.engine import Curves, Engine, Evidence, Plan, Report, Runs
from dmft.twotime.errors import Errors, difference, interpolate, largest_nearby, linear_between
from dmft.twotime.grid import ORDER, Grid, implicit_grid, resampled_times
from dmft.twotime.loop import ReplicaStopped, solve_replica
from dmft.twotime.replicas import side_by_side

#: Ratios of points, fine to coarse, that the step error may be estimated from.
COARSENING = (1.5, 1.25)
#: Share of the corrections that counts as an error.
LEFT = 0.25
#: Replicas that tell whether the steps are short enough.
SCOUTS = 3


class Member(NamedTuple):
    """What one replica predicts."""

    value: Curves
    corrections: dict[str, Curves]  # contained in `value`, by the part of the error that they correct
    step_change: Curves | None  # coarse minus fine over (ratio^order - 1); None for discrete steps
    replica: Any


class Ensemble(Engine):
    """An engine whose replicas each know their own errors."""

    @abstractmethod
    def curves(self, replica: Any) -> Curves:
        """The observables that a replica predicts."""

    def member(self, plan: Plan, index: int) -> Member:
        """Replica `index`, as it is."""
        replica = solve_replica(plan, index)
        value = self.curves(replica)
        return Member(value, {}, step_change(self, plan, index, value), replica)

    def runs(self, plan: Plan) -> list[Runs]:
        """Each replica on the plan's grid, and for the flow on the coarser one."""
        runs = [Runs(plan.grid.size, plan.sampling, plan.first_replicas)]
        return (
            runs
            if plan.grid.explicit
            else [*runs, Runs(round(plan.grid.size / COARSENING[0]), plan.sampling, plan.first_replicas)]
        )

    def evidence(self, plan: Plan, report: Report) -> Evidence:
        """The first replica alone, since it compiles the work of all, then enough to know the error of the step."""
        return Members(self, plan, ()).more(1, report).more(min(SCOUTS, plan.first_replicas), report)


def step_change(engine: Ensemble, plan: Plan, index: int, fine: Curves) -> Curves | None:
    """What a coarser grid changes in the curves `fine` of the same replica, linear between the coarse grid's times."""
    if plan.grid.explicit:
        return None
    points = plan.grid.size - 1
    for ratio in COARSENING:
        grid = implicit_grid(resampled_times(plan.grid.times, max(4, round(points / ratio))))
        try:
            coarse = engine.curves(solve_replica(plan.on(grid), index))
        except ReplicaStopped:
            if ratio == COARSENING[-1]:
                raise
            continue
        divisor = (points / (grid.size - 1)) ** ORDER - 1
        return {
            name: linear_between(
                grid.times,
                (coarse[name] - interpolate(plan.grid, fine[name], grid.times, axis=0)) / divisor,
                plan.grid.times,
            )
            for name in engine.meanings
        }
    raise AssertionError("unreachable: the last ratio returns or raises")


@dataclasses.dataclass(frozen=True)
class Members:
    """The evidence that replicas give which each know their own errors."""

    engine: Ensemble
    plan: Plan
    members: tuple[Member, ...]

    @property
    def replicas(self) -> list[Any]:
        return [member.replica for member in self.members]

    @property
    def grid(self) -> Grid:
        return self.plan.grid

    def first_look(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        errors = self.errors(name)
        return errors.value, errors.parts["step"]

    def more(self, target: int, report: Report) -> Members:
        done = len(self.members)

        def solve(index: int) -> Member:
            return self.engine.member(self.plan, index)

        new = side_by_side(self.plan, solve, range(done, target), lambda count: report(done + count, target))
        return dataclasses.replace(self, members=(*self.members, *new))

    def surer(self, report: Report) -> Evidence | None:  # noqa: ARG002
        return None

    def again(self, plan: Plan, report: Report, *, near: bool = False) -> Members:  # noqa: ARG002
        assert isinstance(plan.engine, Ensemble)
        return Members(plan.engine, plan, ()).more(len(self.members), report)

    def change(self, base: Evidence, step: float) -> Members:
        assert isinstance(base, Members)

        def of(new: Curves, old: Curves) -> Curves:
            return {name: difference(self.grid, new[name], base.grid, old[name], step) for name in old}

        pairs = zip(self.members, base.members, strict=False)
        members = tuple(
            old._replace(
                value=of(new.value, old.value),
                corrections={part: of(new.corrections[part], curves) for part, curves in old.corrections.items()},
                step_change=of(new.step_change, old.step_change) if new.step_change and old.step_change else None,
            )
            for new, old in pairs
        )
        return dataclasses.replace(base, members=members)

    def errors(self, name: str) -> Errors:
        values = np.stack([member.value[name] for member in self.members])
        corrections = {
            part: LEFT * np.abs(np.mean([member.corrections[part][name] for member in self.members], axis=0))
            for part in self.members[0].corrections
        }
        step = np.zeros(values.shape[1:])
        changes = [member.step_change[name] for member in self.members if member.step_change is not None]
        if changes:  # two neighbours of the plan's grid reach the next ones of the coarse grid
            step = largest_nearby(np.abs(np.mean(changes, axis=0)), reach=2)
        sampling = values.std(axis=0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.full(step.shape, np.inf)
        parts = {"sampling": sampling, "step": step, **corrections}
        endings = {"step": "step_error", "bias": "bias", "kinks": "kink_error"}
        return Errors(
            values.mean(axis=0), parts, {ending: parts[part] for part, ending in endings.items() if part in parts}
        )
