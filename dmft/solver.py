"""`solve`: replicas of the wide theory, averaged to a tolerance, as one dataset with its error budget."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from dmft import replica as engine
from dmft.checks import (
    PRECISIONS,
    ConvergenceError,
    DivergenceError,
    ParameterError,
    available_memory,
    check_choice,
    check_integer,
    check_memory,
    check_real,
    precision_context,
)
from dmft.consistency import regress_out
from dmft.grid import FIRST_STEP, ORDER, Grid, explicit_grid, geometric_times, implicit_grid, thinned_times
from dmft.kernels import KERNELS, on_output_times
from dmft.model import Model
from dmft.order_parameters import OBSERVABLES, build_dataset
from dmft.replica import Replica, Sampling, Stopped, solve_replica
from dmft.wide import Iteration

if TYPE_CHECKING:
    import xarray

#: Observables on which the tolerance is met.
CONTROLLED = ("train_loss", "test_loss")
MIN_REPLICAS = 4
FIRST_REPLICAS = 12
MAX_REPLICAS = 64
SAMPLES = 256
POINTS_PER_LOG = 5.5
OUTPUT_PER_POINT = 8
#: Ratios of points, fine to coarse, that the step error may be estimated from.
COARSENING = (2.0, 1.5, 1.25)

Report = Callable[[int, int], None]


class ToleranceWarning(UserWarning):
    """The requested tolerance was not reached; the message and the dataset say by how much."""


@dataclasses.dataclass(frozen=True)
class Coarse:
    """Replicas on a coarser grid, and the factor by which their step error exceeds the fine one, less one."""

    grid: Grid
    replicas: list[Replica]
    divisor: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """The resolved settings of one solve."""

    model: Model
    grid: Grid
    sampling: Sampling
    rtol: float
    atol: float
    seed: int
    replicas: int | None
    workers: int
    iteration: Iteration


def solve(
    model: Model,
    t_max: float,
    *,
    step: float | None = None,
    rtol: float = 0.01,
    atol: float = 1e-5,
    times: Sequence[float] | np.ndarray | None = None,
    precision: str = "float64",
    seed: int = 0,
    kernels: bool = False,
    samples: int | None = None,
    replicas: int | None = None,
    points: int | None = None,
    progress: bool = False,
) -> xarray.Dataset:
    """Predict the learning curves of `model` by dynamical mean-field theory (N = infinity, D and P -> infinity).

    Several independent replicas of the self-consistent equations are solved; the curves are their mean.  The error
    of a curve is the root sum square of the replicas' standard error and of the time-step error; replicas are added
    until it is at most rtol |value| + atol (initial loss) on train_loss and test_loss at every time, or the
    dataset says (attributes `tolerance_met`, `tolerance_message`, and a ToleranceWarning) that it was not reached.

    Args:
        model: parameters; its width is taken as infinite.
        t_max: last time, > 0, in the units of THEORY section 1.
        step: None for gradient flow, or the step of discrete gradient descent, which is then solved exactly.
        rtol, atol: tolerance, see above.
        times: output times in [0, t_max]; None for all steps (discrete) or a dense geometric grid (flow).
            Discrete steps report the step nearest to each time.
        precision: "float64" or "float32".
        seed: of the replicas' samples.
        kernels: also return the six two-time kernels, over (time, time2) on the solver's own grid.
        samples: S per replica, a power of two >= 32; chosen if None.
        replicas: number of replicas >= 4; None to add them until the tolerance is met.
        points: number of time points of the flow; chosen if None.
        progress: show a progress bar when standard error is a terminal.

    Returns:
        Dataset over `time` with every observable, its `_stderr`, `_step_error` and `_consistency` (differential
        minus propagator form of the correlations).

    Raises:
        ParameterError: an argument is out of range.
        DivergenceError: gradient descent with this step diverges; says when, and which step is stable.
        ConvergenceError: the self-consistency of a time point was not reached; says what to change.
        MemoryLimitError: the run does not fit in memory; says how large it is.
    """
    t_max = check_real("t_max", t_max, above=0.0)
    rtol, atol = check_real("rtol", rtol, above=0.0), check_real("atol", atol, at_least=0.0)
    check_choice("precision", precision, PRECISIONS)
    if replicas is not None:
        check_integer("replicas", replicas, at_least=MIN_REPLICAS)
    seed = check_integer("seed", seed, at_least=0)
    output = None if times is None else check_times(times, t_max)
    grid = choose_grid(t_max, step, points)
    sampling = choose_sampling(samples, grid, precision)
    plan = Plan(
        model, grid, sampling, rtol, atol, seed, replicas, choose_workers(grid, sampling), choose_iteration(precision)
    )
    with _progress(progress) as report:
        plan, fine, coarse = _run_to_tolerance(plan, report)
    return _dataset(plan, fine, coarse, output, kernels)


# Convert and check


def check_times(times: Any, t_max: float) -> np.ndarray:
    """Output times as a strictly increasing float64 array within [0, t_max]."""
    try:
        array = np.asarray(times, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    valid = array.ndim == 1 and array.size > 0 and bool(np.all(np.isfinite(array)))
    valid = valid and array[0] >= 0 and array[-1] <= t_max * (1 + 1e-12) and bool(np.all(np.diff(array) > 0))
    if not valid:
        raise ParameterError(
            f"Argument `times` must be a non-empty, strictly increasing list of times in [0, {t_max:g}], "
            f"but is {times!r}."
        )
    return array


def choose_grid(t_max: float, step: float | None, points: int | None) -> Grid:
    """Every step of gradient descent, or a geometric grid with an even number of points for the flow."""
    if step is not None:
        step = check_real("step", step, above=0.0)
        if points is not None:
            raise ParameterError(f"Argument `points` must be None when `step` is given, but is {points!r}.")
        if round(t_max / step) < 1:
            raise ParameterError(f"Argument `step` must be at most t_max = {t_max:g}, but is {step:g}.")
        return explicit_grid(step, t_max)
    if points is None:
        points = max(16, round(POINTS_PER_LOG * np.log1p(t_max / FIRST_STEP)))
    points = check_integer("points", points, at_least=4)
    return implicit_grid(geometric_times(t_max, points + points % 2))


def choose_sampling(samples: int | None, grid: Grid, precision: str) -> Sampling:
    """The given number of samples, or the default."""
    samples = SAMPLES if samples is None else check_integer("samples", samples, at_least=32)
    if samples & (samples - 1):
        raise ParameterError(f"Argument `samples` must be a power of two >= 32, but is {samples}.")
    return Sampling.choose(samples, grid.size, precision)


def choose_iteration(precision: str) -> Iteration:
    """Inner iteration: to 1e-6 of each row, or to what float32 resolves."""
    return Iteration() if precision == "float64" else Iteration(tolerance=1e-4, accepted=1e-3)


def choose_workers(grid: Grid, sampling: Sampling) -> int:
    """Replicas solved at once: one per core as far as memory allows, one on an accelerator."""
    import jax

    needed = engine.replica_bytes(grid.size, sampling)
    check_memory(
        f"One replica of {grid.size} time points and {sampling.samples} samples",
        needed,
        "lower t_max or samples, or raise the step",
    )
    if jax.default_backend() != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(max(1, min(cores, available_memory() // needed)))


# Run


def _run_to_tolerance(plan: Plan, report: Report) -> tuple[Plan, list[Replica], Coarse | None]:
    """Replicas on the grid (and, for the flow, some on a coarser one) until the tolerance is met.

    Returns the plan too: where a grid's steps were too large for the row solver, it has more points.
    """
    target = plan.replicas or FIRST_REPLICAS
    first = min(target, FIRST_REPLICAS)
    _compile(plan)
    coarse = None if plan.grid.explicit else _run_coarse(plan, first, report)
    more = coarse.replicas if coarse else []
    fine: list[Replica] = []
    while True:
        done, total = len(more) + len(fine), len(more) + target
        fine += _run(plan, range(len(fine), target), lambda new, done=done, total=total: report(done + new, total))
        if plan.replicas is not None or target >= MAX_REPLICAS:
            return plan, fine, coarse
        excess = _excess(plan, fine, coarse)
        if excess.ratio <= 1 or excess.sampling_ratio <= 0.7:
            return plan, fine, coarse
        target = int(min(MAX_REPLICAS, max(target + plan.workers, np.ceil(1.1 * target * excess.sampling_ratio**2))))


def _compile(plan: Plan) -> None:
    """Compile the work on all row capacities at once: the compiler uses one core for each."""

    def one(capacity: int) -> None:
        with precision_context(plan.sampling.precision):
            engine.compile_ahead(plan.model, plan.grid, plan.sampling, plan.iteration, capacity)

    with ThreadPoolExecutor(plan.workers) as pool:
        list(pool.map(one, reversed(engine.capacities_for(plan.grid.size))))


def _run_coarse(plan: Plan, count: int, report: Report) -> Coarse:
    """The first replicas on a grid of half the points, or of more if its steps are too large to be solved."""
    points = plan.grid.size - 1
    for ratio in COARSENING:
        thin = dataclasses.replace(plan, grid=implicit_grid(thinned_times(plan.grid.times, round(points / ratio))))
        try:
            replicas = _run(thin, range(count), lambda done: report(done, 2 * count))
        except ConvergenceError:
            if ratio == COARSENING[-1]:
                raise
            continue
        return Coarse(thin.grid, replicas, ((points / (thin.grid.size - 1)) ** ORDER - 1))
    raise AssertionError("unreachable: the last ratio returns or raises")


def _run(plan: Plan, indices: range, report: Callable[[int], None]) -> list[Replica]:
    """Solve the replicas of the given indices, several at a time."""

    def one(index: int) -> Replica | Stopped:
        with precision_context(plan.sampling.precision):
            seed = np.random.SeedSequence(plan.seed, spawn_key=(index,))
            return solve_replica(plan.model, plan.grid, plan.sampling, seed, plan.iteration)

    results: list[Replica] = []
    pool = ThreadPoolExecutor(plan.workers)
    try:
        for result in pool.map(one, indices):
            if isinstance(result, Stopped):
                _raise_stopped(plan, result)
            else:
                results.append(result)
                report(len(results))
    finally:  # an interrupt does not wait for the replicas under way
        pool.shutdown(wait=False, cancel_futures=True)
    return results


def _raise_stopped(plan: Plan, stopped: Stopped) -> None:
    time = plan.grid.times[stopped.row]
    if plan.grid.explicit and stopped.reason == "diverged":
        step = plan.grid.weights[0]
        raise DivergenceError(
            f"Gradient descent with step = {step:g} diverges at t = {time:g}; {_stable_step(plan, time)}."
        )
    raise ConvergenceError(
        f"The theory's time point t = {time:g} was not solved ({stopped.reason}); raise `points` (now "
        f"{plan.grid.size - 1}) or `samples` (now {plan.sampling.samples})."
    )


def _stable_step(plan: Plan, time: float) -> str:
    """Halve the step until a small replica survives to twice the time of divergence."""
    step = plan.grid.weights[0]
    sampling = dataclasses.replace(plan.sampling, samples=64, modes=32)
    with precision_context(sampling.precision):
        for _ in range(8):
            step = step / 2
            horizon = max(2 * time, 40 * step)
            if horizon / step > 600:
                break
            seed = np.random.SeedSequence(plan.seed)
            trial = solve_replica(plan.model, explicit_grid(step, horizon), sampling, seed, plan.iteration)
            if isinstance(trial, Replica):
                return f"step = {step:.3g} is stable up to t = {horizon:.3g}"
    return f"a step below {step:.3g} may be stable"


# Errors


@dataclasses.dataclass(frozen=True)
class Excess:
    """Error over tolerance at the worst time and observable, in total and from sampling alone."""

    ratio: float
    sampling_ratio: float
    message: str


def _stack(replicas: list[Replica], name: str, *, form: str = "curves") -> np.ndarray:
    return np.stack([getattr(replica, form)[name] for replica in replicas])


def _mean(replicas: list[Replica], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error of an observable on the replicas' grid, with the control variates regressed out."""
    return regress_out(_stack(replicas, name), np.stack([replica.controls for replica in replicas]))


