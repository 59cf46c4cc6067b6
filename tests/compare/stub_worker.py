"""A worker for tests, run as a script: the real protocol around a computation that sleeps and keeps a log.

Settings of a point: `log` (a file that gets "PID NAME" when a computation begins), `sleep` (seconds) and `ending`:
"done", "failed", "dies" (kills its own process) or "refused".
"""

import json
import os
import signal
import time

from compare.sweep import points, worker
from compare.sweep.points import Failure, OtherNumerics


def compute(request):
    settings = json.loads(request)["settings"]
    with open(settings["log"], "a", encoding="utf-8") as log:
        log.write(f"{os.getpid()} {settings['name']}\n")
    time.sleep(settings["sleep"])
    if settings["ending"] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if settings["ending"] == "refused":
        raise OtherNumerics("other numerics")
    return Failure("no luck") if settings["ending"] == "failed" else settings["name"].encode()


if __name__ == "__main__":
    points.compute = compute
    worker.main()
