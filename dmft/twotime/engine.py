"""What the two-time machine asks of a theory: an *engine*.

A theory is solved row by row, one row a time point, each from the rows before. The engine knows its equations. The
machine knows grids, replicas, threads, tolerances and datasets, and no equation.

An engine must say how a replica starts (`start`), which compiled function advances its rows (`program`), and what the
solved rows mean (`read`). How errors are known is its `evidence`: `dmft.twotime.members.Ensemble` has one for engines
that say what a replica predicts (`curves`).
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np

from dmft.checks import ParameterError, precision_context
from dmft.twotime.errors import Errors
from dmft.twotime.grid import Grid
from dmft.twotime.spread import Spreads

#: Curves by name, each (T, ...), time first.
Curves = dict[str, np.ndarray]
#: Called with the replicas done and their number.
Report = Callable[[int, int], None]

#: Row capacities: the work on rows of one capacity is compiled once. A replica starts in a small one and grows.
CAPACITIES = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
#: The rows after which a replica is looked at, and where it grows the capacities below the last: this, and its doubles.
FIRST_CAPACITY = 32
#: Memory of a replica at its largest, over that of its state: the state, and what it was before it grew.
COPIES = 1.6


def capacity_of(points: int) -> int:
    """The least capacity that has room for `points` rows."""
    return next((capacity for capacity in CAPACITIES if capacity >= points), points)


class Iteration(NamedTuple):
    """Settings of the row solve (static).

    The iteration aims at a relative residual of `tolerance`; after `max_rounds`, a residual above `accepted` is a
    failure. 1e-4 changes the curves by under 1 %, so what was accepted is recorded with every result.
    """

    tolerance: float = 1e-6
    accepted: float = 1e-5
    depth: int = 16
    max_rounds: int = 200


@runtime_checkable
class Sampling(Protocol):
    """How one replica is sampled: a frozen dataclass with at least these. All its fields are recorded."""

    @property
    def samples(self) -> int:
        """S, a power of two."""
        ...

    @property
    def precision(self) -> str:
        """ "float64" or "float32"."""
        ...


class Program(NamedTuple):
    """The compiled work on rows: `function(couplings, steps, state, first, stop, **static)` is the state after them.

    It solves rows first <= n < stop and is given the state for good (its memory may be used again).
    """

    function: Any
    couplings: Any
    static: Mapping[str, Any]


class Progress(NamedTuple):
    """How well the rows of a state are solved, (T,) each."""

    loss: np.ndarray
    rounds: np.ndarray
    mismatch: np.ndarray


class Runs(NamedTuple):
    """Replicas of one kind that a solve begins with."""

    points: int
    sampling: Any
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]


class KernelStack(NamedTuple):
    """A two-time kernel of several replicas, for the dataset."""

    name: str
    arrays: np.ndarray  # (R, ..., T, T)
    meaning: str
    dims: tuple[str, ...] = ("time", "time2")  # in the dataset
    layout: tuple[str, ...] = ("time", "time2")  # of one of the arrays
    response: bool = False  # zero for t < s, with a jump at t = s
    order: int = 3  # of the spline between times
    scatter: bool = True  # its standard error is in the dataset as well


class Engine(ABC):
    """A theory that the two-time machine can solve. Immutable.

    Attributes:
        model: what is solved; the dataset records its `to_attributes()`.
        title: one line on what the theory takes to be finite and infinite.
        meanings: the observables with their meanings; `controlled` are those on which the tolerance is met.
        dimensions: dimensions, beside time, of the observables that are arrays.
        grid_tolerance: the flow starts on the grid for a tolerance this much smaller.
        least_rows: fewest rows that make a curve, of discrete steps and of the flow.
    """

    title: ClassVar[str]
    meanings: Mapping[str, str]
    dimensions: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    controlled: ClassVar[tuple[str, ...]] = ("train_loss", "test_loss")
    grid_tolerance: float = 1.0
    least_rows: ClassVar[tuple[int, int]] = (2, 7)

    def __init__(self, model: Any) -> None:
        self.model = model

    @abstractmethod
    def choose_sampling(self, grid: Grid, precision: str, rtol: float, samples: int | None) -> Any:
        """The sampling of a replica with the given number of samples, or with the default.

        Raises:
            ParameterError: that number is not possible.
        """

    @abstractmethod
    def shapes(self, sampling: Any, points: int, capacity: int) -> Any:
        """The state's arrays as shapes (`jax.eval_shape`), with room for `capacity` of `points` rows."""

    @abstractmethod
    def start(self, grid: Grid, sampling: Any, seed: np.random.SeedSequence, capacity: int, like: Any) -> Any:
        """The state of one replica at t = 0, with the rows before `first_row`.

        Args:
            like: None, or a replica of the same seed and sampling on another grid, whose noise should be matched.
        """

    @abstractmethod
    def program(self, grid: Grid, sampling: Any, iteration: Iteration) -> Program:
        """The compiled work on the rows of this grid."""

    @abstractmethod
    def progress(self, state: Any) -> Progress:
        """Train loss, rounds and residual of every row; rows not solved yet count for nothing."""

    @abstractmethod
    def read(self, state: Any, grid: Grid) -> Any:
        """A solved replica, in NumPy float64."""

    def check(self, grid: Grid) -> None:  # noqa: B027  (nothing to refuse unless an engine says so)
        """ParameterError if the model cannot be solved on this grid."""

    def fault(self, state: Any, row: int) -> str | None:  # noqa: ARG002
        """What is wrong with a row beside its loss and residual, if anything."""
        return None

    def capacities(self, points: int, sampling: Any) -> list[int]:  # noqa: ARG002
        """The row capacities that a replica of `points` rows passes through."""
        last = capacity_of(points)
        growing: list[int] = []
        while (FIRST_CAPACITY << len(growing)) < last:
            growing.append(FIRST_CAPACITY << len(growing))
        return [*growing, last]

    def first_row(self, grid: Grid) -> int:
        """The first row that the program solves."""
        return 0 if grid.explicit else 1

    def smallest(self, points: int) -> Any:
        """The cheapest sampling of `points` rows: a grid that does not fit with it is refused before it is made."""
        grid = Grid(np.zeros(points), np.zeros(points), np.zeros((points, 1)), explicit=True)
        return self.choose_sampling(grid, "float32", np.inf, None)

    def fewer(self, sampling: Any) -> Any:
        """A cheaper sampling, to find a stable step with and to see what the number of samples changes."""
        return sampling

    def trial(self, grid: Grid, sampling: Any) -> Any:
        """A cheap sampling that is good enough to see whether a step is stable."""
        return self.choose_sampling(grid, sampling.precision, np.inf, None)

    def bytes(self, points: int, sampling: Any) -> int:
        """Memory of one replica at its largest."""
        import jax

        with precision_context(sampling.precision):
            leaves = jax.tree.leaves(self.shapes(sampling, points, self.capacities(points, sampling)[-1]))
        return int(COPIES * sum(leaf.size * leaf.dtype.itemsize for leaf in leaves))

    def peak_bytes(self, grid: Grid, sampling: Any, full: bool) -> int:  # noqa: ARG002
        """Memory of the largest replica of a solve."""
        return self.bytes(grid.size, sampling)

    def first_replicas(self, rtol: float) -> int:  # noqa: ARG002
        """Replicas solved before the tolerance is looked at."""
        return 12

    def effort(self, t_max: float) -> float:  # noqa: ARG002
        """How many times the work of its first replicas a flow takes, as a rule."""
        return 1.0

    @abstractmethod
    def runs(self, plan: Plan) -> list[Runs]:
        """The replicas that a solve begins with: what is compiled, and what it costs."""

    def kernels(self, replicas: list[Any], grid: Grid) -> list[KernelStack]:  # noqa: ARG002
        """The two-time kernels for the dataset."""
        return []

    def extra_attributes(self, plan: Plan, replicas: list[Any]) -> dict[str, Any]:  # noqa: ARG002
        """What the dataset records beside what the machine knows."""
        return {}

    def spreading(self) -> Callable[[Any, int, tuple[str, ...], Report], Spreads]:
        """What finds standard deviations over data sets: from evidence, on the times of its grid, by drawing so many.

        Raises:
            ParameterError: it is not known for this theory or model.
        """
        raise ParameterError(f"Argument `spread` must be False for a {type(self.model).__name__}, whose is not known.")

    def spread_rows(self, draws: int, plan: Plan) -> float:  # noqa: ARG002
        """Samples x points^2 of so many data sets that are drawn."""
        return 0.0

    @abstractmethod
    def evidence(self, plan: Plan, report: Report) -> Evidence:
        """The first replicas of a solve, enough to know the error of the step."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """The resolved settings of one solve."""

    engine: Engine
    t_max: float  # as asked for; the grid of steps may end a little beside it, or before where the rest was not solved
    grid: Grid
    sampling: Any
    rtol: float
    atol: float
    seed: int
    replicas: int | None
    workers: int
    iteration: Iteration
    full: bool  # all replicas on `grid`, none on a coarser one
    keep: bool = False  # what guides the same replicas of other models is kept
    deadline: float = math.inf  # of `time.monotonic`: `OutOfTime` is raised between replicas after it

    @property
    def first_replicas(self) -> int:
        """Replicas solved before the tolerance is looked at."""
        return self.replicas or self.engine.first_replicas(self.rtol)

    @property
    def fewer(self) -> Plan:
        """The same with fewer samples."""
        return dataclasses.replace(self, sampling=self.engine.fewer(self.sampling))

    def on(self, grid: Grid) -> Plan:
        """The same on another grid."""
        return dataclasses.replace(self, grid=grid)


@runtime_checkable
class Evidence(Protocol):
    """Replicas solved so far, and the errors that they leave. Immutable: `more` and `surer` return another one."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]  # a frozen dataclass

    @property
    def plan(self) -> Plan: ...

    @property
    def replicas(self) -> list[Any]:
        """Those whose mean the curves are; empty in a first look."""
        ...

    @property
    def grid(self) -> Grid:
        """The grid that these are on."""
        ...

    def first_look(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Value and step error of an observable on the plan's grid, as far as known before `more`."""
        ...

    def errors(self, name: str) -> Errors:
        """An observable and its errors on the plan's grid."""
        ...

    def more(self, target: int, report: Report) -> Evidence:
        """With replicas up to `target`."""
        ...

    def surer(self, report: Report) -> Evidence | None:
        """With a bias that is better known; None if it cannot be."""
        ...

    def again(self, plan: Plan, report: Report, *, near: bool = False) -> Evidence:
        """The same replicas, of the same draws, by a plan of another model or grid of as many times.

        Args:
            near: to first order in the change of the plan, and smooth in it.
        """
        ...

    def change(self, base: Evidence, step: float) -> Evidence:
        """(self - base) / step, replica by replica, on the times of `base`: of the same draws, for another model."""
        ...
