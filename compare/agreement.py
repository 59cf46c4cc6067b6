"""Do two sets of curves agree within their errors?

At each compared time t an observable has the difference d = first - second of the two means, the standard errors
s1 and s2 (`compare.curves`), and

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
import functools
import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray
from scipy import stats

from compare.conditions import paired
from compare.curves import Side, read_side, with_spread
from compare.measured import LOSSES
from compare.reasons import Reason, reasons
from compare.verdicts import AGREES, agreement_table, lines_before, meaning, notes_after, row
from dmft.checks import ParameterError, check_integer, check_real, spelt

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

#: How many independent tests a curve over time is counted as, at most.
INDEPENDENT_TIMES = 25

#: Between two times of the finer curve nothing is compared where its curvature bends it by more than this part of
#: its value, and by more than this part of the standard error: there is a hole in it.
BENT, BENT_IN_ERRORS = 0.01, 0.5


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Agreement:
    """Two sides laid over each other; printed, a table of verdicts.

    Attributes:
        z: (first - second) / combined standard error, one variable per common observable, dims ("time", ...). Where
            neither side has an error, z is 0 if the values are equal to rounding and otherwise +inf or -inf; where
            an error is unknown (one seed), or a value missing, z is NaN.
        degrees: effective degrees of freedom of each z; same variables and shapes.
        difference: first - second as a fraction of the larger absolute value of the two; likewise, NaN where nothing
            is compared.
        first: the first side.
        second: the second side.
        significance: chance of a false alarm that each observable's verdict allows.
        notes: sentences a reader of the comparison must know.
    """

    z: xarray.Dataset
    degrees: xarray.Dataset
    difference: xarray.Dataset
    first: Side
    second: Side
    significance: float
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def reasons(self) -> tuple[Reason, ...]:
        """What would make measured losses agree that do not (`compare.reasons`); nothing of it is applied."""
        rows = [self._verdict(name)["verdict"] for name in LOSSES if name in self.z]
        return () if set(rows) == {AGREES} else reasons(self.first, self.second)

    def summary(self) -> dict[str, Any]:
        """The comparison in numbers, JSON-able (no NaN or infinity: what does not exist is None).

        `observables` holds for each common observable, always under the same keys:
            max_abs_z, time: largest finite |z|, and where; of an array also the `entry`, such as {"neuron": 0};
            difference: first - second there, as a fraction of the larger of the two;
            threshold: what |z| may reach there (two-sided, corrected for the number of tests: times and entries);
            p_value: smallest two-sided p-value over the times, times the number of tests, at most 1;
            mean_square_z: mean of z^2 over the compared times; about 1 for exact errors, nu/(nu-2) for estimated ones;
            exact_differences: how many times differ with no error on either side to excuse it;
            compared_times: at how many times it was compared;
            verdict: "agrees", "differs", "no error, no verdict", or "too few times" if it is known at t = 0 alone,
                or nowhere.
        """
        return {
            "observables": {str(name): self._verdict(str(name)) for name in self.z.data_vars},
            "compared_times": self.z.sizes["time"],
            "first_time": float(self.z["time"][0]),
            "last_time": float(self.z["time"][-1]),
            "significance": self.significance,
            "seeds": [None if side.kind == "theory" else side.runs for side in (self.first, self.second)],
            "reasons": [dataclasses.asdict(reason) for reason in self.reasons],
            "notes": list(self.notes),
            "first": {"kind": self.first.kind, **self.first.attributes},
            "second": {"kind": self.second.kind, **self.second.attributes},
        }

    def table(self) -> pandas.DataFrame:
        """The rows of `summary`, one for each observable, as a table."""
        import pandas

        return pandas.DataFrame.from_dict(self.summary()["observables"], orient="index").rename_axis("observable")

    def __repr__(self) -> str:
        """What would make it agree, the table that the command line prints, and the notes."""
        summary = self.summary()
        after = [*meaning(summary), *notes_after(summary)]
        return "\n".join([*lines_before(summary), agreement_table(summary), "", *after])

    def _repr_html_(self) -> str:
        import html

        notes = "".join(f"<li>{html.escape(note)}</li>" for note in (*(one.says for one in self.reasons), *self.notes))
        shown = self.table().to_html(na_rep="-", float_format="{:.3g}".format)
        words = html.escape(" ".join(meaning(self.summary())))
        return f"{shown}<p>{words}</p>" + (f"<ul>{notes}</ul>" if notes else "")

    def threshold(self, name: str) -> np.ndarray:
        """What |z| of observable `name` may reach at each time, (T, ...): two-sided, corrected for the tests."""
        return stats.t.isf(0.5 * self.significance / self._tests(name), self.degrees[name].to_numpy())

    def plot(self, path: str | os.PathLike[str] | None = None, *, beside: Agreement | None = None) -> Figure:
        """Both sides over each other, as a picture that a notebook shows; with a `path`, .png or .pdf, also written.

        Above: train and test loss against log time. Below: trace, overlap and mean weight norm, and the three parts of
        the test loss; or the overlaps of a committee, entry by entry. Theory is drawn as lines with bands, simulation
        and measurement as points with bars. A pale band around a theory is its spread over data sets, if it has one.

        Args:
            path: where to.
            beside: a comparison of the same model at another D, drawn with open points and thin lines.

        Raises:
            ParameterError: the ending is neither, or no file can be written there.
        """
        from compare.figures.overlay import overlay_figure
        from compare.files import write_picture

        figure = overlay_figure(self.first, self.second, () if beside is None else (beside.first, beside.second))
        if path is not None:
            write_picture(path, figure)
        return figure

    def _tests(self, name: str) -> int:
        """How many independent tests the scores of `name` count as."""
        times, *others = self.z[name].shape
        compared = int(np.isfinite(self.difference[name].to_numpy()).reshape(times, -1).any(axis=1).sum())
        return max(min(compared, INDEPENDENT_TIMES), 1) * math.prod(others)

    def _verdict(self, name: str) -> dict[str, Any]:
        scores = (self.z, self.degrees, self.difference)
        z, degrees, difference = (dataset[name].to_numpy() for dataset in scores)
        time = self.z["time"].to_numpy()
        found = row(time, z, degrees, difference, self._tests(name), self.significance)
        index, dims = found.pop("index"), self.z[name].dims[1:]
        entry = {str(dim): place for dim, place in zip(dims, index, strict=True)} if index else None
        return found | {"entry": entry}


@spelt
def overlay(
    first: object, second: object, *, significance: float = 0.05, runs: int | None = None, mixed: bool = False
) -> Agreement:
    """Lay two sets of curves over each other: theory, simulation or measurement, in any combination.

    They are compared at the times of the coarser one (fewer times in the common range) that lie in the range of
    both (`common_times`); the other is interpolated linearly in time. Runs enter with their mean, and the standard
    error of their scatter. What is missing or not finite is left out, observable by observable, and named in the notes.

    Args:
        first: dataset of `solve` or `simulate`, or measured curves: `time` (T,), `train_loss` and `test_loss` of shape
            (T,), or (runs, T) for several runs, optionally `<name>_stderr` (T,), the standard error of a mean, and
            other observables. They come as a mapping, an object, a dataset, a pandas.DataFrame (time as a column or
            the index; a column `seed` or `run` tells runs apart), a path to one (.csv, .tsv, .nc, .npz, .jsonl), or a
            list of these, one for each run. Exact curves have errors of 0; without errors there is no verdict.
        second: likewise.
        significance: chance of a false alarm, per observable, between 0 and 1.
        runs: of how many runs measured means with errors are, >= 2: their degrees of freedom.
        mixed: whether to compare different models, whose parameters then head the notes.

    Raises:
        ParameterError: an argument is none of these, time does not increase, or the two are of different models, or
            have no time or observable in common.

    Examples:
        >>> measured = {"time": [0, 2], "train_loss": [3, 1], "test_loss": [3, 2], "test_loss_stderr": [0, 1]}
        >>> exact = {"test_loss_stderr": [0, 0, 0]}
        >>> predicted = {"time": [0, 1, 2], "train_loss": [3, 2, 1], "test_loss": [3, 2, 1]} | exact
        >>> overlay(measured, predicted).z["test_loss"].values.tolist()
        [0.0, 1.0]
    """
    significance = check_real("significance", significance, above=0.0)
    if significance >= 1.0:
        raise ParameterError(f"Argument `significance` must be a number between 0 and 1, but is {significance:g}.")
    runs = None if runs is None else check_integer("runs", runs, at_least=2)
    sides = read_side("first", first, runs=runs), read_side("second", second, runs=runs)
    means = [side for side in sides if side.kind != "theory" and side.each is None and side.runs == runs]
    if runs is not None and not means:
        raise ParameterError(f"Argument `runs` is for measured means with errors, but is {runs} without any of them.")
    sides = with_spread(*sides), with_spread(*sides[::-1])
    names = [name for name in sides[0].observables if name in sides[1].observables]
    if not names:
        raise ParameterError("Argument `second` must share an observable with `first`, but shares none.")
    pairing = paired(*sides, mixed=mixed)
    rounding = max(side.time_rounding for side in sides)
    try:
        common_times(sides[0].time, sides[1].time, rounding)  # some must be common, whatever the observables lack
    except ParameterError as error:
        raise ParameterError(" ".join([str(error), *(reason.says for reason in reasons(*sides))])) from None
    parts = {name: _compared(name, sides, rounding) for name in names}
    time = np.unique(np.concatenate([part.time for part in parts.values()]))
    if time.size == 0:
        raise ParameterError(f"Argument `second` must share times with `first` at which {names[0]} is known in both.")
    coordinates = {"time": ("time", time, sides[0].curves["time"].attrs)}
    z, degrees, difference = (
        xarray.Dataset({name: part.over(time, kind) for name, part in parts.items()}, coordinates) for kind in _SCORES
    )
    left_out = [part.note for part in parts.values() if part.note]
    notes = dict.fromkeys([*pairing, *sides[0].notes, *sides[1].notes, *left_out])
    return Agreement(z, degrees, difference, *sides, significance, tuple(notes))


def common_times(first: np.ndarray, second: np.ndarray, rounding: float = 1e-9) -> np.ndarray:
    """Those times of the coarser grid that lie in the range of both grids, each (T,) increasing.

    Times strictly inside the other grid's first interval are left out: many curves start quadratically from zero,
    where no linear interpolation holds.

    Args:
        first: times.
        second: times.
        rounding: relative to which two times are the same.

    Raises:
        ParameterError: there is none.
    """
    start, end = max(first[0], second[0]), min(first[-1], second[-1])
    early, late = rounding * abs(start), rounding * abs(end)  # two ways to compute a time may differ in the last bit
    inside = [grid[(grid >= start - early) & (grid <= end + late)] for grid in (first, second)]
    place = min((index for index in (0, 1) if inside[index].size), key=lambda index: inside[index].size, default=None)
    if place is None:
        raise ParameterError(
            f"Argument `second` must overlap `first` in time, [{first[0]:g}, {first[-1]:g}], but covers "
            f"[{second[0]:g}, {second[-1]:g}]."
        )
    coarser, finer = inside[place], (second, first)[place]
    after = finer[:2][-1]
    return coarser[(coarser <= finer[0] * (1.0 + rounding)) | (coarser >= after - rounding * abs(after))]


@dataclasses.dataclass(frozen=True, eq=False)
class _Sample:
    """Value, standard error, 1 / its degrees of freedom, and by how much the curve bends in between; each (T, ...)."""

    value: np.ndarray
    error: np.ndarray
    freedom: np.ndarray
    bend: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class _Compared:
    """One observable at the times (T,) at which it is compared: arrays (T, ...), and a note on what was left out."""

    dims: tuple[str, ...]
    time: np.ndarray
    z: np.ndarray
    degrees: np.ndarray
    difference: np.ndarray
    note: str

    def over(self, time: np.ndarray, kind: str) -> tuple[tuple[str, ...], np.ndarray, dict[str, str]]:
        """The array `kind` (of _SCORES) over more times, NaN at those, with its dimensions and meaning."""
        values = getattr(self, kind)
        result = np.full((time.size, *values.shape[1:]), np.nan)
        result[np.searchsorted(time, self.time)] = values
        return self.dims, result, {"long_name": _SCORES[kind], "units": "1"}


#: Arrays of _Compared, and what they are.
_SCORES = {
    "z": "difference over its standard error",
    "degrees": "degrees of freedom of z",
    "difference": "difference as a fraction of the larger value",
}


def _compared(name: str, sides: tuple[Side, Side], time_rounding: float) -> _Compared:
    """Scores, degrees of freedom and relative differences of one observable."""
    dims, other = (side.curves.variables[name].dims for side in sides)
    if set(dims) != set(other):
        raise ParameterError(f"Argument `second` must hold `{name}` over {dims}, but it is over {other}.")
    curves = [[part.transpose(*dims).to_numpy() for part in side.parts(name)] for side in sides]
    shapes = [parts[0].shape[1:] for parts in curves]
    if shapes[0] != shapes[1]:
        raise ParameterError(
            f"Argument `second` must hold `{name}` of as many entries as `first`, {shapes[0]}, but has {shapes[1]}."
        )
    known = [np.isfinite(parts[0]).reshape(len(parts[0]), -1).any(axis=1) for parts in curves]
    grids = [side.time[there] for side, there in zip(sides, known, strict=True)]
    try:
        time = common_times(grids[0], grids[1], time_rounding)
    except ParameterError:  # what is left of it has no time in common
        time = np.empty(0)
    first, second = (
        _at(time, grid, [part[there] for part in parts], time_rounding)
        for grid, there, parts in zip(grids, known, curves, strict=True)
    )
    rounding = _rounding_floor(
        first, second, [parts[0] for parts in curves], max(side.rounding[name] for side in sides)
    )
    z, degrees, bent = _score(first, second, rounding)
    difference = np.where(bent, np.nan, _relative_difference(first.value, second.value))
    note = ""
    if bent.any():
        note = f"{name} is not compared at {bent.sum()} times, between which the interpolated curve bends too much."
    return _Compared(tuple(str(dim) for dim in dims), time, z, degrees, difference, note)


def _at(time: np.ndarray, grid: np.ndarray, parts: list[np.ndarray], rounding: float) -> _Sample:
    """Value, error and freedom (G, ...) on `grid` (G,), interpolated linearly to `time` (T,)."""
    value, error, freedom = (_interpolate(time, grid, part, rounding) for part in parts)
    return _Sample(value, error, freedom, _bend(time, grid, parts[0], rounding))


def _place(time: np.ndarray, grid: np.ndarray, rounding: float, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Index (T,) of the grid's point before each time, and the part of the interval to the next, (T, 1, ...)."""
    left = np.clip(np.searchsorted(grid, time, side="right") - 1, 0, grid.size - 2)
    width = grid[left + 1] - grid[left]
    part = np.clip((time - grid[left]) / width, 0.0, 1.0)
    near = rounding * np.abs(time) / width  # times equal to rounding are the same
    part = np.where(part <= near, 0.0, np.where(1.0 - part <= near, 1.0, part))
    return left, part.reshape(-1, *(1,) * (dimensions - 1))


