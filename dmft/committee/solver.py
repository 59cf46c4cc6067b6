"""The committee's part of `dmft.solve`: replicas until the tolerance is met, one dataset with all errors."""

from __future__ import annotations

import dataclasses
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dmft.checks import ConvergenceError, DivergenceError, RunError
from dmft.committee.estimate import Errors, Replica, ReplicaStopped, combined, observables, solve_replica
from dmft.committee.plan import MAX_REPLICAS, Plan, make_plan
from dmft.losses.committee import DIMENSIONS
from dmft.losses.quadratic import build_dataset
from dmft.models.committee import Committee
from dmft.twotime.grid import ORDER, Grid, explicit_grid, halved_steps, implicit_grid, resampled_times
from dmft.twotime.kernels import on_output_times, physical_response
from dmft.twotime.plan import choose_grid
from dmft.twotime.prediction import ToleranceWarning, output_times
from dmft.twotime.replicas import Report
from dmft.twotime.tolerance import interpolate

if TYPE_CHECKING:
    import xarray

#: How often steps are shortened: everywhere for the tolerance, or where a row was not solved.
REFINEMENTS, RESCUES = 2, 4
#: Share of the tolerance beyond which another error than sampling makes more replicas useless, and replicas added.
SHARE, MORE = 0.9, 4
#: The flow starts on the wide engine's grid for a tolerance this much smaller, for one neuron and for several: fields
#: of few neurons have several roots in a large step, and a row then is not solved.
FINER, FINER_SEVERAL = 0.25, 0.5
#: Replicas that tell whether the steps are short enough.
SCOUTS = 3
#: Observables on which the tolerance is met.
CONTROLLED = ("train_loss", "test_loss")
#: Halvings of the step when looking for a stable one.
TRIAL_HALVINGS = 6


def solve_committee(
    model: Committee,
    t_max: float,
    *,
    step: float | None,
    rtol: float,
    atol: float,
    output: np.ndarray | None,
    precision: str,
    seed: int,
    kernels: bool,
    samples: int | None,
    replicas: int | None,
    points: int | None,
    report: Report,
) -> xarray.Dataset:
    """The learning curves of a committee; arguments as for `dmft.solve`, checked there."""
    grid = choose_grid(t_max, step, points, (FINER if model.width == 1 else FINER_SEVERAL) * rtol)
    refinements, rescues = (REFINEMENTS, RESCUES) if step is None and points is None else (0, 0)
    while True:
        plan = make_plan(model, grid, rtol, atol, precision, seed, samples, replicas)
        try:
            solved = _more(plan, [], min(SCOUTS, plan.first_replicas), report)
            ratio = excess(plan, solved)[2]
            if refinements > 0 and ratio > SHARE:
                refinements, grid = refinements - 1, _finer(grid, ratio)
                continue
            solved = _to_tolerance(plan, _more(plan, solved, plan.first_replicas, report), report)
        except ReplicaStopped as stopped:
            if rescues == 0:
                raise _failure(plan, stopped, output) from None
            rescues, grid = rescues - 1, implicit_grid(halved_steps(grid.times, stopped.solved))
            continue
        return prediction(plan, solved, output, kernels=kernels)


def _more(plan: Plan, solved: list[Replica], target: int, report: Report) -> list[Replica]:
    """Replicas up to `target` of them, several at a time; the first alone, since it compiles the work of all."""
    solved = list(solved)
    if not solved:
        solved.append(solve_replica(plan, 0))
        report(1, target)
    pool = ThreadPoolExecutor(plan.workers)
    try:
        for replica in pool.map(partial(solve_replica, plan), range(len(solved), target)):
            solved.append(replica)
            report(len(solved), target)
    finally:  # an interrupt does not wait for the replicas under way
        pool.shutdown(wait=False, cancel_futures=True)
    return solved


def _to_tolerance(plan: Plan, solved: list[Replica], report: Report) -> list[Replica]:
    """More replicas, until they would not help."""
    while plan.replicas is None and len(solved) < MAX_REPLICAS:
        total, sampling, _, other = excess(plan, solved)
        if total <= 1 or other > SHARE:
            break
        wanted = len(solved) * sampling**2 / max(0.2, 1 - other**2)
        solved = _more(plan, solved, int(min(MAX_REPLICAS, max(len(solved) + MORE, np.ceil(wanted)))), report)
    return solved


