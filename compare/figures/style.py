"""How all pictures look: a style of our own, whatever the user's settings of matplotlib are; lines, points and axes.

Colours are those of Okabe and Ito, told apart by the colour-blind; observables also differ in line style and marker,
so that a picture printed in grey can be read. No state is shared with other figures (no pyplot).
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from compare.fields import FIELDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: What differs from matplotlib's defaults.
LOOK: dict[str, Any] = {
    "font.size": 9.0,
    "axes.labelsize": 9.0,
    "axes.titlesize": 9.0,
    "legend.fontsize": 7.5,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "axes.linewidth": 0.7,
    "hatch.linewidth": 0.6,
}
#: Settings that are no matter of style: the window system's.
_NOT_STYLE = (
    "backend",
    "interactive",
    "toolbar",
    "webagg",
    "tk.",
    "timezone",
    "date.epoch",
    "figure.raise_window",
    "_",
)

#: Dots per inch of a picture in a notebook.
SHOWN_DPI = 100
#: Points drawn of a simulated or measured curve, spread evenly over the logarithm of time.
POINTS = 25
#: A panel shows at most this many factors of ten below its largest value.
DECADES = 5.0

TIME_LABEL = r"training time $t$   (one unit is $N D / (\alpha^2 \eta)$ steps at learning rate $\eta$)"

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
DASHED, DOTTED = (0.0, (5.0, 1.5)), (0.0, (1.0, 1.0))


@dataclasses.dataclass(frozen=True)
class Style:
    """How one observable is drawn, and what it is called."""

    label: str
    color: str
    line: str | tuple[float, tuple[float, ...]]
    marker: str


FIRST, SECOND, THIRD = (BLUE, "-", "o"), (VERMILION, DASHED, "s"), (GREEN, DOTTED, "^")
OTHERS = (
    (PURPLE, (0.0, (4.0, 1.2, 1.0, 1.2)), "D"),
    (ORANGE, (0.0, (7.0, 1.5, 2.0, 1.5)), "v"),
    (SKY, (0.0, (2.5, 1.2)), "P"),
    ("#000000", (0.0, (1.0, 2.2)), "X"),
    ("#7F7F7F", (0.0, (6.0, 1.0, 1.0, 1.0, 1.0, 1.0)), "<"),
    ("#8C564B", (0.0, (3.0, 2.5)), ">"),
)


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Draw, or save, in matplotlib's defaults and LOOK; the user's own settings hold again afterwards."""
    defaults = {name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith(_NOT_STYLE)}
    with matplotlib.rc_context(defaults | LOOK):  # type: ignore[arg-type]
        yield


