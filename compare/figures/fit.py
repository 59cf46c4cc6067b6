"""A fit in one picture: measured curves over the best theory, and their residuals. No physics here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from compare.figures.style import (
    FIRST,
    SECOND,
    TIME_LABEL,
    Picture,
    Style,
    draw_line,
    draw_points,
    finish,
    house_style,
    model_in_words,
    thin,
)

if TYPE_CHECKING:
    import xarray

LOSSES = {"train_loss": Style("train loss", *FIRST), "test_loss": Style("test loss", *SECOND)}


def fit_figure(model: Mapping[str, Any], curves: xarray.Dataset) -> Figure:
    """Losses above, theory as lines and measurement as points; residuals in standard errors below.

    Args:
        model: its fields.
        curves: of `compare.Fit`.
    """
    time = curves["time"].to_numpy()
    late = time > 0
    with house_style():
        figure = Picture(figsize=(6.4, 5.6), layout="constrained", dpi=200)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1.0))
        for name in curves["loss"].values:
            one, style = curves.sel(loss=name).isel(time=late), LOSSES[str(name)]
            theory, measured, error, own = (
                one[key].to_numpy() for key in ("theory", "measured", "error", "theory_error")
            )
            draw_line(above, time[late], theory, own * theory, style).set_label(f"{style.label}, fitted theory")
            draw_points(above, time[late], measured, error * measured, style).set_label(f"{style.label}, measured")
            shown = thin(time[late], 60)
            below.plot(
                time[late][shown], one["residual"].to_numpy()[shown], style.marker, color=style.color, markersize=3.0
            )
        below.axhspan(-1.0, 1.0, color="0.9", linewidth=0.0, zorder=0)
        for axes in (above, below):
            finish(axes)
        above.set(xscale="log", yscale="log", ylabel="mean squared error")
        above.legend(loc="lower left")
        reach = max(3.0, float(np.nanmax(np.abs(curves["residual"].to_numpy()), initial=0.0)) * 1.1)
        below.set(xlabel=TIME_LABEL, ylabel="residual / error", ylim=(-reach, reach))
        figure.suptitle(", ".join(model_in_words(model)), fontsize=9.5)
    return figure
