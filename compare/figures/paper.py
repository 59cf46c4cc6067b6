"""Pictures of the paper's runs (`sim.presets`), laid out as the paper's figures show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray
from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from compare.figures.style import (
    BLUE,
    DASHED,
    DOTTED,
    GREEN,
    ORANGE,
    PURPLE,
    VERMILION,
    Picture,
    finish,
    house_style,
)
from compare.files import number
from compare.grokking import Duration, grokking_delay

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sim.presets import Preset

#: The threshold of figure 3 (e).
THRESHOLD = 0.1
#: A map of at most so many points is written over with its values.
MOST_WORDS = 36
#: The threshold of figures 3 (a) and (b), where the loss is divided by its first value.
HALF = 0.5

TRAIN, TEST = (BLUE, DASHED), (VERMILION, "-")
LINEAR, REGRESSION, ALIGNMENT = "0.35", PURPLE, GREEN
PARTS = {
    "variance_error": ("variance", *TRAIN),
    "misalignment_error": ("misalignment", *TEST),
    "linear_power": ("linear power", GREEN, DOTTED),
}


def preset_figure(preset: Preset, results: Mapping[str, xarray.Dataset]) -> Figure:
    """The picture of a preset's runs: label -> dataset, as `sim.presets.run_preset` returns them."""
    draw: dict[str, Callable[[Figure, Mapping[str, xarray.Dataset]], None]] = {
        "fig1": _draw_linearised,
        "fig3a": partial(_draw_sweep, field="alpha"),
        "fig3b": partial(_draw_sweep, field="epsilon"),
        "fig3e": _draw_delays,
        "fig3e-full": _draw_delays,
        "fig3e-flow": _draw_delays,
        "fig4": _draw_parts,
        "fig9": partial(_draw_side_by_side, field="samples"),
    }
    with house_style():
        figure = Picture(figsize=(7.2, 3.6), layout="constrained", dpi=200)
        draw[preset.name](figure, results)
        figure.suptitle(f"{preset.name}: {preset.title}", fontsize=9.5)
    return figure


def steps_of(dataset: xarray.Dataset) -> np.ndarray:
    """Step numbers of the observations, (T,)."""
    return np.rint(dataset["time"].to_numpy() / float(dataset.attrs["paper_step"]))


def _mean(dataset: xarray.Dataset, name: str) -> np.ndarray:
    """The curve averaged over seeds, (T,), without t = 0, which a logarithmic axis cannot show."""
    return dataset[name].mean("seed").to_numpy()[1:]


def _draw_linearised(figure: Figure, results: Mapping[str, xarray.Dataset]) -> None:
    """Losses of the network and its linearisation, the regression error; beside them the tangent kernel."""
    (dataset,) = results.values()
    panels = figure.subplot_mosaic([["losses", "alignment"], ["losses", "movement"]])
    losses, aligned, moved = (panels[name] for name in ("losses", "alignment", "movement"))
    steps = steps_of(dataset)[1:]
    losses.plot(steps, _mean(dataset, "train_loss"), color=TRAIN[0], ls=TRAIN[1], label="train")
    losses.plot(steps, _mean(dataset, "test_loss"), color=TEST[0], ls=TEST[1], label="test")
    losses.plot(steps, _mean(dataset, "linearized_train_loss"), color=LINEAR, ls=TRAIN[1], label="linearised, train")
    losses.plot(steps, _mean(dataset, "linearized_test_loss"), color=LINEAR, ls=TEST[1], label="linearised, test")
    regression = float(dataset["kernel_regression_test_loss"].mean())
    losses.axhline(regression, color=REGRESSION, lw=1.0, ls="-.", label="initial-kernel regression, test")
    losses.set(ylabel="mean squared error")
    aligned.plot(steps, _mean(dataset, "kernel_alignment_centered"), color=ALIGNMENT, label="centred")
    aligned.plot(steps, _mean(dataset, "kernel_alignment"), color=ALIGNMENT, ls=":", label="not centred")
    aligned.set(ylabel="kernel alignment")
    moved.plot(steps, _mean(dataset, "kernel_distance"), color=LINEAR, ls="--", label="kernel")
    moved.plot(steps, _mean(dataset, "parameter_movement"), color=ORANGE, ls="-.", label="parameters")
    moved.set(ylabel="distance from start", yscale="log")
    _finish(losses, aligned, moved)
    aligned.set_xlabel("")