def _step_error(plan: Plan, fine: list[Replica], coarse: Coarse | None, name: str) -> np.ndarray:
    """|coarse - fine| / (ratio^order - 1) on the fine grid: what the next refinement would change."""
    if coarse is None:
        return np.zeros(plan.grid.size)
    at = coarse.grid.times
    difference = _mean(coarse.replicas, name)[0] - _interpolate(plan.grid, _mean(fine, name)[0], at)
    return np.interp(plan.grid.times, at, np.abs(difference) / coarse.divisor)


def _excess(plan: Plan, fine: list[Replica], coarse: Coarse | None) -> Excess:
    worst = Excess(0.0, 0.0, "tolerance met")
    for name in CONTROLLED:
        mean, sampling = _mean(fine, name)
        allowed = plan.rtol * np.abs(mean) + plan.atol * mean[0]
        total = np.hypot(sampling, _step_error(plan, fine, coarse, name))
        at = int(np.argmax(total / allowed))
        ratio, sampling_ratio = float((total / allowed)[at]), float((sampling / allowed).max())
        if ratio > worst.ratio:
            message = (
                f"error of {name} {total[at]:.2g} at t = {plan.grid.times[at]:.4g} where the value is {mean[at]:.3g} "
                f"and the tolerance {allowed[at]:.2g} ({len(fine)} replicas of {plan.sampling.samples} samples, "
                f"{plan.grid.size - 1} steps)"
            )
            worst = Excess(ratio, max(sampling_ratio, worst.sampling_ratio), message)
        else:
            worst = dataclasses.replace(worst, sampling_ratio=max(sampling_ratio, worst.sampling_ratio))
    return worst


