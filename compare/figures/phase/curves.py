"""Curves over one swept field: the regimes in a strip, the times to the threshold, the losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.lines import Line2D

from compare.figures.phase.axes import BORDER_WIDTHS, CellAxis, cell_corners, regime_borders
from compare.figures.phase.words import LOOKS, explain, settle, write_words
from compare.figures.style import FIRST, PURPLE, SECOND, THIRD, Style, finish, key_to, loss_title, shown_below, span
from compare.sweep.measures import PREFIXES, State

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TIMES = {
    "t_train": Style(r"$t_\mathrm{train}$", *FIRST),
    "t_test": Style(r"$t_\mathrm{test}$", *SECOND),
    "delay": Style(r"delay $t_\mathrm{test} - t_\mathrm{train}$", *THIRD),
}
LOSSES = {
    "final_train_loss": Style("final train loss", *FIRST),
    "final_test_loss": Style("final test loss", *SECOND),
    "peak_test_loss": Style("peak test loss", PURPLE, (0.0, (5.0, 1.5, 1.0, 1.5)), "D"),
}
CHANCES = {"grok_probability": Style("one run groks", *FIRST)}


@dataclasses.dataclass(frozen=True, eq=False)
class _Run:
    """One kind of run along the axis.

    Attributes:
        kind: "theory" or "simulation".
        points: the dataset, its field in increasing order.
        joined: whether lines join its points.
    """

    kind: str
    points: xarray.Dataset
    joined: bool

    def __getitem__(self, name: str) -> np.ndarray:
        """Variable `name`, (n,); a time is NaN where it is not reached, and all is where there is no finished run."""
        return self.points[f"{PREFIXES[self.kind]}{name}"].to_numpy()

    def limits(self, t_max: float) -> Iterator[tuple[str, np.ndarray]]:
        """Lower limits (n,) of the times that are not reached; NaN where they are, or where nothing is known."""
        done = self["state"] == State.DONE
        for name in TIMES:
            least = t_max - self["t_train"] if name == "delay" else t_max
            yield name, np.where(done & (self[f"{name}_reached"] == 0), least, np.nan)


def draw_curves(figure: Figure, phase: xarray.Dataset, kinds: list[str]) -> None:
    """Panels over the field `x`: the regimes, the times, the losses; theory as lines, simulation as points.

    Where it is known, a last one has the probability that one run groks.
    """
    axis = CellAxis.of(phase, phase.attrs["x"])
    ordered = phase.sortby(phase.attrs["x"])
    runs = [_Run(kind, ordered, joined=place == 0) for place, kind in enumerate(kinds)]
    chances = [run for run in runs if f"{PREFIXES[run.kind]}grok_probability" in phase]
    heights = [0.14 * len(runs), 1.0, 1.0, *([0.7] if chances else [])]
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    strip, times, losses, *last = panels
    for axes in panels:
        axis.apply(axes, "x")
        axes.set_xlabel("")
    panels[-1].set_xlabel(axis.title)
    _draw_strip(strip, axis, runs)
    t_max = float(phase.attrs["t_max"])
    of_losses = loss_title({"loss": phase.attrs.get("model_loss", "square")})
    for axes, styles, title in ((times, TIMES, "training time"), (losses, LOSSES, of_losses)):
        limits = [1.5 * limit for run in runs for _, limit in run.limits(t_max)] if styles is TIMES else []
        _set_range(axes, [*(run[name] for run in runs for name in styles), *limits])
        for run in runs:
            for name, style in styles.items():
                _draw_values(axes, axis.values, run, name, style)
        axes.set_ylabel(title)
        finish(axes)
    for axes in last:
        _draw_chances(axes, axis.values, chances)
    marks = _draw_limits(times, axis.values, runs, t_max)
    _draw_legend(times, TIMES, marks)
    _draw_legend(losses, LOSSES, {})
    settle(figure)
    explain(figure, write_words(strip, *_apart(_rows(runs, "regime"), axis), np.empty((0, 2)), 0.0))


def _rows(runs: list[_Run], name: str) -> np.ndarray:
    """Variable `name` as (kinds, n), the first kind uppermost."""
    return np.stack([run[name] for run in reversed(runs)])


def _apart(rows: np.ndarray, axis: CellAxis) -> tuple[np.ndarray, list[np.ndarray]]:
    """The strip's `rows` (kinds, n) with thin empty rows between them, that each has its own words; and the edges."""
    regimes = np.zeros((2 * len(rows) - 1, rows.shape[1]), dtype=rows.dtype)
    regimes[::2] = rows
    middles = np.arange(1.0, len(rows)) / len(rows)
    heights = np.sort(np.concatenate([[0.0], middles - 0.02, middles + 0.02, [1.0]]))
    return regimes, [axis.fractions(axis.edges), heights]


