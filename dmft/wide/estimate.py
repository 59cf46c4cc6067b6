"""The wide engine's errors, observable by observable and time by time.

Most replicas are solved on a coarse grid, where they are cheap. What the plan's grid changes is measured by the
*pilot*, replicas of few samples that are solved on both grids, and added:

    mean = mean(coarse grid, S samples) + mean(plan's grid - coarse grid, few samples).

Both terms scatter little. The parts of the error:

sampling      scatter of the replicas' means, of both terms: a standard error
step          time step of the flow: (plan's grid - coarse grid)/(ratio^order - 1)
bias          of a finite number of samples, O(1/S): what a quarter of the samples changes
iteration     what the inner iteration leaves, summed over the rows
consistency   disagreement of the two forms of the correlations that their scatter does not explain
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dmft.twotime.engine import Evidence, Plan, Report, Runs
from dmft.twotime.errors import Errors, difference, interpolate, largest_nearby
from dmft.twotime.grid import ORDER, Grid, implicit_grid, resampled_times
from dmft.twotime.loop import ReplicaStopped, compile_ahead, solve_replica
from dmft.twotime.replicas import side_by_side
from dmft.twotime.tolerance import MAX_REPLICAS
from dmft.wide.consistency import regress_out
from dmft.wide.solution import Like, Replica

#: Ratios of points, fine to coarse, of the grid that most of the work is done on: the first that can be solved.
COARSENING = (2.0, 1.5, 1.25)
#: Replicas of the pilot at most; on the coarser grid for each one on the plan's: the bias is measured there.
PILOT, COARSE_PILOT = 12, 2
#: Change of an observable, relative, over the sum of the rows' relative residuals: measured 0.2 to 5.
AMPLIFICATION = 5.0
#: Two-sided probability at which the two forms of the correlations are said to disagree.
CONSISTENCY_LEVEL = 1e-3


def coarse_size(size: int, ratio: float = COARSENING[0]) -> int:
    """Number of times, 0 included, of the grid with fewer points by `ratio`."""
    return round((size - 1) / ratio) + 1


@dataclasses.dataclass(frozen=True)
class Coarse:
    """The pilot on a coarser grid.

    Attributes:
        plan: of that grid, with as many samples as the solve has.
        replicas: of the pilot's samples; the first are those of the pilot.
        divisor: the factor by which the step error exceeds that of the solve's grid, less one.
    """

    plan: Plan
    replicas: list[Replica]
    divisor: float


@dataclasses.dataclass(frozen=True)
class Pilot:
    """Replicas of few samples: cheap, and enough to know what the step and the number of samples change.

    Attributes:
        replicas: on the plan's grid.
        divisor: S/S' - 1.
        coarse: the same ones on a coarser grid, and more; None for discrete steps.
    """

    replicas: list[Replica]
    divisor: float
    coarse: Coarse | None


@dataclasses.dataclass(frozen=True)
class WideEvidence:
    """The pilot, and the replicas of all samples on `on`: the coarse plan, or `plan` itself where that is `full`.

    Changes of the curves per `step` of a parameter have the curves themselves in `base`.
    """

    plan: Plan
    on: Plan
    pilot: Pilot
    replicas: list[Replica]
    base: WideEvidence | None = None
    step: float = 1.0

    @property
    def grid(self) -> Grid:
        """The grid that `replicas` are on."""
        return self.on.grid

    @property
    def few(self) -> list[Replica]:
        """The pilot on the grid of `replicas`."""
        coarse = self.pilot.coarse
        return coarse.replicas if coarse and coarse.plan is self.on else self.pilot.replicas

    def more(self, target: int, report: Report) -> WideEvidence:
        """With replicas up to `target`."""
        done = len(self.replicas)
        new = run(self.on, range(done, target), lambda count: report(done + count, target), guide=self.few[0])
        return dataclasses.replace(self, replicas=self.replicas + new)

    def surer(self, report: Report) -> WideEvidence | None:
        """With twice as many replicas of few samples on the grid of `replicas`; None beyond MAX_REPLICAS."""
        done, pilot = len(self.few), self.pilot
        if done >= MAX_REPLICAS:
            return None
        new = run(self.on.fewer, range(done, 2 * done), lambda new: report(done + new, 2 * done), guide=self.few[0])
        few = self.few + new
        if pilot.coarse is not None and pilot.coarse.plan is self.on:
            pilot = dataclasses.replace(pilot, coarse=dataclasses.replace(pilot.coarse, replicas=few))
        else:
            pilot = dataclasses.replace(pilot, replicas=few)
        return dataclasses.replace(self, pilot=pilot)

    def first_look(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Value and step error as far as the pilot tells."""
        value = mean_curve(self.pilot.replicas, name)[0]
        return value, step_error(self.plan, self.pilot, name, value)

    def errors(self, name: str) -> Errors:
        """An observable and its errors on the plan's grid."""
        return errors(self, name)

    def again(self, plan: Plan, report: Report, *, near: bool = False) -> WideEvidence:
        """See `dmft.twotime.engine.Evidence`. Each replica is the first guess of itself.

        A near one has the bases of the old one, and no others: what forces have beside them is of second order, and
        the directions of small rests are not. Of few samples on the coarser grid it has those of the pilot alone.
        """
        total, done = len(self.replicas) + len(self.pilot.replicas), 0

        def solved(plan: Plan, old: list[Replica], like: Sequence[Replica] | None = None) -> list[Replica]:
            nonlocal done
            like = [one.with_full_bases() for one in old] if near else like
            new = run(plan, range(len(old)), lambda count: report(done + count, total), like, guides=old)
            done += len(old)
            return new

        coarse, on = self.pilot.coarse, plan
        if coarse is not None:
            total += len(coarse.replicas)
            grid = implicit_grid(resampled_times(plan.grid.times, coarse.plan.grid.size - 1))
            other = plan.on(coarse.plan.grid if plan.grid is self.plan.grid else grid)
            on = plan if self.on is self.plan else other
            kept = coarse.replicas[: len(self.pilot.replicas)] if near else coarse.replicas
            coarse = dataclasses.replace(coarse, plan=other, replicas=solved(other.fewer, kept))
        like = coarse.replicas[: len(self.pilot.replicas)] if coarse else None
        fine = solved(plan.fewer, self.pilot.replicas, like)
        pilot = dataclasses.replace(self.pilot, replicas=fine, coarse=coarse)
        return WideEvidence(plan, on, pilot, solved(on, self.replicas))

    def change(self, base: Evidence, step: float) -> WideEvidence:
        """See `dmft.twotime.engine.Evidence`."""
        assert isinstance(base, WideEvidence)
        pilot, coarse, old = self.pilot, self.pilot.coarse, base.pilot.coarse
        if coarse is not None and old is not None:
            between = changes(coarse.plan.grid, coarse.replicas, old.plan.grid, old.replicas, step)
            old = dataclasses.replace(old, replicas=between)
        fine = changes(self.plan.grid, pilot.replicas, base.plan.grid, base.pilot.replicas, step)
        pilot = dataclasses.replace(base.pilot, replicas=fine, coarse=old)
        replicas = changes(self.grid, self.replicas, base.grid, base.replicas, step)
        on = base.plan if base.on is base.plan or old is None else old.plan
        return dataclasses.replace(base, on=on, pilot=pilot, replicas=replicas, base=base, step=step)