# Dataset


def _interpolate(grid: Grid, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Cubic spline along the last axis in the coordinate in which the grid is uniform."""
    from scipy.interpolate import CubicSpline

    return CubicSpline(grid.coordinate(grid.times), values, axis=-1)(grid.coordinate(at))


def _output_times(plan: Plan, output: np.ndarray | None) -> np.ndarray:
    times = plan.grid.times
    if output is None and plan.grid.explicit:
        return times
    if output is None:
        inner = np.linspace(0, 1, OUTPUT_PER_POINT, endpoint=False)
        return np.append((times[:-1, None] + np.diff(times)[:, None] * inner).ravel(), times[-1])
    if plan.grid.explicit:
        return times[np.unique(np.clip(np.round(output / plan.grid.weights[0]).astype(int), 0, len(times) - 1))]
    return output


def _dataset(
    plan: Plan, fine: list[Replica], coarse: Coarse | None, output: np.ndarray | None, kernels: bool
) -> xarray.Dataset:
    times, at = plan.grid.times, _output_times(plan, output)

    def report(array: np.ndarray) -> np.ndarray:
        if plan.grid.explicit:
            return array[..., np.searchsorted(times, at)]
        return _interpolate(plan.grid, array, at)

    def report_size(array: np.ndarray) -> np.ndarray:
        """Sizes of errors: linear between the grid's times, so that they stay positive."""
        return np.interp(at, times, array)

    values, stderr, extra = {}, {}, {}
    for name, meaning in OBSERVABLES.items():
        mean, error = _mean(fine, name)
        values[name], stderr[name] = report(mean), report_size(error)
        extra[f"{name}_step_error"] = (
            report_size(_step_error(plan, fine, coarse, name)),
            f"time-step error of {meaning}",
        )
        second = _stack(fine, name, form="differential") - _stack(fine, name)
        meaning = f"differential minus propagator form of {name}"
        extra[f"{name}_consistency"] = report(second.mean(0)), meaning
        spread = np.std(second, axis=0, ddof=1) / np.sqrt(len(fine))
        extra[f"{name}_consistency_stderr"] = report_size(spread), f"standard error of the {meaning}"
    excess = _excess(plan, fine, coarse)
    dataset = build_dataset(("time",), at, values, stderr, _attributes(plan, fine, excess))
    for name, (array, meaning) in extra.items():
        dataset[name] = (("time",), array, {"long_name": meaning, "units": "1"})
    if kernels:
        dataset = _with_kernels(dataset, plan, fine)
    if excess.ratio > 1:
        warnings.warn(f"Tolerance not reached: {excess.message}.", ToleranceWarning, stacklevel=3)
    return dataset


def _with_kernels(dataset: xarray.Dataset, plan: Plan, fine: list[Replica]) -> xarray.Dataset:
    """Add the six kernels, means over replicas, over (time, time2)."""
    at = dataset["time"].values
    dataset = dataset.assign_coords(time2=("time2", at, {"long_name": "earlier time", **_units(dataset)}))
    for name, meaning in KERNELS.items():
        kernel = np.mean([replica.kernels[name] for replica in fine], axis=0)
        dataset[name] = (("time", "time2"), on_output_times(plan.grid, name, kernel, at), {"long_name": meaning})
    return dataset


def _units(dataset: xarray.Dataset) -> dict[str, str]:
    return {"units": dataset["time"].attrs["units"]}


def _attributes(plan: Plan, fine: list[Replica], excess: Excess) -> dict[str, Any]:
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
        "replicas": len(fine),
        "samples": plan.sampling.samples,
        "modes": plan.sampling.modes,
        "iteration_tolerance": plan.iteration.tolerance,
        "iteration_accepted": plan.iteration.accepted,
        "iteration_rounds": int(max(replica.rounds.max() for replica in fine)),
        "iteration_mismatch": float(max(replica.mismatch.max() for replica in fine)),
        "precision": plan.sampling.precision,
        "seed": plan.seed,
        "backend": jax.default_backend(),
        "package_version": __version__,
    }


def _ignore(_done: int, _total: int) -> None:
    """Report nothing."""


class _Silent:
    def __enter__(self) -> Callable[[int, int], None]:
        return _ignore

    def __exit__(self, *_: object) -> None:
        return None


class _Bar:
    """A progress bar over replicas on standard error."""

    def __enter__(self) -> Callable[[int, int], None]:
        from rich.console import Console
        from rich.progress import Progress

        self.bar = Progress(console=Console(stderr=True), transient=True)
        self.bar.start()
        self.task = self.bar.add_task("theory", total=None)
        return lambda done, total: self.bar.update(self.task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        self.bar.stop()


def _progress(wanted: bool) -> _Silent | _Bar:
    import sys

    return _Bar() if wanted and sys.stderr.isatty() else _Silent()
