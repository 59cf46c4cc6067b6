"""One side of a comparison: mean curves with standard errors, whatever they came from.

*Error.* One notion everywhere (z-scores, threshold times, regimes, pictures): the total standard error of a curve.
Of a theory it is `<name>_error`, the root sum square of its sampling error and of its estimates of time step, bias and
iteration; where there is none, `<name>_stderr`. Of runs it is their scatter, standard deviation / sqrt(runs), computed
anew from the runs present. Only the part that comes from few runs or replicas has few degrees of freedom.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

import numpy as np
import xarray

from compare.measured import ACCURACIES, LOSSES, checked_time, gather, missing
from dmft.checks import ParameterError
from dmft.losses.quadratic import OBSERVABLES, is_observable

Kind = Literal["theory", "simulation", "measurement"]

#: Attribute of a theory with a finite D's means (`compare.predicted`): the sizes that were simulated.
CORRECTED = "corrected_at"

#: Relative size of rounding in a value, by its precision: sums over many samples included.
ROUNDING = {"float64": 1e-12, "float32": 1e-6, "float16": 1e-2}

#: K times the relative variance of a mean of K squares of labels u^2 / 2 with normal u; of residuals later it is less.
KURTOSIS = 105.0 / 9.0 - 1.0

#: What a single run is told.
NO_SCATTER = "has no standard error"

#: A value beyond has diverged, and counts as not finite: its square may not be a number.
LARGEST = 1e100


@dataclasses.dataclass(frozen=True, eq=False)
class Side:
    """Mean curves with their standard errors.

    Attributes:
        kind: what the curves are.
        curves: every observable `<name>` and its total standard error `<name>_stderr`, dims ("time", ...). NaN where a
            value is missing, or an error unknown.
        freedom: by observable, 1 / degrees of freedom of the standard error, likewise; 0 where errors are exact.
        each: the curves of every run, dims ("seed", "time", ...); None if only their mean is known.
        runs: independent runs behind the mean (seeds of a simulation, replicas of a theory), or None if unknown.
        attributes: the settings that made the curves, JSON-able.
        rounding: by observable, the relative size of rounding in its values.
        time_rounding: that in the times.
        notes: sentences a reader of the comparison must know.
        spread: of a theory that knows it, by observable, the standard deviation over data sets at its D.
    """

    kind: Kind
    curves: xarray.Dataset
    freedom: xarray.Dataset
    each: xarray.Dataset | None
    runs: int | None
    attributes: dict[str, Any]
    rounding: dict[str, float]
    time_rounding: float
    notes: tuple[str, ...] = ()
    spread: xarray.Dataset | None = None

    @property
    def observables(self) -> list[str]:
        """Names of the observables, in the order of the dataset."""
        return [str(name) for name in self.freedom.data_vars]

    @functools.cached_property
    def time(self) -> np.ndarray:
        """The times, (T,), strictly increasing."""
        return self.curves["time"].to_numpy()

    def parts(self, name: str) -> tuple[xarray.Variable, ...]:
        """Value, standard error and freedom of an observable, each over ("time", ...)."""
        return self.curves.variables[name], self.curves.variables[f"{name}_stderr"], self.freedom.variables[name]


def read_side(argument: str, source: object, *, runs: int | None = None) -> Side:
    """The side that `source` holds: theory, simulation or measurement, by the attribute `kind` of a dataset.

    Args:
        argument: name of the argument, for messages.
        source: what to read, see `compare.overlay`.
        runs: how many runs measured means with errors are of, if they do not say.

    Raises:
        ParameterError: it is none of these, or its arrays are not as they must be.
    """
    dataset, notes = gather(argument, source)
    time, time_rounding = checked_time(argument, dataset)
    dataset = dataset.assign_coords(time=("time", time, dataset["time"].attrs))
    kind = cast(Kind, dataset.attrs["kind"] if dataset.attrs.get("kind") in get_args(Kind) else "measurement")
    names = _observables(dataset)
    for name in LOSSES if kind == "measurement" else ():
        if name not in names:
            raise missing(argument, name, dataset.variables)
    _check_dimensions(argument, dataset, names, kind)
    attributes = _plain(dataset.attrs)
    if kind == "theory":
        notes += _theory_notes(attributes)
    if "seed" in dataset.dims:
        found = _read_runs(dataset, names, kind)
    else:
        count = dataset.attrs.get({"theory": "replicas", "simulation": "seeds", "measurement": ""}[kind])
        selected = kind == "simulation" and "seed" in dataset.coords
        told = None if kind == "theory" else runs
        known = 1 if selected else told if count is None else int(count)
        found = _read_means(argument, dataset, names, kind, known)
    notes += [*found.notes, *_gap_notes(found, time, kind)]
    if kind == "measurement":
        notes += _sign_notes(found, time)
    if found.runs == 1:
        what = {"theory": "replica", "simulation": "seed", "measurement": "run"}[kind]
        notes.append(f"One {what} {NO_SCATTER}: nothing can be said about agreement.")
    rounding = {name: _rounding(dataset.variables[name].to_numpy(), attributes) for name in found.freedom}
    lacking = [name for name in LOSSES if kind == "measurement" and name not in rounding]
    if lacking or not rounding:
        raise ParameterError(
            f"Argument `{argument}` must hold finite values in `{(lacking or names)[0]}`, but holds none."
        )
    coordinates = {"time": dataset["time"]}
    return Side(
        kind,
        xarray.Dataset(found.curves, coordinates),
        xarray.Dataset(found.freedom, coordinates),
        found.each,
        found.runs,
        attributes,
        rounding,
        time_rounding,
        tuple(dict.fromkeys(notes)),
        _spread(dataset, names) if kind == "theory" else None,
    )


def _spread(dataset: xarray.Dataset, names: list[str]) -> xarray.Dataset | None:
    """The variables `<name>_spread` by observable; None if there is none."""
    found = {name: dataset[f"{name}_spread"].rename(name) for name in names if f"{name}_spread" in dataset}
    return xarray.Dataset(found) if found else None


def with_spread(run: Side, theory: Side) -> Side:
    """One run without errors, with the spread over data sets that the theory predicts as its own; else as it is.

    A measured test loss is a mean over K fresh inputs, and scatters by a share of (KURTOSIS / K)^1/2 more. Where K is
    not known (attribute `test_samples`) it gets no error: early on, when the spread is small, it would be too far.
    """
    alone = run.kind != "theory" and (run.runs == 1 or (run.runs is None and run.each is None))
    if theory.spread is None or not alone:
        return run
    curves, tested = run.curves.copy(), run.attributes.get("test_samples")
    untold = ["test_loss"] if run.kind == "measurement" and tested is None else []
    for name in (name for name in run.observables if name in theory.spread and name not in untold):
        if curves[name].dims == ("time",) and curves[f"{name}_stderr"].isnull().all():
            at = np.interp(run.time, theory.time, theory.spread[name].to_numpy(), left=np.nan, right=np.nan)
            if name == "test_loss" and tested is not None:
                at = np.hypot(at, np.abs(curves[name].to_numpy()) * math.sqrt(KURTOSIS / float(tested)))
            curves[f"{name}_stderr"] = ("time", np.where(np.isnan(curves[name]), np.nan, at))
    if curves.identical(run.curves):
        return run
    notes = [note for note in run.notes if NO_SCATTER not in note and "no verdict" not in note]
    notes.append("The error of the one run is the spread over data sets that the theory predicts at its D.")
    if untold:
        notes.append("Its test loss gets no verdict: of how many inputs is it the mean? (`read_run(test_samples=)`)")
    return dataclasses.replace(run, curves=curves, notes=tuple(notes))


@dataclasses.dataclass
class _Read:
    """What `Side` holds of the same names, as it is collected: arrays with their dimensions."""

    runs: int | None
    each: xarray.Dataset | None = None
    curves: dict[str, Any] = dataclasses.field(default_factory=dict)
    freedom: dict[str, Any] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)

    def add(self, name: str, dims: tuple[str, ...], about: Any, value: Any, error: Any, freedom: Any) -> None:
        self.curves |= {name: (dims, value, about), f"{name}_stderr": (dims, error)}
        self.freedom[name] = (dims, freedom)


def _gap_notes(found: _Read, time: np.ndarray, kind: Kind) -> list[str]:
    """Notes on the times at which an observable has no (finite) value, in some entry or run."""
    notes = []
    for name in found.freedom:
        gap = ~np.isfinite(found.curves[name][1].reshape(time.size, -1)).all(axis=1)
        if gap.any():
            first = f"first t = {time[int(np.argmax(gap))]:g}"
            notes.append(f"The {kind}'s {name} is not finite at {gap.sum()} of {gap.size} times ({first}): left out.")
    return notes


def _sign_notes(found: _Read, time: np.ndarray) -> list[str]:
    """Notes on losses below 0, which no mean square is."""
    notes = []
    for name in LOSSES:
        below = np.asarray(found.curves[name][1]) < 0.0 if name in found.freedom else np.zeros(1, bool)
        if below.any():
            first = f"first t = {time[int(np.argmax(below))]:g}"
            notes.append(
                f"The measurement's {name} is negative at {below.sum()} of {below.size} times ({first}), as no mean "
                'square is: is it a logarithm (`loss="log"`)?'
            )
    return notes


def total_error(dataset: xarray.Dataset, name: str) -> xarray.DataArray | None:
    """The total standard error of observable `name`: the total of a theory, else the scatter; None if unknown."""
    total, scatter = (dataset.get(f"{name}{ending}") for ending in ("_error", "_stderr"))
    return scatter if total is None else total


def _observables(dataset: xarray.Dataset) -> list[str]:
    """Names of what is a curve over time: known, or with a standard error, and no part of another one's error."""
    parts = tuple(f"{name}_" for name in OBSERVABLES)
    return [
        str(name)
        for name, variable in dataset.data_vars.items()
        if "time" in variable.dims
        and "time2" not in variable.dims
        and variable.dtype.kind in "fiub"
        and (
            is_observable(str(name))
            or name in ACCURACIES
            or (f"{name}_stderr" in dataset and not str(name).startswith(parts))
        )
    ]