def begin(plan: Plan, report: Report) -> WideEvidence:
    """All that is needed is compiled at once, one core for each; then the pilot."""
    compile_ahead(plan, runs(plan))
    pilot = run_pilot(plan, min(plan.first_replicas, PILOT), report)
    on = plan if plan.full or pilot.coarse is None else pilot.coarse.plan
    return WideEvidence(plan, on, pilot, [])


def runs(plan: Plan) -> list[Runs]:
    """The pilot on both grids, and the replicas of all samples on the one that is used."""
    few, fine, first = plan.fewer.sampling, plan.grid.size, plan.first_replicas
    coarse, pilot = coarse_size(fine), min(first, PILOT)
    found = [Runs(fine, few, pilot), Runs(fine if plan.full else coarse, plan.sampling, first)]
    return found if plan.grid.explicit else [*found, Runs(coarse, few, COARSE_PILOT * pilot)]


def run_pilot(plan: Plan, count: int, report: Report) -> Pilot:
    """Replicas of fewer samples: `count` on the plan's grid, those and more (flow) on a coarser one."""
    few = plan.fewer
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
        grid = implicit_grid(resampled_times(plan.grid.times, coarse_size(plan.grid.size, ratio) - 1))
        try:
            replicas = run(plan.on(grid).fewer, range(count), lambda done: report(done, count))
        except ReplicaStopped:
            if ratio == COARSENING[-1]:
                raise
            continue
        return Coarse(plan.on(grid), replicas, ((plan.grid.size - 1) / (grid.size - 1)) ** ORDER - 1)
    raise AssertionError("unreachable: the last ratio returns or raises")