class Picture(Figure):
    """A figure that a notebook shows where it is the last thing of a cell, with no magic and no pyplot: once."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        with house_style():
            self.savefig(file, format="png", dpi=SHOWN_DPI)
        return file.getvalue()


def draw_line(
    axes: Axes,
    time: np.ndarray,
    value: np.ndarray,
    error: np.ndarray,
    style: Style,
    place: int | None = None,
    *,
    logarithmic: bool = True,
    width: float = 1.7,
) -> Any:
    """A curve (T,) with a band of one standard error. Of two lines, that at place 0 is pale and wide, 1 thin."""
    width, opacity = {0: (4.5, 0.3), 1: (1.0, 1.0), None: (width, 1.0)}[place]
    spread = np.nan_to_num(error)
    floor = 1e-3 * np.abs(value) if logarithmic else -np.inf
    axes.fill_between(
        time, np.maximum(value - spread, floor), value + spread, color=style.color, alpha=0.22, linewidth=0.0
    )
    line = "-" if place == 0 else style.line
    return axes.plot(time, value, color=style.color, linestyle=line, linewidth=width, alpha=opacity)[0]


def draw_points(
    axes: Axes,
    time: np.ndarray,
    value: np.ndarray,
    error: np.ndarray,
    style: Style,
    place: int | None = None,
    *,
    logarithmic: bool = True,
    count: int = POINTS,
    size: float = 4.2,
    cap: float = 1.6,
) -> Any:
    """About `count` of the points (T,), with bars of one standard error. Of two sets, place 0 is pale, 1 open."""
    chosen = thin(time, count)
    time, value, error = time[chosen], value[chosen], np.nan_to_num(error[chosen])
    return axes.errorbar(
        time,
        value,
        yerr=np.stack([shown_below(value, error) if logarithmic else error, error]),
        color=style.color,
        linestyle="none",
        marker=style.marker,
        markersize=6.5 if place == 0 else size,
        alpha=0.5 if place == 0 else 1.0,
        markerfacecolor="white" if place == 1 else style.color,
        markeredgecolor=style.color if place == 1 else "white",
        markeredgewidth=0.9 if place == 1 else 0.4,
        elinewidth=0.9,
        capsize=cap,
        capthick=0.7,
        zorder=3,
    )


def shown_below(value: np.ndarray, error: np.ndarray) -> np.ndarray:
    """How far an error bar reaches down on a logarithmic axis, which has no room for zero."""
    return np.minimum(error, (1.0 - 1e-3) * np.abs(value))


def thin(time: np.ndarray, count: int = POINTS) -> np.ndarray:
    """Indices of about `count` of the times (T,) > 0, evenly spread over log time, first and last included."""
    if time.size <= count:
        return np.arange(time.size)
    targets = np.geomspace(time[0], time[-1], count)
    right = np.clip(np.searchsorted(time, targets), 1, time.size - 1)
    nearest = np.where(targets - time[right - 1] < time[right] - targets, right - 1, right)
    return np.unique(nearest)


def span(values: Iterable[np.ndarray]) -> tuple[float, float] | None:
    """Least and largest positive value, the least at most DECADES below the largest; None if none is positive."""
    every = np.concatenate([np.ravel(array) for array in values] or [np.array([])])
    positive = every[np.isfinite(every) & (every > 0.0)]
    if positive.size == 0:
        return None
    top = float(positive.max())
    return max(float(positive.min()), top * 10.0**-DECADES), top


def finish(axes: Axes) -> None:
    """What all panels of curves have in common: a pale grid behind, ticks inside."""
    axes.grid(which="major", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", direction="in", top=True, right=True, width=0.6)


def key_to(style: Style) -> Line2D:
    """A line and a mark of this style, for a legend."""
    look: Any = {"linestyle": style.line, "marker": style.marker}
    return Line2D([], [], color=style.color, markersize=3.5, label=style.label, **look)


def number(value: Any) -> str:
    """`value` in TeX."""
    return r"\infty" if value == "infinite" else f"{value:.6g}" if isinstance(value, (int, float)) else str(value)


def model_in_words(*models: Mapping[str, Any], without: tuple[str, ...] = ()) -> list[str]:
    """The fields of a model, or of several, as "$\\alpha = 1 | 2$", "centred"; unset and usual ones are left out."""
    parts = []
    for name, field in FIELDS.items():
        values = [model[name] for model in models if model.get(name, "none") != "none"]
        if values and name not in without and set(values) != {field.usual}:
            parts.append(f"${field.tex} = {' | '.join(dict.fromkeys(map(number, values)))}$")
    strengths = dict.fromkeys(str(model["strengths"]).strip("[]") for model in models if "strengths" in model)
    if strengths and set(strengths) != {"1.0"}:
        parts.append(f"$s = {' | '.join(strengths)}$")
    if any(model.get("centered") for model in models):
        parts.append("centred")
    return parts


def loss_title(attributes: Mapping[str, Any]) -> str:
    """Of an axis of losses, by the attributes of a model."""
    return "mean squared error" if attributes.get("loss", "square") == "square" else "mean loss"


def seeds_in_words(seeds: Any) -> str:
    """Such as "mean of 8 seeds"."""
    return "one seed" if int(seeds) == 1 else f"mean of {int(seeds)} seeds"
