"""An observable with the parts of its error, and curves between the times of a grid."""

# scipy has no stubs
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from typing import Any, NamedTuple, SupportsIndex

import numpy as np

from dmft.twotime.grid import Grid, coordinate

#: The parts of an error, as messages and attributes name them.
MEANINGS = {
    "sampling": "from sampling",
    "step": "from the time step",
    "bias": "bias of the number of samples",
    "kinks": "from the smoothing of kinks",
    "iteration": "from the inner iteration",
    "consistency": "disagreement of the two forms of the correlations",
}


class Errors(NamedTuple):
    """An observable on the plan's grid, (T, ...), with the parts of its error and what else is known of them.

    `parts` (names of MEANINGS) are sizes, which add up in squares; `reported` are variables of the dataset, by the
    endings of `dmft.twotime.prediction.VARIABLES`, that may have a sign.
    """

    value: np.ndarray
    parts: dict[str, np.ndarray]
    reported: dict[str, np.ndarray]

    @property
    def total(self) -> np.ndarray:
        """Root sum square of the parts."""
        return np.sqrt(np.sum([part**2 for part in self.parts.values()], axis=0))

    def limited_by(self, index: SupportsIndex | tuple[SupportsIndex, ...]) -> str:
        """The largest part at an index of the arrays."""
        return max(self.parts, key=lambda name: self.parts[name][index])


def largest_nearby(sizes: np.ndarray, reach: int) -> np.ndarray:
    """The largest of each size (T, ...) and of `reach` neighbours in time on each side.

    A difference of two curves passes through zero where they cross, though the error does not.
    """
    padded = np.pad(sizes, [(reach, reach)] + [(0, 0)] * (sizes.ndim - 1))
    return np.max([padded[shift : shift + len(sizes)] for shift in range(2 * reach + 1)], axis=0)


def linear_between(times: np.ndarray, sizes: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(T, ...) at other times, linear in between, so that sizes stay positive."""
    columns = sizes.reshape(len(sizes), -1).T
    between = [np.interp(at, times, column) for column in columns]
    return np.stack(between, axis=-1).reshape(len(at), *sizes.shape[1:])


def interpolate(grid: Grid, values: np.ndarray, at: np.ndarray, axis: int = -1) -> np.ndarray:
    """Cubic spline along `axis` in `dmft.twotime.grid.coordinate` x: even in x, so level at x = 0."""
    from scipy.interpolate import CubicSpline

    ends: Any = ("clamped", "not-a-knot")
    return CubicSpline(coordinate(grid.times), values, axis=axis, bc_type=ends)(coordinate(at))


def difference(grid: Grid, new: np.ndarray, base: Grid, old: np.ndarray, step: float) -> np.ndarray:
    """(new - old) / step on the times of `base`, (T, ...), of curves on two grids, which may be the same."""
    same = np.array_equal(grid.times, base.times)
    return ((new if same else interpolate(grid, new, base.times, axis=0)) - old) / step


def interpolation_error(grid: Grid, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """What every other time changes in `interpolate` along the first axis, over 2^4 - 1; 0 on the grid's times."""
    rows = np.unique(np.append(np.arange(0, grid.size, 2), grid.size - 1))
    thin = Grid(grid.times[rows], grid.weights[rows], grid.past[rows], grid.explicit)
    difference = np.abs(interpolate(thin, values[rows], at, 0) - interpolate(grid, values, at, 0)) / 15
    on_grid = np.isin(at, grid.times).reshape(-1, *[1] * (values.ndim - 1))
    return np.where(on_grid, 0.0, difference)
