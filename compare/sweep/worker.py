"""A process that computes points, started by `compare.sweep.workers`.

It reads requests (JSON, one a line) from standard input. It writes a line `{"ready": pid}` when it can compute, and
then answers each request on standard output by a line `{"bytes": n}` and the n bytes of a NetCDF file, or by a line
`{"failure": message, "lasting": ...}`; or, once, by `{"refused": message}` where it cannot compute at all. When its
standard input ends, because whoever started it has ended in whatever way, it ends at once.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from typing import Any


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides what it means
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print goes to standard error
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()

    def answer(head: dict[str, Any], content: bytes = b"") -> None:
        answers.write(json.dumps(head).encode() + b"\n" + content)
        answers.flush()

    try:
        import jax

        from compare.sweep.points import Failure, OtherNumerics, compute

        jax.devices()  # whatever is wrong with the device is wrong for every point
    except Exception as error:
        return answer({"refused": f"A worker cannot compute: {' '.join(f'{type(error).__name__}: {error}'.split())}"})
    answer({"ready": os.getpid()})
    while True:
        try:
            outcome = compute(requests.get())
        except OtherNumerics as error:
            return answer({"refused": str(error)})
        if isinstance(outcome, Failure):
            answer({"failure": outcome.message, "lasting": outcome.lasting})
        else:
            answer({"bytes": len(outcome)}, outcome)


def _listen(requests: queue.Queue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)