def excess(plan: Plan, solved: list[Replica]) -> tuple[float, float, float, float]:
    """Error over tolerance on the controlled observables, at the worst: total, sampling, step, all but sampling."""
    worst = []
    for name in CONTROLLED:
        errors = combined(plan, solved, name)
        allowed = plan.rtol * np.abs(errors.value) + plan.atol * errors.value[0]
        other = np.sqrt(np.maximum(errors.total**2 - errors.sampling**2, 0.0))
        worst.append([float((part / allowed).max()) for part in (errors.total, errors.sampling, errors.step, other)])
    total, sampling, step, other = np.max(worst, axis=0)
    return total, sampling, step, other


def _finer(grid: Grid, ratio: float) -> Grid:
    """Steps shorter by what brings an error of `ratio` times the tolerance well below it, at the rule's order."""
    points = np.clip((ratio / 0.7) ** (1 / ORDER), 1.15, 2.0) * (grid.size - 1)
    return implicit_grid(resampled_times(grid.times, 2 * round(0.5 * points)))


def _failure(plan: Plan, stopped: ReplicaStopped, output: np.ndarray | None) -> RunError:
    """The error to raise, with the curves up to where the replica stopped."""
    if plan.grid.explicit and stopped.reason == "diverged":
        error: RunError = DivergenceError(
            f"Gradient descent with step = {plan.grid.weights[0]:g} diverges at t = {stopped.time:g}; "
            f"{_stable_step(plan, stopped.time)}."
        )
    else:
        error = ConvergenceError(
            f"The theory's time point t = {stopped.time:g} was not solved ({stopped.reason}); raise `points` (now "
            f"{plan.grid.size - 1}) or `samples` (now {plan.sampling.samples})."
        )
    error.curves = _curves(plan, stopped, output)
    return error


def _curves(plan: Plan, stopped: ReplicaStopped, output: np.ndarray | None) -> xarray.Dataset | None:
    """The dataset up to the last time that every replica solves, or None if that is too early."""
    while True:
        rows = int(np.searchsorted(plan.grid.times, stopped.time * (1 - 1e-9)))  # those before the failure
        grid = plan.grid.head(min(rows, plan.grid.size - 1))
        if grid.size < (2 if grid.explicit else 7):
            return None
        plan = dataclasses.replace(plan, grid=grid)
        try:
            solved = _more(plan, [], plan.replicas or 4, lambda *_: None)
        except ReplicaStopped as again:
            stopped = again
            continue
        inside = None if output is None else output[output <= grid.times[-1]]
        return None if inside is not None and inside.size == 0 else prediction(plan, solved, inside, complete=False)


def _stable_step(plan: Plan, time: float) -> str:
    """Halve the step until a small replica survives to twice the time of divergence."""
    step = float(plan.grid.weights[0])
    for _ in range(TRIAL_HALVINGS):
        step /= 2
        horizon = max(2 * time, 20 * step)
        if horizon / step > 300:
            break
        grid = explicit_grid(step, horizon)
        try:
            solve_replica(make_plan(plan.model, grid, plan.rtol, plan.atol, "float64", plan.seed, None, None), 0)
        except ReplicaStopped:
            continue
        return f"step = {step:.3g} is stable up to t = {horizon:.3g}"
    return f"a step below {step:.3g} may be stable"


#: What stands beside every observable, after `<name>_stderr`: ending of the name, field of Errors, meaning.
PARTS = (
    ("error", "total", "total error: root sum square of its parts"),
    ("step_error", "step", "error of the time step"),
    ("bias", "samples", "error left by the finite number of samples"),
    ("kink_error", "kinks", "error left by the smoothing of the activation's kinks"),
)


def prediction(
    plan: Plan, solved: list[Replica], output: np.ndarray | None, *, kernels: bool = False, complete: bool = True
) -> xarray.Dataset:
    """The dataset of what was solved, on the output times; `complete` = 0 if the plan is but the start of one."""
    grid, at = plan.grid, output_times(plan.grid, output)
    meanings = observables(plan.model)
    errors = {name: combined(plan, solved, name) for name in meanings}
    ratio = excess(plan, solved)[0]
    dataset = build_dataset(
        ("time",),
        at,
        {name: _reported(grid, one.value, at) for name, one in errors.items()},
        {name: _sizes(grid, one.sampling, at) for name, one in errors.items()},
        _attributes(plan, solved, ratio, errors) | {"complete": int(complete)},
        meanings,
        DIMENSIONS,
    )
    for name, one in errors.items():
        for ending, field, meaning in PARTS:
            about = {"long_name": f"{meaning} of {name}", "units": "1"}
            dims = ("time", *DIMENSIONS.get(name, ()))
            dataset[f"{name}_{ending}"] = (dims, _sizes(grid, getattr(one, field), at), about)
    if kernels:
        dataset = _with_kernels(dataset, plan, solved)
    if complete and ratio > 1:
        warnings.warn(f"Tolerance not reached: {dataset.attrs['tolerance_message']}.", ToleranceWarning, stacklevel=4)
    return dataset


