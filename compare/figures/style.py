"""How all pictures look: in a style of our own, whatever the user's settings of matplotlib are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import matplotlib

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
_NOT_STYLE = ("backend", "interactive", "toolbar", "webagg", "tk.", "timezone", "date.epoch", "figure.raise_window")


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Draw, or save, in matplotlib's defaults and LOOK; the user's own settings hold again afterwards."""
    defaults = {
        name: value
        for name, value in matplotlib.rcParamsDefault.items()
        if not name.startswith(_NOT_STYLE) and not name.startswith("_")
    }
    with matplotlib.rc_context(defaults | LOOK):  # type: ignore[arg-type]
        yield
