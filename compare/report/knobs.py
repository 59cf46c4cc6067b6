"""What the page of sliders shows: the curves where the sliders stand, solved there and then or read from a sweep."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import xarray

import dmft
from compare.curves import Side, read_side
from compare.figures.overlay import time_range
from compare.files import number
from compare.grokking import RATIO, THRESHOLD, grokking_delay, grokking_table, regime
from compare.measured import LOSSES
from compare.report.data import DIGITS, POINTS, load_point, load_sweep, shown_curves
from compare.sweep.measures import PREFIXES
from dmft.checks import ParameterError, RunError, check_real
from dmft.models.model import Model

#: Arguments of `dmft.solve` by stage: while a slider moves, and when it rests. Both have the same compiled programs.
STAGES: tuple[dict[str, Any], ...] = ({"replicas": 4, "rtol": 0.1}, {"rtol": 0.02, "max_seconds": 3.0})
#: Positions of a slider on either side of where it begins, over a factor of WIDE; its least value where it begins at 0.
POSITIONS, WIDE, LEAST = 40, 10.0, 0.01
#: Share of the first loss below which an error is no longer taken relative to the loss: atol / rtol of `dmft.solve`.
FLOOR = 1e-3


class Slider(NamedTuple):
    """A field of the model, or `t_max`; the values that it can stand at, and the index of the first one."""

    field: str
    values: list[float]
    at: int


class Knobs(Protocol):
    """Where curves come from.

    Attributes:
        title: of the page.
        about: what else is known of the curves, by name.
        sliders: their values are those that `curves` is asked for.
        stages: how often a curve can be asked for, each time better.
        asked: threshold, ratio, and whether of "loss" or "accuracy", which times and regimes are told by.
    """

    title: str
    about: dict[str, Any]
    sliders: list[Slider]
    stages: int
    asked: dict[str, Any]

    def curves(self, values: Mapping[str, float], stage: int) -> dict[str, xarray.Dataset]:
        """Datasets by side, "theory" and perhaps "simulation".

        Raises:
            ParameterError, RunError: there are none, and why.
        """
        ...


class Live:
    """The theory of a model, solved where the sliders stand.

    Args:
        model: where they begin; what no slider moves stays as it is.
        t_max: the last time, where its slider begins.
    """

    title = "The theory at the turn of a knob"
    stages = len(STAGES)

    def __init__(self, model: Model, t_max: float) -> None:
        if not isinstance(model, Model):
            raise ParameterError(f"Argument `model` must be a dmft.Model, but is {model!r}.")
        self.model = model
        moved = {
            "alpha": _around(model.alpha),
            "epsilon": _around(model.epsilon) if model.epsilon else _from_zero(0.0),
            "kappa": _around(model.kappa),
            "t_max": _around(check_real("t_max", t_max, above=0.0)),
        }
        if isinstance(model.initial_overlap, float):
            moved["initial_overlap"] = _from_zero(model.initial_overlap)
        self.asked = {"threshold": THRESHOLD, "ratio": RATIO, "of": "loss"}
        begins = {**vars(model), "t_max": float(t_max)}
        self.sliders = [Slider(name, values, values.index(begins[name])) for name, values in moved.items()]
        self.about = {name: value for name, value in vars(model).items() if value and name not in moved}

    def curves(self, values: Mapping[str, float], stage: int) -> dict[str, xarray.Dataset]:
        """The theory with the settings of the stage."""
        fields = {name: value for name, value in values.items() if name != "t_max"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the page says how large the errors are
            theory = dmft.solve(self.model.replace(**fields), values["t_max"], progress=False, **STAGES[stage])
        return {"theory": theory}


class Stored:
    """The points of a sweep, where the sliders stand.

    Args:
        folder: written by `dmft phase`, finished or not.
    """

    stages = 1

    def __init__(self, folder: Path) -> None:
        found = load_sweep(folder)
        if found is None:
            raise ParameterError(f"Argument `folder` must hold a sweep of `dmft phase`, but {str(folder)!r} does not.")
        phase, so_far = found
        self.swept = [str(phase.attrs[name]) for name in ("x", "y") if phase.attrs[name]]
        self.folder, self.phase = folder, phase.sortby(self.swept)
        self.asked = {name: phase.attrs[name] for name in ("threshold", "ratio")} | {
            "of": phase.attrs.get("of", "loss")
        }
        last = float(phase.attrs["t_max"])
        axes = {name: self.phase[name].to_numpy().tolist() for name in self.swept}
        axes["t_max"] = [*np.geomspace(last / WIDE**2, last, 2 * POSITIONS + 1)[:-1].tolist(), last]
        places = {name: len(values) // 2 for name, values in axes.items()} | {"t_max": 2 * POSITIONS}
        self.sliders = [Slider(name, values, places[name]) for name, values in axes.items()]
        self.title = f"A sweep over {' and '.join(self.swept)}{so_far and ', ' + so_far}"
        fields = {name.removeprefix("model_"): value for name, value in phase.attrs.items() if name[:6] == "model_"}
        self.about = {name: value for name, value in fields.items() if value and name not in self.swept}

    def curves(self, values: Mapping[str, float], stage: int) -> dict[str, xarray.Dataset]:  # noqa: ARG002
        """The stored curves up to `t_max`."""
        here = self.phase.sel({name: values[name] for name in self.swept}, method="nearest")
        names = {
            side: str(here[f"{prefix}point"].item()) for side, prefix in PREFIXES.items() if f"{prefix}point" in here
        }
        loaded = {side: load_point(self.folder / "points" / f"{name}.nc") for side, name in names.items() if name}
        found = {
            side: curves.sel(time=curves["time"] <= values["t_max"] * (1.0 + 1e-9))
            for side, curves in loaded.items()
            if isinstance(curves, xarray.Dataset)
        }
        if not found:
            raise RunError(" ".join(["This point has no curves.", *map(str, loaded.values())]))
        return found


def answer(knobs: Knobs, values: Mapping[str, float], stage: int) -> dict[str, Any]:
    """What the page draws and says where the sliders stand; or a `message` that says why there is nothing."""
    start = time.perf_counter()
    try:
        datasets = knobs.curves(values, stage)
    except (ParameterError, RunError) as error:
        return {"message": str(error)}
    seconds = time.perf_counter() - start
    sides = {side: read_side(side, dataset) for side, dataset in datasets.items()}
    begin, end = time_range(list(sides.values()))
    drawn = {
        name: {"curves": shown_curves(side, begin, POINTS[name]), "runs": side.runs} for name, side in sides.items()
    }
    asked = knobs.asked
    measures = {
        side: (grokking_delay(dataset, asked["threshold"], of=asked["of"]), regime(dataset, **asked))
        for side, dataset in datasets.items()
    }
    return {
        **drawn,
        "range": [number(begin, DIGITS), number(end, DIGITS)],
        "numbers": grokking_table(measures, asked["of"]),
        "error": number(largest_error(sides["theory"]), 2) if "theory" in sides else None,
        "seconds": number(seconds, 2),
    }


def largest_error(side: Side) -> float:
    """The largest error of both losses, relative to the loss plus FLOOR of the first one."""
    curves = {name: (side.curves[name].to_numpy(), side.curves[f"{name}_stderr"].to_numpy()) for name in LOSSES}
    return max(float(np.nanmax(error / (np.abs(value) + FLOOR * abs(value[0])))) for value, error in curves.values())


def _around(value: float) -> list[float]:
    """Values a factor of WIDE to either side, `value` in the middle."""
    each_side = np.geomspace(1.0, WIDE, POSITIONS + 1)[1:]
    return [*_rounded(value / each_side[::-1]), float(value), *_rounded(value * each_side)]


def _from_zero(value: float) -> list[float]:
    """Zero and values from LEAST to 1, with `value` among them."""
    return sorted({0.0, float(value), *_rounded(np.geomspace(LEAST, 1.0, 2 * POSITIONS))})


def _rounded(values: Sequence[float] | np.ndarray) -> list[float]:
    return [float(f"{value:.3g}") for value in values]
