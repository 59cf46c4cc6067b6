"""How long a run takes: what is expected before it, and what is told while it runs."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
import time
from collections.abc import Callable, Iterator

#: Seconds that a run must be expected to take for its progress to be told, unless that is asked for.
LONG = 20.0
#: Seconds between two looks, by where what is told goes.
PAUSES = {"terminal": 0.2, "notebook": 1.0, "elsewhere": 60.0}
#: Characters of a bar.
WIDTH = 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one side of a run will take.

    Attributes:
        side: "theory", "simulation".
        work: its size in words.
        memory_bytes: at the most.
        seconds: of wall-clock time; None where the rule does not hold (an accelerator, somebody else's cluster).
    """

    side: str
    work: str
    memory_bytes: float
    seconds: float | None

    def describe(self) -> str:
        """One line."""
        seconds = "time unknown" if self.seconds is None else f"about {in_words(self.seconds)}"
        return f"{self.side}: {self.work}; about {self.memory_bytes / 2**30:.1f} GiB, {seconds}"


def in_words(seconds: float) -> str:
    """A time such as "12 s", "3 min", "2.5 h"."""
    if seconds < 90.0:
        return f"{seconds:.2g} s"
    return f"{seconds / 60.0:.2g} min" if seconds < 5400.0 else f"{seconds / 3600.0:.2g} h"


def on_cpu(seconds: float, *, elsewhere: bool = False) -> float | None:
    """The seconds, if the rule holds where the work is done."""
    import jax

    return None if elsewhere or jax.default_backend() != "cpu" else seconds


@contextlib.contextmanager
def progress_report(label: str, wanted: bool | None) -> Iterator[Callable[[int, int], None]]:
    """A function to call with what is done and what there is to do, which is told on standard error.

    Args:
        label: what runs.
        wanted: True tells a terminal or a notebook; False nobody. None tells them of a run that is expected to take
            more than LONG seconds, by how far it has come, and anywhere else one line a minute.
    """
    where = _where()
    if wanted is False or where is None or (wanted and where == "elsewhere"):
        yield lambda done, total: None  # noqa: ARG005
        return
    state, ended, start = [0, 0], threading.Event(), time.monotonic()
    told = 0

    def tell() -> None:
        nonlocal told
        seconds = time.monotonic() - start
        if not wanted and seconds * max(state[1], 1) / max(state[0], 1) < LONG:
            return
        line = _line(label, state[0], state[1], seconds, bar=where != "elsewhere")
        with contextlib.suppress(Exception):  # a stream that has been closed
            print(line if where == "elsewhere" else f"\r{line:<{told}}", end="\n" * (where == "elsewhere"),
                  file=sys.stderr, flush=True)  # fmt: skip
        told = len(line)

    def watch() -> None:
        while not ended.wait(PAUSES[where]):
            tell()

    def report(done: int, total: int) -> None:
        state[:] = done, total

    if wanted:
        tell()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield report
    finally:
        ended.set()
        watcher.join()
        if told and where != "elsewhere":
            print(f"\r{'':{told}}\r", end="", file=sys.stderr, flush=True)


def _where() -> str | None:
    """Where standard error is read; None if nowhere."""
    if sys.stderr is None:
        return None
    shell = sys.modules.get("IPython")
    if shell is not None and hasattr(shell.get_ipython(), "kernel"):
        return "notebook"
    return "terminal" if sys.stderr.isatty() else "elsewhere"


def _line(label: str, done: int, total: int, seconds: float, *, bar: bool) -> str:
    """Such as "theory [#####.....]  50 %, 1 min, about 1 min left"."""
    if not done or not total:
        return f"{label}: beginning, {in_words(seconds)}"
    part = min(done / total, 1.0)
    drawn = f"[{'#' * int(WIDTH * part):.<{WIDTH}}] " if bar else ""
    return f"{label}: {drawn}{part:.0%}, {in_words(seconds)}, about {in_words(seconds * (1.0 / part - 1.0))} left"