def _interpolate(time: np.ndarray, grid: np.ndarray, values: np.ndarray, rounding: float) -> np.ndarray:
    """`values` (G, ...) on `grid` (G,), interpolated linearly to `time` (T,); exact at the grid's points."""
    if grid.size == 1 or time.size == 0:
        return values[np.zeros(time.size, dtype=int)]
    left, part = _place(time, grid, rounding, values.ndim)
    lower, upper = values[left], values[left + 1]
    return np.where(part == 1.0, upper, np.where(part == 0.0, lower, (1.0 - part) * lower + part * upper))


def _bend(time: np.ndarray, grid: np.ndarray, values: np.ndarray, rounding: float) -> np.ndarray:
    """How far parabolas through a third neighbour, on either side, are off the line that is interpolated, (T, ...)."""
    if grid.size < 3 or time.size == 0:
        return np.zeros((time.size, *values.shape[1:]))
    left, part = _place(time, grid, rounding, values.ndim)
    steps = np.diff(grid).reshape(-1, *(1,) * (values.ndim - 1))
    slopes = np.diff(values, axis=0) / steps
    curvature = np.abs(np.diff(slopes, axis=0)) / (steps[:-1] + steps[1:])  # at the inner points of the grid
    curvature = np.concatenate([curvature[:1], curvature, curvature[-1:]])
    worst = np.fmax(curvature[left], curvature[left + 1])
    return np.nan_to_num(part * (1.0 - part) * steps[left] ** 2 * worst)


