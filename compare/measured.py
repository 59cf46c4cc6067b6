"""Curves in whatever form they come (files, tables, dictionaries, datasets, several runs), as one dataset over time."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray

from dmft.checks import ParameterError, neighbour
from dmft.losses.quadratic import OBSERVABLES, is_observable

if TYPE_CHECKING:
    import pandas

#: Endings of the files that can be read.
ENDINGS = (".csv", ".tsv", ".nc", ".npz", ".jsonl", ".ndjson")

#: Columns of a table that tell one run from another.
RUN_COLUMNS = ("seed", "run")

#: Names that are listed in a message, at most.
LISTED = 10

#: Relative size of rounding in a time.
TIME_ROUNDING = {"float64": 1e-9, "float32": 1e-6, "float16": 1e-2}

LOSSES = ("train_loss", "test_loss")
#: Those of a classification, in the same order.
ACCURACIES = ("train_accuracy", "test_accuracy")


def gather(
    argument: str,
    source: Any,
    names: Mapping[str, str] = MappingProxyType({}),
    needed: Sequence[str] = ("time", *LOSSES),
) -> tuple[xarray.Dataset, list[str]]:
    """The curves that `source` holds, over ("time", ...) or ("seed", "time", ...), and notes on what was not used.

    Args:
        argument: name of the argument, for messages.
        source: a dataset; a mapping, a pandas.DataFrame or any object with attributes; a path to a file of ENDINGS; or
            a list of these, one for each run. See `compare.overlay`.
        names: what `time`, `train_loss` and `test_loss` are called there, where they have other names.
        needed: those of them that must be there.

    Raises:
        ParameterError: it is none of these; a file cannot be read; a column is missing, or holds no numbers.
    """
    if isinstance(source, (str, os.PathLike)):
        return gather(argument, read_file(argument, source), names, needed)
    if isinstance(source, (list, tuple)) and source and all(_may_hold_curves(run, names) for run in source):
        return _several(argument, source, names, needed)
    source = _renamed(argument, source, names) if names else source
    if isinstance(source, xarray.Dataset):
        return _over_time(source), [*_kept_notes(source), *_unused_variables(source)]
    if _is_frame(source):
        source = _columns_of(argument, source, needed)
    if isinstance(source, Mapping) or (_may_hold_curves(source) and not isinstance(source, xarray.DataArray)):
        return _of_columns(argument, source, needed)
    raise ParameterError(
        f"Argument `{argument}` must be a dataset, or hold `time`, `train_loss` and `test_loss` (a mapping, a table, "
        f"a path to a file, a list of runs), but is {_shortened(source)}."
    )


def _renamed(argument: str, source: Any, names: Mapping[str, str]) -> Any:
    """The source with its columns `names[...]` under the names that are known; those of these names are left out."""
    if _is_frame(source):
        source = _flat(source)
        held = list(source.columns)
    elif isinstance(source, (xarray.Dataset, Mapping)):
        held = list(source.variables if isinstance(source, xarray.Dataset) else source)
    else:
        return source
    for given in names.values():
        if given not in held:
            raise missing(argument, given, held)
    to = {given: name for name, given in names.items() if given != name}
    dropped = [name for name in held if name in names and name not in names.values()]
    if isinstance(source, Mapping) and not isinstance(source, xarray.Dataset):
        return {to.get(name, name): value for name, value in source.items() if name not in dropped}
    if isinstance(source, xarray.Dataset):
        return source.drop_vars(dropped).rename(to)
    return source.drop(columns=dropped).rename(columns=to)


def _kept_notes(dataset: xarray.Dataset) -> list[str]:
    """The notes that `compare.read_run` has left in a dataset."""
    return [str(note) for note in np.atleast_1d(dataset.attrs.get("notes", []))]


def _unused_variables(dataset: xarray.Dataset) -> list[str]:
    """A note on the curves of a measured dataset that are no observables."""
    if "kind" in dataset.attrs:
        return []
    names = [str(name) for name, variable in dataset.data_vars.items() if "time" in variable.dims]
    unused = [name for name in names if not _is_known(name) and f"{name}_stderr" not in dataset]
    return _unused(unused, [name for name in OBSERVABLES if name not in names])


def _is_known(name: str) -> bool:
    """Whether this is an observable, or a part of the error of anything."""
    return is_observable(name) or name.endswith(("_stderr", "_error", "_bias", "_spread", "_consistency"))


def missing(argument: str, name: str, held: Iterable[Any]) -> ParameterError:
    """The error for a column that is not there: what is there, and which of these may have been meant."""
    names = [str(one) for one in held]
    listed = ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
    near = neighbour(name, names)
    return ParameterError(
        f"Argument `{argument}` must hold `{name}`, but holds {listed or 'nothing'}"
        + (f"; is `{near}` meant? It must be named `{name}`." if near else ".")
    )


def _may_hold_curves(source: Any, names: Mapping[str, str] = MappingProxyType({})) -> bool:
    """Whether this is a path, a mapping, a table, a dataset, or an object with curves for attributes."""
    by_kind = isinstance(source, (str, os.PathLike, Mapping)) or _is_frame(source)
    return by_kind or any(hasattr(source, names.get(name, name)) for name in ("time", *LOSSES))


def _is_frame(source: Any) -> bool:
    """Whether this is a pandas.DataFrame (without importing pandas for it)."""
    return type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "columns")


def _shortened(source: Any) -> str:
    text = " ".join(repr(source).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _over_time(dataset: xarray.Dataset) -> xarray.Dataset:
    """The dataset with `time` as a dimension, where it is a variable over another one, or where it counts steps."""
    if "step" in dataset.dims and "time" not in dataset.variables:
        return dataset.rename(step="time")
    if "time" in dataset.dims or "time" not in dataset.variables or dataset["time"].ndim != 1:
        return dataset
    return dataset.set_coords("time").swap_dims({dataset["time"].dims[0]: "time"})


def checked_time(argument: str, dataset: xarray.Dataset) -> tuple[np.ndarray, float]:
    """The times as float64, and the relative size of rounding in them."""
    if "time" not in dataset.variables:
        raise missing(argument, "time", dataset.variables)
    if dataset["time"].dims != ("time",) or dataset.sizes["time"] == 0:
        raise ParameterError(f"Argument `{argument}` must hold curves over `time`, but holds one time or none.")
    given = dataset["time"].to_numpy()
    required = f"Argument `{argument}` must hold `time`, (T,) finite and strictly increasing, but"
    if given.dtype.kind not in "fiu":
        raise ParameterError(f"{required} it is of type {given.dtype}.")
    time = given.astype(np.float64)
    if not np.all(np.isfinite(time)):
        raise ParameterError(f"{required} it contains {time[~np.isfinite(time)][0]}.")
    if not np.all(np.diff(time) > 0.0):
        first = int(np.argmin(np.diff(time) > 0.0))
        raise ParameterError(f"{required} {time[first]:g} is followed by {time[first + 1]:g}.")
    return time, TIME_ROUNDING.get(str(given.dtype), TIME_ROUNDING["float64"])


def read_file(argument: str, path: str | os.PathLike[str]) -> Any:
    """What the file holds: a dataset, a table or a mapping."""
    import pandas

    place, shown = Path(path).expanduser(), str(path)
    ending = place.suffix.lower()
    expected = f"Argument `{argument}` must be a dataset, curves or a path to a file of {', '.join(ENDINGS)}, but"
    if not place.is_file():
        raise ParameterError(f"{expected} {'a folder' if place.is_dir() else 'no file'} is at {shown!r}.")
    if ending not in ENDINGS:
        raise ParameterError(f"{expected} is {shown!r}.")
    try:
        if ending == ".nc":
            return xarray.load_dataset(place)
        if ending == ".npz":
            with np.load(place, allow_pickle=False) as arrays:
                return dict(arrays)
        if ending in (".csv", ".tsv"):
            separator = "," if ending == ".csv" else "\t"
            with warnings.catch_warnings():
                warnings.simplefilter("error", pandas.errors.ParserWarning)  # rows longer than the header
                return pandas.read_csv(place, sep=separator, skipinitialspace=True, comment="#", index_col=False)
        lines = place.read_text(encoding="utf-8").splitlines()
        return pandas.DataFrame([json.loads(line) for line in lines if line.strip()])
    except Exception as error:  # damaged files fail in many ways
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ParameterError(f"{expected} {shown!r} cannot be read ({reason})") from None


def _columns_of(argument: str, frame: pandas.DataFrame, needed: Sequence[str]) -> dict[str, np.ndarray]:
    """The columns of a table: (T,), or (S, T) where a column of RUN_COLUMNS tells the runs apart.

    Rows of one time that fill each other's gaps are one row: loggers write train and test loss on separate lines.
    """
    frame = _flat(frame)
    for name in needed:
        if name not in frame.columns:
            raise missing(argument, name, frame.columns)
    runs = [name for name in RUN_COLUMNS if name in frame.columns][:1]
    for name in runs:
        unknown = np.asarray(frame[name].isna(), bool)
        if unknown.any():
            row = int(np.argmax(unknown)) + 1
            raise ParameterError(f"Argument `{argument}` must hold `{name}` in every row, but holds none in row {row}.")
    keys = [*runs, "time"]
    if frame.duplicated(keys).any():
        groups = frame.groupby(keys, sort=False, dropna=False)
        if int(groups.count().to_numpy().max(initial=0)) <= 1:
            frame = groups.first().reset_index()
    if not runs:
        return {str(name): frame[name].to_numpy() for name in frame.columns}
    if frame.duplicated(keys).any():
        raise ParameterError(f"Argument `{argument}` must hold each time once in every {runs[0]}, but holds one twice.")
    curves = frame.set_index(keys).to_xarray().transpose(runs[0], "time")
    return {str(name): curves[name].to_numpy() for name in ("time", *curves.data_vars)}


def _flat(frame: pandas.DataFrame) -> pandas.DataFrame:
    """The table with its index, if it means anything, as a column; one without a name is the time."""
    from pandas import RangeIndex

    frame = frame.rename(columns=str)
    if "time" in frame.columns or isinstance(frame.index, RangeIndex):
        return frame
    return frame.reset_index(names=["time"] if frame.index.names == [None] else list(frame.index.names))


def _several(
    argument: str, runs: Sequence[Any], names: Mapping[str, str], needed: Sequence[str]
) -> tuple[xarray.Dataset, list[str]]:
    """Runs given one by one, over ("seed", "time"); a time that some of them lack is a gap in these."""
    parts, notes = [], []
    for place, run in enumerate(runs):
        name = f"{argument}[{place}]"
        part, own = gather(name, run, names, needed)
        if part.attrs.get("kind") == "theory":
            raise ParameterError(f"Argument `{name}` must be a run among several, but is a theory.")
        for loss in needed:
            if loss not in part.variables:
                raise missing(name, loss, part.variables)
        if part["time"].dims != ("time",) or part.indexes["time"].has_duplicates:
            raise ParameterError(f"Argument `{name}` must hold `time` strictly increasing, but holds a time twice.")
        part = part.drop_vars("seed", errors="ignore")
        kept = [label for label in part.data_vars if not _is_error(str(label)) and "time" in part[label].dims]
        parts.append(part[kept] if "seed" in part.dims else part[kept].expand_dims("seed"))
        notes += own
    joined: Any = xarray.concat(
        parts, "seed", join="outer", data_vars="minimal", coords="minimal", compat="override", combine_attrs="override"
    )
    return joined, list(dict.fromkeys(notes))


def _is_error(name: str) -> bool:
    return name.endswith(("_stderr", "_error")) and name not in OBSERVABLES


def _of_columns(argument: str, source: Any, needed: Sequence[str]) -> tuple[xarray.Dataset, list[str]]:
    """The known observables of a mapping, or of the attributes of an object, with their errors."""
    from dmft.losses.committee import CLASSIFICATION, DIMENSIONS

    by_name = isinstance(source, Mapping)
    if by_name and "time" not in source:  # the variables of a dataset have it with them
        arrays = [value for value in source.values() if isinstance(value, xarray.DataArray) and "time" in value.coords]
        source = {**source, "time": arrays[0]["time"]} if arrays else source
    known = (*OBSERVABLES, *DIMENSIONS, *CLASSIFICATION)
    wanted = ("time", *(f"{name}{ending}" for name in known for ending in ("", "_stderr", "_error", "_spread")))
    held = list(source) if by_name else [name for name in wanted if hasattr(source, name)]
    for name in needed:
        if name not in held:
            raise missing(argument, name, held)
    columns = {name: _numbers(argument, name, source[name] if by_name else getattr(source, name)) for name in wanted
               if name in held}  # fmt: skip
    time = columns.pop("time")
    if time.ndim != 1:
        raise ParameterError(f"Argument `{argument}` must hold `time` of shape (T,), but of {time.shape}.")
    variables = {}
    for name, values in columns.items():
        inner = DIMENSIONS.get(next(one for one in known if name.startswith(one)), ())
        runs = values.ndim - 1 - len(inner)
        if runs not in (0, 1) or values.shape[runs : runs + 1] != time.shape:
            entries = "".join(f", {dim}" for dim in inner)
            raise ParameterError(
                f"Argument `{argument}` must hold `{name}` of shape {time.shape} as `time`, (T{entries}) or (runs, "
                f"T{entries}), but of {values.shape}."
            )
        variables[name] = ((("seed",) if runs else ()) + ("time", *inner), values)
    unused = [str(name) for name in held if name not in wanted and not _is_known(str(name))]
    try:
        dataset = xarray.Dataset(variables, {"time": time})
    except ValueError as error:
        raise ParameterError(f"Argument `{argument}` must hold as many runs in every column: {error}.") from None
    return dataset, _unused(unused, [name for name in wanted if name not in held])


def _unused(names: Sequence[str], free: Sequence[str]) -> list[str]:
    """A note on the columns that were not used, each with the observable that it may stand for."""
    words = []
    for name in names:
        near = None if name in RUN_COLUMNS else neighbour(name, free)
        words.append(f"{name} (is {near} meant?)" if near else name)
    more = f" and {len(words) - LISTED} more" if len(words) > LISTED else ""
    words = [word for word in words if word not in RUN_COLUMNS]
    return [f"Not used: {', '.join(words[:LISTED])}{more}."] if words else []


def _numbers(argument: str, name: str, value: Any) -> np.ndarray:
    """`value` as an array of floating-point numbers, of the precision that it has."""
    try:
        if isinstance(value, np.ma.MaskedArray):
            value = np.ma.filled(value.astype(np.float64), np.nan)
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            if array.dtype.kind in "mMc":
                raise TypeError
            array = np.asarray(value, dtype=np.float64)
        return array if array.dtype in (np.float16, np.float32) else array.astype(np.float64)
    except (TypeError, ValueError):
        raise ParameterError(
            f"Argument `{argument}` must hold numbers in `{name}`, but holds {_shortened(value)}."
        ) from None