def _draw_sweep(figure: Figure, results: Mapping[str, xarray.Dataset], field: str) -> None:
    """Losses divided by their first values, one colour per run; beside them the steps to HALF, and the end."""
    panels = figure.subplot_mosaic([["losses", "reached"], ["losses", "final"]], width_ratios=[1.35, 1.0])
    losses, reached, final = (panels[name] for name in ("losses", "reached", "final"))
    values = [float(dataset.attrs[field]) for dataset in results.values()]
    scaled = [relative(dataset) for dataset in results.values()]
    steps = [steps_of(dataset)[1:] for dataset in results.values()]
    for curve, count, value, color in zip(scaled, steps, values, _colors(len(values)), strict=True):
        losses.plot(count, _mean(curve, "train_loss"), color=color, ls=TRAIN[1], lw=1.0)
        losses.plot(count, _mean(curve, "test_loss"), color=color, label=rf"$\{field} = {_power(value)}$")
    losses.set(ylabel="loss / initial loss   (dashed: train)", ylim=(0.0, 1.5))
    delays = [grokking_delay(curve, HALF) for curve in scaled]
    for name, (color, line), marker in (("train", TRAIN, "o"), ("test", TEST, "s")):
        times = [
            _in_steps(getattr(delay, f"t_{name}"), data) for delay, data in zip(delays, results.values(), strict=True)
        ]
        reached.plot(values, times, marker, color=color, ls=line, label=name)
        last = [float(curve[f"{name}_loss"].mean("seed")[-1]) for curve in scaled]
        final.plot(values, last, marker, color=color, ls=line, label=name)
    reached.set(yscale="log", ylabel=f"steps to {HALF:g} x initial")
    final.set(ylabel="final / initial", xlabel=rf"$\{field}$")
    _finish(losses)
    losses.legend(frameon=False, ncols=3, loc="upper center")  # above the curves
    for axes in (reached, final):
        axes.set(xscale="log")
        axes.set_xticks(values, [f"${_power(value)}$" for value in values])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.legend(frameon=False)


def relative(dataset: xarray.Dataset) -> xarray.Dataset:
    """The losses divided by their values at t = 0, seed by seed."""
    names = ["train_loss", "test_loss"]
    return dataset[names] / dataset[names].isel(time=0)


def _draw_delays(figure: Figure, results: Mapping[str, xarray.Dataset]) -> None:
    """A map of the delay in steps over epsilon and alpha; empty where the test loss does not get there."""
    axes = figure.subplots()
    alphas, epsilons = (sorted({float(d.attrs[name]) for d in results.values()}) for name in ("alpha", "epsilon"))
    delays, words = np.full((len(alphas), len(epsilons)), np.nan), {}
    for dataset in results.values():
        place = alphas.index(float(dataset.attrs["alpha"])), epsilons.index(float(dataset.attrs["epsilon"]))
        delays[place], words[place] = delay_in_steps(dataset)
    there = np.maximum(delays[np.isfinite(delays)], 1.0)  # a logarithm has no room for less than one step
    low, high = (float(there.min()), float(2.0 * there.max())) if there.size else (1.0, 10.0)
    colors = np.maximum(delays, 1.0)
    shown = axes.imshow(colors, origin="lower", aspect="auto", cmap="OrRd", norm=LogNorm(low, high))
    for (row, column), word in words.items() if len(words) <= MOST_WORDS else ():
        dark = delays[row, column] > low**0.45 * high**0.55
        axes.text(column, row, word, ha="center", va="center", fontsize=7.5, color="white" if dark else "black")
    axes.set_xticks(range(len(epsilons)), [f"{value:g}" for value in epsilons])
    axes.set_yticks(range(len(alphas)), [f"{value:g}" for value in alphas])
    axes.set(xlabel=r"alignment $\epsilon$", ylabel=r"laziness $\alpha$")
    figure.colorbar(shown, label="delay in steps")


