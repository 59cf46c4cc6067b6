"""What the program owes its surroundings: a reader that goes away, closed streams, Ctrl-C at any moment.

Standard library alone, so that all of this holds while the rest is being imported.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

#: Exit code of an interrupted program.
INTERRUPTED = 130
#: Seconds that the main thread has to end after Ctrl-C. It cannot while jax compiles, which takes minutes.
GRACE = 0.5
#: Narrower terminals than this break the help, or keep it from ever ending.
NARROWEST = 20

_ending = threading.Lock()
#: Says what an interrupted command keeps, and how to go on.
_says: Callable[[], str] | None = None


def when_interrupted(says: Callable[[], str]) -> None:
    """What an interrupted command says, in one sentence: what is kept, where, and what goes on."""
    global _says
    _says = says


def this_command(*more: str) -> str:
    """The command of this process, with further options unless they are there."""
    given = sys.argv[1:]
    return shlex.join(["dmft", *given, *(option for option in more if option not in given)])


def run_as_process(run: Callable[[], int]) -> int:
    """The exit code of `run`, which has the whole process to itself. Ctrl-C after `run` changes nothing."""
    _open_streams()
    _check_width()
    _watch_interrupts()
    try:
        code = run()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left is half a second of Python's own end
        return code
    except KeyboardInterrupt:
        _end()


def _open_streams() -> None:
    """Give each closed standard stream the null device, and let output to a reader who has gone vanish.

    A file opened while a standard stream is closed takes its number, and what libraries print would end up in it. A
    run whose reader has gone (`dmft compare | head -1`) goes on and keeps its results.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, None)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = _patient(1, sys.stdout), _patient(2, sys.stderr)


def _patient(number: int, stream: object) -> io.TextIOWrapper:
    """A text stream on the descriptor `number`, encoded as `stream` is; what it cannot encode is escaped."""
    encoding, errors = getattr(stream, "encoding", None) or "utf-8", getattr(stream, "errors", None)
    if errors != "surrogateescape":  # which gives the bytes of a file's name back as they are
        errors = "backslashreplace"
    raw = _Patient(number, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors=errors, line_buffering=number == 2 or os.isatty(number)
    )


class _Patient(io.FileIO):
    """A file that takes what nobody reads any more."""

    def write(self, data: Any, /) -> int:  # type: ignore[no-untyped-def]
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes


def _check_width() -> None:
    """Leave out a width of the terminal that none has."""
    width = os.environ.get("COLUMNS", "")
    if width and not (width.isdecimal() and int(width) >= NARROWEST):
        del os.environ["COLUMNS"]


def _watch_interrupts() -> None:
    """End the process GRACE seconds after Ctrl-C, also where the main thread hears of it only much later.

    Python tells its main thread of a signal when the C++ code that it is in returns. The byte that the C handler
    writes into a pipe reaches another thread at once.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def watch() -> None:
        while signal.SIGINT not in os.read(reading, 64):
            pass
        time.sleep(GRACE)
        _end()

    threading.Thread(target=watch, daemon=True).start()


def _in_words() -> str:
    """What the command says of its end."""
    with contextlib.suppress(Exception):  # whatever is wrong, the process ends
        return f": {_says()}" if _says else ""
    return ""


def _end() -> NoReturn:
    """Remove what is half written, say why, and end at once: threads still at work are not waited for."""
    _ending.acquire()  # once: the second thread that comes here waits for the end
    files = sys.modules.get("compare.files")
    if files is not None:
        files.abandon()
    try:
        sys.stdout.flush()
        os.write(2, f"dmft: interrupted{_in_words()}\n".encode(errors="backslashreplace"))
    finally:
        os._exit(INTERRUPTED)
