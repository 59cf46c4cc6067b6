"""A process that computes points: `python -m compare.sweep.worker`, run by `compare.sweep.workers`.

It reads requests (JSON, one a line) from standard input and answers each on standard output by a line
`{"bytes": n}` and the n bytes of a NetCDF file, or by a line `{"failure": message}` or `{"refused": message}`. When its
standard input ends, because whoever started it has ended in whatever way, it ends at once.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides what it means
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print goes to standard error
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    from compare.sweep.points import Failure, OtherNumerics, compute

    while True:
        content = b""
        try:
            outcome = compute(requests.get())
        except OtherNumerics as error:
            head: dict[str, str | int] = {"refused": str(error)}
        else:
            if isinstance(outcome, Failure):
                head = {"failure": outcome.message}
            else:
                content = outcome
                head = {"bytes": len(content)}
        answers.write(json.dumps(head).encode() + b"\n" + content)
        answers.flush()


def _listen(requests: queue.Queue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
