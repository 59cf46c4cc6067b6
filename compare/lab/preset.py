"""What a preset is: its runs, what the paper claims of them, and how they are drawn."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from compare.files import number
from dmft.checks import DivergenceError
from sim.tasks import Task

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

#: Label -> dataset.
Results = Mapping[str, "xarray.Dataset"]


class Asked(NamedTuple):
    """What a user may choose: seeds, random stream of the weights, a progress bar."""

    seeds: int
    seed: int = 0
    progress: bool = False


class Run(NamedTuple):
    """One call of `sim.train`, or of another function with its arguments."""

    network: Any
    task: Task
    steps: int
    settings: Mapping[str, Any]
    function: Callable[..., xarray.Dataset] | None = None

    def __call__(self, asked: Asked) -> xarray.Dataset:
        """Train; of a run that diverges, its curves up to there, with a warning."""
        from sim import train

        function = self.function or train
        try:
            return function(self.network, self.task, self.steps, **self.settings, **asked._asdict())
        except DivergenceError as error:
            if error.curves is None:
                raise
            warnings.warn(str(error), stacklevel=2)
            return error.curves


class Claim(NamedTuple):
    """A claim and what was found.

    Attributes:
        claim: what is said.
        expected: by the paper, in numbers.
        measured: of every seed, with how many agree.
        agrees: whether all of them do.
    """

    claim: str
    expected: str
    measured: dict[str, Any]
    agrees: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabPreset:
    """The runs behind a figure.

    Attributes:
        name: of the preset.
        title: what the figure shows.
        source: paper and figure.
        reduced: how the default differs from the paper; empty if it does not.
        runs: whether in full -> the runs, by label.
        claims: results -> claims.
        draw: (figure, results).
        derive: (runs, results) -> further datasets, from trained weights.
    """

    name: str
    title: str
    source: str
    reduced: str
    runs: Callable[[bool], dict[str, Run]]
    claims: Callable[[Results], list[Claim]]
    draw: Callable[[Figure, Results], None]
    derive: Callable[[Mapping[str, Run], Results], dict[str, Any]] = lambda *_: {}

    def run(
        self,
        asked: Asked,
        *,
        full: bool = False,
        say: Callable[[str], None] = lambda _: None,
        keep: Callable[[str, dict[str, Any], Callable[[], Any]], Any] = lambda _name, _about, compute: compute(),
    ) -> dict[str, Any]:
        """Label -> dataset, with the preset and its size among the attributes.

        Args:
            asked: seeds.
            full: the paper's sizes.
            say: told of each run.
            keep: called with the label of a run, all that determines it, and what computes it; gives its dataset, from
                where finished runs are kept or computed.
        """
        about = {"preset": self.name, "full": full, "seeds": asked.seeds, "seed": asked.seed}
        runs, results = self.runs(full), {}
        for label, one in runs.items():
            say(f"{self.name}, {label}: {asked.seeds} seeds x {one.steps} steps")
            results[label] = keep(label, {**about, "steps": one.steps}, partial(one, asked))
        results |= self.derive(runs, results)
        size = "full" if full or not self.reduced else f"reduced: {self.reduced}"
        return {label: found.assign_attrs(preset=self.name, size=size) for label, found in results.items()}


def claim(text: str, expected: str, values: Any, holds: Callable[[Any], Any]) -> Claim:
    """A claim about a number of every seed.

    Args:
        text: what is said.
        expected: in numbers.
        values: (S,); NaN where there is none.
        holds: of one number, whether it agrees.
    """
    each = np.atleast_1d(np.asarray(values, np.float64))
    good = [bool(holds(value)) for value in each]
    measured = {"each": [number(value, 4) for value in each], "agreeing": sum(good), "of": len(good)}
    return Claim(text, expected, measured, all(good))


def at(dataset: xarray.Dataset, name: str, step: int | None = None) -> np.ndarray:
    """The value of every seed at the observed step nearest to `step`, or at the last, (S, ...)."""
    chosen = dataset[name].isel(step=-1) if step is None else dataset[name].sel(step=step, method="nearest")
    return chosen.transpose("seed", ...).to_numpy()


def near(target: float, within: float) -> Callable[[float], bool]:
    """Whether a number is within so much of the target."""
    return lambda value: abs(value - target) <= within


def between(low: float, high: float) -> Callable[[float], bool]:
    """Whether a number is in low .. high."""
    return lambda value: low <= value <= high


def slope(x: Sequence[float], y: Any) -> np.ndarray:
    """Slope of log y (S, X) over log x (X,) by least squares, (S,); NaN where a value is missing."""
    return np.array([np.polyfit(np.log(x), np.log(row), 1)[0] for row in np.asarray(y, np.float64)])
