"""Simulations at several D beside the theory, in one picture: no physics here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from compare.figures.style import (
    FIRST,
    GREEN,
    ORANGE,
    PURPLE,
    SECOND,
    TIME_LABEL,
    Picture,
    Style,
    draw_line,
    draw_points,
    finish,
    house_style,
    model_in_words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from compare.sizes import FiniteSize

LOSSES = {"train_loss": Style("train loss", *FIRST), "test_loss": Style("test loss", *SECOND)}
#: Colours and markers of the three times.
TIMES = ((GREEN, "o"), (PURPLE, "s"), (ORANGE, "^"))
#: How much white the shade of the smallest D has.
PALEST = 0.65


def finite_size_figure(found: FiniteSize) -> Figure:
    """Losses over time above; below, what the simulations deviate from the theory against 1/D, at three times."""
    with house_style():
        figure = Picture(figsize=(7.2, 6.4), layout="constrained", dpi=200)
        grid = figure.add_gridspec(2, 2, height_ratios=[1.25, 1.0])
        _draw_losses(figure.add_subplot(grid[0, :]), found)
        for column, (name, style) in enumerate(LOSSES.items()):
            _draw_deviations(figure.add_subplot(grid[1, column]), found, name, style)
        parts = model_in_words(found.model.to_attributes(), without=("dim",))
        figure.suptitle(", ".join([*parts, f"$D$ = {', '.join(map(str, found.simulations))}"]), fontsize=9.5)
    return figure


def shade(color: str, rank: int, count: int) -> tuple[float, ...]:
    """The colour of size number `rank` of `count`: white is mixed in, least for the largest."""
    white = PALEST * (1 - rank / max(count - 1, 1))
    return tuple(white + (1 - white) * part for part in to_rgb(color))


def _draw_losses(axes: Axes, found: FiniteSize) -> None:
    time, largest = found.limits["time"].to_numpy(), list(found.simulations)[-1]
    theory = found.theory[largest]
    for name, style in LOSSES.items():
        expected, own = (theory[key].to_numpy()[1:] for key in (name, f"{name}_error"))
        for rank, dim in enumerate(found.simulations):
            ratio = found.ratios["ratio"].sel(dim=dim, observable=name).to_numpy()
            base = found.theory[dim][name].to_numpy()[1:]
            color = shade(style.color, rank, len(found.simulations))
            axes.plot(time, ratio * base, color=color, linewidth=1.2, label=f"{style.label}, $D$ = {dim}")
        draw_line(axes, time, expected, own, style).set_label(f"{style.label}, theory")
        limit, error = (found.limits[key].sel(observable=name).to_numpy() for key in ("limit", "limit_error"))
        draw_points(axes, time, limit * expected, error * expected, style).set_label(f"{style.label}, extrapolated")
    finish(axes)
    axes.set(xscale="log", yscale="log", xlabel=TIME_LABEL, ylabel="mean squared error")
    axes.legend(ncols=2, loc="lower left")


def _draw_deviations(axes: Axes, found: FiniteSize, name: str, style: Style) -> None:
    time, sizes = found.limits["time"].to_numpy(), np.array(list(found.simulations), dtype=float)
    one, limits = found.ratios.sel(observable=name), found.limits.sel(observable=name)
    power = float(limits["power"])
    fine = np.linspace(0.0, 1.05 / sizes[0], 100)
    shift = 0.012 / sizes[0]
    for place, (color, marker) in enumerate(TIMES):
        at = [len(time) // 3, 2 * len(time) // 3, len(time) - 1][place]
        moved = (place - 1) * shift  # so that bars do not cover each other
        ratio, error = (one[key].to_numpy()[:, at] for key in ("ratio", "ratio_error"))
        limit, limit_error, slope = (float(limits[key][at]) for key in ("limit", "limit_error", "slope"))
        axes.plot(fine, 100 * (limit + slope * fine**power - 1), color=color, linewidth=1.0)
        look = {"color": color, "marker": marker, "linestyle": "none", "markersize": 4.0, "capsize": 1.6}
        axes.errorbar(1 / sizes + moved, 100 * (ratio - 1), 100 * error, **look, label=f"$t$ = {time[at]:.3g}")
        axes.errorbar([moved], [100 * (limit - 1)], [100 * limit_error], **look, markerfacecolor="white")
    axes.axhline(0.0, color="0.3", linewidth=0.8)
    finish(axes)
    axes.set(xlabel="$1/D$", ylabel=f"simulation / theory $-$ 1, {style.label}  (%)", xlim=(-3 * shift, fine[-1]))
    axes.legend()
