"""One side of a comparison: mean curves with standard errors, whatever they came from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import xarray

from dmft.checks import ParameterError
from dmft.losses.quadratic import OBSERVABLES

Kind = Literal["theory", "simulation", "measurement"]


@dataclasses.dataclass(frozen=True, eq=False)
class Side:
    """Mean curves with their standard errors.

    Attributes:
        kind: what the curves are.
        curves: every observable `<name>` and `<name>_stderr`, dims ("time", ...).
        degrees: degrees of freedom of the standard errors: runs - 1, infinity if they are taken as exact.
        runs: independent runs behind the mean (seeds of a simulation, replicas of a theory), or None if unknown.
        attributes: the settings that made the curves, JSON-able.
        notes: sentences a reader of the comparison must know.
    """

    kind: Kind
    curves: xarray.Dataset
    degrees: float
    runs: int | None
    attributes: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def observables(self) -> list[str]:
        """Names of the observables, in the order of the dataset."""
        return [str(name) for name in self.curves.data_vars if f"{name}_stderr" in self.curves]


def read_side(argument: str, source: object) -> Side:
    """The side that `source` holds: a dataset of theory or simulation, or measured curves.

    Measured curves are a mapping, a dataset without standard errors for everything, or any object with attributes:
    `time` (T,) strictly increasing, `train_loss` and `test_loss` (T,), optionally other observables by name and
    `<name>_stderr`. Curves measured without errors are taken as exact, and the side's notes say so.

    Args:
        argument: name of the argument, for messages.
        source: what to read.

    Raises:
        ParameterError: it is none of these, or its arrays are not as they must be.
    """
    if isinstance(source, xarray.Dataset) and "seed" in source.dims:
        return _simulation(source)
    if isinstance(source, xarray.Dataset) and _is_theory(source):
        return _theory(source)
    return _measurement(argument, source)


def _is_theory(dataset: xarray.Dataset) -> bool:
    """Whether this is what a solver returns: it knows its model, and every loss has an error."""
    return "alpha" in dataset.attrs and {"train_loss_stderr", "test_loss_stderr"} <= set(dataset.data_vars)


def _simulation(dataset: xarray.Dataset) -> Side:
    seeds = dataset.sizes["seed"]
    names = [name for name in dataset.data_vars if "seed" in dataset[name].dims and f"{name}_stderr" in dataset]
    curves = dataset[names].mean("seed")
    for name in names:
        curves[f"{name}_stderr"] = dataset[f"{name}_stderr"]
    notes = ("One seed has no standard error: nothing can be said about agreement.",) if seeds == 1 else ()
    return Side("simulation", curves, float(seeds - 1), seeds, _plain(dataset.attrs), notes)


def _theory(dataset: xarray.Dataset) -> Side:
    names = [name for name in dataset.data_vars if f"{name}_stderr" in dataset and "time2" not in dataset[name].dims]
    replicas = dataset.attrs.get("replicas")
    runs = None if replicas is None else int(replicas)
    degrees = math.inf if runs is None else float(runs - 1)
    curves = dataset[[*names, *(f"{name}_stderr" for name in names)]]
    notes = []
    if runs == 1:
        notes.append("One replica has no standard error: nothing can be said about agreement.")
    if dataset.attrs.get("width", "infinite") != "infinite" and dataset.attrs.get("model") != "committee":
        notes.append(f"The theory takes the width {dataset.attrs['width']} as infinite.")
    if not dataset.attrs.get("tolerance_met", True):
        notes.append(f"The theory's tolerance was not reached: {dataset.attrs.get('tolerance_message')}.")
    return Side("theory", curves, degrees, runs, _plain(dataset.attrs), tuple(notes))


def _measurement(argument: str, source: object) -> Side:
    time = None if isinstance(source, (str, list, tuple, np.ndarray)) else _read(argument, source, "time")
    if time is None:
        raise ParameterError(
            f"Argument `{argument}` must be a dataset of solve or simulate, or hold `time`, `train_loss` and "
            f"`test_loss`, but is {source!r}."
        )
    if time.size == 0 or not np.all(np.isfinite(time)) or not np.all(np.diff(time) > 0.0):
        raise ParameterError(f"Argument `{argument}` must hold `time`, (T,) strictly increasing, but it is {time!r}.")
    variables: dict[str, tuple[str, np.ndarray]] = {}
    exact = []
    for name in OBSERVABLES:
        value, error = _read(argument, source, name), _read(argument, source, f"{name}_stderr")
        if value is None:
            continue
        if error is None:
            exact.append(name)
            error = np.zeros_like(value)
        for label, array in ((name, value), (f"{name}_stderr", error)):
            if array.shape != time.shape:
                raise ParameterError(
                    f"Argument `{argument}` must hold `{label}` of shape {time.shape}, as `time`, but of {array.shape}."
                )
            variables[label] = ("time", array)
        if np.any(error < 0.0):
            raise ParameterError(f"Argument `{argument}` must hold `{name}_stderr` >= 0, but it is {error.min():g}.")
    missing = [name for name in ("train_loss", "test_loss") if name not in variables]
    if missing:
        raise ParameterError(f"Argument `{argument}` must hold `{missing[0]}`, (T,), but does not.")
    notes = (f"Measured without errors, so taken as exact: {', '.join(exact)}.",) if exact else ()
    attributes = _plain(source.attrs) if isinstance(source, xarray.Dataset) else {}
    return Side("measurement", xarray.Dataset(variables, {"time": time}), math.inf, None, attributes, notes)


def _read(argument: str, source: Any, name: str) -> np.ndarray | None:
    """Array (T,) under `name`, an entry or an attribute of `source`; None if there is none."""
    by_name = isinstance(source, Mapping) or hasattr(source, "__getitem__")
    value = (source[name] if name in source else None) if by_name else getattr(source, name, None)  # noqa: SIM401
    if value is None:
        return None
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ParameterError(f"Argument `{argument}` must hold numbers in `{name}`, but holds {value!r}.") from None
    if array.ndim != 1:
        raise ParameterError(f"Argument `{argument}` must hold `{name}` of shape (T,), but of {array.shape}.")
    return array


def _plain(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """`attributes` with arrays and numpy scalars as plain Python, and what is no finite number in words."""
    plain = {}
    for name, value in attributes.items():
        value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
        is_plain = isinstance(value, (str, bool, int, list)) or (isinstance(value, float) and math.isfinite(value))
        plain[str(name)] = value if is_plain else str(value)
    return plain
