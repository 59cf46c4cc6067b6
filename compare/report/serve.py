"""`explore`: a page of sliders, served on this machine alone."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from compare.report.knobs import Knobs, Live, Stored, answer
from compare.report.page import filled_page, looks, plotly_source
from dmft.checks import ParameterError, check_integer, check_path, spelt
from dmft.models.model import Model

#: Files of the page's script, in order.
SCRIPTS = ("curves.js", "sliders.js")
#: Names of this machine: a page of another one may not ask.
HERE = ("127.0.0.1", "localhost")
#: Answers that are kept: a slider that comes back is answered at once.
KEPT = 1000


class Explorer:
    """A page that is served until `close`. As the last line of a notebook's cell it shows itself.

    Attributes:
        url: where.
    """

    def __init__(self, knobs: Knobs, page: str, port: int) -> None:
        self._server = _Server((HERE[0], port), knobs, page)
        self.url = f"http://{HERE[0]}:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def open(self) -> bool:
        """Show the page in a browser; whether one was found."""
        import webbrowser

        return webbrowser.open(self.url)

    def wait(self) -> None:
        """Return when the page is closed, from another thread or by Ctrl-C."""
        self._thread.join()

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()

    def __repr__(self) -> str:
        return f"Explorer: {self.url} in a browser; .open() shows it, .close() ends it"

    def _repr_html_(self) -> str:
        return f'<iframe src="{self.url}" style="width: 100%; height: 620px; border: 0"></iframe>'


@spelt
def explore(
    model: Model | None = None, t_max: float = 30.0, *, folder: str | os.PathLike[str] | None = None, port: int = 0
) -> Explorer:
    """A page on which alpha, epsilon, kappa, the planted overlap and the time are sliders.

    While one moves, the theory is solved roughly; when it rests, better (`compare.report.knobs.STAGES`).
    Errors are drawn as bands, and the largest one is said. Of a stored sweep the sliders are its axes, and nothing is
    computed.

    Args:
        model: where the sliders begin; what else it says (dim, noise, centring, ...) stays.
        t_max: the last time, > 0, where its slider begins.
        folder: of `dmft phase`, finished or not, in place of a model.
        port: of this machine, at which the page is served, for this machine alone; 0 for a free one.

    Returns:
        The page, with its address `url`. In a notebook it shows itself.

    Raises:
        ParameterError: plotly is not installed, an argument is out of range, or neither or both of model and folder
            are given.

    Examples:
        >>> from dmft import Model
        >>> page = explore(Model(alpha=1.0, epsilon=0.5, kappa=3.0, initial_overlap=0.1))
        >>> page.url.startswith("http://127.0.0.1:")
        True
        >>> page.close()
    """
    if (model is None) == (folder is None):
        raise ParameterError("Argument `model` or `folder` must be given, and not both of them.")
    port = check_integer("port", port, at_least=0)
    plotly = plotly_source()
    knobs: Knobs = Live(model, t_max) if model is not None else Stored(check_path("folder", folder))
    try:
        return Explorer(knobs, sliders_page(knobs, plotly), port)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "too large"
        raise ParameterError(f"Argument `port` must be a free one of this machine, but is {port} ({reason}).") from None


def sliders_page(knobs: Knobs, plotly: str) -> str:
    """The page of these sliders with the source text of plotly.js."""
    shown = looks()
    fields = shown["fields"] | {"t_max": ["t", "training time t"]}
    data = {
        "sliders": [slider._asdict() for slider in knobs.sliders],
        "stages": knobs.stages,
        "about": {
            name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in knobs.about.items()
        },
    }
    return filled_page("sliders.html", knobs.title, SCRIPTS, shown | data | {"fields": fields}, plotly, asks=True)


class _Server(ThreadingHTTPServer):
    """One page, and the curves that it asks for; one at a time, and those of before at once."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], knobs: Knobs, page: str) -> None:
        super().__init__(address, _Handler)
        self.page, self._fields, self._stages = page, [slider.field for slider in knobs.sliders], knobs.stages
        computing = threading.Lock()

        @lru_cache(maxsize=KEPT)
        def answered(values: tuple[float, ...], stage: int) -> dict[str, Any]:
            return answer(knobs, dict(zip(self._fields, values, strict=True)), stage)

        def one_at_a_time(values: tuple[float, ...], stage: int) -> dict[str, Any]:
            with computing:
                return answered(values, stage)

        self._answered = one_at_a_time

    def curves(self, query: str) -> dict[str, Any]:
        """The answer to a query, such as alpha=1&kappa=3&t_max=5&stage=0, of all sliders."""
        given = dict(parse_qsl(query))
        try:
            values, stage = tuple(float(given[name]) for name in self._fields), int(given.get("stage", 0))
        except (KeyError, ValueError):
            return {"message": f"Ask for numbers of {', '.join(self._fields)} and a stage."}
        return self._answered(values, min(max(stage, 0), self._stages - 1))


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        """The page, or curves as JSON."""
        asked = urlsplit(self.path)
        if self.headers.get("Host", "").partition(":")[0] not in HERE:
            self.send_error(403)
        elif asked.path == "/":
            self._send("text/html", self.server.page)
        elif asked.path == "/curves":
            self._send("application/json", json.dumps(self.server.curves(asked.query), allow_nan=False))
        else:
            self.send_error(404)

    def _send(self, kind: str, text: str) -> None:
        content = text.encode()
        with contextlib.suppress(ConnectionError):  # a reader that has gone
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""