def run(
    plan: Plan,
    indices: range,
    report: Any,
    like: Sequence[Replica] | None = None,
    guide: Replica | None = None,
    guides: Sequence[Replica] | None = None,
) -> list[Replica]:
    """The replicas of the given indices.

    Args:
        like: the same ones on another grid.
        guide: a replica on the same grid, whose rows are the first guess of these; the first of them if None.
        guides: one for each, in place of it.
    """
    found: list[Replica] = []

    def solve(index: int) -> Replica:
        by = guides[index] if guides else guide
        rows = by.rows if by else None
        one = solve_replica(plan, index, Like(like[index].bases if like else None, rows))
        return one if (plan.keep or rows is None) and not plan.grid.explicit else one._replace(rows=None)

    if guide is None and guides is None and not plan.grid.explicit:
        found, indices = [solve(indices[0])], indices[1:]
        guide = found[0]
    done = len(found)
    return found + side_by_side(plan, solve, indices, lambda new: report(done + new))


def changes(grid: Grid, new: list[Replica], base: Grid, old: list[Replica], step: float) -> list[Replica]:
    """(new - old) / step of the curves and controls of replicas of the same draws."""

    def of(one: Replica, other: Replica) -> Replica:
        def each(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {name: difference(grid, a[name], base, b[name], step) for name in b}

        return other._replace(
            curves=each(one.curves, other.curves),
            differential=each(one.differential, other.differential),
            controls=difference(grid, one.controls, base, other.controls, step),
            mismatch=np.hypot(one.mismatch, other.mismatch) / abs(step),
        )

    return [of(one, other) for one, other in zip(new, old, strict=False)]


def errors(evidence: WideEvidence, name: str) -> Errors:
    """Value of an observable and all parts of its error, on the plan's grid."""
    plan = evidence.plan

    def here(array: np.ndarray) -> np.ndarray:
        return array if evidence.grid is plan.grid else interpolate(evidence.grid, array, plan.grid.times)

    def size(array: np.ndarray) -> np.ndarray:
        """Linear in time, so that sizes stay positive."""
        return np.interp(plan.grid.times, evidence.grid.times, array)

    mean, scatter = mean_curve(evidence.replicas, name)
    change, change_scatter = refinement(evidence, name, mean)
    value = here(mean) + change
    # a change may pass through zero; what it is relative to does not
    scale = value if evidence.base is None else errors(evidence.base, name).value
    bias = sample_bias(evidence, name)
    difference, unexplained, disagreement = consistency(evidence.replicas, name)
    reported = {
        "step_error": step_error(plan, evidence.pilot, name, scale, None if evidence.base is None else scale),
        "bias": here(bias[0]),
        "bias_stderr": size(bias[1]),
        "iteration_error": AMPLIFICATION * size(residual_sum(evidence.replicas)) * np.abs(scale),
        "consistency": here(difference),
        "consistency_stderr": size(unexplained),
    }
    parts = {
        "sampling": np.hypot(size(scatter), change_scatter),
        "step": reported["step_error"],
        # its square estimates the squared bias without the noise's share
        "bias": np.sqrt(np.maximum(reported["bias"] ** 2 - reported["bias_stderr"] ** 2, 0.0)),
        "iteration": reported["iteration_error"],
        "consistency": size(disagreement),
    }
    return Errors(value, parts, reported)


def consistency(replicas: list[Replica], name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Differential minus propagator form: mean, standard error, and what the latter does not explain; (T,) each."""
    from scipy.stats import t

    second = stack(replicas, name, form="differential") - stack(replicas, name)
    difference, count = second.mean(axis=0), len(replicas)
    stderr = second.std(axis=0, ddof=1) / np.sqrt(count)
    explained = float(t.ppf(1 - CONSISTENCY_LEVEL / 2, count - 1)) * stderr
    return difference, stderr, np.maximum(np.abs(difference) - explained, 0.0)


def refinement(evidence: WideEvidence, name: str, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the plan's grid changes, and its standard error, on the plan's grid; 0 if `replicas` are on it already.

    A mean over the pilot's replicas. Their changes are proportional to their values, as a rule. So a regression of the
    changes on the values gives the change at the value `mean`.
    """
    plan, coarse = evidence.plan, evidence.pilot.coarse
    if coarse is None or evidence.grid is plan.grid:
        return np.zeros(plan.grid.size), np.zeros(plan.grid.size)
    fine = stack(evidence.pilot.replicas, name)
    few = interpolate(evidence.grid, stack(coarse.replicas[: len(fine)], name), plan.grid.times)
    deviation = few - interpolate(evidence.grid, mean, plan.grid.times)
    return regress_out(fine - few, deviation[..., None])


def stack(replicas: list[Replica], name: str, *, form: str = "curves") -> np.ndarray:
    """An observable of all replicas, (R, T)."""
    return np.stack([getattr(replica, form)[name] for replica in replicas])


def mean_curve(replicas: list[Replica], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error of an observable on the replicas' grid, with the control variates regressed out."""
    return regress_out(stack(replicas, name), np.stack([replica.controls for replica in replicas]))


def step_error(plan: Plan, pilot: Pilot, name: str, value: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """|coarse - fine| / (ratio^order - 1) on the fine grid: what the next refinement would change.

    Both are means over the pilot's replicas, which have the same samples; the error is taken relative to their value
    (of a change: to the curve `scale`), and each time has the largest one among itself and its two neighbours on the
    coarse grid. Before the first coarse time the absolute error is what it is there: an observable that starts at 0 is
    relatively worse known than that.
    """
    coarse = pilot.coarse
    if coarse is None:
        return np.zeros(plan.grid.size)
    times, count = coarse.plan.grid.times, min(len(pilot.replicas), len(coarse.replicas))
    fine = interpolate(plan.grid, mean_curve(pilot.replicas[:count], name)[0], times)
    size = np.abs(mean_curve(coarse.replicas[:count], name)[0] - fine) / coarse.divisor
    about = np.abs(fine if scale is None else interpolate(plan.grid, scale, times))
    about = np.maximum(about, 1e-12 * about.max() + 1e-300)
    relative = largest_nearby(size / about, reach=1)
    relative[0] = size[0] / about[0]
    result = np.interp(plan.grid.times, times, relative) * np.abs(value)
    early = (plan.grid.times > 0) & (plan.grid.times < times[1])
    return np.where(early, np.maximum(result, size[1]), result)


def sample_bias(evidence: WideEvidence, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The bias at S samples as 1/S, (mean at S' - mean at S) / (S/S' - 1), and its standard error; grid of `replicas`.

    From the means of all replicas, or from the differences of those of one scrambling: at each time the surer one.
    """
    few, many, divisor = evidence.few, evidence.replicas, evidence.pilot.divisor
    (few_mean, few_stderr), (many_mean, many_stderr) = mean_curve(few, name), mean_curve(many, name)
    stderr = np.hypot(few_stderr, many_stderr)
    count = min(len(few), len(many))
    controls = [one.controls - other.controls for one, other in zip(few, many, strict=False)]
    paired = regress_out(stack(few[:count], name) - stack(many[:count], name), np.stack(controls))
    surer = paired[1] < stderr
    bias = np.where(surer, paired[0], few_mean - many_mean)
    return bias / divisor, np.where(surer, paired[1], stderr) / divisor


def residual_sum(replicas: list[Replica]) -> np.ndarray:
    """Sum over the rows so far of the relative residual that the inner iteration left, mean over replicas, (T,)."""
    return np.mean([np.cumsum(replica.mismatch) for replica in replicas], axis=0)
