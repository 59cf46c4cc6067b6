"""Where points are computed: processes of this machine, or a dask cluster.  Both survive the loss of a worker."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from compare.sweep.points import Failure, Point, compute
from dmft.checks import ParameterError, RunError

#: What a worker runs, given where it finds modules.
PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from compare.sweep.worker import main; main()"
#: A point on which so many workers died counts as failed.
DEATHS = 3
#: Seconds to wait for a scheduler.
PATIENCE = 10.0
#: Cores of one worker unless told otherwise: a solve runs its replicas side by side.
CORES = 2

Outcome = bytes | Failure
#: Yields points with their outcomes, in the order in which they end.
Runner = Callable[[Sequence[Point]], Generator[tuple[Point, Outcome], None, None]]

_DIED = Failure(f"The process that computed it died {DEATHS} times; killed for want of memory?", lasting=False)


class WorkersError(RunError):
    """No worker can compute any point: what is wrong is not with the points."""


# Processes of this machine


def command() -> list[str]:
    """What starts a worker: the same Python with the same modules, but never those of the working folder.

    A user's own `queue.py` or `sim.py` there must not stand for the real one; where the packages themselves lie in the
    working folder, they are found last.
    """
    here = os.path.realpath(os.curdir)
    path = [place for place in sys.path if place and os.path.realpath(place) != here]
    roots = {str(Path(str(sys.modules[name].__file__)).parents[1]) for name in ("compare", "dmft")}
    return [sys.executable, "-P", "-c", PROGRAM, *path, *sorted(roots - set(path))]


def cores() -> list[int]:
    """The cores that this process may use; none listed where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def local_runner(workers: int | None = None) -> Runner:
    """Processes on this machine that share its cores; as many as there are pairs of cores unless `workers` says."""
    mine = cores()
    count = workers or max(1, (len(mine) or os.cpu_count() or 1) // CORES)

    def run(points: Sequence[Point]) -> Generator[tuple[Point, Outcome], None, None]:
        waiting: queue.SimpleQueue[Point] = queue.SimpleQueue()
        for point in points:
            waiting.put(point)
        ended: queue.SimpleQueue[tuple[Point, Outcome] | BaseException] = queue.SimpleQueue()
        slots = [_Slot(mine[i::count] or mine) for i in range(min(count, len(points)))]
        for slot in slots:
            threading.Thread(target=slot.serve, args=(waiting, ended), daemon=True).start()
        try:
            for _ in points:
                result = ended.get()
                if isinstance(result, BaseException):
                    raise result
                yield result
        finally:
            for slot in slots:
                slot.stop()

    return run


class _Slot:
    """One worker process after the other, on the same cores: a new one when one dies."""

    def __init__(self, cores: list[int]) -> None:
        self.cores = cores
        self.process: subprocess.Popen[bytes] | None = None
        self.lock = threading.Lock()
        self.stopped = False

    def serve(self, waiting: queue.SimpleQueue, ended: queue.SimpleQueue) -> None:
        """Compute points until none waits."""
        try:
            while not self.stopped:
                point = waiting.get_nowait()
                ended.put((point, self._compute(point)))
        except queue.Empty:
            pass
        except BaseException as error:
            ended.put(error)

    def _compute(self, point: Point) -> Outcome:
        for _ in range(DEATHS):
            process = self._living()
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError, ValueError):
                process.stdin.write(point.to_json().encode() + b"\n")
                process.stdin.flush()
                answer = _read_head(process)
                if answer and "failure" in answer:
                    return Failure(answer["failure"], answer["lasting"])
                if answer:
                    content = process.stdout.read(answer["bytes"])
                    if len(content) == answer["bytes"]:
                        return content
            process.kill()
            process.wait()
        return _DIED

    def _living(self) -> subprocess.Popen[bytes]:
        """A process that can compute."""
        with self.lock:
            if self.stopped:
                raise InterruptedError
            if self.process is not None and self.process.poll() is None:
                return self.process
            heard = None if _is_open(2) else subprocess.DEVNULL
            process = subprocess.Popen(command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=heard)
            self.process = process
            if self.cores:
                os.sched_setaffinity(process.pid, self.cores)
        if not _read_head(process) and not self.stopped:
            raise WorkersError(
                f"A worker ended with code {process.wait()} before it could compute anything; what it said is above."
            )
        return process

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        with self.lock:
            self.stopped = True
            if self.process is not None:
                self.process.kill()
                self.process.wait()


def _read_head(process: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    """The next line of what a worker says; None if it has died.

    Raises:
        WorkersError: it says that it cannot compute.
    """
    assert process.stdout is not None
    line = process.stdout.readline()
    answer = json.loads(line) if line.endswith(b"\n") else None
    if answer and "refused" in answer:
        raise WorkersError(answer["refused"])
    return answer


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


# A dask cluster


def dask_runner(address: str) -> Runner:
    """The workers of the dask cluster whose scheduler listens at `address`.

    A worker should run one task at a time (`--nthreads 1`): a solve uses the cores that its process may use.

    Raises:
        ParameterError: dask is not installed, or nobody answers at `address`.
    """
    try:
        import distributed
    except ImportError:
        raise ParameterError(
            "Argument `scheduler` needs dask.distributed, which is not installed: pip install 'dmft-learning[cluster]'."
        ) from None
    try:
        client = distributed.Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TimeoutError, RuntimeError) as error:
        raise ParameterError(
            f"Argument `scheduler` must be the address of a running dask scheduler such as tcp://host:8786, but is "
            f"{address!r} ({str(error) or 'no answer'})."
        ) from None

    def run(points: Sequence[Point]) -> Generator[tuple[Point, Outcome], None, None]:
        with client:
            futures = {client.submit(compute, point.to_json(), key=point.name, pure=True): point for point in points}
            try:
                for future in distributed.as_completed(list(futures), loop=client.loop):
                    try:
                        yield futures[future], future.result()
                    except distributed.KilledWorker:
                        yield futures[future], _DIED
                    except (ImportError, RuntimeError) as error:
                        raise WorkersError(f"A worker cannot compute: {error}") from None
            finally:
                client.cancel(list(futures))

    return run