def delay_in_steps(dataset: xarray.Dataset) -> tuple[float, str]:
    """The delay in steps, NaN if there is none, and what to write in its place."""
    if not int(dataset.attrs.get("complete", 1)):
        return np.nan, "diverged"
    delay = grokking_delay(dataset, THRESHOLD)
    value = _in_steps(delay.delay, dataset)
    if delay.delay.reached:
        return value, f"{value:.0f}"
    return np.nan, "test not\nbelow" if delay.t_train.reached else "train not\nbelow"


def _draw_parts(figure: Figure, results: Mapping[str, xarray.Dataset]) -> None:
    """Losses, and the parts of the test loss."""
    (dataset,) = results.values()
    losses, parts = figure.subplots(1, 2)
    _draw_losses(losses, dataset)
    steps = steps_of(dataset)[1:]
    for name, (label, color, line) in PARTS.items():
        parts.plot(steps, _mean(dataset, name), color=color, ls=line, label=label)
    parts.set(ylabel="part of the test loss")
    _finish(losses, parts)


def _draw_side_by_side(figure: Figure, results: Mapping[str, xarray.Dataset], field: str) -> None:
    """One panel of losses per run."""
    panels = figure.subplots(1, len(results), sharey=True)
    for axes, dataset in zip(panels, results.values(), strict=True):
        _draw_losses(axes, dataset)
        axes.set_title(f"{dataset.attrs[field]:g} {field}")
    _finish(*panels)
    for axes in panels[1:]:
        axes.set_ylabel("")


def _draw_losses(axes: Axes, dataset: xarray.Dataset) -> None:
    steps = steps_of(dataset)[1:]
    axes.plot(steps, _mean(dataset, "train_loss"), color=TRAIN[0], ls=TRAIN[1], label="train")
    axes.plot(steps, _mean(dataset, "test_loss"), color=TEST[0], ls=TEST[1], label="test")
    axes.set(ylabel="mean squared error")


def _finish(*panels: Axes) -> None:
    """What panels over steps have in common."""
    for axes in panels:
        axes.set(xscale="log", xlabel="steps of gradient descent")
        axes.xaxis.set_minor_locator(LogLocator(subs=range(2, 10), numticks=99))
        finish(axes)
        axes.legend(frameon=False)


def _in_steps(duration: Duration, dataset: xarray.Dataset) -> float:
    return duration.value / float(dataset.attrs["paper_step"])


def _colors(count: int) -> np.ndarray:
    """From dark to light, (count, 4)."""
    return colormaps["viridis"](np.linspace(0.0, 0.92, count))


def _power(value: float) -> str:
    """A power of two as such."""
    exponent = np.log2(value)
    return f"2^{{{exponent:.0f}}}" if exponent == round(exponent) else f"{value:g}"


def preset_summary(preset: Preset, results: Mapping[str, xarray.Dataset]) -> dict[str, Any]:
    """Final losses and threshold times of every run, JSON-able (None where no seed reaches a threshold).

    Times are means over the seeds that reach the threshold; how many of the `seeds` do is said beside them.
    """

    runs = {}
    for label, dataset in results.items():
        delay = grokking_delay(dataset, THRESHOLD)
        record: dict[str, Any] = {"steps": int(steps_of(dataset)[-1]), "seeds": dataset.sizes["seed"]}
        for loss, time in (("train_loss", delay.t_train), ("test_loss", delay.t_test)):
            record[loss] = number(dataset[loss].mean("seed")[-1], 6)
            record[f"steps_to_{loss}_{THRESHOLD:g}"] = number(_in_steps(time, dataset), 6)
            record[f"seeds_reaching_{loss}_{THRESHOLD:g}"] = time.runs_reached
        runs[label] = record
    return {"preset": preset.name, "title": preset.title, "assumed": preset.assumed, "runs": runs}
