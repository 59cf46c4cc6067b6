"""Pictures of curves: no physics here, and no state shared with other figures (no pyplot).

Colours are those of Okabe and Ito, told apart by the colour-blind; observables also differ in line style and marker,
so that a picture printed in grey can be read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, LogLocator

from compare.figures.entries import ARRAYS, by_entry, shown_entries
from compare.figures.style import house_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from compare.curves import Side

#: Points drawn of a simulated or measured curve, spread evenly over the logarithm of time.
POINTS = 25

#: A panel shows at most this many factors of ten below its largest value.
DECADES = 5.0

TIME_LABEL = r"training time $t$   (one unit is $N D / (\alpha^2 \eta)$ steps at learning rate $\eta$)"


@dataclasses.dataclass(frozen=True)
class Style:
    """How one observable is drawn, and what it is called."""

    label: str
    color: str
    line: str | tuple[float, tuple[float, ...]]
    marker: str


_FIRST = ("#0072B2", "-", "o")  # blue
_SECOND = ("#D55E00", (0.0, (5.0, 1.5)), "s")  # vermilion
_THIRD = ("#009E73", (0.0, (1.0, 1.0)), "^")  # bluish green
_OTHERS = (
    ("#CC79A7", (0.0, (4.0, 1.2, 1.0, 1.2)), "D"),  # reddish purple
    ("#E69F00", (0.0, (7.0, 1.5, 2.0, 1.5)), "v"),  # orange
    ("#56B4E9", (0.0, (2.5, 1.2)), "P"),  # sky blue
    ("#000000", (0.0, (1.0, 2.2)), "X"),
    ("#7F7F7F", (0.0, (6.0, 1.0, 1.0, 1.0, 1.0, 1.0)), "<"),
    ("#8C564B", (0.0, (3.0, 2.5)), ">"),
)
#: Styles of the entries of an array; of more entries, those that change most are shown.
_ENTRY_STYLES = (_FIRST, _SECOND, _THIRD, *_OTHERS)

#: Panels: title of the value axis, then its observables.
LOSSES = (
    "mean squared error",
    {"train_loss": Style("train loss", *_FIRST), "test_loss": Style("test loss", *_SECOND)},
)
ORDER_PARAMETERS = (
    r"$\mathrm{tr}\,M/D,\ \ \beta^T\!M\beta/D^2,\ \ |\bar w|^2/D$",
    {
        "trace": Style("trace", *_FIRST),
        "overlap": Style("overlap", *_SECOND),
        "mean_weight_norm": Style("mean weight", *_THIRD),
    },
)
DECOMPOSITION = (
    "part of the test loss",
    {
        "variance_error": Style("variance", *_FIRST),
        "misalignment_error": Style("misalignment", *_SECOND),
        "linear_power": Style("linear power", *_THIRD),
    },
)


def overlay_figure(first: Side, second: Side) -> Figure:
    """Two sides over each other: losses above; order parameters and the parts of the test loss, or overlaps, below.

    Theory is drawn as lines with bands of one standard error, simulation and measurement as points with bars. Of two
    sides of the same kind, the first is drawn pale and wide (or large), the second thin (or open).
    """
    sides = (by_entry(first), by_entry(second))
    with house_style():
        figure = Figure(figsize=(7.2, 6.4), layout="constrained", dpi=200)
        figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06, hspace=0.02)  # type: ignore[union-attr]
        lower = [panel for panel in (ORDER_PARAMETERS, DECOMPOSITION) if _shown(panel[1], sides)]
        arrays = [panel for name in ARRAYS if (panel := _array_panel(name, sides))[1]]
        lower += arrays
        rows = 2 if lower else 1
        grid = figure.add_gridspec(rows, max(len(lower), 1), height_ratios=[1.25, 1.0][:rows])
        places = [(grid[0, :], LOSSES), *((grid[1, column], panel) for column, panel in enumerate(lower))]
        start, end = time_range(sides)
        for place, (title, styles) in places:
            axes = figure.add_subplot(place)
            _draw_panel(axes, styles, sides, start, logarithmic=(title, styles) not in arrays)
            axes.set(ylabel=title, xscale="log", xlim=(start / 1.08, end * 1.08))
            axes.xaxis.set_minor_locator(LogLocator(subs=range(2, 10), numticks=99))
            axes.xaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(1.0, 0.4)))
        figure.supxlabel(TIME_LABEL, fontsize=9.0)
        figure.suptitle(_title(sides), fontsize=9.5)
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
    axes: Axes, styles: Mapping[str, Style], sides: Sequence[Side], start: float, *, logarithmic: bool = True
) -> None:
    """Every observable of the panel, both sides, from time `start` on; overlaps have a sign, and a linear axis."""
    handles, labels, seen = [], [], []
    for name in _shown(styles, sides):
        marks = []
        for index, side in enumerate(sides):
            if not _has(side, name):
                continue
            repeated = sides[0].kind == sides[1].kind or "theory" not in (sides[0].kind, sides[1].kind)
            time, value, error = (
                side.curves[key].to_numpy() if key in side.curves.variables else np.array([])
                for key in ("time", name, f"{name}_stderr")
            )
            draw = _draw_line if side.kind == "theory" else _draw_points
            shown = time > 0.0 if side.kind == "theory" else time >= start
            place = index if repeated else None
            marks.append(draw(axes, time[shown], value[shown], error[shown], styles[name], place, logarithmic))
            seen.append(value[time >= start])
        handles.append(tuple(marks))
        labels.append(styles[name].label)
    if logarithmic:
        _set_value_axis(axes, np.concatenate(seen) if seen else np.array([]))
    axes.grid(which="major", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", direction="in", top=True, right=True, width=0.6)
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


def _draw_line(
    axes: Axes,
    time: np.ndarray,
    value: np.ndarray,
    error: np.ndarray,
    style: Style,
    place: int | None,
    logarithmic: bool = True,
) -> Any:
    """A curve (T,) with a band of one standard error. Of two lines, that at place 0 is pale and wide, 1 thin."""
    width, opacity = {0: (4.5, 0.3), 1: (1.0, 1.0), None: (1.7, 1.0)}[place]
    spread = np.nan_to_num(error)
    floor = 1e-3 * np.abs(value) if logarithmic else -np.inf
    axes.fill_between(
        time, np.maximum(value - spread, floor), value + spread, color=style.color, alpha=0.22, linewidth=0.0
    )
    line = "-" if place == 0 else style.line
    return axes.plot(time, value, color=style.color, linestyle=line, linewidth=width, alpha=opacity)[0]


def _draw_points(
    axes: Axes,
    time: np.ndarray,
    value: np.ndarray,
    error: np.ndarray,
    style: Style,
    place: int | None,
    logarithmic: bool = True,
) -> Any:
    """About POINTS of the points (T,), with bars of one standard error. Of two sets, place 0 is pale, 1 open."""
    chosen = thin(time)
    time, value, error = time[chosen], value[chosen], np.nan_to_num(error[chosen])
    lower = np.minimum(error, (1.0 - 1e-3) * np.abs(value)) if logarithmic else error
    return axes.errorbar(
        time,
        value,
        yerr=np.stack([lower, error]),
        color=style.color,
        linestyle="none",
        marker=style.marker,
        markersize=6.5 if place == 0 else 4.2,
        alpha=0.5 if place == 0 else 1.0,
        markerfacecolor="white" if place == 1 else style.color,
        markeredgecolor=style.color if place == 1 else "white",
        markeredgewidth=0.9 if place == 1 else 0.4,
        elinewidth=0.9,
        capsize=1.6,
        capthick=0.7,
        zorder=3,
    )


def thin(time: np.ndarray, count: int = POINTS) -> np.ndarray:
    """Indices of about `count` of the times (T,) > 0, evenly spread over log time, first and last included."""
    if time.size <= count:
        return np.arange(time.size)
    targets = np.geomspace(time[0], time[-1], count)
    right = np.clip(np.searchsorted(time, targets), 1, time.size - 1)
    nearest = np.where(targets - time[right - 1] < time[right] - targets, right - 1, right)
    return np.unique(nearest)


def _set_value_axis(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic axis over the positive values, cut DECADES below the largest."""
    positive = values[np.isfinite(values) & (values > 0.0)]
    if positive.size == 0:
        return
    top = float(positive.max())
    bottom = max(float(positive.min()), top * 10.0**-DECADES)
    margin = (top / bottom) ** 0.05 * 1.05
    axes.set(yscale="log", ylim=(bottom / margin, top * margin))


