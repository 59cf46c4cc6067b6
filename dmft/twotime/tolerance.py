"""Curves and their error budget, observable by observable and time by time.

Most replicas are solved on a coarse grid, where they are cheap.  What the plan's grid changes is measured by the
pilot, replicas of few samples that are solved on both, and added:
mean = mean(coarse, S samples) + mean(plan's grid - coarse, few samples); the two differences scatter little.

sampling      scatter of the replicas' means: a standard error, of both terms
step          time step of the flow: (plan's grid - coarse grid)/(ratio^order - 1)
bias          of a finite number of samples, O(1/S): what a quarter of the samples changes
iteration     what the inner iteration leaves, summed over the rows
consistency   disagreement of the two forms of the correlations that their scatter does not explain

The total is their root sum square.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from dmft.twotime.grid import Grid, coordinate
from dmft.twotime.plan import Plan
from dmft.wide.consistency import regress_out
from dmft.wide.replica import Replica

#: Observables on which the tolerance is met.
CONTROLLED = ("train_loss", "test_loss")

#: Change of an observable, relative, over the sum of the rows' relative residuals: measured 0.2 to 5.
AMPLIFICATION = 5.0

#: Two-sided probability at which the two forms of the correlations are said to disagree.
CONSISTENCY_LEVEL = 1e-3


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
class Solved:
    """All replicas of one solve: those of all samples, the grid that they are on, and the pilot."""

    many: list[Replica]
    grid: Grid
    pilot: Pilot

    @property
    def few(self) -> list[Replica]:
        """The pilot on the grid of `many`."""
        coarse = self.pilot.coarse
        return coarse.replicas if coarse and coarse.plan.grid is self.grid else self.pilot.replicas


class Budget(NamedTuple):
    """An observable and its errors on the grid, (T,) each; `bias` has its sign, all others are sizes."""

    value: np.ndarray
    sampling: np.ndarray
    step: np.ndarray
    bias: np.ndarray
    bias_stderr: np.ndarray
    iteration: np.ndarray
    difference: np.ndarray  # of the two forms of the correlations, with its sign
    difference_stderr: np.ndarray
    consistency: np.ndarray

    @property
    def bias_size(self) -> np.ndarray:
        """(bias^2 - bias_stderr^2)^(1/2), or 0: its square estimates the squared bias without the noise's share."""
        return np.sqrt(np.maximum(self.bias**2 - self.bias_stderr**2, 0.0))

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """What adds up, in squares, to the total; by name."""
        return {
            "sampling": self.sampling,
            "step": self.step,
            "bias": self.bias_size,
            "iteration": self.iteration,
            "consistency": self.consistency,
        }

    @property
    def total(self) -> np.ndarray:
        return np.sqrt(sum(part**2 for part in self.parts.values()))

    def limited_by(self, at: int) -> str:
        """The largest part at row `at`."""
        return max(self.parts, key=lambda name: self.parts[name][at])


@dataclasses.dataclass(frozen=True)
class Excess:
    """Error over tolerance on the controlled observables, each at its worst: the total and parts of it."""

    ratio: float
    sampling_ratio: float
    step_ratio: float
    bias_ratio: float
    other_ratio: float  # all but sampling
    limited_by: str
    message: str


def budget(plan: Plan, solved: Solved, name: str) -> Budget:
    """Value and errors of one observable on the plan's grid."""
    from scipy.stats import t

    def here(array: np.ndarray) -> np.ndarray:
        return array if solved.grid is plan.grid else interpolate(solved.grid, array, plan.grid.times)

    def size(array: np.ndarray) -> np.ndarray:
        """Linear in time, so that sizes stay positive."""
        return np.interp(plan.grid.times, solved.grid.times, array)

    mean, scatter = mean_curve(solved.many, name)
    change, change_scatter = refinement(plan, solved, name, mean)
    value = here(mean) + change
    bias, bias_stderr = sample_bias(solved, name)
    second = stack(solved.many, name, form="differential") - stack(solved.many, name)
    difference, count = second.mean(axis=0), len(solved.many)
    unexplained = second.std(axis=0, ddof=1) / np.sqrt(count)
    explained = float(t.ppf(1 - CONSISTENCY_LEVEL / 2, count - 1)) * unexplained
    return Budget(
        value=value,
        sampling=np.hypot(size(scatter), change_scatter),
        step=step_error(plan, solved.pilot, name, value),
        bias=here(bias),
        bias_stderr=size(bias_stderr),
        iteration=AMPLIFICATION * size(residual_sum(solved.many)) * np.abs(value),
        difference=here(difference),
        difference_stderr=size(unexplained),
        consistency=size(np.maximum(np.abs(difference) - explained, 0.0)),
    )


