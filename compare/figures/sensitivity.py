"""Which parameter moves which part of the curves, in one picture. No physics here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from compare.fields import FIELDS
from compare.figures.style import (
    BLUE,
    FIRST,
    GREEN,
    ORANGE,
    PURPLE,
    SECOND,
    SKY,
    TIME_LABEL,
    VERMILION,
    Picture,
    Style,
    draw_line,
    finish,
    house_style,
    model_in_words,
)

if TYPE_CHECKING:
    import xarray

LOSSES = {"train_loss": Style("train loss", *FIRST), "test_loss": Style("test loss", *SECOND)}
LINES = ((BLUE, "-"), (VERMILION, (0.0, (5.0, 1.5))), (GREEN, (0.0, (1.0, 1.0))), (PURPLE, (0.0, (4.0, 1.2, 1.0, 1.2))),
         (ORANGE, (0.0, (7.0, 1.5, 2.0, 1.5))), (SKY, (0.0, (2.5, 1.2))), ("#000000", (0.0, (1.0, 2.2))))  # fmt: skip
#: The first time shown, of the last.
EARLIEST = 1e-3


def sensitivity_figure(found: xarray.Dataset) -> Figure:
    """The losses above; below, d log loss / d log parameter of each, with bands of one standard error.

    Args:
        found: of `dmft.sensitivity`.
    """
    time, names = found["time"].to_numpy(), str(found.attrs["wrt"]).split(", ")
    late = time > 0
    with house_style():
        figure = Picture(figsize=(6.4, 7.2), layout="constrained", dpi=200)
        panels = figure.subplots(3, 1, sharex=True, height_ratios=(1.1, 1.0, 1.0))
        for name, style in LOSSES.items():
            value, error = (found[key].to_numpy()[late] for key in (name, f"{name}_error"))
            draw_line(panels[0], time[late], value, error, style).set_label(style.label)
            reached = float(found["t_train" if name == "train_loss" else "t_test"])
            if np.isfinite(reached):
                for axes in panels:
                    axes.axvline(reached, color=style.color, linewidth=0.7, linestyle=style.line, alpha=0.6)
        panels[0].set(yscale="log", ylabel="mean squared error")
        for axes, (name, style) in zip(panels[1:], LOSSES.items(), strict=True):
            value = found[name].to_numpy()[late]
            for parameter, (color, line) in zip(names, LINES, strict=False):
                slope, error = (found[f"{name}_by_{parameter}{end}"].to_numpy()[late] for end in ("", "_error"))
                tex = FIELDS[parameter].tex if parameter in FIELDS else r"\mathrm{step}"
                look = Style(f"${tex}$", color, line, "o")
                draw_line(axes, time[late], slope / value, error / value, look, logarithmic=False).set_label(look.label)
            axes.axhline(0.0, color="0.3", linewidth=0.8)
            axes.set(ylabel=f"d log({style.label}) / d log(...)")
            axes.legend(ncols=2)
        for axes in panels:
            finish(axes)
            axes.set(xscale="log", xlim=(EARLIEST * time[-1], 1.1 * time[-1]))
        panels[0].legend(loc="lower left")
        panels[-1].set(xlabel=TIME_LABEL)
        figure.suptitle(", ".join(model_in_words(found.attrs)), fontsize=9.5)
    return figure