def _check_dimensions(argument: str, dataset: xarray.Dataset, names: list[str], kind: Kind) -> None:
    """ParameterError unless there are observables, losses of numbers over time (and seed), and one theory."""
    if not names:
        raise missing(argument, "train_loss", dataset.variables)
    for name in LOSSES:
        if name in dataset.variables and name not in names:
            raise ParameterError(f"Argument `{argument}` must hold `{name}` as numbers over `time`.")
        more = [str(dim) for dim in dataset[name].dims if dim not in ("seed", "time")] if name in names else []
        if more:
            raise ParameterError(
                f"Argument `{argument}` must hold `{name}` over time, or seed and time, but it is over `{more[0]}` "
                f"too: select one of the {dataset.sizes[more[0]]}."
            )
    if kind == "theory" and "seed" in dataset.dims:
        raise ParameterError(
            f"Argument `{argument}` must be one theory, but holds {dataset.sizes['seed']} over `seed`."
        )


def _transposed(variable: xarray.Variable, first: tuple[str, ...]) -> tuple[tuple[str, ...], np.ndarray]:
    """Dimensions, beginning with `first`, and values as float64, NaN where they are not finite."""
    dims = (*first, *(str(dim) for dim in variable.dims if dim not in first))
    with np.errstate(over="ignore"):
        values = variable.transpose(*dims).to_numpy().astype(np.float64)
    return dims, np.where(np.abs(values) < LARGEST, values, np.nan)


