"""The interactive report: one HTML file with everything inside, for a browser without a network."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from compare.files import finished
from dmft.checks import ParameterError, check_path

#: Files of the page's script, in order.
SCRIPTS = ("curves.js", "words.js", "diagram.js", "point.js", "choose.js")


def write_report(folder: str | os.PathLike[str]) -> Path:
    """Write `folder`/report.html: the phase diagram, and every point's curves, z-scores and settings on a click.

    Args:
        folder: written by `dmft phase`, or by `dmft compare` (a diagram of one point). A point whose file is missing
            or damaged is shown as such.

    Returns:
        The path of the report.

    Raises:
        ParameterError: plotly is not installed, or the folder holds nothing that can be shown.
    """
    plotly = plotly_source()
    from compare.report.data import report_data

    path = check_path("folder", folder) / "report.html"
    page = report_page(report_data(path.parent), plotly)
    with finished(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


def report_page(data: dict[str, Any], plotly: str) -> str:
    """The page that shows `data` (of `report_data`) with the source text of plotly.js."""
    from compare.figures.phase.words import LOOKS

    colors = ["#ffffff", *(look.color.lower() for look in LOOKS.values())]  # 0 is no regime
    return filled_page("page.html", _title(data), SCRIPTS, data | looks() | {"colors": colors}, plotly)


def looks() -> dict[str, Any]:
    """How a page draws curves, and what it calls the fields of a model."""
    from compare.fields import FIELDS
    from compare.figures.overlay import DECOMPOSITION, LOSSES, ORDER_PARAMETERS
    from compare.figures.style import DECADES

    panels = {"losses": LOSSES, "decomposition": DECOMPOSITION, "order": ORDER_PARAMETERS}
    styles = {
        name: {"panel": panel, "label": style.label, "color": style.color, "symbol": _SYMBOLS[style.marker]}
        for panel, (_, observables) in panels.items()
        for name, style in observables.items()
    }
    fields = {name: [field.sign, f"{field.words} {field.sign}{field.definition}"] for name, field in FIELDS.items()}
    return {"styles": styles, "decades": DECADES, "fields": fields}


def filled_page(
    template: str, title: str, scripts: Sequence[str], data: dict[str, Any], plotly: str, *, asks: bool = False
) -> str:
    """The page `template` with everything inside: style, `scripts`, `data`, and the source text of plotly.js.

    Args:
        asks: whether it may ask the server that it came from.
    """
    content = json.dumps(data, allow_nan=False, separators=(",", ":"))
    # A text in the data must not end the script that holds it. The head, which holds marks, comes first. What else was
    # filled in is not searched for marks again: neither titles, style, script nor escaped data hold any, and plotly
    # comes last.
    filled = {
        "HEAD": _template("head.html"),
        "CONNECT": "; connect-src 'self'" if asks else "",
        "TITLE": html.escape(title),
        "STYLE": _template("style.css"),
        "SCRIPT": "\n".join(map(_template, scripts)),
        "DATA": content.replace("<", "\\u003c"),
        "PLOTLY": plotly,
    }
    page = _template(template)
    for name, text in filled.items():
        page = page.replace(f"<!--{name}-->", text)
    return page


#: plotly's names of matplotlib's markers.
_SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
    "<": "triangle-left",
    ">": "triangle-right",
}


def _title(data: dict[str, Any]) -> str:
    fields = [axis["field"].replace("_", " ") for axis in data["axes"]]
    if not fields:
        return "Learning curves of one network"
    so_far = f", not finished: {data['so_far']}" if data.get("so_far") else ""
    return f"Phase diagram over {' and '.join(fields)}{so_far}"


def plotly_source() -> str:
    """The text of plotly.js.

    Raises:
        ParameterError: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise ParameterError(
            "This page needs plotly, which is not installed: pip install 'dmft-learning[report]'."
        ) from None
    return get_plotlyjs()


def _template(name: str) -> str:
    return resources.files("compare").joinpath("report", "template", name).read_text(encoding="utf-8")
