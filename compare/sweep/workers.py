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

from compare.sweep.points import Failure, OtherNumerics, Point, compute
from dmft import ParameterError

#: What runs a worker.
COMMAND = (sys.executable, "-m", "compare.sweep.worker")
#: A point on which so many workers died counts as failed.
DEATHS = 3
#: Seconds to wait for a scheduler.
PATIENCE = 10.0
#: Cores of one worker unless told otherwise: a solve runs its replicas side by side.
CORES = 2

Outcome = bytes | Failure
#: Yields points with their outcomes, in the order in which they end.
Runner = Callable[[Sequence[Point]], Generator[tuple[Point, Outcome], None, None]]

_DIED = Failure(f"The process that computed it died {DEATHS} times; killed for want of memory?")


# Processes of this machine


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
                head = process.stdout.readline()
                if head.endswith(b"\n"):
                    answer = json.loads(head)
                    if "refused" in answer:
                        raise OtherNumerics(answer["refused"])
                    if "failure" in answer:
                        return Failure(answer["failure"])
                    content = process.stdout.read(answer["bytes"])
                    if len(content) == answer["bytes"]:
                        return content
            process.kill()
            process.wait()
        return _DIED

    def _living(self) -> subprocess.Popen[bytes]:
        with self.lock:
            if self.stopped:
                raise InterruptedError
            if self.process is None or self.process.poll() is not None:
                self.process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                if self.cores:
                    os.sched_setaffinity(self.process.pid, self.cores)
            return self.process

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        with self.lock:
            self.stopped = True
            if self.process is not None:
                self.process.kill()
                self.process.wait()


# A dask cluster


def dask_runner(address: str) -> Runner:
    """The workers of the dask cluster whose scheduler listens at `address`.

    A worker should run one task at a time (`--nthreads 1`): a solve uses the cores that its process may use.

    Raises:
        ParameterError: dask is not installed, or nobody answers at `address`.
    """
    if not isinstance(address, str):
        raise ParameterError(f"Argument `scheduler` must be an address such as tcp://host:8786, but is {address!r}.")
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
            finally:
                client.cancel(list(futures))

    return run
