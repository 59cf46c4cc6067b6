"""The axes of a phase diagram and its cells: scales, edges, and borders between regimes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.scale import LogTransform, SymmetricalLogTransform
from matplotlib.ticker import AutoLocator, FixedLocator, FuncFormatter, Locator, LogLocator, NullLocator
from matplotlib.transforms import IdentityTransform, Transform

from compare.fields import FIELDS

if TYPE_CHECKING:
    import xarray

#: Widths of the borders between regimes in points: where both are certain, and where one is not.
BORDER_WIDTHS = 1.8, 0.7

#: Positive values are on a logarithmic axis if they are spaced so and span at least this factor.
WIDE = 4.0
#: At most so many values are written at an axis each; of more, round numbers are.
MOST_TICKS = 7


@dataclasses.dataclass(frozen=True, eq=False)
class CellAxis:
    """One axis of a phase diagram as it is drawn.

    Attributes:
        field: name of the swept field of `dmft.Model`.
        values: (n,) increasing.
        edges: (n + 1,) edges of the cells, half-way between values on the axis' scale.
        scale: matplotlib's name of the scale: "linear", "log", or "symlog" where log-spaced values begin at zero.
        options: further arguments of matplotlib's set_xscale.
        transform: from values to places on the scale.
    """

    field: str
    values: np.ndarray
    edges: np.ndarray
    scale: str
    options: Mapping[str, Any]
    transform: Transform

    @classmethod
    def of(cls, phase: xarray.Dataset, field: str) -> CellAxis:
        """The axis of the dimension `field`, in increasing order."""
        values = np.sort(phase[field].to_numpy().astype(np.float64))
        scale, options, transform = _scale(values)
        places = transform.transform(values)
        steps = np.diff(places)
        first, last = (steps[0], steps[-1]) if steps.size else (2.0 * _half_width(scale, values[0]),) * 2
        middles = 0.5 * (places[1:] + places[:-1])
        edges = transform.inverted().transform(
            np.concatenate([[places[0] - 0.5 * first], middles, [places[-1] + 0.5 * last]])
        )
        return cls(field, values, edges, scale, options, transform)

    @property
    def title(self) -> str:
        return FIELDS[self.field].title

    def fractions(self, values: np.ndarray) -> np.ndarray:
        """Where `values` lie between the outer edges, as fractions of the axis' length."""
        start, end = self.transform.transform(self.edges[[0, -1]])
        return (self.transform.transform(np.asarray(values, dtype=np.float64)) - start) / (end - start)

    def at(self, fractions: np.ndarray) -> np.ndarray:
        """The values at these fractions of the axis' length: the inverse of `fractions`."""
        start, end = self.transform.transform(self.edges[[0, -1]])
        return self.transform.inverted().transform(start + np.asarray(fractions) * (end - start))

    def apply(self, axes: Any, which: str) -> None:
        """Set scale, range, title and ticks of matplotlib's axis `which` ("x" or "y")."""
        getattr(axes, f"set_{which}scale")(self.scale, **self.options)
        getattr(axes, f"set_{which}lim")(self.edges[0], self.edges[-1])
        getattr(axes, f"set_{which}label")(self.title)
        line = getattr(axes, f"{which}axis")
        line.set_major_locator(self._ticks())
        line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
        line.set_minor_locator(NullLocator())

    def _ticks(self) -> Locator:
        """At the values, if they are few, short to write and apart; else at round numbers."""
        short = all(len(f"{value:.4g}") <= 5 and float(f"{value:.4g}") == value for value in self.values)
        apart = np.min(np.diff(self.fractions(self.values)), initial=1.0) >= 0.6 / MOST_TICKS
        if self.values.size == 1 or (self.values.size <= MOST_TICKS and short and apart):
            return FixedLocator(list(self.values))
        if self.scale == "linear":
            return AutoLocator()
        if self.scale == "log":
            decades = np.log10(self.edges[-1] / self.edges[0])
            return LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.5 else (1.0,), numticks=99)
        powers = np.arange(np.floor(np.log10(self.values[1])), np.log10(self.edges[-1]))
        return FixedLocator([0.0, *(10.0**power for power in powers if 10.0**power >= self.values[1])])


def _scale(values: np.ndarray) -> tuple[str, dict[str, Any], Transform]:
    """Scale of increasing `values` (n,): logarithmic where their ratios are more even than their differences."""

    def unevenness(steps: np.ndarray) -> float:
        return float(np.std(steps) / np.mean(steps))

    positive = values[values > 0.0]
    if values[0] < 0.0 or positive.size < 2 or positive[-1] < WIDE * positive[0]:
        return "linear", {}, IdentityTransform()
    if unevenness(np.diff(np.log(positive))) > unevenness(np.diff(values)):
        return "linear", {}, IdentityTransform()
    if positive.size == values.size:
        return "log", {}, LogTransform(10.0)
    # Zero lies about one step of the others below the smallest of them.
    step = float(np.mean(np.diff(np.log10(positive))))
    options = {"base": 10.0, "linthresh": float(positive[0]), "linscale": 0.9 * step}
    return "symlog", options, SymmetricalLogTransform(*options.values())


def _half_width(scale: str, value: float) -> float:
    """Half the width of a lone cell."""
    return 0.25 if scale == "log" else 0.5 * abs(value) or 0.5


class Borders(NamedTuple):
    """Lines between cells of different regimes.

    Attributes:
        segments: (n, 2, 2): line, end, (x, y).
        certain: (n,) whether both cells' regimes are certain.
    """

    segments: np.ndarray
    certain: np.ndarray


def regime_borders(regimes: np.ndarray, certain: np.ndarray, x_edges: np.ndarray, y_edges: np.ndarray) -> Borders:
    """The borders between neighbouring cells whose regimes differ; a cell without regime (0) has none.

    Args:
        regimes: (rows, columns), numbers of the regimes.
        certain: (rows, columns), whether each is certain.
        x_edges: (columns + 1,).
        y_edges: (rows + 1,).
    """
    segments, sure = [], []
    # The second pass swaps rows and columns, so that its borders come out horizontal.
    for swap, edges, along in ((False, x_edges, y_edges), (True, y_edges, x_edges)):
        number, known = (array.T if swap else array for array in (regimes, certain.astype(bool)))
        left, right = number[:, :-1], number[:, 1:]
        for row, column in np.argwhere((left != right) & (left > 0) & (right > 0)):
            line = np.array([[edges[column + 1], along[row]], [edges[column + 1], along[row + 1]]])
            segments.append(line[:, ::-1] if swap else line)
            sure.append(known[row, column] and known[row, column + 1])
    return Borders(np.array(segments, dtype=float).reshape(-1, 2, 2), np.array(sure, dtype=bool))


def cell_corners(mask: np.ndarray, x_edges: np.ndarray, y_edges: np.ndarray) -> np.ndarray:
    """Corners (n, 4, 2) of the cells where `mask` (rows, columns) holds, counter-clockwise from the lower left."""
    rows, columns = np.nonzero(mask)
    left, right, low, high = x_edges[columns], x_edges[columns + 1], y_edges[rows], y_edges[rows + 1]
    return np.stack([np.stack(pair, axis=-1) for pair in ((left, low), (right, low), (right, high), (left, high))], 1)
