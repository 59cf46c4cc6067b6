"""The error budget of a solve, observable by observable and time by time.

sampling      scatter of the replicas' mean: a standard error
step          time step of the flow: what a grid of half the points changes (with a quarter of the samples)
bias          of a finite number of samples, O(1/S): what a quarter of the samples changes
iteration     what the inner iteration leaves, summed over the rows
consistency   disagreement of the two forms of the correlations that their scatter does not explain; if the model's
              dim is set, they differ by neglected terms of order 1/D: shown, but no error of the solution

The total is their root sum square.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from dmft.consistency import regress_out
from dmft.grid import Grid, coordinate
from dmft.plan import Plan
from dmft.replica import Replica

#: Observables on which the tolerance is met.
CONTROLLED = ("train_loss", "test_loss")

#: Change of an observable, relative, over the sum of the rows' relative residuals: measured 0.2 to 5.
AMPLIFICATION = 5.0

#: Two-sided probability at which the two forms of the correlations are said to disagree.
CONSISTENCY_LEVEL = 1e-3


@dataclasses.dataclass(frozen=True)
class Coarse:
    """Replicas on a coarser grid, and the factor by which their step error exceeds the fine one, less one."""

    grid: Grid
    replicas: list[Replica]
    divisor: float


@dataclasses.dataclass(frozen=True)
class Pilot:
    """Replicas of fewer samples: cheap, and enough to know what the step and the number of samples change.

    Attributes:
        replicas: on the plan's grid, beside the first ones of the solve.
        divisor: S/S' - 1.
        coarse: the same ones on a coarser grid; None for discrete steps.
    """

    replicas: list[Replica]
    divisor: float
    coarse: Coarse | None


@dataclasses.dataclass(frozen=True)
class Solved:
    """All replicas of one solve."""

    fine: list[Replica]
    pilot: Pilot


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
    """Error over tolerance on the controlled observables, each at its worst: the total, sampling, step, the others."""

    ratio: float
    sampling_ratio: float
    step_ratio: float
    other_ratio: float  # all but sampling
    limited_by: str
    message: str


def budget(plan: Plan, solved: Solved, name: str) -> Budget:
    """Value and errors of one observable on the plan's grid."""
    from scipy.stats import t

    value, sampling = mean_curve(solved.fine, name)
    bias, bias_stderr = sample_bias(solved, name)
    second = stack(solved.fine, name, form="differential") - stack(solved.fine, name)
    difference, count = second.mean(axis=0), len(solved.fine)
    scatter = second.std(axis=0, ddof=1) / np.sqrt(count)
    explained = float(t.ppf(1 - CONSISTENCY_LEVEL / 2, count - 1)) * scatter
    return Budget(
        value=value,
        sampling=sampling,
        step=step_error(plan, solved.pilot, name, value),
        bias=bias,
        bias_stderr=bias_stderr,
        iteration=AMPLIFICATION * residual_sum(solved.fine) * np.abs(value),
        difference=difference,
        difference_stderr=scatter,
        consistency=np.maximum(np.abs(difference) - explained, 0.0) * (plan.model.dim is None),
    )


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
    fine = interpolate(plan.grid, mean_curve(pilot.replicas, name)[0], coarse.grid.times)
    size = np.abs(mean_curve(coarse.replicas, name)[0] - fine) / coarse.divisor
    scale = np.maximum(np.abs(fine), 1e-12 * np.abs(fine).max() + 1e-300)
    padded = np.pad(size / scale, 1)
    relative = np.lib.stride_tricks.sliding_window_view(padded, 3).max(axis=1)
    relative[0] = size[0] / scale[0]
    result = np.interp(plan.grid.times, coarse.grid.times, relative) * np.abs(value)
    early = (plan.grid.times > 0) & (plan.grid.times < coarse.grid.times[1])
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
    """(mean at S' samples - mean at S) / (S/S' - 1) on the plan's grid, and its standard error: the bias at S as 1/S.

    The scrambling of a replica's samples is the same, so that errors partly cancel; the control variates, which
    have zero mean in both, take out more.
    """
    few = solved.pilot.replicas
    many = solved.fine[: len(few)]
    difference = stack(few, name) - stack(many, name)
    controls = np.stack([one.controls - other.controls for one, other in zip(few, many, strict=True)])
    mean, stderr = regress_out(difference, controls)
    return mean / solved.pilot.divisor, stderr / solved.pilot.divisor


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
            f"the value is {errors.value[at]:.3g} and the tolerance {allowed[at]:.2g} ({len(solved.fine)} replicas of "
            f"{plan.sampling.samples} samples, {plan.grid.size - 1} steps)"
        )
        other = np.sqrt(np.maximum(total**2 - errors.sampling**2, 0.0))
        ratio, sampling, step, rest = (float((e / allowed).max()) for e in (total, errors.sampling, errors.step, other))
        worst.append(Excess(ratio, sampling, step, rest, limit, message))
    most = max(worst, key=lambda excess: excess.ratio)
    return dataclasses.replace(
        most,
        sampling_ratio=max(excess.sampling_ratio for excess in worst),
        step_ratio=max(excess.step_ratio for excess in worst),
        other_ratio=max(excess.other_ratio for excess in worst),
    )


#: The parts of the budget, as messages and attributes name them.
MEANINGS = {
    "sampling": "from sampling",
    "step": "from the time step",
    "bias": "bias of the number of samples",
    "iteration": "from the inner iteration",
    "consistency": "disagreement of the two forms of the correlations",
}


def interpolate(grid: Grid, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Cubic spline along the last axis in `dmft.grid.coordinate` x: even in x, so level at x = 0."""
    from scipy.interpolate import CubicSpline

    ends: Any = ("clamped", "not-a-knot")
    return CubicSpline(coordinate(grid.times), values, axis=-1, bc_type=ends)(coordinate(at))


def interpolation_error(grid: Grid, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """What every other time changes in `interpolate`, over 2^4 - 1; 0 on the grid's times."""
    rows = np.unique(np.append(np.arange(0, grid.size, 2), grid.size - 1))
    thin = Grid(grid.times[rows], grid.weights[rows], grid.past[rows], grid.explicit)
    difference = np.abs(interpolate(thin, values[rows], at) - interpolate(grid, values, at)) / 15
    return np.where(np.isin(at, grid.times), 0.0, difference)
