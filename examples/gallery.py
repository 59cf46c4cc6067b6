"""What the scripts of the gallery share: their three sizes, and how theory and simulation are drawn."""

from __future__ import annotations

import argparse
import inspect
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from compare import overlay
from compare.figures.style import LOOK, thin
from compare.grokking import Duration
from dmft import ConvergenceError, Model, solve
from sim import simulate

#: Okabe and Ito's colours; train and test differ in line style too.
TRAIN, TEST = ("#0072B2", (0.0, (5.0, 1.5)), "s"), ("#D55E00", "-", "o")
PARTS = {
    "variance_error": ("variance", "#0072B2", (0.0, (5.0, 1.5)), "s"),
    "misalignment_error": ("misalignment", "#D55E00", "-", "o"),
    "linear_power": ("linear power", "#009E73", (0.0, (1.0, 1.0)), "^"),
}
#: Tolerance of the theory in a picture.
ACCURACY: dict[str, Any] = {"rtol": 0.05, "atol": 2e-3}
#: With `--dim`: draws times D, and fewest draws; a run at larger D scatters less and costs more.
DRAWS: dict[str, tuple[int, int]] = {"full": (6400, 8), "default": (1600, 4), "quick": (0, 2)}
#: Data sets of the theory's spread.
DATA_SETS = 16
#: Of smaller losses, relative to their start, deviations are not told: float32 rounds them.
SMALL = 1e-3


def run(draw: Callable[..., Figure], name: str) -> None:
    """The command line of a script: draw in the size asked for, and write NAME.png.

    A `draw` that takes a `dim` has the option `--dim`, and writes NAME-D<dim>.png with it.
    """
    parser = argparse.ArgumentParser(description=draw.__doc__)
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--full", action="store_const", const="full", dest="size", help="as in the paper, step for step")
    sizes.add_argument("--quick", action="store_const", const="quick", dest="size", help="seconds: does it run?")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the picture [default: this one]")
    if "dim" in inspect.signature(draw).parameters:
        described = "infinitely wide networks of another dimension D, and the theory with its spread over data sets"
        parser.add_argument("--dim", type=int, help=described)
    given = parser.parse_args()
    dim: int | None = getattr(given, "dim", None)
    if dim is not None and dim < 2:
        parser.error(f"argument --dim: must be an integer >= 2, but is {dim}")
    start = time.perf_counter()
    with matplotlib.rc_context(LOOK):
        figure = draw(given.size or "default", **({} if dim is None else {"dim": dim}))
        given.out.mkdir(parents=True, exist_ok=True)
        file = given.out / (f"{name}.png" if dim is None else f"{name}-D{dim}.png")
        figure.savefig(file, dpi=160)
    print(f"wrote {file} after {time.perf_counter() - start:.0f} s")


def both(
    model: Model, horizon: float, t_max: float, seeds: int, size: str, dim: int | None
) -> tuple[xarray.Dataset, xarray.Dataset]:
    """Theory to `horizon` and simulation to `t_max`; at a `dim` of one's own as `--dim` says."""
    if dim is None:
        return solve(model, horizon, **ACCURACY), simulate(model, t_max, seeds=seeds, times=times(t_max))
    model = model.replace(dim=dim, width=None)
    theory = solve_with_spread(model, horizon)
    total, fewest = DRAWS[size]
    draws = max(fewest, round(total / dim))
    return theory, simulate(model, t_max, seeds=draws, times=times(t_max), precision="float32")


def solve_with_spread(model: Model, horizon: float, **settings: Any) -> xarray.Dataset:
    """The theory with its spread over data sets; without it, and said so, where they cannot be solved."""
    try:
        return solve(model, horizon, spread=DATA_SETS, **ACCURACY, **settings)
    except ConvergenceError as error:
        if error.curves is None or not error.curves.attrs["complete"]:
            raise
        print(f"no spread is drawn: {error}", flush=True)
        return error.curves


def draw_theory(axes: Axes, dataset: xarray.Dataset | Mapping[str, Any], name: str, color: Any, line: Any) -> None:
    """A curve of the theory (or of a closed form) from the first positive time on, with a band of one error.

    A paler band is what single data sets scatter by.
    """
    time, value = (np.asarray(dataset[key]) for key in ("time", name))
    axes.plot(time[1:], value[1:], color=color, ls=line, lw=1.5)
    for band, alpha in ((f"{name}_error", 0.2), (f"{name}_spread", 0.12)):
        if band in dataset:
            width = np.asarray(dataset[band])
            axes.fill_between(time[1:], (value - width)[1:], (value + width)[1:], color=color, alpha=alpha, lw=0)


def draw_simulation(axes: Axes, dataset: xarray.Dataset, name: str, color: Any, marker: str, start: float) -> None:
    """Points of a simulated curve from time `start` on: mean over seeds, bars of one standard error."""
    time, mean = dataset["time"].to_numpy(), dataset[name].mean("seed").to_numpy()
    chosen = np.flatnonzero(time >= start)
    chosen = chosen[thin(time[chosen])]
    error = np.nan_to_num(dataset[f"{name}_stderr"].to_numpy())[chosen]
    axes.errorbar(
        time[chosen], mean[chosen], yerr=error, color=color, ls="none", marker=marker, ms=3.6, mec="white", mew=0.4
    )


