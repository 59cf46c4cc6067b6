"""The names of regimes, written into a picture where there is room for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.patheffects import withStroke
from scipy import ndimage

from compare.figures.style import GREEN, SKY, VERMILION
from compare.grokking import Regime
from compare.sweep.measures import REGIMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Look(NamedTuple):
    """A regime in pictures: its name in full, and where there is no room; its colour in a strip with black words, and
    in the report.
    """

    name: str
    short: str
    strip: str
    color: str


#: By number.
LOOKS = {
    REGIMES[kind]: look
    for kind, look in {
        Regime.GROKS: Look("groks", "gr", "#F0B440", VERMILION),
        Regime.GENERALISES: Look("generalises", "ge", "#BFE3D4", GREEN),
        Regime.MEMORISES: Look("memorises", "me", "#9CC3E0", SKY),
        Regime.NOT_TRAINED: Look("not trained", "nt", "#C4C4C4", "#999999"),
        Regime.UNDECIDED: Look("undecided", "un", "#F4F4F4", "#F0E442"),
    }.items()
}

#: Height of a word in points, and the pixels per point of the raster on which room for it is sought.
HEIGHT, PIXELS = 7.0, 1.5


class Word(NamedTuple):
    """A word to write: its middle as fractions (x, y) of the picture, and whether it runs upwards."""

    text: str
    x: float
    y: float
    upright: bool


def place_words(regions: np.ndarray, taken: np.ndarray, height: float) -> Iterator[Word]:
    """The name of every connected region of a raster that has room for it.

    The full name is written across, or else upwards; where it fits neither way, its short form, over what is taken if
    need be.

    Args:
        regions: (H, W) numbers of the regimes, row 0 lowest; 0 is none.
        taken: (H, W) where no word should be, unless there is no other place.
        height: height of a letter, in pixels of the raster.
    """
    for number in np.unique(regions[regions > 0]).tolist():
        long, short = LOOKS[number][:2]
        patches = ndimage.label(regions == number)[0]  # type: ignore[index]
        for patch, box in enumerate(ndimage.find_objects(patches), start=1):
            inside, beside = patches[box] == patch, ~taken[box]
            for text, upright, allowed in (
                (long, False, beside),
                (long, True, beside),
                (short, False, beside),
                (short, False, inside),
            ):
                room = _room(inside, text, upright, height)
                free = room & _room(inside & allowed, text, upright, height)
                if free.any():
                    row, column = _innermost(room, free)
                    x = (column + box[1].start + 0.5) / regions.shape[1]
                    y = (row + box[0].start + 0.5) / regions.shape[0]
                    yield Word(text, x, y, upright)
                    break


def _room(free: np.ndarray, text: str, upright: bool, height: float) -> np.ndarray:
    """Where in `free` (H, W) the middle of `text` can be, with all of it inside."""
    box = (round(1.35 * height), round((0.62 * len(text) + 0.5) * height))
    return ndimage.minimum_filter(free, size=box[::-1] if upright else box, mode="constant", cval=False)


def _innermost(room: np.ndarray, free: np.ndarray) -> tuple[int, int]:
    """Of the pixels `free`, the one furthest from the outside of `room`, each (H, W); of several, the middle one."""
    depth = ndimage.distance_transform_edt(np.pad(room, 1))[1:-1, 1:-1]  # type: ignore[index, call-overload]
    deepest = np.argwhere(free & (depth == np.max(depth[free])))
    row, column = deepest[np.argmin(np.sum((deepest - deepest.mean(axis=0)) ** 2, axis=1))]
    return int(row), int(column)


def settle(figure: Figure) -> None:
    """Settle the layout of a figure that is complete but for its words."""
    figure.get_layout_engine().execute(figure)  # type: ignore[union-attr]
    figure.set_layout_engine("none")


def write_words(
    axes: Axes, regimes: np.ndarray, edges: Sequence[np.ndarray], marks: np.ndarray, mark_size: float
) -> list[str]:
    """Write the regimes' names into a map whose layout is settled, beside its marks where that is possible.

    Args:
        axes: the map.
        regimes: (rows, columns), numbers of the regimes.
        edges: (columns + 1,) and (rows + 1,), edges of the cells as fractions of the map.
        marks: (n, 2), middles (x, y) of the marks as fractions of the map.
        mark_size: their width in points.

    Returns:
        What was written.
    """
    box = axes.get_window_extent()
    pixels = PIXELS * 72.0 / axes.figure.dpi
    columns, rows = (
        np.searchsorted(edge[1:-1], (np.arange(size) + 0.5) / size)
        for edge, size in zip(edges, (round(box.width * pixels), round(box.height * pixels)), strict=True)
    )
    taken = np.zeros((rows.size, columns.size), dtype=bool)
    for x, y in marks:
        across, up = (
            (np.abs((np.arange(size) + 0.5) - place * size) < 0.5 * mark_size * PIXELS)
            for place, size in ((x, columns.size), (y, rows.size))
        )
        taken |= up[:, None] & across
    words = list(place_words(regimes[np.ix_(rows, columns)], taken, HEIGHT * PIXELS))
    for word in words:
        axes.text(
            word.x,
            word.y,
            word.text,
            transform=axes.transAxes,
            fontsize=HEIGHT,
            rotation=90.0 if word.upright else 0.0,
            ha="center",
            va="center",
            path_effects=[withStroke(linewidth=2.0, foreground="white")],
            zorder=4,
            in_layout=False,
        )
    return [word.text for word in words]


def explain(figure: Figure, written: Sequence[str]) -> None:
    """Say in the lower right corner what the short forms among the `written` words mean."""
    meanings = [f"{look.short}: {look.name}" for look in LOOKS.values() if look.short in written]
    figure.text(0.995, 0.008, "  ".join(meanings), ha="right", va="bottom", fontsize=7.0, in_layout=False)
