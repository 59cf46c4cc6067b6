"""What the report shows, as plain JSON-able values: axes, and for every cell its numbers, curves and agreement.

Numbers are rounded to what a screen can show, curves thinned evenly over log time; what does not exist is None.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from compare.agreement import overlay
from compare.curves import Side, read_side
from compare.figures.overlay import time_range
from compare.figures.phase.axes import CellAxis
from compare.figures.style import thin
from compare.files import load_dataset, number
from compare.report.repeat import command, sayable, settings_of
from compare.sweep.measures import PREFIXES, REGIMES, State, grok_probability, measure
from compare.sweep.phase import UNFINISHED
from compare.sweep.point_file import Damaged, decode
from compare.sweep.request import Sweep
from compare.verdicts import AGREES, DIFFERS, NO_ERROR
from dmft import ParameterError
from dmft.losses.quadratic import is_observable
from dmft.models.model import field_names

#: Numbers of a cell that the diagram can show.
NUMBERS = ("delay", "t_train", "t_test", "final_test_loss", "peak_test_loss", "final_train_loss")

#: Points kept of a curve of theory, of a simulation, and of z-scores.
POINTS = {"theory": 120, "simulation": 40}
SCORES = 60
#: Digits of the numbers shown.
DIGITS = 5

#: Settings of a sweep beside the model that a reader should know.
SHOWN = (
    *("t_max", "threshold", "ratio", "step", "rtol", "seeds", "seed", "precision"),
    *("simulate_every", "version", "numerics"),
)


def report_data(folder: Path) -> dict[str, Any]:
    """Everything that the page shows of `folder`, written by `dmft phase` or `dmft compare`.

    Raises:
        ParameterError: no such folder, nothing in it to show, or its file of results is damaged.
    """
    sweep = load_sweep(folder)
    if sweep is not None:
        with _lacking_nothing(folder):
            return _of_phase(folder, *sweep)
    runs = {side: load_dataset(path) for side in PREFIXES if (path := folder / f"{side}.nc").exists()}
    if not runs:
        raise ParameterError(f"{_ALLOWED} {str(folder)!r} holds neither phase.nc nor theory.nc nor simulation.nc.")
    for run in runs.values():
        if isinstance(run, str):
            raise ParameterError(f"{_ALLOWED} {run}")
    return _of_run({side: run for side, run in runs.items() if isinstance(run, xarray.Dataset)})


def load_sweep(folder: Path) -> tuple[xarray.Dataset, str] | None:
    """The phase diagram in `folder`, and how much of it is done, in words ("" for all); None if there is none.

    Raises:
        ParameterError: no such folder, or the diagram's file is damaged.
    """
    if not folder.is_dir():
        raise ParameterError(f"{_ALLOWED} {str(folder)!r} is none.")
    unfinished = folder / UNFINISHED
    path = unfinished if unfinished.exists() else folder / "phase.nc"
    if not path.exists():
        return None
    phase = load_dataset(path)
    if isinstance(phase, str):
        raise ParameterError(f"{_ALLOWED} {phase}")
    with _lacking_nothing(folder):
        return _so_far(folder, phase) if path == unfinished else (phase, "")


_ALLOWED = "Argument `folder` must be a folder written by `dmft phase` or `dmft compare`, but"


@contextlib.contextmanager
def _lacking_nothing(folder: Path) -> Iterator[None]:
    """ParameterError where the phase diagram has no variable or attribute of a name that is looked up."""
    try:
        yield
    except KeyError as error:
        raise ParameterError(f"{_ALLOWED} the phase diagram in {str(folder)!r} lacks {error}.") from None


def load_point(path: Path) -> xarray.Dataset | str:
    """The curves of a point in the file `path`, or a sentence that says why there are none."""
    try:
        return decode(path.read_bytes())
    except FileNotFoundError:
        return f"{str(path)!r} is missing."
    except Damaged as error:
        return f"{str(path)!r} is damaged: {error}."
    except OSError as error:
        return f"{str(path)!r} cannot be read ({error.strerror or error})."


def _so_far(folder: Path, phase: xarray.Dataset) -> tuple[xarray.Dataset, str]:
    """The diagram of a sweep that is not done, with the points that are; and how many these are, in words."""
    phase, done, all_points = phase.load().copy(deep=True), 0, 0
    for prefix in PREFIXES.values():
        if f"{prefix}point" not in phase:
            continue
        for at in np.argwhere(phase[f"{prefix}point"].to_numpy() != ""):
            place, name = tuple(at), str(phase[f"{prefix}point"].to_numpy()[tuple(at)])
            curves, all_points = load_point(folder / "points" / f"{name}.nc"), all_points + 1
            if isinstance(curves, str):
                continue
            done += 1
            met = {"tolerance_met": curves.attrs.get("tolerance_met", 0)} if not prefix else {}
            asked = phase.attrs["threshold"], phase.attrs["ratio"]
            found = measure(curves, *asked, phase.attrs.get("of", "loss")) | met | {"state": State.DONE}
            if f"{prefix}grok_probability" in phase:
                found |= grok_probability(curves, *asked)
            for key, value in found.items():
                phase[prefix + key].to_numpy()[place] = value
    return phase, f"{done} of {all_points} points so far"


def _of_phase(folder: Path, phase: xarray.Dataset, so_far: str = "") -> dict[str, Any]:
    attributes = settings_of(phase.attrs)
    fields = [attributes[name] for name in ("x", "y") if attributes[name]]
    phase = phase.sortby(fields).transpose(*reversed(fields))
    tables = {
        side: {name: phase[prefix + name].to_numpy() for name in _columns(side)}
        for side, prefix in PREFIXES.items()
        if f"{prefix}state" in phase
    }
    if not tables:
        raise KeyError("state")
    base = {name: attributes.get(f"model_{name}", _FIELDS_LEFT_OUT.get(name)) for name in field_names()}
    cells = []
    for at in np.ndindex(*(phase.sizes[field] for field in reversed(fields))):
        swept = {field: phase[field].values[index].item() for field, index in zip(reversed(fields), at, strict=True)}
        records = {side: {name: table[name][at] for name in table} for side, table in tables.items()}
        curves = {
            side: load_point(folder / "points" / f"{record['point']}.nc")
            for side, record in records.items()
            if int(record["state"]) == State.DONE
        }
        cells.append(_cell(attributes | base | swept, records, curves))
    return {
        "axes": [_axis(phase, field) for field in fields],
        "settings": _settings({name: base[name] for name in base if name not in fields} | attributes),
        "so_far": so_far,
        **_common(attributes, list(tables), cells),
    }


#: Fields of a model that a file may leave out, as the infinite sizes.
_FIELDS_LEFT_OUT = {"dim": "infinite", "width": "infinite", "strengths": "[1.0]"}


def _columns(side: str) -> tuple[str, ...]:
    own = ("tolerance_met",) if side == "theory" else ()
    errors = tuple(f"{name}_error" for name in NUMBERS)
    reached = tuple(f"{name}_reached" for name in NUMBERS if not name.endswith("loss"))
    return ("state", "message", "point", "regime", "regime_certain", *own, *NUMBERS, *errors, *reached)


def _of_run(runs: dict[str, xarray.Dataset]) -> dict[str, Any]:
    """The page of a single run: a diagram without axes."""
    settings: dict[str, Any] = {}
    records = {}
    for side, run in runs.items():
        settings |= settings_of(run.attrs)
        finished = {"state": State.DONE, "message": "", "tolerance_met": run.attrs.get("tolerance_met", 1)}
        records[side] = finished | measure(run, Sweep.threshold, Sweep.ratio)
    settings |= {"threshold": Sweep.threshold, "version": settings.get("package_version")}
    return {
        "axes": [],
        "settings": _settings(settings),
        **_common(settings, list(runs), [_cell(settings, records, dict(runs))]),
    }


def _common(settings: Mapping[str, Any], sides: list[str], cells: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "sides": sides,
        "model": _model_in_words(settings),
        "regimes": [str(kind) for kind in REGIMES],
        "t_max": settings["t_max"],
        "threshold": settings["threshold"],
        "counted": "share of wrong signs" if settings.get("of") == "accuracy" else "loss",
        "cells": cells,
    }


def _model_in_words(settings: Mapping[str, Any]) -> str:
    """The first sentence of the page, from the attributes of a run or of a sweep."""
    activation, teacher, target = (
        str(settings.get(name, settings.get(f"model_{name}", "quadratic"))).partition(", code ")[0]
        for name in ("activation", "teacher", "target")
    )
    if "teacher" in settings or "model_teacher" in settings:
        return f"A committee: its activation is {activation}, its teacher {teacher}."
    if (activation, target) == ("quadratic", "quadratic"):
        return "A two-layer quadratic network that learns a quadratic rule."
    return f"A two-layer network: its activation is {activation}, its target {target}."


def _axis(phase: xarray.Dataset, field: str) -> dict[str, Any]:
    """Values of the swept `field`, and where they and the cells' edges lie, as fractions of the axis."""
    axis = CellAxis.of(phase, field)
    return {
        "field": field,
        "values": phase[field].to_numpy().tolist(),
        "places": _rounded(axis.fractions(axis.values)),
        "edges": _rounded(axis.fractions(axis.edges)),
    }