def _draw_strip(axes: Axes, axis: CellAxis, runs: list[_Run]) -> None:
    """A row of cells for each kind of run, coloured by regime; a cross where the run failed."""
    rows = np.arange(len(runs) + 1.0)
    regimes = _rows(runs, "regime")
    for number, look in LOOKS.items():
        cells = cell_corners(regimes == number, axis.edges, rows)
        axes.add_collection(PolyCollection(list(cells), facecolor=look.strip, linewidth=0.0), autolim=False)
    borders = regime_borders(regimes, _rows(runs, "regime_certain"), axis.edges, rows)
    upright = borders.segments[:, 0, 0] == borders.segments[:, 1, 0]  # theory and simulation are not neighbours
    lines = LineCollection(
        list(borders.segments[upright]), colors="black", linewidths=np.where(borders.certain, *BORDER_WIDTHS)[upright]
    )
    axes.add_collection(lines, autolim=False)
    for row, run in enumerate(reversed(runs)):
        failed = run["state"] == State.FAILED
        axes.plot(axis.values[failed], np.full(failed.sum(), row + 0.5), "x", color="0.3", markersize=5)
    for row in rows[1:-1]:
        axes.axhline(row, color="black", linewidth=0.7)
    axes.set_ylim(0.0, len(runs))
    axes.set_yticks(rows[:-1] + 0.5, [run.kind for run in reversed(runs)])
    axes.tick_params(which="both", length=0.0, labelbottom=False)


def _set_range(axes: Axes, values: list[np.ndarray]) -> None:
    """A logarithmic axis over the positive values, cut DECADES below the largest."""
    bottom, top = span(values) or (0.13, 0.77)
    margin = 1.3 * (top / bottom) ** 0.06
    axes.set(yscale="log", ylim=(bottom / margin, top * margin))


def _draw_values(axes: Axes, x: np.ndarray, run: _Run, name: str, style: Style) -> None:
    """Values (n,) with bars of one standard error; lines where they are joined; open marks for the second kind."""
    value, error = run[name], np.nan_to_num(run[f"{name}_error"])
    shown = value > 0.0  # NaN is not
    if run.joined:
        axes.plot(x, np.where(shown, value, np.nan), color=style.color, linestyle=style.line, linewidth=1.3)
    axes.errorbar(
        x[shown],
        value[shown],
        yerr=np.stack([shown_below(value, error), error])[:, shown],
        color=style.color,
        linestyle="none",
        marker=style.marker,
        markersize=2.5 if run.joined else 5.0,
        markerfacecolor=style.color if run.joined else "white",
        elinewidth=0.9,
        capsize=1.6,
        zorder=3 if run.joined else 2.5,
    )


def _draw_chances(axes: Axes, x: np.ndarray, runs: list[_Run]) -> None:
    """The probability that one run groks, from 0 to 1."""
    (name, style), *_ = CHANCES.items()
    for run in runs:
        if run.joined:
            axes.plot(x, run[name], color=style.color, linestyle=style.line, linewidth=1.3)
        axes.errorbar(
            x,
            run[name],
            yerr=np.nan_to_num(run[f"{name}_error"]),
            color=style.color,
            linestyle="none",
            marker=style.marker,
            markersize=2.5 if run.joined else 5.0,
            markerfacecolor=style.color if run.joined else "white",
            elinewidth=0.9,
            capsize=1.6,
            zorder=3 if run.joined else 2.5,
        )
    axes.set(ylim=(-0.05, 1.05), ylabel="probability")
    finish(axes)
    _draw_legend(axes, CHANCES, {})


def _draw_limits(axes: Axes, x: np.ndarray, runs: list[_Run], t_max: float) -> dict[str, str]:
    """Arrows up at the least that unreached times can be, arrows down at the bottom for no delay; the marks used."""
    used = {}
    for run in runs:
        for name, limit in run.limits(t_max):
            color, face = TIMES[name].color, TIMES[name].color if run.joined else "white"
            known = np.isfinite(limit)
            if known.any():
                used["at least (not reached)"] = r"$\uparrow$"
            axes.errorbar(
                x[known],
                limit[known],
                yerr=0.5 * limit[known],
                lolims=True,
                color=color,
                linestyle="none",
                marker=TIMES[name].marker,
                markersize=2.5 if run.joined else 5.0,
                markerfacecolor=face,
                elinewidth=0.9,
                capsize=2.5,
            )
        none = run["delay"] == 0.0
        if none.any():
            used["no delay"] = r"$\downarrow$"
        axes.plot(
            x[none],
            np.full(none.sum(), 0.05),
            marker=r"$\downarrow$",
            markersize=7.0,
            linestyle="none",
            color=TIMES["delay"].color,
            transform=axes.get_xaxis_transform(),
        )
    return used


def _draw_legend(axes: Axes, styles: Mapping[str, Style], marks: Mapping[str, str]) -> None:
    """Beside the panel, where it can hide no curve."""
    handles = [key_to(style) for style in styles.values()]
    handles += [
        Line2D([], [], color="0.3", linestyle="none", marker=mark, markersize=7.0, label=label)
        for label, mark in marks.items()
    ]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.005, 1.0), borderaxespad=0.0, frameon=False)
