"""A progress bar on a terminal, nothing anywhere else."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

#: To be called with how much is done, and of how much.
Report = Callable[[int, int], None]


@contextlib.contextmanager
def progress_bar(wanted: bool, label: str) -> Iterator[Report]:
    """A function to call as the work goes on; it moves a bar if that is `wanted` and standard error is a terminal."""
    if not (wanted and on_terminal()):
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def on_terminal() -> bool:
    """Whether standard error is a terminal; it may be closed, or None."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False