def _settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Names and values of the model's fields and of the other settings, in words."""
    words = {}
    for name in (*field_names(), *SHOWN):
        value = settings.get(name)
        if value is not None:
            words[name] = f"{value:g}" if isinstance(value, float) else str(value)
    if "centered" in words:
        words["centered"] = "yes" if settings["centered"] else "no"
    return words


def _cell(
    settings: Mapping[str, Any], records: Mapping[str, Mapping[str, Any]], loaded: Mapping[str, xarray.Dataset | str]
) -> dict[str, Any]:
    """One point: its numbers, curves, agreement, notes, and the command that repeats it.

    Args:
        settings: all that determines the curves, for the command.
        records: by side, the values of one cell, named as in a phase diagram.
        loaded: by side, the curves, or why there are none.
    """
    cell: dict[str, Any] = {side: _record(record) for side, record in records.items()}
    cell["notes"] = [
        f"The {side}'s curves are not shown: {run}" for side, run in loaded.items() if isinstance(run, str)
    ]
    datasets = {side: run for side, run in loaded.items() if not isinstance(run, str)}
    asked = {side: side in records and int(records[side]["state"]) != State.ABSENT for side in PREFIXES}
    said = not any(name in settings for name in _NO_OPTION) and sayable(settings, theory=asked["theory"])
    cell["command"] = command(settings, **asked) if said and any(asked.values()) else None
    if not datasets:
        return cell
    sides = {side: read_side(side, dataset) for side, dataset in datasets.items()}
    cell["notes"] += [note for side in sides.values() for note in side.notes]
    start, end = time_range(list(sides.values()))
    cell["range"] = [number(start, DIGITS), number(end, DIGITS)]
    for name, side in sides.items():
        cell[name]["curves"] = shown_curves(side, start, POINTS[name])
        cell[name]["runs"] = side.runs
    if len(datasets) == len(PREFIXES):
        try:
            cell["agreement"] = _agreement(datasets["theory"], datasets["simulation"])
        except ParameterError as error:
            cell["notes"].append(f"Theory and simulation cannot be laid over each other: {error}")
    return cell


