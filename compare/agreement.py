"""Do two sets of curves agree within their errors?

At each compared time t an observable has the difference d = first - second of the two means, the standard errors
s1 and s2, and

    z = d / sqrt(s1^2 + s2^2).

The errors of a simulation come from few seeds, so z does not follow the normal distribution but, to good
approximation, Student's t with the effective degrees of freedom of Welch and Satterthwaite,

    nu = (s1^2 + s2^2)^2 / (s1^4 / nu1 + s2^4 / nu2),    nu_i = runs_i - 1 (infinite where errors are exact).

Many times are compared, so the largest |z| exceeds any single-time threshold by chance. The threshold is therefore
corrected (Bonferroni) for the number of tests. Neighbouring times of a training curve carry nearly the same random
number: z is heavily correlated over time, and correcting for every one of hundreds of times would excuse almost
anything. At most INDEPENDENT_TIMES are counted, as many as fill a logarithmic time axis; |z| must stay below the
threshold at *all* compared times. For curves that are smooth in log t the chance of a false alarm is then below
the stated significance, per observable; for noise that is independent at every time it would be above.
"""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from scipy import stats

from compare.curves import Side, read_side
from dmft.checks import ParameterError, check_real

#: How many independent tests a curve over time is counted as, at most.
INDEPENDENT_TIMES = 25

#: Errors and differences below this fraction of a curve's largest value are rounding, by precision of the run.
_ROUNDING = {"float64": 1e-12, "float32": 1e-6}


