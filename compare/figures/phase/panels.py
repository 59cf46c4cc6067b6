"""The points of a phase diagram as a grid of panels: theory over simulation, and whether they agree."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from compare.agreement import Agreement, overlay
from compare.fields import FIELDS
from compare.figures.overlay import LOSSES
from compare.figures.style import (
    TIME_LABEL,
    VERMILION,
    Picture,
    draw_line,
    draw_points,
    house_style,
    key_to,
    model_in_words,
    seeds_in_words,
    span,
)
from compare.verdicts import AGREES, DIFFERS, NO_ERROR, TOO_FEW
from dmft.checks import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: At most so many panels along either field.
MOST = 6
#: Theory, and simulation, as small as a panel is.
_LINE, _POINTS = partial(draw_line, width=1.2), partial(draw_points, count=12, size=2.8, cap=0.0)
#: Colour of the verdict, by what it is; of two losses the first of these counts.
VERDICTS = {DIFFERS: VERMILION, NO_ERROR: "0.45", TOO_FEW: "0.45", AGREES: "0.2"}

#: Value of the field x, of the field y (None if there is one field), theory, simulation.
Point = tuple[float, float | None, xarray.Dataset, xarray.Dataset]


def panels_figure(points: Sequence[Point], x: str, y: str = "") -> Figure:
    """Train and test loss of theory (lines) over simulation (points), x over the columns and y over the rows.

    Each panel says the largest |z| of the two losses, and whether both agree (`compare.Agreement.summary`). Of more
    than MOST values of a field MOST are shown, evenly chosen. All panels share their axes.

    Args:
        points: the points that have both; places of the grid without one stay empty.
        x: name of the field over the columns.
        y: name of the field over the rows, upwards; empty if there is one field.

    Raises:
        ParameterError: there is no point.
    """
    if not points:
        raise ParameterError("Argument `points` must hold at least one point, but is empty.")
    columns, rows = (_chosen([point[place] for point in points]) for place in (0, 1))
    agreements = {point[:2]: overlay(*point[2:]) for point in points if point[0] in columns and point[1] in rows}
    with house_style():
        size = (max(1.25 * len(columns) + 0.9, 5.6), 1.1 * len(rows) + 1.2)
        figure = Picture(figsize=size, layout="constrained", dpi=200)
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)  # type: ignore[union-attr]
        grid = figure.subplots(len(rows), len(columns), sharex=True, sharey=True, squeeze=False)
        start, end, bottom, top = _ranges(list(agreements.values()))
        grid[0, 0].set(xscale="log", yscale="log", xlim=(start, end), ylim=(bottom, top))
        for row, along_y in enumerate(reversed(rows)):
            for column, along_x in enumerate(columns):
                axes = grid[row, column]
                _set_ticks(axes)
                if row == 0:
                    axes.set_title(_value(x, along_x), fontsize=8.0)
                if y and column == len(columns) - 1:
                    _write_beside(axes, _value(y, along_y))
                if (along_x, along_y) in agreements:
                    _draw_panel(axes, agreements[along_x, along_y], start)
                else:
                    _write_inside(axes, (0.5, 0.5), "no run", "0.5", ha="center")
        _describe(figure, next(iter(agreements.values())), (x, y))
    return figure


def _chosen(values: list[Any]) -> list[Any]:
    """Of the different `values`, in increasing order, at most MOST, evenly spread, first and last included."""
    different = sorted(set(values), key=lambda value: -np.inf if value is None else value)
    places = np.unique(np.rint(np.linspace(0, len(different) - 1, min(MOST, len(different)))).astype(int))
    return [different[place] for place in places]


def _ranges(agreements: list[Agreement]) -> tuple[float, float, float, float]:
    """Common ranges of time and loss, from the first time that any panel resolves; DECADES below the largest loss."""
    sides = [side.curves for agreement in agreements for side in (agreement.first, agreement.second)]
    times = [curves["time"].to_numpy() for curves in sides]
    end = max(float(time[-1]) for time in times)
    start = max(min(float(time[time > 0.0][0]) for time in times), 1e-4 * end)
    bottom, top = span(
        curves[name].to_numpy()[time >= start] for curves, time in zip(sides, times, strict=True) for name in LOSSES[1]
    ) or (1e-300, 1e-300)
    return start, end * 1.1, bottom / 1.5, top * 6.0  # room for the verdict above the curves


def _draw_panel(axes: Axes, agreement: Agreement, start: float) -> None:
    """Both losses of both sides from time `start` on, and the verdict."""
    for name, style in LOSSES[1].items():
        for side, draw in ((agreement.first, _LINE), (agreement.second, _POINTS)):
            time = side.curves["time"].to_numpy()
            shown = time >= start
            value, error = (side.curves[key].to_numpy()[shown] for key in (name, f"{name}_stderr"))
            draw(axes, time[shown], value, error, style)
    text, color = verdict(agreement)
    _write_inside(axes, (0.96, 0.94), text, color, ha="right", va="top")


def verdict(agreement: Agreement) -> tuple[str, str]:
    """What to write of the two losses, and in which colour: "max |z| 2.1, agrees", or why there is no |z|."""
    rows = [row for name, row in agreement.summary()["observables"].items() if name in LOSSES[1]]
    words = [row["verdict"] for row in rows]
    word = next(word for word in VERDICTS if word in words)
    scores = [row["max_abs_z"] for row in rows if row["max_abs_z"] is not None]
    shown = word.partition(",")[0]
    return (f"max $|z|$ {max(scores):.1f}, {shown}" if scores else shown), VERDICTS[word]


def _set_ticks(axes: Axes) -> None:
    for line in (axes.xaxis, axes.yaxis):
        line.set_major_locator(LogLocator(numticks=5))
        line.set_minor_locator(NullLocator())
    axes.tick_params(direction="in", top=True, right=True, width=0.5, labelsize=7.0)


def _value(field: str, value: float) -> str:
    """Such as "$\\kappa = 2$"."""
    return f"${FIELDS[field].tex} = {value:.3g}$"


def _write_inside(axes: Axes, place: tuple[float, float], text: str, color: str, **alignment: Any) -> None:
    axes.text(*place, text, transform=axes.transAxes, fontsize=6.5, color=color, **alignment)


def _write_beside(axes: Axes, text: str) -> None:
    look: Any = {"rotation": -90.0, "ha": "left", "va": "center", "fontsize": 8.0}
    axes.annotate(text, (1.04, 0.5), xycoords="axes fraction", **look)


def _describe(figure: Figure, agreement: Agreement, swept: tuple[str, ...]) -> None:
    """Titles of the common axes; the fixed fields; what lines and points are."""
    figure.supxlabel(TIME_LABEL, fontsize=8.5)
    figure.supylabel(LOSSES[0], fontsize=8.5)
    fixed = ",  ".join(model_in_words(agreement.first.attributes, without=swept))
    kinds = f"lines: theory;  points: simulation, {seeds_in_words(agreement.second.runs)}"
    legend = figure.legend(
        handles=[key_to(style) for style in LOSSES[1].values()],
        loc="outside upper center",
        ncols=2,
        frameon=False,
        fontsize=8.0,
        title=f"{fixed}\n{kinds};  bands and bars: one standard error",
        title_fontproperties={"size": 8.0},
    )
    legend.get_title().set_multialignment("center")