#: What no option of the command line asks for: committees, further arguments of a sweep.
_NO_OPTION = ("activation", "model_activation", "solve_options", "simulate_options", "of")


def _record(record: Mapping[str, Any]) -> dict[str, Any]:
    """State, regime and numbers [value, error, whether reached] of one side of a cell."""
    return {
        "state": int(record["state"]),
        "message": str(record["message"]),
        "regime": int(record["regime"]),
        "certain": bool(record["regime_certain"]),
        "tolerance_met": bool(record.get("tolerance_met", True)),
        "numbers": {
            name: [
                number(record[name], DIGITS),
                number(record[f"{name}_error"], 3),
                bool(record.get(f"{name}_reached", True)),
            ]
            for name in NUMBERS
        },
    }


def shown_curves(side: Side, start: float, count: int) -> dict[str, Any]:
    """Time and, by observable, mean and standard error, at about `count` times from `start` on."""
    time = side.curves["time"].to_numpy()
    shown = np.flatnonzero(time >= start)
    chosen = shown[thin(time[shown], count)]
    names = [name for name in side.observables if is_observable(name) and side.curves[name].dims == ("time",)]
    return {"time": _rounded(time[chosen])} | {
        name: {
            "value": _rounded(side.curves[name].to_numpy()[chosen]),
            "error": _rounded(side.curves[f"{name}_stderr"].to_numpy()[chosen], 3),
        }
        for name in names
    }


def _agreement(theory: xarray.Dataset, simulation: xarray.Dataset) -> dict[str, Any]:
    """z-scores (theory - simulation) at some of the compared times, what |z| may reach there, and the verdicts."""
    agreement = overlay(theory, simulation)
    rows = agreement.summary()["observables"]
    time = agreement.z["time"].to_numpy()
    positive = np.flatnonzero(time > 0.0)
    worst = [int(np.argmin(np.abs(time - row["time"]))) for row in rows.values() if row["time"] is not None]
    kept = np.unique([*positive[thin(time[positive], SCORES)], *(index for index in worst if time[index] > 0.0)])
    kept = kept.astype(int)
    limits = np.stack([np.nan_to_num(agreement.threshold(name)[kept], nan=np.inf) for name in rows])
    verdicts = {row["verdict"] for row in rows.values()}
    return {
        "verdict": next((word for word in (DIFFERS, AGREES) if word in verdicts), NO_ERROR),
        "time": _rounded(time[kept]),
        "z": {name: _rounded(agreement.z[name].to_numpy()[kept], 4) for name in rows},
        "threshold": _rounded(limits.min(axis=0), 4),
        "rows": {
            name: {key: number(value, DIGITS) if isinstance(value, float) else value for key, value in row.items()}
            for name, row in rows.items()
        },
        "significance": agreement.significance,
    }


def _rounded(values: Iterable[float], digits: int = DIGITS) -> list[float | None]:
    return [number(value, digits) for value in np.asarray(values, dtype=np.float64).tolist()]
