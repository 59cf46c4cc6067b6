"""The error budget of a solve: sampling from the scatter of replicas, time step from a coarser grid."""

from __future__ import annotations

import dataclasses

import numpy as np

from dmft.consistency import regress_out
from dmft.grid import Grid
from dmft.plan import Plan
from dmft.replica import Replica

#: Observables on which the tolerance is met.
CONTROLLED = ("train_loss", "test_loss")


@dataclasses.dataclass(frozen=True)
class Coarse:
    """Replicas on a coarser grid, and the factor by which their step error exceeds the fine one, less one."""

    grid: Grid
    replicas: list[Replica]
    divisor: float


@dataclasses.dataclass(frozen=True)
class Excess:
    """Error over tolerance at its worst time and observable: in total, from sampling alone, from the step alone."""

    ratio: float
    sampling_ratio: float
    step_ratio: float
    message: str


def stack(replicas: list[Replica], name: str, *, form: str = "curves") -> np.ndarray:
    return np.stack([getattr(replica, form)[name] for replica in replicas])


def mean_curve(replicas: list[Replica], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error of an observable on the replicas' grid, with the control variates regressed out."""
    return regress_out(stack(replicas, name), np.stack([replica.controls for replica in replicas]))


def step_error(plan: Plan, fine: list[Replica], coarse: Coarse | None, name: str) -> np.ndarray:
    """|coarse - fine| / (ratio^order - 1) on the fine grid: what the next refinement would change."""
    if coarse is None:
        return np.zeros(plan.grid.size)
    at = coarse.grid.times
    difference = mean_curve(coarse.replicas, name)[0] - interpolate(plan.grid, mean_curve(fine, name)[0], at)
    return np.interp(plan.grid.times, at, np.abs(difference) / coarse.divisor)


def tolerance_excess(plan: Plan, fine: list[Replica], coarse: Coarse | None) -> Excess:
    """Compare sqrt(sampling^2 + step^2) with rtol |value| + atol (initial loss) on the controlled observables."""
    worst: list[Excess] = []
    for name in CONTROLLED:
        mean, sampling = mean_curve(fine, name)
        step = step_error(plan, fine, coarse, name)
        allowed = plan.rtol * np.abs(mean) + plan.atol * mean[0]
        total = np.hypot(sampling, step)
        at = int(np.argmax(total / allowed))
        message = (
            f"error of {name} {total[at]:.2g} at t = {plan.grid.times[at]:.4g} where the value is {mean[at]:.3g} "
            f"and the tolerance {allowed[at]:.2g} ({len(fine)} replicas of {plan.sampling.samples} samples, "
            f"{plan.grid.size - 1} steps)"
        )
        total_ratio, sampling_ratio, step_ratio = (float((size / allowed).max()) for size in (total, sampling, step))
        worst.append(Excess(total_ratio, sampling_ratio, step_ratio, message))
    return Excess(
        max(excess.ratio for excess in worst),
        max(excess.sampling_ratio for excess in worst),
        max(excess.step_ratio for excess in worst),
        max(worst, key=lambda excess: excess.ratio).message,
    )


def interpolate(grid: Grid, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Cubic spline along the last axis in the coordinate in which the grid is uniform."""
    from scipy.interpolate import CubicSpline

    return CubicSpline(grid.coordinate(grid.times), values, axis=-1)(grid.coordinate(at))
