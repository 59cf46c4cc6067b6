"""What is told of a gradient flow besides its curves: the error of its steps, its cost, and why it failed."""

from __future__ import annotations

from typing import Any

import numpy as np

from dmft.checks import DivergenceError, RunError, StiffnessError
from sim.training.flow import STIFF
from sim.training.flow_groups import Broken
from sim.training.groups import Halted, Job

#: A companion's error is four times that of its seed in theory, and late sometimes hardly larger: their difference,
#: three times the error or less, over this.
DIVISOR = 1.5
#: How near in time a difference counts, as a factor.
NEAR = 2.0
#: Below this part of its start a loss need not be exact.
ATOL = 1e-5


def flow_parts(job: Job, records: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    """The variables `<name>_step_error` and the attributes of a run with these `records`, (S, T, O + 2).

    The error of the steps is measured on those seeds that were followed a second time at a larger tolerance
    (`step_error`).
    """
    request, system = job.request, job.system
    fine, coarse = records[: request.seeds], records[request.seeds :]
    error, times = step_error(job.plan.time, fine[..., :-2], coarse[..., :-2]), records.shape[1]
    variables, met = {}, len(coarse) > 0
    for name, column in system.columns.items():
        shape = system.shapes.get(name, {})
        about = {"long_name": f"error of the time step of {name}", "units": "1"}
        variables[f"{name}_step_error"] = (("time", *shape), error[:, column].reshape(times, *shape.values()), about)
        if name.endswith("loss"):
            mean = fine[:, :, column].mean(axis=0)
            met = met and bool((error[:, column] <= request.rtol * np.abs(mean) + ATOL * np.abs(mean[:1])).all())
    counts = records[:, -1, -2:] if times else np.zeros((len(records), 2))
    attributes = {
        "integrator": "Runge-Kutta-Chebyshev of order 2",
        "rtol": request.rtol,
        "tolerance_met": int(met),
        "evaluations": round(float(counts[: len(fine), 0].mean())),
        "evaluations_for_errors": int(counts[len(fine) :, 0].sum()),
        "rejected": int(counts[: len(fine), 1].sum()),
    }
    return variables, attributes


def step_error(time: np.ndarray, fine: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """The error of curves `fine`, (S, T, O), of whose first seeds `coarse` are less exact ones, (T, O).

    By how much the two differ, at most over these seeds, over DIVISOR. A difference that changes sign is not small for
    that: the largest from t / NEAR to t NEAR counts, in proportion where the curve is lower at t. Where all seeds are
    larger in the mean than those followed twice, so is the error.
    """
    count, twice = fine.shape[1], fine[: len(coarse)]
    if not len(coarse):
        return np.full(fine.shape[1:], np.nan)
    size, difference = np.abs(twice), np.abs(twice - coarse)
    error = np.empty_like(difference)
    for i, t in enumerate(time[:count]):
        first, last = np.searchsorted(time[:count], [t / NEAR, t * NEAR * (1.0 + 1e-12)])
        near, there = difference[:, first : max(last, i + 1)], size[:, first : max(last, i + 1)]
        error[:, i] = (near * np.minimum(1.0, size[:, i : i + 1] / np.maximum(there, 1e-300))).max(axis=1)
    larger = np.maximum(1.0, np.abs(fine).mean(axis=0) / np.maximum(size.mean(axis=0), 1e-300))
    return np.maximum(error, difference).max(axis=0) * larger / DIVISOR


def broken_error(job: Job, failure: Halted) -> RunError:
    """What to tell: when, which seed, and what to change."""
    assert isinstance(failure, Broken)
    where = f"at t = {failure.time:.4g} (seed {failure.index})"
    if failure.kind == STIFF:
        return StiffnessError(
            f"Gradient flow is too stiff {where}: its fastest rate is {failure.rate:.3g}, and the steps that are "
            f"stable at it would not reach t_max = {job.request.t_max:g} in reasonable time; lower `t_max`, or give "
            "a larger `rtol` or precision='float64'."
        )
    return DivergenceError(
        f"Gradient flow cannot be followed beyond t = {failure.time:.4g} (seed {failure.index}): the state or its "
        f"velocity is no longer finite however small the step; lower `t_max`, or look at what the system does there."
    )
