"""Two sides over each other, in one picture: no physics here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, LogLocator

from compare.conditions import starts_at_random
from compare.figures.entries import ARRAYS, by_entry, shown_entries
from compare.figures.style import (
    FIRST,
    OTHERS,
    SECOND,
    THIRD,
    TIME_LABEL,
    Picture,
    Style,
    draw_line,
    draw_points,
    finish,
    house_style,
    loss_title,
    model_in_words,
    seeds_in_words,
    span,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from compare.curves import Side

#: Styles of the entries of an array; of more entries, those that change most are shown.
_ENTRY_STYLES = (FIRST, SECOND, THIRD, *OTHERS)

#: Panels: title of the value axis, then its observables.
LOSSES = (
    "mean squared error",
    {"train_loss": Style("train loss", *FIRST), "test_loss": Style("test loss", *SECOND)},
)
ORDER_PARAMETERS = (
    r"$\mathrm{tr}\,M/D,\ \ \beta^T\!M\beta/D^2,\ \ |\bar w|^2/D$",
    {
        "trace": Style("trace", *FIRST),
        "overlap": Style("overlap", *SECOND),
        "mean_weight_norm": Style("mean weight", *THIRD),
        **{f"overlap_{k}": Style(f"overlap {k}", *look) for k, look in enumerate(OTHERS, start=1)},
    },
)
SIGNS = (
    "accuracy",
    {
        "train_accuracy": Style("train accuracy", *FIRST),
        "test_accuracy": Style("test accuracy", *SECOND),
    },
)
DECOMPOSITION = (
    "part of the test loss",
    {
        "variance_error": Style("variance", *FIRST),
        "misalignment_error": Style("misalignment", *SECOND),
        "linear_power": Style("linear power", *THIRD),
    },
)


def overlay_figure(first: Side, second: Side, beside: Sequence[Side] = ()) -> Figure:
    """Two sides over each other: losses above; order parameters and the parts of the test loss, or overlaps, below.

    Theory is drawn as lines with bands of one standard error, simulation and measurement as points with bars. Of two
    sides of the same kind, the first is drawn pale and wide (or large), the second thin (or open). A pale band is the
    spread over data sets of a theory that has it.

    Args:
        first, second: the two sides.
        beside: sides of the same model at another D, drawn thin and open.
    """
    sides = (by_entry(first), by_entry(second))
    others = [by_entry(side) for side in beside]
    with house_style():
        figure = Picture(figsize=(7.2, 6.4), layout="constrained", dpi=200)
        figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06, hspace=0.02)  # type: ignore[union-attr]
        lower = [panel for panel in (ORDER_PARAMETERS, DECOMPOSITION) if _shown(panel[1], sides)]
        linear = [panel for name in ARRAYS if (panel := _array_panel(name, sides))[1]]
        linear += [SIGNS] if _shown(SIGNS[1], sides) else []
        lower += linear
        rows = 2 if lower else 1
        grid = figure.add_gridspec(rows, max(len(lower), 1), height_ratios=[1.25, 1.0][:rows])
        places = [
            (grid[0, :], (loss_title(first.attributes | second.attributes), LOSSES[1])),
            *((grid[1, column], panel) for column, panel in enumerate(lower)),
        ]
        start, end = time_range(sides)
        for place, (title, styles) in places:
            axes = figure.add_subplot(place)
            _draw_panel(axes, styles, sides, others, start, logarithmic=(title, styles) not in linear)
            axes.set(ylabel=title, xscale="log", xlim=(start / 1.08, end * 1.08))
            axes.xaxis.set_minor_locator(LogLocator(subs=range(2, 10), numticks=99))
            axes.xaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(1.0, 0.4)))
        figure.supxlabel(TIME_LABEL, fontsize=9.0)
        figure.suptitle(_title(sides, others), fontsize=9.5)
    return figure


def _array_panel(name: str, sides: tuple[Side, ...]) -> tuple[str, dict[str, Style]]:
    """Title and styles of the entries of an array observable; no styles if no side has it."""
    title, symbol, _ = ARRAYS[name]
    labels, total = shown_entries(name, sides, len(_ENTRY_STYLES))
    if total > len(labels):
        title += f" ({len(labels)} of {total})"
    return title, {
        label: Style(f"${symbol}_{{{label[len(name) + 1 : -1]}}}$", *look)
        for label, look in zip(labels, _ENTRY_STYLES, strict=False)
    }


def _shown(styles: Mapping[str, Style], sides: Sequence[Side]) -> list[str]:
    """Those observables of a panel that some side has, as curves over time alone."""
    return [name for name in styles if any(_has(side, name) for side in sides)]


def _has(side: Side, name: str) -> bool:
    return name in side.curves and side.curves[name].dims == ("time",)


def time_range(sides: Sequence[Side]) -> tuple[float, float]:
    """From the first positive time that all sides resolve to the last time, at most a factor of 10^4.

    A logarithmic axis has no room for t = 0, which is left out.
    """
    positive = [grid[grid > 0.0] for grid in (side.curves["time"].to_numpy() for side in sides)]
    starts = [grid[0] for grid in positive if grid.size]
    if not starts:
        return 0.5, 1.0
    end = max(grid[-1] for grid in positive if grid.size)
    return float(min(max(*starts, end * 1e-4), end / 2.0)), float(end)


def _draw_panel(
    axes: Axes,
    styles: Mapping[str, Style],
    sides: Sequence[Side],
    others: Sequence[Side],
    start: float,
    *,
    logarithmic: bool = True,
) -> None:
    """Every observable of the panel, all sides, from time `start` on; overlaps have a sign, and a linear axis."""
    handles, labels, seen = [], [], []
    repeated = sides[0].kind == sides[1].kind or "theory" not in (sides[0].kind, sides[1].kind)
    for name in _shown(styles, sides):
        marks = []
        for index, side in enumerate((*sides, *others)):
            if not _has(side, name):
                continue
            first = index < len(sides)
            place = 1 if not first else index if repeated else None
            # of two sizes every other point each, so that neither hides the other
            points = slice(None) if not others else slice(0 if first else 1, None, 2)
            mark = _draw_side(axes, side, name, styles[name], start, place, points, logarithmic)
            seen.append(side.curves[name].to_numpy()[side.time >= start])
            if first:
                marks.append(mark)
                _draw_spread(axes, side, name, styles[name], start)
        handles.append(tuple(marks))
        labels.append(styles[name].label)
    if logarithmic and (ends := span(seen)):
        margin = (ends[1] / ends[0]) ** 0.05 * 1.05
        axes.set(yscale="log", ylim=(ends[0] / margin, ends[1] * margin))
    finish(axes)
    axes.legend(  # above the panel, where it can hide no curve
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        borderaxespad=0.1,
        ncols=3,
        columnspacing=0.9,
        handlelength=2.1,
        handletextpad=0.4,
        frameon=False,
    )


def _draw_side(
    axes: Axes, side: Side, name: str, style: Style, start: float, place: int | None, points: slice, logarithmic: bool
) -> Any:
    """A theory as a line, anything else as points from time `start` on, of which `points` are drawn."""
    is_theory = side.kind == "theory"
    shown = np.flatnonzero(side.time > 0.0) if is_theory else np.flatnonzero(side.time >= start)[points]
    value, error = (side.curves[key].to_numpy()[shown] for key in (name, f"{name}_stderr"))
    draw = draw_line if is_theory else draw_points
    return draw(axes, side.time[shown], value, error, style, place, logarithmic=logarithmic)


def _draw_spread(axes: Axes, side: Side, name: str, style: Style, start: float) -> None:
    """The pale band of one standard deviation over data sets."""
    if side.spread is None or name not in side.spread:
        return
    shown = side.time >= start
    value, spread = (curves[name].to_numpy()[shown] for curves in (side.curves, side.spread))
    below = np.maximum(value - spread, 1e-3 * np.abs(value))
    axes.fill_between(side.time[shown], below, value + spread, color=style.color, alpha=0.13, linewidth=0.0, zorder=0.5)


def _title(sides: Sequence[Side], others: Sequence[Side] = ()) -> str:
    """The model's parameters, then what lines and points are; a theory beside other points has a D of its own."""
    first = sides[0].attributes
    beside_theory = [side.kind for side in sides].count("theory") == 1
    parts = model_in_words(*(side.attributes for side in sides), without=("dim",) if beside_theory else ())
    parts += [f"{name} {str(first[name]).rpartition('.')[2]}" for name in ("activation", "teacher") if name in first]
    kinds = [_described(side, beside_theory) for side in sides]
    if sides[0].kind == sides[1].kind:
        kinds = [f"{mark}: {kind.partition(': ')[2]}" for mark, kind in zip(_MARKS[sides[0].kind], kinds, strict=True)]
    open_points = [
        f"open: $D = {side.attributes.get('dim')}$, {seeds_in_words(side.runs)}"
        for side in others
        if side.kind != "theory"
    ]
    bands = ["bands and bars: one standard error"]
    if any(side.spread is not None for side in sides):
        bands.append(f"pale bands: how one run at $D = {first['dim']}$ scatters over data sets")
    return "\n".join([",  ".join(parts), *_filled([*kinds, *open_points, *bands])]).strip()


#: Characters of a line of the title that fit in its width.
_LINE = 98


def _filled(parts: Sequence[str]) -> list[str]:
    """The parts in lines, as many to a line as fit."""
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]};  {part}"
        if len(longer.replace("$", "").replace(r"\infty", "-")) <= _LINE:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


#: What tells two sides of one kind apart.
_MARKS = {"theory": ("wide", "thin"), "simulation": ("pale", "open"), "measurement": ("pale", "open")}


def _described(side: Side, with_dim: bool) -> str:
    """Such as "points: simulation, $D = 100$, mean of 8 seeds"."""
    dim = side.attributes.get("dim")
    if side.kind == "theory":
        # a random start has the overlaps of its D, and all else is infinite
        words, dim = "lines: theory", dim if starts_at_random(side.attributes) else "infinite"
        size = r"$D = \infty$" if dim in (None, "infinite") else f"start of $D = {dim}$"
    else:
        words, size = f"points: {side.kind}", None if dim is None else f"$D = {dim}$"
    seeds = [seeds_in_words(side.runs)] if side.kind == "simulation" else []
    return ", ".join([words, *([size] if with_dim and size else []), *seeds])
