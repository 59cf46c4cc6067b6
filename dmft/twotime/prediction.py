"""The dataset that `solve` returns: mean curves on the output times, every error beside them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from dmft.losses.quadratic import OBSERVABLES, build_dataset
from dmft.twotime.grid import Grid
from dmft.twotime.kernels import KERNELS, on_output_times
from dmft.twotime.plan import Plan
from dmft.twotime.tolerance import MEANINGS, Excess, Solved, budget, interpolate, interpolation_error, tolerance_excess
from dmft.wide.replica import Replica

if TYPE_CHECKING:
    import xarray

#: Output times per point of the flow's grid: linear interpolation between them errs by under 0.3 %.
OUTPUT_PER_POINT = 8


#: What stands beside every observable in the dataset, after `<name>_stderr`: ending of the name, meaning.
VARIABLES: dict[str, str] = {
    "error": "total error: root sum square of its parts",
    "step_error": "error of the time step, and of the interpolation between the times solved,",
    "bias": "estimated bias of the number of samples, not subtracted",
    "bias_stderr": "standard error of the estimated bias",
    "iteration_error": "error that the inner iteration leaves",
    "consistency": "differential minus propagator form",
    "consistency_stderr": "standard error of differential minus propagator form",
}


class ToleranceWarning(UserWarning):
    """The requested tolerance was not reached; the message and the dataset say by how much."""


def output_times(grid: Grid, output: np.ndarray | None) -> np.ndarray:
    """The times asked for (discrete: the steps nearest to them), all steps, or dense ones between the flow's."""
    times = grid.times
    if output is None and grid.explicit:
        return times
    if output is None:
        inner = np.linspace(0, 1, OUTPUT_PER_POINT, endpoint=False)
        return np.append((times[:-1, None] + np.diff(times)[:, None] * inner).ravel(), times[-1])
    if grid.explicit:
        return times[np.unique(np.clip(np.round(output / grid.weights[0]).astype(int), 0, len(times) - 1))]
    return output


def prediction(
    plan: Plan, solved: Solved, output: np.ndarray | None, *, kernels: bool = False, complete: bool = True
) -> xarray.Dataset:
    """The dataset of what was solved, on the output times; `complete` = 0 if the plan is but the start of one."""
    times, at = plan.grid.times, output_times(plan.grid, output)

    def report(array: np.ndarray) -> np.ndarray:
        if plan.grid.explicit:
            return array[..., np.searchsorted(times, at)]
        return interpolate(plan.grid, array, at)

    def report_size(array: np.ndarray) -> np.ndarray:
        """Errors: linear between the grid's times, so that sizes stay positive."""
        return np.interp(at, times, array)

    values, stderr, extra = {}, {}, {}
    for name in OBSERVABLES:
        errors = budget(plan, solved, name)
        values[name], stderr[name] = report(errors.value), report_size(errors.sampling)
        arrays = (
            errors.total,
            errors.step,
            errors.bias,
            errors.bias_stderr,
            errors.iteration,
            errors.difference,
            errors.difference_stderr,
        )
        for (ending, meaning), array in zip(VARIABLES.items(), arrays, strict=True):
            about = {"long_name": f"{meaning} of {name}", "units": "1"}
            extra[f"{name}_{ending}"] = (("time",), report_size(array), about)
        if not plan.grid.explicit:  # curves are interpolated between the times solved
            between = interpolation_error(plan.grid, errors.value, at)
            for ending in ("error", "step_error"):
                sizes = extra[f"{name}_{ending}"][1]
                np.hypot(sizes, between, out=sizes)
        extra[f"{name}_error"][2]["limited_by"] = MEANINGS[errors.limited_by(int(np.argmax(errors.total)))]
    excess = tolerance_excess(plan, solved)
    attributes = _attributes(plan, solved.many, excess) | {"complete": int(complete)}
    dataset = build_dataset(("time",), at, values, stderr, attributes).assign(extra)
    if kernels:
        dataset = _with_kernels(dataset, plan, solved.many)
    if complete and excess.ratio > 1:
        warnings.warn(f"Tolerance not reached: {excess.message}.", ToleranceWarning, stacklevel=3)
    return dataset


def _with_kernels(dataset: xarray.Dataset, plan: Plan, replicas: list[Replica]) -> xarray.Dataset:
    """Add the six kernels, means over replicas, over (time, time2), and the difference of the correlations' two forms.

    All with standard errors.
    """
    at = dataset["time"].values
    dataset = dataset.assign_coords(time2=("time2", at, {"long_name": "earlier time", **_units(dataset)}))

    def add(name: str, ending: str, arrays: list[np.ndarray], meaning: str) -> None:
        mean, stderr = np.mean(arrays, axis=0), np.std(arrays, axis=0, ddof=1) / np.sqrt(len(arrays))
        order = 1 if ending else 3  # a difference is interpolated like the standard error that it is compared with
        for what, array, degree in (("", mean, order), ("_stderr", stderr, 1)):  # which stays positive
            values = on_output_times(plan.grid, name, array, at, order=degree)
            text = f"standard error of {meaning}" if what else meaning
            dataset[f"{name}{ending}{what}"] = (("time", "time2"), values, {"long_name": text})

    for name, meaning in KERNELS.items():
        first = [replica.kernels[name] for replica in replicas]
        add(name, "", first, meaning)
        if name in replicas[0].second:
            differences = [replica.second[name] - one for replica, one in zip(replicas, first, strict=True)]
            add(name, "_consistency", differences, f"differential minus propagator form of {meaning}")
    return dataset


def _units(dataset: xarray.Dataset) -> dict[str, str]:
    return {"units": dataset["time"].attrs["units"]}


def _attributes(plan: Plan, replicas: list[Replica], excess: Excess) -> dict[str, Any]:
    import jax

    from dmft import __version__

    grid = plan.grid
    return plan.model.to_attributes() | {
        "kind": "theory",
        "engine": "wide: width infinite, dimension and samples infinite at fixed ratio",
        "t_max": float(grid.times[-1]),
        "step": float(grid.weights[0]) if grid.explicit else "flow",
        "points": grid.size - 1,
        "rtol": plan.rtol,
        "atol": plan.atol,
        "tolerance_met": int(excess.ratio <= 1),
        "tolerance_message": excess.message,
        "limited_by": MEANINGS[excess.limited_by],
        "replicas": len(replicas),
        "samples": plan.sampling.samples,
        "modes": plan.sampling.modes,
        "iteration_tolerance": plan.iteration.tolerance,
        "iteration_accepted": plan.iteration.accepted,
        "iteration_rounds": int(max(replica.rounds.max() for replica in replicas)),
        "iteration_mismatch": float(max(replica.mismatch.max() for replica in replicas)),
        "precision": plan.sampling.precision,
        "seed": plan.seed,
        "backend": jax.default_backend(),
        "package_version": __version__,
    }