def refinement(plan: Plan, solved: Solved, name: str, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the plan's grid changes, and its standard error, on the plan's grid; 0 if `many` are on it already.

    A mean over the pilot's replicas.  Their changes are proportional to their values, as a rule: the regression on
    these takes the change where the value is `mean`, that of `many`.
    """
    coarse = solved.pilot.coarse
    if coarse is None or solved.grid is plan.grid:
        return np.zeros(plan.grid.size), np.zeros(plan.grid.size)
    fine = stack(solved.pilot.replicas, name)
    few = interpolate(solved.grid, stack(coarse.replicas[: len(fine)], name), plan.grid.times)
    deviation = few - interpolate(solved.grid, mean, plan.grid.times)
    return regress_out(fine - few, deviation[..., None])


def stack(replicas: list[Replica], name: str, *, form: str = "curves") -> np.ndarray:
    return np.stack([getattr(replica, form)[name] for replica in replicas])


def mean_curve(replicas: list[Replica], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error of an observable on the replicas' grid, with the control variates regressed out."""
    return regress_out(stack(replicas, name), np.stack([replica.controls for replica in replicas]))


def step_error(plan: Plan, pilot: Pilot, name: str, value: np.ndarray) -> np.ndarray:
    """|coarse - fine| / (ratio^order - 1) on the fine grid: what the next refinement would change.

    Both are means over the pilot's replicas, which have the same samples; the error is taken relative to their value.
    The difference passes through zero where the two curves cross, though the error does not.  So each time has the
    largest error, relative to the value, among itself and its two neighbours on the coarse grid.  Before the first
    coarse time the absolute error is taken to be what it is there: an observable that starts at 0 is relatively
    worse known than that.
    """
    coarse = pilot.coarse
    if coarse is None:
        return np.zeros(plan.grid.size)
    times, count = coarse.plan.grid.times, min(len(pilot.replicas), len(coarse.replicas))
    fine = interpolate(plan.grid, mean_curve(pilot.replicas[:count], name)[0], times)
    size = np.abs(mean_curve(coarse.replicas[:count], name)[0] - fine) / coarse.divisor
    scale = np.maximum(np.abs(fine), 1e-12 * np.abs(fine).max() + 1e-300)
    padded = np.pad(size / scale, 1)
    relative = np.lib.stride_tricks.sliding_window_view(padded, 3).max(axis=1)
    relative[0] = size[0] / scale[0]
    result = np.interp(plan.grid.times, times, relative) * np.abs(value)
    early = (plan.grid.times > 0) & (plan.grid.times < times[1])
    return np.where(early, np.maximum(result, size[1]), result)


def step_excess(plan: Plan, pilot: Pilot) -> float:
    """Step error over tolerance on the controlled observables, at its worst, as far as the pilot tells."""
    worst = []
    for name in CONTROLLED:
        value = mean_curve(pilot.replicas, name)[0]
        allowed = plan.rtol * np.abs(value) + plan.atol * value[0]
        worst.append(float((step_error(plan, pilot, name, value) / allowed).max()))
    return max(worst)


def sample_bias(solved: Solved, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The bias at S samples as 1/S, (mean at S' - mean at S) / (S/S' - 1), and its standard error; grid of `many`.

    From the means of all replicas, or from the differences of those of one scrambling: at each time the surer one.
    """
    few, many, divisor = solved.few, solved.many, solved.pilot.divisor
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


def tolerance_excess(plan: Plan, solved: Solved) -> Excess:
    """Compare the total error with rtol |value| + atol (initial loss) on the controlled observables."""
    worst: list[Excess] = []
    for name in CONTROLLED:
        errors = budget(plan, solved, name)
        allowed = plan.rtol * np.abs(errors.value) + plan.atol * errors.value[0]
        total = errors.total
        at = int(np.argmax(total / allowed))
        limit = errors.limited_by(at)
        message = (
            f"error of {name} {total[at]:.2g}, most of it {MEANINGS[limit]}, at t = {plan.grid.times[at]:.4g} where "
            f"the value is {errors.value[at]:.3g} and the tolerance {allowed[at]:.2g} ({len(solved.many)} replicas of "
            f"{plan.sampling.samples} samples, {plan.grid.size - 1} steps)"
        )
        other = np.sqrt(np.maximum(total**2 - errors.sampling**2, 0.0))
        ratio, sampling, step, bias, rest = (
            float((part / allowed).max()) for part in (total, errors.sampling, errors.step, errors.bias_size, other)
        )
        worst.append(Excess(ratio, sampling, step, bias, rest, limit, message))
    most = max(worst, key=lambda excess: excess.ratio)
    each = ("sampling_ratio", "step_ratio", "bias_ratio", "other_ratio")
    return dataclasses.replace(most, **{name: max(getattr(excess, name) for excess in worst) for name in each})


#: The parts of the budget, as messages and attributes name them.
MEANINGS = {
    "sampling": "from sampling",
    "step": "from the time step",
    "bias": "bias of the number of samples",
    "iteration": "from the inner iteration",
    "consistency": "disagreement of the two forms of the correlations",
}


def interpolate(grid: Grid, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Cubic spline along the last axis in `dmft.twotime.grid.coordinate` x: even in x, so level at x = 0."""
    from scipy.interpolate import CubicSpline

    ends: Any = ("clamped", "not-a-knot")
    return CubicSpline(coordinate(grid.times), values, axis=-1, bc_type=ends)(coordinate(at))


def interpolation_error(grid: Grid, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """What every other time changes in `interpolate`, over 2^4 - 1; 0 on the grid's times."""
    rows = np.unique(np.append(np.arange(0, grid.size, 2), grid.size - 1))
    thin = Grid(grid.times[rows], grid.weights[rows], grid.past[rows], grid.explicit)
    difference = np.abs(interpolate(thin, values[rows], at) - interpolate(grid, values, at)) / 15
    return np.where(np.isin(at, grid.times), 0.0, difference)