@dataclasses.dataclass(frozen=True, eq=False)
class Agreement:
    """Two sides laid over each other.

    Attributes:
        z: (first - second) / combined standard error, one variable per common observable, dims ("time", ...). Where
            neither side has an error, z is 0 if the values are equal to rounding and otherwise +inf or -inf; where
            an error is unknown (one seed), z is NaN.
        degrees: effective degrees of freedom of each z; same variables and shapes.
        difference: first - second as a fraction of the larger absolute value of the two; likewise.
        first: the first side.
        second: the second side.
        significance: chance of a false alarm that each observable's verdict allows.
    """

    z: xarray.Dataset
    degrees: xarray.Dataset
    difference: xarray.Dataset
    first: Side
    second: Side
    significance: float

    def summary(self) -> dict[str, Any]:
        """The comparison in numbers, JSON-able (no NaN or infinity: what does not exist is None).

        `observables` holds for each common observable:
            max_abs_z, time: largest finite |z|, and where; of an array also the `entry`, such as {"neuron": 0};
            difference: first - second there, as a fraction of the larger of the two;
            threshold: what |z| may reach there (two-sided, corrected for the number of tests: times and entries);
            p_value: smallest two-sided p-value over the times, times the number of tests, at most 1;
            mean_square_z: mean of z^2 over the compared times; about 1 for exact errors, nu/(nu-2) for estimated ones;
            exact_differences: how many times differ with no error on either side to excuse it;
            verdict: "agrees", "differs" or "no error".
        """
        return {
            "observables": {str(name): self._verdict(str(name)) for name in self.z.data_vars},
            "compared_times": self.z.sizes["time"],
            "first_time": float(self.z["time"][0]),
            "last_time": float(self.z["time"][-1]),
            "significance": self.significance,
            "seeds": [side.runs if side.kind == "simulation" else None for side in (self.first, self.second)],
            "notes": [*self.first.notes, *self.second.notes],
            "first": {"kind": self.first.kind, **self.first.attributes},
            "second": {"kind": self.second.kind, **self.second.attributes},
        }

    def threshold(self, name: str) -> np.ndarray:
        """What |z| of observable `name` may reach at each time, (T, ...): two-sided, corrected for the tests."""
        return stats.t.isf(0.5 * self.significance / self._tests(name), self.degrees[name].to_numpy())

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Draw both sides over each other and write the picture; `.png` or `.pdf`, by the ending of `path`.

        Above: train and test loss against log time. Below: trace, overlap and mean weight norm, and the three parts of
        the test loss; or the overlaps of a committee, entry by entry. Theory is drawn as lines with bands, simulation
        and measurement as points with bars.

        Raises:
            ParameterError: the ending is neither.
        """
        from compare.files import figure_path, finished, write_figure

        place, form = figure_path(path)
        with finished(place) as part:
            write_figure(part, self.figure(), form)
        return place

    def figure(self) -> Any:
        """The picture of `plot` as a matplotlib.figure.Figure."""
        from compare.figures.overlay import overlay_figure

        return overlay_figure(self.first, self.second)

    def _tests(self, name: str) -> int:
        """How many independent tests the scores of `name` count as."""
        times, *others = self.z[name].shape
        return min(times, INDEPENDENT_TIMES) * math.prod(others)

    def _verdict(self, name: str) -> dict[str, Any]:
        z, degrees = self.z[name].to_numpy(), self.degrees[name].to_numpy()
        known = ~np.isnan(z)
        finite = np.isfinite(z)
        if not known.any():
            return {"max_abs_z": None, "verdict": "no error", "exact_differences": 0}
        exact = int(np.sum(known & ~finite))
        row: dict[str, Any] = {"max_abs_z": None, "exact_differences": exact}
        p_value = 0.0 if exact else 1.0
        if finite.any():
            worst = np.unravel_index(np.argmax(np.where(finite, np.abs(z), -1.0)), z.shape)
            smallest = float(np.min(2.0 * stats.t.sf(np.abs(z[finite]), degrees[finite])))
            p_value = min(p_value, self._tests(name) * smallest)
            row |= {
                "max_abs_z": float(abs(z[worst])),
                "time": float(self.z["time"][int(worst[0])]),
                "difference": float(self.difference[name].to_numpy()[worst]),
                "threshold": float(self.threshold(name)[worst]),
                "mean_square_z": float(np.mean(z[finite] ** 2)),
            }
            if z.ndim > 1:
                place = zip(self.z[name].dims[1:], worst[1:], strict=True)
                row["entry"] = {str(dim): int(index) for dim, index in place}
        return row | {"p_value": p_value, "verdict": "differs" if p_value < self.significance else "agrees"}


def overlay(first: object, second: object, *, significance: float = 0.05) -> Agreement:
    """Lay two sets of curves over each other: theory, simulation or measurement, in any combination.

    They are compared at the times of the coarser one (fewer times in the common range) that lie in the range of
    both (`common_times`); the other is interpolated linearly in time. A simulation enters with its mean over seeds.

    Args:
        first: dataset of `solve` or `simulate`, or measured curves: a mapping, a dataset or an object with `time`,
            `train_loss`, `test_loss` (all (T,)) and optionally `<name>_stderr` and other observables.
        second: likewise.
        significance: chance of a false alarm, per observable, between 0 and 1.

    Raises:
        ParameterError: an argument is none of these, or the two have no time or no observable in common.

    Example:
        >>> measured = {"time": [0, 2], "train_loss": [3, 1], "test_loss": [3, 2], "test_loss_stderr": [0, 1]}
        >>> predicted = {"time": [0, 1, 2], "train_loss": [3, 2, 1], "test_loss": [3, 2, 1]}
        >>> overlay(measured, predicted).z["test_loss"].values.tolist()
        [0.0, 1.0]
    """
    significance = check_real("significance", significance, above=0.0)
    if significance >= 1.0:
        raise ParameterError(f"Argument `significance` must be a number between 0 and 1, but is {significance:g}.")
    sides = read_side("first", first), read_side("second", second)
    names = [name for name in sides[0].observables if name in sides[1].observables]
    if not names:
        raise ParameterError("Argument `second` must share an observable with `first`, but shares none.")
    time = common_times(*(side.curves["time"].to_numpy() for side in sides))
    z, degrees, difference = {}, {}, {}
    for name in names:
        dims = sides[0].curves[name].dims
        if set(dims) != set(sides[1].curves[name].dims):
            raise ParameterError(
                f"Argument `second` must hold `{name}` over {dims}, but it is over {sides[1].curves[name].dims}."
            )
        samples = [_at(side, name, dims, time) for side in sides]
        shapes = [sample.value.shape[1:] for sample in samples]
        if shapes[0] != shapes[1]:
            raise ParameterError(
                f"Argument `second` must hold `{name}` of as many entries as `first`, {shapes[0]}, but has {shapes[1]}."
            )
        scores, degrees_of_freedom = _score(*samples)
        z[name] = (dims, scores, {"long_name": f"difference of {name} over its standard error", "units": "1"})
        degrees[name] = (dims, degrees_of_freedom)
        difference[name] = (dims, _relative_difference(*(sample.value for sample in samples)))
    coordinates = {"time": ("time", time, sides[0].curves["time"].attrs)}
    return Agreement(
        z=xarray.Dataset(z, coordinates),
        degrees=xarray.Dataset(degrees, coordinates),
        difference=xarray.Dataset(difference, coordinates),
        first=sides[0],
        second=sides[1],
        significance=significance,
    )


def common_times(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Those times of the coarser grid that lie in the range of both grids, each (T,) increasing.

    Times strictly inside the other grid's first interval are left out: many curves start quadratically from zero,
    where no linear interpolation holds.

    Raises:
        ParameterError: there is none.
    """
    start, end = max(first[0], second[0]), min(first[-1], second[-1])
    rounding = 1e-9 * abs(end)  # two ways to compute one final time may differ in the last bit
    inside = [grid[(grid >= start - rounding) & (grid <= end + rounding)] for grid in (first, second)]
    place = min((index for index in (0, 1) if inside[index].size), key=lambda index: inside[index].size, default=None)
    if place is None:
        raise ParameterError(
            f"Argument `second` must overlap `first` in time, [{first[0]:g}, {first[-1]:g}], but covers "
            f"[{second[0]:g}, {second[-1]:g}]."
        )
    coarser, finer = inside[place], (second, first)[place]
    return coarser[(coarser <= finer[0]) | (coarser >= finer[:2][-1] - rounding)]