def draw_losses(axes: Axes, theory: Any, simulation: xarray.Dataset | None, start: float) -> None:
    """Train and test loss, whichever side there is."""
    for name, (color, line, marker) in (("train_loss", TRAIN), ("test_loss", TEST)):
        if theory is not None:
            draw_theory(axes, theory, name, color, line)
        if simulation is not None:
            draw_simulation(axes, simulation, name, color, marker, start)


def relative(dataset: xarray.Dataset) -> xarray.Dataset:
    """Losses and their errors divided by the mean loss at t = 0."""
    scaled = dataset.copy()
    for loss in ("train_loss", "test_loss"):
        first = dataset[loss].isel(time=0).mean()
        for name in (loss, f"{loss}_stderr", f"{loss}_error", f"{loss}_spread"):
            if name in scaled:
                scaled[name] = dataset[name] / first
    return scaled


def finish(axes: Axes, start: float, end: float, **settings: Any) -> None:
    """A logarithmic time axis, and a grid behind the curves."""
    axes.set(**({"xscale": "log", "xlim": (start, end), "xlabel": "training time $t$"} | settings))
    axes.grid(which="major", color="0.9", lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", direction="in", top=True, right=True, width=0.6)


def key(axes: Axes, entries: Iterable[tuple[str, Any, Any, str | None]], **settings: Any) -> None:
    """A legend of (label, colour, line or None, marker or None)."""
    handles = [
        Line2D([], [], color=color, ls=line or "none", marker=marker, ms=4, label=label)
        for label, color, line, marker in entries
    ]
    axes.legend(handles=handles, **({"frameon": False} | settings))


def shades(count: int) -> list[Any]:
    """Colours from dark to light, for an ordered parameter."""
    return [colormaps["viridis"](place) for place in np.linspace(0.0, 0.88, count)]


def times(t_max: float, first: float = 0.05, count: int = 60) -> np.ndarray:
    """Times evenly spread over log t, and 0: where a simulation is observed."""
    return np.concatenate([[0.0], np.geomspace(min(first, t_max / 2), t_max, count)])


def last(dataset: xarray.Dataset, name: str) -> str:
    """The last value, mean over seeds, with its error where there is one."""
    value = float(dataset[name].isel(time=-1).mean())
    error = next((dataset[key] for key in (f"{name}_error", f"{name}_stderr") if key in dataset), None)
    return f"{value:.3g}" if error is None else f"{value:.3g} +- {float(error[-1]):.1g}"


def reached(duration: Duration) -> str:
    """When a loss got below its threshold, mean over the seeds in which it did."""
    if not duration.runs_reached:
        return "not reached"
    count = f" ({duration.runs_reached} of {duration.runs})" if duration.runs > 1 else ""
    return f"{duration.value:.3g} +- {duration.error:.1g}{count}"


def say(label: str, theory: xarray.Dataset, simulation: xarray.Dataset) -> None:
    """How well two sides agree: largest |z|, differences of the losses where they are largest, and at four times."""
    agreement = overlay(theory, simulation)
    words = []
    for name in ("train_loss", "test_loss"):
        row = agreement.summary()["observables"][name]
        late = agreement.difference[name].to_numpy()
        words.append(
            f"{name} max |z| {row['max_abs_z'] or np.nan:.1f} (may reach {row['threshold'] or np.nan:.1f}), "
            f"median difference {np.median(np.abs(late)):.1%}, largest {np.max(np.abs(late)):.0%}, "
            f"at the end {late[-1]:+.0%}"
        )
    print(f"{label}: " + "; ".join(words), flush=True)
    _say_deviations(label, theory, simulation)


def _say_deviations(label: str, theory: xarray.Dataset, simulation: xarray.Dataset) -> None:
    """Theory over simulation, less one, with one standard error, at four times."""
    end = min(float(theory.time[-1]), float(simulation.time[-1]))
    at = end * np.array([1 / 30, 0.1, 0.3, 1.0])
    for name in ("train_loss", "test_loss"):
        mean = simulation[name].mean("seed")
        first = float(mean[0])
        words = []
        for when, of_theory, off, of_runs, error in zip(
            at,
            *(np.interp(at, theory.time, theory[each]) for each in (name, f"{name}_error")),
            *(np.interp(at, simulation.time, each) for each in (mean, simulation[f"{name}_stderr"])),
            strict=True,
        ):
            ratio = of_theory / of_runs
            large = of_runs > SMALL * first
            bar = ratio * np.hypot(off / of_theory, error / of_runs)
            words.append(f"t = {when:.3g}: " + (f"{ratio - 1:+.1%} +- {bar:.1%}" if large else "-"))
        print(f"{label}, {simulation.sizes['seed']} draws, {name}: " + ", ".join(words), flush=True)