def _rounding_floor(first: _Sample, second: _Sample, curves: list[np.ndarray], rounding: float) -> np.ndarray:
    """Differences and errors up to this size are rounding, (T, ...).

    An entry of an array (an overlap, which has a sign) is a sum known to `rounding` of the array's size. All else is a
    mean of squares: known to `rounding` of itself, and down to the square of what its roots are known to.
    """
    size = max((float(np.nanmax(np.abs(values), initial=0.0)) for values in curves), default=0.0)
    if first.value.ndim > 1:
        return np.full(first.value.shape, rounding * size)
    return rounding * np.fmax(np.abs(first.value), np.abs(second.value)) + rounding**2 * size


def _score(first: _Sample, second: _Sample, rounding: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z and its effective degrees of freedom (module docstring), and where a curve bends too much; each (T, ...)."""
    difference = first.value - second.value
    error = np.hypot(first.error, second.error)
    size = np.fmax(np.abs(first.value), np.abs(second.value))
    bent = np.fmax(first.bend, second.bend) > np.fmax(BENT * size, BENT_IN_ERRORS * np.nan_to_num(error)) + rounding
    exact = error <= rounding
    z = difference / np.where(exact, 1.0, error)
    without_error = np.where(np.abs(difference) <= rounding, 0.0, np.copysign(np.inf, difference))
    z = np.where(exact & ~np.isnan(difference), without_error, z)
    # Shares of the variance, so that small errors do not underflow in the fourth power.
    shares = [(sample.error / np.where(exact, 1.0, error)) ** 2 for sample in (first, second)]
    inverse = shares[0] ** 2 * first.freedom + shares[1] ** 2 * second.freedom
    degrees = np.where(inverse > 0.0, 1.0 / np.where(inverse > 0.0, inverse, 1.0), np.inf)
    return np.where(bent, np.nan, z), np.where(exact, np.inf, degrees), bent


def _relative_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(first - second) / max(|first|, |second|), 0 where both vanish."""
    size = np.maximum(np.abs(first), np.abs(second))
    return (first - second) / np.where(size == 0.0, 1.0, size)
