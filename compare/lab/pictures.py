"""Pictures of the presets: accuracies over steps, one panel a run, and what each paper draws beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from compare.figures.style import BLUE, DASHED, GREEN, ORANGE, PURPLE, SKY, VERMILION, Picture, finish, house_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from compare.lab.preset import LabPreset

Results = Mapping[str, xarray.Dataset]

#: How a curve is drawn: label, colour, line.
LOOKS: dict[str, tuple[str, str, Any]] = {
    "train_accuracy": ("train", BLUE, DASHED),
    "test_accuracy": ("test", VERMILION, "-"),
    "corrupted_accuracy": ("wrong labels", PURPLE, (0.0, (1.0, 1.0))),
    "train_loss": ("train loss", BLUE, DASHED),
    "test_loss": ("test loss", VERMILION, "-"),
    "weight_norm": ("norm / initial norm", GREEN, "-."),
    "collapse": ("collapsed", GREEN, "-."),
    "zero_loss": ("zero losses", GREEN, "-."),
    "movement": ("movement", GREEN, "-."),
    "kernel_alignment": ("kernel alignment", ORANGE, ":"),
}
ACCURACIES = ("train_accuracy", "test_accuracy")
PHASES = {
    "coexistence": GREEN,
    "partial inversion": SKY,
    "full inversion": BLUE,
    "memorisation": ORANGE,
    "forgetting or confusion": "0.7",
}


def preset_figure(preset: LabPreset, results: Results) -> Figure:
    """The picture of a preset."""
    with house_style():
        figure = Picture(figsize=(7.2, 3.4), layout="constrained", dpi=200)
        preset.draw(figure, results)
        figure.suptitle(f"{preset.name}: {preset.title}", fontsize=9.5)
    return figure


def draw_curve(axes: Axes, dataset: xarray.Dataset, name: str, look: tuple[str, str, Any] | None = None) -> None:
    """The mean over seeds, and every seed as a pale line."""
    label, color, line = look or LOOKS[name]
    steps, values = dataset["step"].to_numpy()[1:], dataset[name].transpose("seed", "step").to_numpy()
    values = values / values[:, :1] if name == "weight_norm" else values
    for row in values:
        axes.plot(steps, row[1:], color=color, lw=0.6, alpha=0.3)
    axes.plot(steps, values.mean(axis=0)[1:], color=color, ls=line, label=label)


def accuracies(figure: Figure, results: Results) -> None:
    """Accuracies over steps, one panel a run."""
    curves(figure, results)


def curves(figure: Figure, results: Results, names: Sequence[str] = ()) -> None:
    """Accuracies over steps, one panel a run, and under them further curves."""
    rows = 2 if names else 1
    panels = figure.subplots(rows, len(results), sharex="col", sharey="row", squeeze=False)
    for column, (label, dataset) in zip(panels.T, results.items(), strict=True):
        for name in ACCURACIES:
            draw_curve(column[0], dataset, name)
        if np.isfinite(dataset["corrupted_accuracy"]).all():
            draw_curve(column[0], dataset, "corrupted_accuracy")
        for name in names:
            draw_curve(column[1], dataset, name)
        column[0].set(title=_readable(label), ylim=(-0.03, 1.03))
        column[-1].set(xscale="log", xlabel="steps")
        for axes in column:
            finish(axes)
    panels[0, 0].set_ylabel("accuracy")
    panels[0, 0].legend(frameon=False)
    if names:
        panels[1, 0].set_ylabel(", ".join(LOOKS[name][0] for name in names))


def histogram(figure: Figure, results: Results) -> None:
    """Accuracies over steps, and under them the distribution of the inverse participation ratio at the end."""
    panels = figure.subplots(2, len(results), sharey="row", squeeze=False)
    for (above, below), (label, dataset) in zip(panels.T, results.items(), strict=True):
        for name in (*ACCURACIES, "corrupted_accuracy"):
            if np.isfinite(dataset[name]).all():
                draw_curve(above, dataset, name)
        above.set(title=_readable(label), xscale="log", xlabel="steps", ylim=(-0.03, 1.03))
        ratios = dataset["ipr"].isel(step=-1).to_numpy().ravel()
        below.hist(ratios, bins=40, range=(0.0, 1.0), color=GREEN, density=True)
        below.axvline(ratios.mean(), color="0.3", lw=0.8, ls="--")
        below.set(xlabel="inverse participation ratio")
        finish(above)
        finish(below)
    panels[0, 0].set_ylabel("accuracy")
    panels[0, 0].legend(frameon=False)
    panels[1, 0].set_ylabel("density of neurons")


def pruning(figure: Figure, results: Results) -> None:
    """Accuracies over the fraction of neurons pruned, one panel an order."""
    orders = {"low": "low IPR first", "high": "high IPR first", "random": "random order"}
    panels = figure.subplots(1, len(orders), sharey=True)
    for axes, (order, title) in zip(panels, orders.items(), strict=True):
        for name in ("train_accuracy", "test_accuracy", "corrupted_accuracy"):
            label, color, line = LOOKS[name]
            for row in results[order][name].to_numpy():
                axes.plot(results[order]["pruned"], row, color=color, lw=0.6, alpha=0.3)
            axes.plot(results[order]["pruned"], results[order][name].mean("seed"), color=color, ls=line, label=label)
        axes.set(title=title, xlabel="fraction pruned")
        finish(axes)
    panels[0].set_ylabel("accuracy")
    panels[0].legend(frameon=False)


def phase_maps(figure: Figure, results: Results, phases: Callable[[Results], dict[Any, str]]) -> None:
    """One map for every rate of decay: phases over data fraction and corruption."""
    found, names = phases(results), list(PHASES)
    decays = sorted({place[0] for place in found})
    panels = figure.subplots(1, len(decays), sharey=True, squeeze=False)[0]
    for axes, decay in zip(panels, decays, strict=True):
        for (rate, fraction, corruption), name in found.items():
            if rate == decay:
                axes.plot(fraction, corruption, "s", ms=9, color=PHASES[name])
        axes.set(title=f"decay {decay:g}", xlabel="data fraction")
        axes.margins(0.12)
    panels[0].set_ylabel(r"corruption $\xi$")
    for name in names:
        panels[-1].plot([], [], "s", color=PHASES[name], label=name)
    figure.legend(loc="outside lower center", ncols=len(names), frameon=False)


def landscape(figure: Figure, results: Results) -> None:
    """Reduced train and test loss over the norm."""
    (found,) = results.values()
    axes = figure.subplots()
    for name in ("train_loss", "test_loss"):
        label, color, line = LOOKS[name]
        for row in found[name].transpose("seed", "factor").to_numpy():
            axes.plot(found["factor"], row, color=color, lw=0.6, alpha=0.3)
        values = np.maximum(found[name].transpose("seed", "factor").to_numpy(), 1e-30)
        axes.plot(found["factor"], np.exp(np.log(values).mean(axis=0)), "o", ms=3, color=color, ls=line, label=label)
    axes.set(xscale="log", yscale="log", xlabel="norm / initial norm", ylabel="reduced loss")
    axes.set_ylim(bottom=1e-8)
    finish(axes)
    axes.legend(frameon=False)


def over_decay(figure: Figure, results: Results) -> None:
    """Accuracies over steps, one colour a rate; beside them the steps to 95 %."""
    from sim.measures import steps_to

    left, right = figure.subplots(1, 2)
    colors = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
    decays = [float(label.removeprefix("decay-")) for label in results]
    for color, decay, dataset in zip(colors, decays, results.values(), strict=False):
        draw_curve(left, dataset, "test_accuracy", (f"decay {decay:g}", color, "-"))
        draw_curve(left, dataset, "train_accuracy", ("_train", color, DASHED))
    for name in ACCURACIES:
        label, color, line = LOOKS[name]
        times = [np.mean(steps_to(dataset, name, 0.95)) for dataset in results.values()]
        right.plot(decays, times, "o", color=color, ls=line, label=label)
    left.set(xscale="log", xlabel="steps", ylabel="accuracy (dashed: train)")
    right.set(xscale="log", yscale="log", xlabel="weight decay", ylabel="steps to 95 %")
    right.set_xticks(decays, [f"{decay:g}" for decay in decays])
    right.xaxis.set_minor_locator(NullLocator())
    for axes in (left, right):
        finish(axes)
        axes.legend(frameon=False)


def _readable(label: str) -> str:
    """`alpha-0.5-decay-1` as "alpha 0.5, decay 1"."""
    words = label.split("-")
    if len(words) < 2 or len(words) % 2:
        return label.replace("_", " ")
    return ", ".join(f"{name} {value}" for name, value in zip(words[::2], words[1::2], strict=True))