def _reported(grid: Grid, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values (T, ...) on the output times: those steps, or a spline between the flow's."""
    if grid.explicit:
        return values[np.searchsorted(grid.times, at * (1 - 1e-12))]
    return np.moveaxis(interpolate(grid, np.moveaxis(values, 0, -1), at), -1, 0)


def _sizes(grid: Grid, sizes: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Errors (T, ...) on the output times, linear between the grid's."""
    columns = sizes.reshape(len(sizes), -1).T
    return np.stack([np.interp(at, grid.times, column) for column in columns], axis=-1).reshape(-1, *sizes.shape[1:])


def _with_kernels(dataset: xarray.Dataset, plan: Plan, solved: list[Replica]) -> xarray.Dataset:
    """Add C_ij(t, s) and R_ij(t, s), means over replicas, over (time, neuron, time2, neuron2)."""
    at, grid = dataset["time"].values, plan.grid
    dataset = dataset.assign_coords(time2=("time2", at, {"long_name": "earlier time", **dataset["time"].attrs}))
    correlation = np.mean([replica.solution.correlation for replica in solved], axis=0)
    response = np.mean([replica.solution.response for replica in solved], axis=0)
    if grid.explicit:  # slot c is the force of step c - 1; column s of the kernel is that of step s
        response = np.concatenate([response[:, :, 1:], np.zeros_like(response[:, :, :1])], axis=2)
    dims = ("time", "neuron", "time2", "neuron2")
    for name, kernel, meaning in (
        ("correlation", correlation, "C_ij(t, s) = w_i(t).w_j(s) / D"),
        ("response", response, "R_ij(t, s), response of w_i at t to a force on w_j at s"),
    ):
        result = np.zeros((len(at), kernel.shape[1], len(at), kernel.shape[3]))
        for i, j in np.ndindex(kernel.shape[1], kernel.shape[3]):
            entry = kernel[:, i, :, j]
            if name == "response":
                entry = _response_entry(grid, entry, same=i == j)
            result[:, i, :, j] = on_output_times(grid, name, entry, at)
        dataset[name] = (dims, result, {"long_name": meaning})
    return dataset


def _response_entry(grid: Grid, entry: np.ndarray, *, same: bool) -> np.ndarray:
    """R_ij of the flow from the multistep rows; neurons do not move each other at once."""
    physical = physical_response(grid, entry)
    if not grid.explicit and not same:
        np.fill_diagonal(physical, 0.0)
    return physical


def _attributes(plan: Plan, solved: list[Replica], ratio: float, errors: dict[str, Errors]) -> dict[str, Any]:
    import jax

    from dmft import __version__

    grid, sampling = plan.grid, plan.sampling
    size = {name: float(np.max(errors[name].total)) for name in CONTROLLED}
    message = (
        f"largest errors {size['train_loss']:.2g} of train_loss and {size['test_loss']:.2g} of test_loss, "
        f"{ratio:.2g} times the tolerance at the worst ({len(solved)} replicas of {sampling.samples} samples, "
        f"{grid.size - 1} steps)"
    )
    return plan.model.to_attributes() | {
        "kind": "theory",
        "engine": "committee: width finite, dimension and samples infinite at fixed ratio",
        "t_max": float(grid.times[-1]),
        "step": float(grid.weights[0]) if grid.explicit else "flow",
        "points": grid.size - 1,
        "rtol": plan.rtol,
        "atol": plan.atol,
        "tolerance_met": int(ratio <= 1),
        "tolerance_message": message,
        "replicas": len(solved),
        "samples": sampling.samples,
        "tangent_samples": sampling.tangent_samples,
        "modes": sampling.modes,
        "kink_width": sampling.kink_width if plan.kinked else 0.0,
        "iteration_tolerance": plan.iteration.tolerance,
        "iteration_rounds": int(max(replica.solution.rounds.max() for replica in solved)),
        "iteration_mismatch": float(max(replica.solution.mismatch.max() for replica in solved)),
        "precision": sampling.precision,
        "seed": plan.seed,
        "backend": jax.default_backend(),
        "package_version": __version__,
    }
