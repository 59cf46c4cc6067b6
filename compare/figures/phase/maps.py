"""Maps over two swept fields: delay, final test loss and the chance to grok in colour, regimes by their borders.

The colours grow lighter with the value (viridis), so that a map can be read in grey; what has no value on the scale
is told by hatching and lines, not by colour.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from compare.figures.phase.axes import BORDER_WIDTHS, CellAxis, cell_corners, regime_borders
from compare.figures.phase.words import explain, settle, write_words
from compare.figures.style import VERMILION, span
from compare.sweep.measures import PREFIXES, State

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = colormaps["viridis"]
#: Cells without a place on the scale: face, hatch, colour of the hatch.
UNREACHED = ("0.88", "/////", "0.45")
AT_ONCE = ("1.0", ".....", "0.55")
#: A map of more cells is a bitmap within a PDF.
MOST_VECTORS = 10_000
#: Colour of the mark where simulation and theory end in different regimes.
DISAGREES = VERMILION


@dataclasses.dataclass(frozen=True, eq=False)
class _Cells:
    """What one kind of run says of every cell, each (rows, columns) = (y, x), in increasing order."""

    state: np.ndarray
    delay: np.ndarray
    reached: np.ndarray
    loss: np.ndarray
    regime: np.ndarray
    certain: np.ndarray
    chance: np.ndarray | None

    @classmethod
    def of(cls, phase: xarray.Dataset, prefix: str) -> _Cells:
        x, y = phase.attrs["x"], phase.attrs["y"]
        ordered = phase.sortby([x, y])
        names = ("state", "delay", "delay_reached", "final_test_loss", "regime", "regime_certain")
        state, delay, reached, loss, regime, certain = (
            ordered[f"{prefix}{name}"].transpose(y, x).to_numpy() for name in names
        )
        likely = f"{prefix}grok_probability"
        chance = ordered[likely].transpose(y, x).to_numpy() if likely in ordered else None
        return cls(state, delay, reached > 0, loss, regime, certain > 0, chance)

    @property
    def unreached(self) -> np.ndarray:
        return (self.state == State.DONE) & ~self.reached

    @property
    def at_once(self) -> np.ndarray:
        """No delay at all: the test loss is there no later than the train loss."""
        return self.delay == 0.0

    @property
    def delay_on_scale(self) -> np.ndarray:
        return np.where(self.delay > 0.0, self.delay, np.nan)


#: The maps: what of the cells, and its name.
MAPS = {"delay_on_scale": r"delay $t_\mathrm{test} - t_\mathrm{train}$", "loss": "final test loss"}
CHANCE_MAP = {"chance": r"probability that one run groks by $t_\mathrm{max}$"}


def draw_maps(figure: Figure, phase: xarray.Dataset, kinds: list[str]) -> None:
    """The maps, their legend, and the words of the regimes (which need the maps' sizes, so they come last)."""
    below, *above = (_Cells.of(phase, PREFIXES[kind]) for kind in kinds)
    marks = above[0] if above and np.any(above[0].state) else None
    x, y = (CellAxis.of(phase, phase.attrs[name]) for name in ("x", "y"))
    maps = MAPS if below.chance is None else MAPS | CHANCE_MAP
    panels = figure.subplots(1, len(maps), sharex=True, sharey=True)
    for axes, (name, label) in zip(panels, maps.items(), strict=True):
        x.apply(axes, "x")
        y.apply(axes, "y")
        axes.tick_params(which="both", direction="out", width=0.6)
        values = np.concatenate([getattr(cells, name).ravel() for cells in (below, marks) if cells])
        norm = Normalize(0.0, 1.0) if name == "chance" else _color_scale(values)
        _draw_cells(axes, x, y, below, name, norm)
        _draw_borders(axes, x, y, below)
        if marks:
            _draw_marks(axes, x, y, marks, below, name, norm)
        _draw_colorbar(figure, axes, norm, label)
    for axes in panels[1:]:
        axes.set_ylabel("")
    handles = list(_legend(below, marks))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, handletextpad=0.6)
    settle(figure)
    centres = np.argwhere(marks.state > 0)[:, ::-1] if marks else np.empty((0, 2), dtype=int)
    middles = np.stack([axis.fractions(axis.values)[centres[:, place]] for place, axis in enumerate((x, y))], axis=-1)
    edges = [axis.fractions(axis.edges) for axis in (x, y)]
    written = [write_words(axes, below.regime, edges, middles, _mark_size(x, y) + 6.0) for axes in panels]
    explain(figure, [word for words in written for word in words])


def _color_scale(values: np.ndarray) -> LogNorm:
    """A logarithmic scale over the positive `values`, cut DECADES below the largest; smaller ones have its end."""
    ends = span([values])
    if ends is None:
        return LogNorm(0.1, 1.0)
    low, high = ends
    margin = 1.0 if high > 1.001 * low else 1.5
    return LogNorm(low / margin, high * margin, clip=True)


def _draw_cells(axes: Axes, x: CellAxis, y: CellAxis, cells: _Cells, name: str, norm: Normalize) -> None:
    """Cells coloured by `name`, and on the map of delays hatched where there is none; crosses where a run failed."""
    values = getattr(cells, name)
    colored = axes.pcolormesh(x.edges, y.edges, np.ma.masked_invalid(values), cmap=COLORS, norm=norm)
    colored.set_rasterized(values.size > MOST_VECTORS)
    if name == "delay_on_scale":
        for mask, look in ((cells.unreached, UNREACHED), (cells.at_once, AT_ONCE)):
            _hatch(axes, x, y, mask, look)
    failed = cell_corners(cells.state == State.FAILED, x.edges, y.edges)
    axes.add_collection(
        LineCollection([*failed[:, [0, 2]], *failed[:, [1, 3]]], colors="0.3", linewidths=0.8), autolim=False
    )