def _read_runs(dataset: xarray.Dataset, names: list[str], kind: Kind) -> _Read:
    """The curves of every run and their means; a run that is there twice counts once."""
    runs = {
        name: _transposed(dataset.variables[name], ("seed", "time")) for name in names if "seed" in dataset[name].dims
    }
    count, notes = dataset.sizes["seed"], []
    kept = _different_runs(dataset, [values for _, values in runs.values()])
    if len(kept) < count:
        notes.append(f"{count - len(kept)} runs that are there twice count once.")
    there = np.all([_present(values) for name, (_, values) in runs.items() if name in LOSSES], axis=0)[kept]
    if not np.all(there) and np.any(there):
        notes.append(f"{np.sum(~there)} of {there.size} runs have a loss without any finite value: left out.")
        kept = kept[there]
    each = {name: (dims, values[kept]) for name, (dims, values) in runs.items()}
    found = _Read(runs=len(kept), each=xarray.Dataset(each, {"time": dataset["time"]}), notes=notes)
    for name, (dims, values) in each.items():
        values = values[_present(values)]
        size = len(values)
        if size == 0:
            notes.append(f"The {kind}'s {name} has no finite value: left out.")
            continue
        spread = np.std(values, axis=0, ddof=1) if size > 1 else np.full(values.shape[1:], np.nan)
        freedom = np.full(values.shape[1:], 1.0 / (size - 1) if size > 1 else 0.0)
        found.add(
            name, dims[1:], dataset.variables[name].attrs, np.mean(values, axis=0), spread / math.sqrt(size), freedom
        )
    return found


def _present(values: np.ndarray) -> np.ndarray:
    """Which runs of (S, T, ...) have any value, (S,)."""
    return np.any(np.isfinite(values).reshape(len(values), -1) if values.size else np.zeros((len(values), 1)), axis=1)


