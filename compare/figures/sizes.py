"""Simulations at several D beside the theory, in one picture: no physics here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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
    import xarray
    from matplotlib.axes import Axes

LOSSES = {"train_loss": Style("train loss", *FIRST), "test_loss": Style("test loss", *SECOND)}
#: Colours and markers of the three times.
TIMES = ((GREEN, "o"), (PURPLE, "s"), (ORANGE, "^"))
#: How much white the shade of the smallest D has.
PALEST = 0.65


def finite_size_figure(
    model: Mapping[str, Any], theory: Mapping[int, xarray.Dataset], ratios: xarray.Dataset, limits: xarray.Dataset
) -> Figure:
    """Losses over time above; below, what the simulations deviate from the theory against 1/D, at three times.

    Args:
        model: its fields.
        theory: by D.
        ratios, limits: of `compare.FiniteSize`.
    """
    with house_style():
        figure = Picture(figsize=(7.2, 6.4), layout="constrained", dpi=200)
        grid = figure.add_gridspec(2, 2, height_ratios=[1.25, 1.0])
        _draw_losses(figure.add_subplot(grid[0, :]), theory, ratios, limits)
        for column, (name, style) in enumerate(LOSSES.items()):
            where = {"observable": name}
            _draw_deviations(figure.add_subplot(grid[1, column]), ratios.sel(where), limits.sel(where), style)
        parts = model_in_words(model, without=("dim",))
        figure.suptitle(", ".join([*parts, f"$D$ = {', '.join(map(str, theory))}"]), fontsize=9.5)
    return figure


def shade(color: str, rank: int, count: int) -> tuple[float, ...]:
    """The colour of size number `rank` of `count`: white is mixed in, least for the largest."""
    white = PALEST * (1 - rank / max(count - 1, 1))
    return tuple(white + (1 - white) * part for part in to_rgb(color))


def _draw_losses(
    axes: Axes, theory: Mapping[int, xarray.Dataset], ratios: xarray.Dataset, limits: xarray.Dataset
) -> None:
    time, largest = limits["time"].to_numpy(), theory[list(theory)[-1]]
    for name, style in LOSSES.items():
        expected, own = (largest[key].to_numpy()[1:] for key in (name, f"{name}_error"))
        for rank, (dim, one) in enumerate(theory.items()):
            mean = ratios["ratio"].sel(dim=dim, observable=name).to_numpy() * one[name].to_numpy()[1:]
            color = shade(style.color, rank, len(theory))
            axes.plot(time, mean, color=color, linewidth=1.2, label=f"{style.label}, $D$ = {dim}")
        draw_line(axes, time, expected, own, style).set_label(f"{style.label}, theory")
        limit, error = (limits[key].sel(observable=name).to_numpy() for key in ("limit", "limit_error"))
        draw_points(axes, time, limit * expected, error * expected, style).set_label(f"{style.label}, extrapolated")
    finish(axes)
    axes.set(xscale="log", yscale="log", xlabel=TIME_LABEL, ylabel="mean squared error")
    axes.legend(ncols=2, loc="lower left")


def _draw_deviations(axes: Axes, ratios: xarray.Dataset, limits: xarray.Dataset, style: Style) -> None:
    time, sizes = limits["time"].to_numpy(), ratios["dim"].to_numpy().astype(float)
    power = float(limits["power"])
    fine = np.linspace(0.0, 1.05 / sizes[0], 100)
    shift = 0.012 / sizes[0]
    for place, (color, marker) in enumerate(TIMES):
        at = [len(time) // 3, 2 * len(time) // 3, len(time) - 1][place]
        moved = (place - 1) * shift  # so that bars do not cover each other
        ratio, error = (ratios[key].to_numpy()[:, at] for key in ("ratio", "ratio_error"))
        kinds = ("limit", "limit_error", "slope", "curvature")
        limit, limit_error, slope, curvature = (float(limits[key][at]) for key in kinds)
        x = fine**power
        axes.plot(fine, 100 * (limit + slope * x + curvature * x**2 - 1), color=color, linewidth=1.0)
        look = {"color": color, "marker": marker, "linestyle": "none", "markersize": 4.0, "capsize": 1.6}
        axes.errorbar(1 / sizes + moved, 100 * (ratio - 1), 100 * error, **look, label=f"$t$ = {time[at]:.3g}")
        axes.errorbar([moved], [100 * (limit - 1)], [100 * limit_error], **look, markerfacecolor="white")
    axes.axhline(0.0, color="0.3", linewidth=0.8)
    finish(axes)
    axes.set(xlabel="$1/D$", ylabel=f"simulation / theory $-$ 1, {style.label}  (%)", xlim=(-3 * shift, fine[-1]))
    axes.legend()