def _hatch(axes: Axes, x: CellAxis, y: CellAxis, mask: np.ndarray, look: tuple[str, str, str]) -> None:
    face, hatch, color = look
    corners = cell_corners(mask, x.edges, y.edges)
    axes.add_collection(
        PolyCollection(list(corners), facecolor=face, hatch=hatch, edgecolor=color, linewidth=0.0), autolim=False
    )


def _draw_borders(axes: Axes, x: CellAxis, y: CellAxis, cells: _Cells) -> None:
    """Lines between regimes, black on white to be seen on every colour; thin where a regime is not certain."""
    borders = regime_borders(cells.regime, cells.certain, x.edges, y.edges)
    for color, extra, depth in (("white", 1.4, 2.5), ("black", 0.0, 2.6)):
        widths = np.where(borders.certain, *BORDER_WIDTHS) + extra
        lines = LineCollection(
            list(borders.segments), colors=color, linewidths=widths, capstyle="projecting", zorder=depth
        )
        axes.add_collection(lines, autolim=False)


def _draw_marks(axes: Axes, x: CellAxis, y: CellAxis, marks: _Cells, cells: _Cells, name: str, norm: Normalize) -> None:
    """Simulation over theory's cells: circles; diamonds where the regimes differ; a cross where it failed."""
    size = _mark_size(x, y)
    places = np.stack(np.meshgrid(x.values, y.values), axis=-1)
    values = getattr(marks, name)
    differs = (marks.regime != cells.regime) & (marks.regime > 0) & (cells.regime > 0)
    for wrong, shape, scale, edge in ((False, "o", 1.0, "black"), (True, "D", 0.85, DISAGREES)):
        done = (marks.state == State.DONE) & (differs == wrong)
        look = {"marker": shape, "s": (scale * size) ** 2, "linewidths": 1.0, "edgecolors": edge, "zorder": 3}
        axes.scatter(*places[done].T, c="white", **look | {"linewidths": 2.6, "edgecolors": "white"})
        colored = done & np.isfinite(values)
        axes.scatter(*places[colored].T, c=values[colored], cmap=COLORS, norm=norm, **look)
        for mask, (face, _, _), hatch in ((marks.unreached, UNREACHED, "//////"), (marks.at_once, AT_ONCE, None)):
            axes.scatter(*places[done & mask & ~colored].T, c=face, hatch=hatch, **look)
    axes.scatter(*places[marks.state == State.FAILED].T, marker="x", s=size**2, c="black", linewidths=1.2, zorder=3)


def _mark_size(x: CellAxis, y: CellAxis) -> float:
    """Diameter of a mark in points: about half of the least distance on a map 180 points wide."""
    least = min(float(np.min(np.diff(axis.fractions(axis.values)), initial=1.0)) for axis in (x, y))
    return float(np.clip(80.0 * least, 3.0, 9.0))


def _draw_colorbar(figure: Figure, axes: Axes, norm: Normalize, label: str) -> None:
    assert norm.vmin is not None
    assert norm.vmax is not None
    wide = isinstance(norm, LogNorm) and norm.vmax > 9.0 * norm.vmin
    locator = LogLocator(subs=(1.0, 2.0, 5.0) if norm.vmax < 300.0 * norm.vmin else (1.0,)) if wide else MaxNLocator(5)
    bar = figure.colorbar(ScalarMappable(norm, COLORS), ax=axes, location="top", ticks=locator, aspect=28, pad=0.03)
    bar.set_label(label)
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    bar.ax.xaxis.set_minor_locator(NullLocator())


def _legend(cells: _Cells, marks: _Cells | None) -> Iterator[Any]:
    """Handles for what the maps show, and for nothing else."""
    borders = regime_borders(cells.regime, cells.certain, *(np.arange(size + 1.0) for size in cells.state.shape[::-1]))
    if np.any(borders.certain):
        yield Line2D([], [], color="black", linewidth=BORDER_WIDTHS[0], label="border between regimes")
    if not np.all(borders.certain):
        yield Line2D([], [], color="black", linewidth=BORDER_WIDTHS[1], label="border, uncertain within errors")
    shown = [cells] if marks is None else [cells, marks]
    for name, (face, hatch, color), label in (
        ("unreached", UNREACHED, "threshold not reached by $t_\\mathrm{max}$"),
        ("at_once", AT_ONCE, "no delay"),
    ):
        if any(np.any(getattr(one, name)) for one in shown):
            yield Patch(facecolor=face, hatch=hatch, edgecolor=color, linewidth=0.0, label=label)
    if any(np.any(one.state == State.FAILED) for one in shown):
        yield Line2D([], [], color="0.3", marker="x", linestyle="none", markersize=6, label="run failed")
    if marks is None:
        return
    look = {"color": COLORS(0.6), "linestyle": "none", "markersize": 6}
    yield Line2D([], [], marker="o", markeredgecolor="black", label="simulation", **look)
    if np.any((marks.regime != cells.regime) & (marks.regime > 0) & (cells.regime > 0)):
        yield Line2D([], [], marker="D", markeredgecolor=DISAGREES, label="simulation, in another regime", **look)