@dataclasses.dataclass(frozen=True, eq=False)
class _Sample:
    """Value, standard error (both (T, ...)), its degrees of freedom, and the size below which numbers are rounding."""

    value: np.ndarray
    error: np.ndarray
    degrees: float
    rounding: float


def _at(side: Side, name: str, dims: tuple[Any, ...], time: np.ndarray) -> _Sample:
    """Observable `name` of `side`, interpolated linearly to `time`; the error likewise."""
    grid = side.curves["time"].to_numpy()
    value, error = (side.curves[key].transpose(*dims).to_numpy() for key in (name, f"{name}_stderr"))
    rounding = _ROUNDING.get(str(side.attributes.get("precision")), _ROUNDING["float64"])
    size = float(np.nanmax(np.abs(value), initial=0.0))
    return _Sample(_interpolate(time, grid, value), _interpolate(time, grid, error), side.degrees, rounding * size)


def _interpolate(time: np.ndarray, grid: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`values` (G, ...) on `grid` (G,), interpolated linearly to `time` (T,); exact at the grid's points."""
    if grid.size == 1:
        return values[np.zeros(time.size, dtype=int)]
    left = np.clip(np.searchsorted(grid, time, side="right") - 1, 0, grid.size - 2)
    part = np.clip((time - grid[left]) / (grid[left + 1] - grid[left]), 0.0, 1.0)
    part = part.reshape(-1, *(1,) * (values.ndim - 1))
    lower, upper = values[left], values[left + 1]
    return np.where(part == 1.0, upper, np.where(part == 0.0, lower, (1.0 - part) * lower + part * upper))


def _score(first: _Sample, second: _Sample) -> tuple[np.ndarray, np.ndarray]:
    """z and its effective degrees of freedom (module docstring), each (T, ...)."""
    difference = first.value - second.value
    rounding = max(first.rounding, second.rounding)
    error = np.hypot(first.error, second.error)
    exact = error <= rounding
    z = difference / np.where(exact, 1.0, error)
    without_error = np.where(np.abs(difference) <= rounding, 0.0, np.copysign(np.inf, difference))
    z = np.where(exact & ~np.isnan(difference), without_error, z)
    # Shares of the variance, so that small errors do not underflow in the fourth power.
    share_first, share_second = ((sample.error / np.where(exact, 1.0, error)) ** 2 for sample in (first, second))
    inverse = share_first**2 / max(first.degrees, 1.0) + share_second**2 / max(second.degrees, 1.0)
    degrees = np.where(inverse > 0.0, 1.0 / np.where(inverse > 0.0, inverse, 1.0), np.inf)
    return z, np.where(exact, np.inf, degrees)


def _relative_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(first - second) / max(|first|, |second|), 0 where both vanish."""
    size = np.maximum(np.abs(first), np.abs(second))
    return (first - second) / np.where(size == 0.0, 1.0, size)
