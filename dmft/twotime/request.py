"""What is asked of a solve: its arguments checked, and what they resolve to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, cast

import numpy as np

from dmft.checks import (
    PRECISIONS,
    ParameterError,
    available_memory,
    check_bool,
    check_choice,
    check_integer,
    check_memory,
    check_real,
    check_seed,
    check_times,
    nearest_steps,
    plain,
)
from dmft.twotime.engine import Engine, Iteration, Plan, Sampling
from dmft.twotime.grid import ORDER, Grid, coordinate, explicit_grid, graded_times, implicit_grid
from dmft.twotime.momentum import Momentum, momentum_of
from dmft.twotime.replicas import cores
from dmft.twotime.spread import DRAWS, LEAST_DRAWS, SOURCES

#: Fewest replicas whose scatter is reported as an error.
MIN_REPLICAS = 4
#: Points of the flow per unit of `dmft.twotime.grid.coordinate` at rtol = 0.01: a step error of a few 1e-3.
POINTS_PER_UNIT = 7.3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """Checked arguments of `dmft.solve`; see there."""

    t_max: float
    step: float | None = None
    rtol: float = 0.01
    atol: float = 1e-5
    times: Any = None
    precision: str = "float64"
    seed: int = 0
    kernels: bool = False
    sample_count: int | None = None
    replicas: int | None = None
    points: int | None = None
    max_seconds: float | None = None
    spread: bool | int = False
    sources: tuple[str, ...] = SOURCES
    momentum: float = 0.0
    nesterov: bool = False
    schedule: Any = "constant"
    rule: Momentum | None = dataclasses.field(default=None, init=False)

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put("t_max", check_real("t_max", self.t_max, above=0.0))
        put("rtol", check_real("rtol", self.rtol, above=0.0))
        put("atol", check_real("atol", self.atol, at_least=0.0))
        check_choice("precision", self.precision, PRECISIONS)
        put("seed", check_seed(self.seed))
        put("kernels", check_bool("kernels", self.kernels))
        if self.times is not None:
            put("times", check_times(self.times, self.t_max))
        if self.max_seconds is not None:
            put("max_seconds", check_real("max_seconds", self.max_seconds, above=0.0))
        put("spread", _draws(self.spread))
        put("sources", tuple(check_choice("sources", one, SOURCES) for one in _names(self.sources)))
        if self.replicas is not None:
            put("replicas", check_integer("replicas", self.replicas, at_least=MIN_REPLICAS))
        if self.step is not None:
            put("step", check_real("step", self.step, above=0.0))
            if self.points is not None:
                raise ParameterError(f"Argument `points` must be None when `step` is given, but is {self.points!r}.")
            if round(self.t_max / self.step) < 1:
                raise ParameterError(f"Argument `step` must be at most t_max = {self.t_max:g}, but is {self.step:g}.")
            if self.times is not None:  # refused before the solve
                nearest_steps(self.times, self.step, round(self.t_max / self.step))
        put("rule", momentum_of(self.momentum, self.nesterov, self.schedule, self.step, self.t_max))
        if self.rule is not None and self.spread:
            raise ParameterError("Argument `spread` must be False with momentum or a schedule, where it is not known.")
        if self.step is None and self.points is not None:
            put("points", check_integer("points", self.points, at_least=4))

    @property
    def adapts(self) -> bool:
        """Whether the solver chooses the grid."""
        return self.step is None and self.points is None

    def first_grid(self, engine: Engine, rtol: float | None = None) -> Grid:
        """Every step of gradient descent, or graded times with an even number of points for the flow.

        Args:
            rtol: another tolerance than the one asked for.

        Raises:
            MemoryLimitError: not even the cheapest replica would fit; found before the grid is made.
        """
        points = self.points
        if self.step is not None:
            points = round(self.t_max / self.step)
        elif points is None:
            tighter = 0.01 / (engine.grid_tolerance * (rtol or self.rtol))
            # a loose tolerance starts coarser than the order asks for: the first look says if it was too coarse
            density = POINTS_PER_UNIT * float(np.clip(tighter ** (1 / ORDER if tighter > 1 else 0.4), 0.55, 4.0))
            points = max(16, round(density * float(coordinate(self.t_max))))
        smallest = engine.smallest(points + 1)
        _check_memory(points + 1, smallest, engine.bytes(points + 1, smallest))
        if self.step is not None:
            return explicit_grid(self.step, self.t_max, self.rule)
        return implicit_grid(graded_times(self.t_max, points + points % 2))

    def plan(self, engine: Engine, grid: Grid, full: bool) -> Plan:
        """The plan on a grid; all replicas on it if `full`.

        Raises:
            ParameterError: the model or the number of samples does not fit the grid.
            MemoryLimitError: one replica does not fit into memory.
        """
        engine.check(grid)
        sampling = engine.choose_sampling(grid, self.precision, self.rtol, self.sample_count)
        needed = engine.peak_bytes(grid, sampling, full)
        _check_memory(grid.size, sampling, needed)
        return Plan(
            engine=engine,
            t_max=self.t_max,
            grid=grid,
            sampling=sampling,
            rtol=self.rtol,
            atol=self.atol,
            seed=self.seed,
            replicas=self.replicas,
            workers=int(max(1, min(cores(), available_memory() // needed))),
            iteration=choose_iteration(self.precision, self.rtol),
            full=full,
        )


def _draws(spread: Any) -> int:
    """Data sets to be drawn, 0 for none."""
    spread = plain(spread)
    if isinstance(spread, bool):
        return DRAWS * spread
    if isinstance(spread, int | float) and spread == 0:
        return 0
    try:
        return check_integer("spread", spread, at_least=LEAST_DRAWS)
    except ParameterError:
        raise ParameterError(
            f"Argument `spread` must be True, False or an integer >= {LEAST_DRAWS}, but is {spread!r}."
        ) from None


def _names(sources: Any) -> tuple[Any, ...]:
    names: tuple[Any, ...] = ()
    if isinstance(sources, str):
        names = (sources,)
    elif isinstance(sources, Iterable):
        names = tuple(cast("Iterable[Any]", sources))
    if not names:
        raise ParameterError(f"Argument `sources` must name some of {', '.join(SOURCES)}, but is {sources!r}.")
    return names


def check_sample_count(samples: Any, least: int) -> int:
    """A power of two of at least `least`."""
    samples = check_integer("sample_count", samples, at_least=least)
    if samples & (samples - 1):
        raise ParameterError(f"Argument `sample_count` must be a power of two >= {least}, but is {samples}.")
    return samples


def choose_iteration(precision: str, rtol: float) -> Iteration:
    """Inner iteration: each row to a thousandth of the tolerance, or to what float32 resolves.

    1e-3 of a row is let pass, and counts as an error.
    """
    tolerance = float(np.clip(1e-3 * rtol, 1e-9, 1e-5))
    return Iteration(tolerance=tolerance if precision == "float64" else 1e-4, accepted=1e-3)


def _check_memory(points: int, sampling: Sampling, needed: int) -> None:
    what = f"One replica of {points} time points and {sampling.samples} samples"
    check_memory(what, needed, "lower `t_max`, `points` or `sample_count`, or raise `step`")
