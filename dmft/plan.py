"""What one solve will do: its arguments checked and resolved into a grid, a sampling and a tolerance."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from dmft import replica as engine
from dmft.checks import ParameterError, available_memory, check_integer, check_memory, check_real
from dmft.grid import FIRST_STEP, ORDER, Grid, explicit_grid, geometric_times, implicit_grid
from dmft.model import Model
from dmft.replica import Sampling
from dmft.scatter import BulkScatter
from dmft.wide import Iteration

#: Fewest replicas whose scatter is reported as an error.
MIN_REPLICAS = 4
#: Replicas solved before the tolerance is looked at, and at most.
FIRST_REPLICAS, MAX_REPLICAS = 12, 64
#: Samples of a replica unless given: below 128 the bias that goes as 1/samples shows.
SAMPLES = 256
#: Points of the flow per factor e in 1 + t/FIRST_STEP at rtol = 0.01: a step error of a few 1e-3 at third order.
POINTS_PER_LOG = 5.5


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
    scatter: BulkScatter | None = None  # of the bulk at finite dim, once measured (see dmft.runs.prepare)


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


def choose_grid(t_max: float, step: float | None, points: int | None, rtol: float) -> Grid:
    """Every step of gradient descent, or a geometric grid with an even number of points for the flow."""
    if step is not None:
        step = check_real("step", step, above=0.0)
        if points is not None:
            raise ParameterError(f"Argument `points` must be None when `step` is given, but is {points!r}.")
        if round(t_max / step) < 1:
            raise ParameterError(f"Argument `step` must be at most t_max = {t_max:g}, but is {step:g}.")
        _check_memory(round(t_max / step) + 1, Sampling(samples=32, modes=16, precision="float32"))
        return explicit_grid(step, t_max)
    if points is None:
        density = POINTS_PER_LOG * float(np.clip((0.01 / rtol) ** (1 / ORDER), 0.7, 4.0))
        points = max(16, round(density * np.log1p(t_max / FIRST_STEP)))
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

    needed = _check_memory(grid.size, sampling)
    if jax.default_backend() != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(max(1, min(cores, available_memory() // needed)))


def _check_memory(points: int, sampling: Sampling) -> int:
    """Bytes of one replica; MemoryLimitError if they are not free."""
    needed = engine.replica_bytes(points, sampling)
    what = f"One replica of {points} time points and {sampling.samples} samples"
    check_memory(what, needed, "lower `t_max` or `samples`, or raise `step`")
    return needed
