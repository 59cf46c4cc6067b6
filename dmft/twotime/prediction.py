"""The dataset that `solve` returns: mean curves on the output times, every error beside them."""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from dmft.checks import nearest_steps
from dmft.losses.dataset import build_dataset
from dmft.twotime.engine import Evidence, KernelStack
from dmft.twotime.errors import MEANINGS, interpolate, interpolation_error, linear_between
from dmft.twotime.grid import Grid
from dmft.twotime.kernels import on_output_times
from dmft.twotime.spread import Spreads
from dmft.twotime.tolerance import Excess, tolerance_excess
from dmft.version import __version__

if TYPE_CHECKING:
    import xarray

#: Output times per point of the flow's grid: linear interpolation between them errs by under 0.3 %.
OUTPUT_PER_POINT = 8

#: What may stand beside an observable in the dataset, after `<name>_stderr` and `<name>_error`: ending, meaning.
VARIABLES: dict[str, str] = {
    "error": "total error: root sum square of its parts",
    "step_error": "error of the time step, and of the interpolation between the times solved,",
    "bias": "bias that the number of samples leaves",
    "bias_stderr": "standard error of the estimated bias",
    "kink_error": "error that the smoothing of the activation's kinks leaves",
    "iteration_error": "error that the inner iteration leaves",
    "consistency": "differential minus propagator form",
    "consistency_stderr": "standard error of differential minus propagator form",
}
#: Likewise, where the spread is asked for.
SPREAD_VARIABLES: dict[str, str] = {
    "spread": "standard deviation over data sets",
    "spread_stderr": "standard error of the standard deviation over data sets",
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
        return times[nearest_steps(output, float(grid.weights[0]), len(times) - 1)]
    return output


def prediction(
    evidence: Evidence,
    output: np.ndarray | None,
    *,
    kernels: bool = False,
    complete: bool = True,
    spreads: Spreads | None = None,
) -> xarray.Dataset:
    """The dataset of what was solved, on the output times; `complete` = 0 if it is but the start of what was asked."""
    plan, engine = evidence.plan, evidence.plan.engine
    grid, at = plan.grid, output_times(plan.grid, output)
    errors = {name: evidence.errors(name) for name in engine.meanings}
    excess = tolerance_excess(evidence)
    dataset = build_dataset(
        ("time",),
        at,
        {name: values_at(grid, one.value, at) for name, one in errors.items()},
        {name: linear_between(grid.times, one.parts["sampling"], at) for name, one in errors.items()},
        _attributes(evidence, excess) | {"complete": int(complete)},
        engine.meanings,
        engine.dimensions,
    )
    for name, one in errors.items():
        sizes = {
            ending: linear_between(grid.times, array, at)
            for ending, array in ({"error": one.total} | one.reported).items()
        }
        if not grid.explicit:  # curves are interpolated between the times solved
            between = interpolation_error(grid, one.value, at)
            sizes |= {ending: np.hypot(sizes[ending], between) for ending in ("error", "step_error")}
        dims = ("time", *engine.dimensions.get(name, ()))
        for ending, array in sizes.items():
            about = {"long_name": f"{VARIABLES[ending]} of {name}", "units": "1"}
            dataset[f"{name}_{ending}"] = (dims, array, about)
        worst = np.unravel_index(int(np.argmax(one.total)), one.total.shape)
        dataset[f"{name}_error"].attrs["limited_by"] = MEANINGS[one.limited_by(worst)]
    if spreads is not None:
        dataset = _with_spreads(dataset, evidence.grid, spreads)
    if kernels:
        dataset = _with_kernels(dataset, grid, engine.kernels(evidence.replicas, grid))
    if complete and excess.total > 1:
        warnings.warn(f"Tolerance not reached: {excess.message}.", ToleranceWarning, stacklevel=3)
    return dataset


def _with_spreads(dataset: xarray.Dataset, grid: Grid, spreads: Spreads) -> xarray.Dataset:
    """Add the standard deviations over data sets, linear between the times of `grid`."""
    at = dataset["time"].values
    for name, spread in spreads.observables.items():
        for ending, array in zip(SPREAD_VARIABLES, spread, strict=True):
            about = {"long_name": f"{SPREAD_VARIABLES[ending]} of {name}", "units": "1"}
            dataset[f"{name}_{ending}"] = ("time", linear_between(grid.times, array, at), about)
    about = {"long_name": "correlation of test loss and overlap over data sets", "units": "1"}
    dataset["test_loss_overlap_correlation"] = ("time", linear_between(grid.times, spreads.correlation, at), about)
    sources = ", ".join(spreads.sources)
    return dataset.assign_attrs(spread_draws=spreads.draws, spread_samples=spreads.samples, spread_sources=sources)


def values_at(grid: Grid, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values (T, ...) on the output times: those steps, or a spline between the flow's."""
    if grid.explicit:
        return values[np.searchsorted(grid.times, at * (1 - 1e-12))]
    return interpolate(grid, values, at, axis=0)


def _with_kernels(dataset: xarray.Dataset, grid: Grid, stacks: list[KernelStack]) -> xarray.Dataset:
    """Add two-time kernels, means over replicas, over (time, time2), with their standard errors."""
    import xarray

    at = dataset["time"].values
    about = {"long_name": "earlier time", "units": dataset["time"].attrs["units"]}
    dataset.coords["time2"] = ("time2", at, about)
    for stack in stacks:
        forms = {"": (stack.arrays.mean(axis=0), stack, stack.meaning)}
        if stack.scatter:  # linear between times, so that it stays positive
            stderr = stack.arrays.std(axis=0, ddof=1) / np.sqrt(len(stack.arrays))
            forms["_stderr"] = (stderr, stack._replace(order=1), f"standard error of {stack.meaning}")
        for ending, (kernels, like, meaning) in forms.items():
            values = xarray.Variable(stack.layout, on_output_times(grid, kernels, at, like), {"long_name": meaning})
            dataset[f"{stack.name}{ending}"] = values.transpose(*stack.dims)
    return dataset


def _attributes(evidence: Evidence, excess: Excess) -> dict[str, Any]:
    import jax

    plan, replicas = evidence.plan, evidence.replicas
    grid, sampling = plan.grid, dataclasses.asdict(plan.sampling)
    return plan.engine.model.to_attributes() | {
        "kind": "theory",
        "engine": plan.engine.title,
        "t_max": plan.t_max,
        "step": float(grid.weights[0]) if grid.explicit else "flow",
        **({} if grid.momentum is None else grid.momentum.to_attributes()),
        "points": grid.size - 1,
        "rtol": plan.rtol,
        "atol": plan.atol,
        "tolerance_met": int(excess.total <= 1),
        "tolerance_message": excess.message,
        "limited_by": MEANINGS[excess.limited_by],
        "replicas": len(replicas),
        "sample_count": sampling.pop("samples"),
        **sampling,
        "iteration_tolerance": plan.iteration.tolerance,
        "iteration_accepted": plan.iteration.accepted,
        "iteration_rounds": int(max(replica.rounds.max() for replica in replicas)),
        "iteration_mismatch": float(max(replica.mismatch.max() for replica in replicas)),
        "seed": plan.seed,
        "backend": jax.default_backend(),
        "package_version": __version__,
        **plan.engine.extra_attributes(plan, replicas),
    }