def _different_runs(dataset: xarray.Dataset, curves: list[np.ndarray]) -> np.ndarray:
    """Indices of the runs that are not another one, by label and all values, again."""
    if "seed" not in dataset.coords:
        return np.arange(dataset.sizes["seed"])
    seen: dict[bytes, int] = {}
    for index, label in enumerate(dataset["seed"].to_numpy()):
        key = str(label).encode() + b"".join(values[index].tobytes() for values in curves)
        seen.setdefault(key, index)
    return np.array(list(seen.values()))


def _read_means(argument: str, dataset: xarray.Dataset, names: list[str], kind: Kind, runs: int | None) -> _Read:
    """Mean curves as they are, with their total errors."""
    found, without, unknown = _Read(runs=runs), [], []
    inverse = 1.0 / (runs - 1) if runs is not None and runs > 1 else 0.0
    for name in names:
        dims, value = _transposed(dataset.variables[name], ("time",))
        finite = np.isfinite(value)
        if not finite.any():
            found.notes.append(f"The {kind}'s {name} has no finite value: left out.")
            continue
        error = _error(argument, total_error(dataset, name), dims)
        sampling = _error(argument, dataset.get(f"{name}_stderr"), dims)
        if error is None or (runs == 1 and kind != "theory"):
            without.append(name)
            error = sampling = np.full(value.shape, np.nan)
        sampling = error if sampling is None else sampling
        error = np.fmax(error, sampling) if kind == "theory" else error
        if np.isnan(error[finite]).any() and not np.isnan(error).all():
            unknown.append(name)
        share = np.where(error > 0.0, sampling / np.where(error > 0.0, error, 1.0), 0.0)
        freedom = inverse * np.minimum(np.nan_to_num(share, nan=1.0), 1.0) ** 4
        found.add(name, dims, dataset.variables[name].attrs, value, np.where(finite, error, np.nan), freedom)
    if without and runs != 1:
        found.notes.append(f"The {kind} comes without errors, so there is no verdict: {', '.join(without)}.")
    if unknown:
        found.notes.append(f"Errors that are not known at some times, which are left out: {', '.join(unknown)}.")
    if kind == "simulation" and runs is not None and runs > 1:
        found.notes.append(f"A mean over seeds: its errors are those stored with it, of {runs} seeds.")
    elif kind != "theory" and runs is None and len(without) < len(found.freedom):
        found.notes.append("Errors are taken as exact, for it is not known of how many runs they are: give `runs`.")
    return found


def _error(argument: str, error: xarray.DataArray | None, dims: tuple[str, ...]) -> np.ndarray | None:
    """A standard error over `dims`, NaN where it is not finite; ParameterError if it is negative, or over others."""
    if error is None:
        return None
    if set(error.dims) != set(dims) or error.dtype.kind not in "fiub":
        raise ParameterError(
            f"Argument `{argument}` must hold `{error.name}` as numbers over {dims}, but it is over {error.dims}."
        )
    values = _transposed(error.variable, dims)[1]
    if np.any(values < 0.0):
        raise ParameterError(f"Argument `{argument}` must hold `{error.name}` >= 0, but it is {np.nanmin(values):g}.")
    return values


def _rounding(values: np.ndarray, attributes: Mapping[str, Any]) -> float:
    """Relative size of rounding: of the precision that the run had, or of the one that the numbers were stored in."""
    stored = str(values.dtype)
    if stored == "float64":
        with np.errstate(over="ignore"):
            stored = "float32" if np.array_equal(values, values.astype(np.float32), equal_nan=True) else stored
    return max(ROUNDING.get(name, ROUNDING["float64"]) for name in (stored, str(attributes.get("precision"))))


def _theory_notes(attributes: Mapping[str, Any]) -> list[str]:
    notes = []
    if attributes.get("width", "infinite") != "infinite" and attributes.get("model") != "committee":
        notes.append(f"The theory takes the width {attributes['width']} as infinite.")
    if CORRECTED in attributes:
        sizes = ", ".join(map(str, attributes[CORRECTED]))
        notes.append(f"The theory's means have what simulations at D = {sizes} say of its finite D.")
    if not attributes.get("tolerance_met", True):
        notes.append(f"The theory's tolerance was not reached: {attributes.get('tolerance_message')}.")
    return notes


def _plain(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """`attributes` with arrays and numpy scalars as plain Python, and what is no finite number in words."""
    plain = {}
    for name, value in attributes.items():
        value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
        is_plain = isinstance(value, (str, bool, int, list)) or (isinstance(value, float) and math.isfinite(value))
        plain[str(name)] = value if is_plain else str(value)
    return plain
