"""What one solve will do: its arguments checked and resolved into a grid, a sampling and a tolerance."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from dmft.checks import ParameterError, available_memory, check_integer, check_memory, check_real
from dmft.models.model import Model
from dmft.twotime.grid import ORDER, Grid, coordinate, explicit_grid, graded_times, implicit_grid
from dmft.wide import replica as engine
from dmft.wide.advance import Iteration
from dmft.wide.replica import Sampling

#: Fewest replicas whose scatter is reported as an error.
MIN_REPLICAS = 4
#: Replicas solved before the tolerance is looked at, and at most.
FIRST_REPLICAS, MAX_REPLICAS = 12, 64
#: Samples of a replica unless given.
SAMPLES = 256
#: Points of the flow per unit of dmft.twotime.grid.coordinate at rtol = 0.01: a step error of a few 1e-3 at third
#: order.
POINTS_PER_UNIT = 7.3
#: Ratios of points, fine to coarse, of the grid that most of the work is done on: the first that can be solved.
COARSENING = (2.0, 1.5, 1.25)
#: What no run is smaller than: a grid that does not fit with this is refused before it is made.
SMALLEST = Sampling(samples=32, modes=16, precision="float32")


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
    full: bool = False  # all replicas on `grid`, none on the coarser one (see dmft.twotime.replicas)

    @property
    def first_replicas(self) -> int:
        """Replicas solved before the tolerance is looked at."""
        return self.replicas or FIRST_REPLICAS

    def head(self, rows: int) -> Plan:
        """The same up to the first `rows` times, with as many replicas as an error needs."""
        return dataclasses.replace(self, grid=self.grid.head(rows), replicas=self.replicas or MIN_REPLICAS)


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
            f"but is {_shortened(times, array)}."
        )
    return array


def _shortened(times: Any, array: np.ndarray) -> str:
    """The times given, in one line."""
    if array.ndim != 1 or array.size == 0:
        return repr(times) if array.size == 0 else f"an array of shape {array.shape}"
    shown = [repr(float(time)) for time in array]
    return f"[{', '.join(shown if len(shown) <= 8 else [*shown[:3], '...', *shown[-3:]])}]"


def choose_grid(t_max: float, step: float | None, points: int | None, rtol: float) -> Grid:
    """Every step of gradient descent, or graded times with an even number of points for the flow."""
    if step is not None:
        step = check_real("step", step, above=0.0)
        if points is not None:
            raise ParameterError(f"Argument `points` must be None when `step` is given, but is {points!r}.")
        if round(t_max / step) < 1:
            raise ParameterError(f"Argument `step` must be at most t_max = {t_max:g}, but is {step:g}.")
        _check_memory(round(t_max / step) + 1, SMALLEST)
        return explicit_grid(step, t_max)
    if points is None:
        tighter = 0.01 / rtol  # a loose one starts coarser than the order asks for: the pilot says if it was too coarse
        density = POINTS_PER_UNIT * float(np.clip(tighter ** (1 / ORDER if tighter > 1 else 0.4), 0.55, 4.0))
        points = max(16, round(density * float(coordinate(t_max))))
    points = check_integer("points", points, at_least=4)
    _check_memory(points + 1, SMALLEST)
    return implicit_grid(graded_times(t_max, points + points % 2))


def choose_sampling(samples: int | None, grid: Grid, precision: str) -> Sampling:
    """The given number of samples, or the default."""
    samples = SAMPLES if samples is None else check_integer("samples", samples, at_least=32)
    if samples & (samples - 1):
        raise ParameterError(f"Argument `samples` must be a power of two >= 32, but is {samples}.")
    # as many modes as rows fit into the last capacity: grids of similar size share their compiled work
    return Sampling.choose(samples, engine.capacity_for(grid.size), precision)


def fewer_samples(sampling: Sampling) -> Sampling:
    """A quarter of the samples, or half of them where there are few: the change of the mean shows the bias."""
    samples = max(sampling.samples // 4, min(32, sampling.samples // 2))
    return dataclasses.replace(sampling, samples=samples, modes=min(sampling.modes, samples - 8))


def choose_iteration(precision: str, rtol: float) -> Iteration:
    """Inner iteration: each row to a thousandth of the tolerance, or to what float32 resolves.

    1e-3 of a row is let pass, and counts as an error.
    """
    tolerance = float(np.clip(1e-3 * rtol, 1e-9, 1e-5))
    return Iteration(tolerance=tolerance if precision == "float64" else 1e-4, accepted=1e-3)


def coarse_size(grid: Grid, ratio: float = COARSENING[0]) -> int:
    """Number of times, 0 included, of the grid with fewer points than `grid` by `ratio`."""
    return round((grid.size - 1) / ratio) + 1


def choose_workers(grid: Grid, sampling: Sampling, full: bool) -> int:
    """Replicas solved at once: one per core as far as memory allows, one on an accelerator."""
    needed = _check_memory(grid.size, sampling if full else fewer_samples(sampling))
    if not full:
        needed = max(needed, _check_memory(coarse_size(grid), sampling))
    return int(max(1, min(cores(), available_memory() // needed)))


def cores() -> int:
    """Processor cores that this process may use; 1 beside an accelerator."""
    import jax

    if jax.default_backend() != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_memory(points: int, sampling: Sampling) -> int:
    """Bytes of one replica; MemoryLimitError if they are not free."""
    needed = engine.replica_bytes(points, sampling)
    what = f"One replica of {points} time points and {sampling.samples} samples"
    check_memory(what, needed, "lower `t_max`, `points` or `samples`, or raise `step`")
    return needed