def _title(sides: Sequence[Side]) -> str:
    """The model's parameters, then what lines and points are."""
    first, second = (side.attributes for side in sides)
    parts = []
    for name, symbol, hidden in (
        ("alpha", r"\alpha", None),
        ("epsilon", r"\epsilon", None),
        ("kappa", r"\kappa", None),
        ("dim", "D", None),
        ("width", "N", None),
        ("teacher_dim", "K", None),
        ("initial_overlap", r"m_0^2", "0"),
        ("label_noise", r"\sigma", "0"),
        ("weight_decay", r"\lambda", "0"),
        ("batch_fraction", "b", "1"),
    ):
        values = [_number(settings[name]) for settings in (first, second) if settings.get(name, "none") != "none"]
        if values and set(values) != {hidden}:
            parts.append(f"${symbol} = {' | '.join(dict.fromkeys(values))}$")
    if first.get("centered", second.get("centered")):
        parts.append("centred")
    parts += [f"{name} {str(first[name]).rpartition('.')[2]}" for name in ("activation", "teacher") if name in first]
    kinds = [_described(side) for side in sides]
    if sides[0].kind == sides[1].kind:
        kinds = [f"{mark}: {kind.partition(': ')[2]}" for mark, kind in zip(_MARKS[sides[0].kind], kinds, strict=True)]
    return "\n".join([",  ".join(parts), ";  ".join([*kinds, "bands and bars: one standard error"])]).strip()


def _number(value: object) -> str:
    return r"\infty" if value == "infinite" else f"{value:g}" if isinstance(value, (int, float)) else str(value)


#: What tells two sides of one kind apart.
_MARKS = {"theory": ("wide", "thin"), "simulation": ("pale", "open"), "measurement": ("pale", "open")}


def _described(side: Side) -> str:
    """Such as "points: simulation, mean of 8 seeds"."""
    if side.kind == "theory":
        return "lines: theory"
    if side.kind == "simulation":
        runs = "one seed" if side.runs == 1 else f"mean of {side.runs} seeds"
        return f"points: simulation, {runs}"
    return "points: measurement"
