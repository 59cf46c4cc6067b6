"""Gradient flow of a group of replicas, call by compiled call; failures, early stops, checkpoints in between."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from sim.training.checkpoint import Snapshot
from sim.training.descent import Batch
from sim.training.flow import Flow, Span, begin_flow, follow
from sim.training.groups import Halted, Job, chunk_budget, draw_batch, first_below, restored
from sim.training.schedule import CAPACITY
from sim.training.system import System

#: Local tolerance = LOCAL rtol^(3/2): the error of a method of order 2 after many steps is of order tolerance^(2/3).
LOCAL = 2.0
#: Tolerance of the companions, relative to that of the seeds: their error is four times as large.
COARSER = 8.0


class Broken(Halted):
    """Replica `index` cannot be followed beyond `time`, for the reason `kind` (`Flow.failure`), at this `rate`."""

    def __init__(self, time: float, index: int, kind: int, rate: float, values: np.ndarray) -> None:
        super().__init__(time, index, kind, rate)
        self.time, self.index, self.kind, self.rate, self.values = time, index, kind, rate, values


def tolerance(rtol: float) -> float:
    """The local tolerance at which the losses are followed to `rtol`."""
    return LOCAL * rtol**1.5


def numbers_recorded(system: System) -> int:
    """Observables, and two counts: evaluations and rejected steps so far."""
    return system.numbers_observed + 2


def follow_group(
    job: Job, indices: range, start: Snapshot, saved: Snapshot | None, report: Callable[[int, int], None]
) -> np.ndarray:
    """Follow the replicas `indices` side by side, inside a precision context; see `sim.training.groups.train_group`.

    Returns:
        Their records at `plan.time`, float64 (S, T, O + 2); cut where the seeds are all below the thresholds.
    """
    request, plan, count = job.request, job.plan, len(indices)
    numbers = np.asarray([job.system.decay, request.t_max], request.precision)
    span = Span(*numbers, np.int32(chunk_budget(job, count)))  # type: ignore[arg-type]
    drawn = draw_batch(job, indices)
    batch = begin_flow(drawn, tolerances(job, indices, len(drawn.key)), span, loop=job.loop)
    values = np.full((count, plan.time.size, numbers_recorded(job.system)), np.nan)
    pieces = 0
    if saved is not None and saved.pieces:
        batch, values, pieces = restored(batch, saved.leaves), saved.kept.copy(), saved.pieces
    while True:
        passed = np.isfinite(values[:, :, -1]).sum(axis=1)
        check_sound(job, indices, batch.own, values, passed)
        if (reached := first_below(job, values[: max(0, request.seeds - indices[0]), : passed.min()])) is not None:
            return values[:, : reached + 1]
        done = np.sqrt(np.asarray(batch.own.time, np.float64)[:count] / request.t_max).sum()
        report(int(plan.count * (indices.start + done)), plan.count * request.replicas)
        if passed.min() == plan.time.size:
            return values
        batch = go_on(job, batch, values, passed, span)
        pieces += 1
        job.checkpoint.save(partial(snapshot, start, pieces, values, batch))


def tolerances(job: Job, indices: range, count: int) -> np.ndarray:
    """The local tolerance of each of `count` replicas, the last of which fill up the devices."""
    fine = tolerance(job.request.rtol)
    own = [fine if number < job.request.seeds else COARSER * fine for number in indices]
    return np.array(own + own[-1:] * (count - len(own)), job.request.precision)


def go_on(job: Job, batch: Batch, values: np.ndarray, passed: np.ndarray, span: Span) -> Batch:
    """The batch after one compiled call, whose records are written into `values`, after the first `passed` of each."""
    windows = np.full((len(batch.key), CAPACITY), np.inf, job.request.precision)
    for row, first in enumerate(passed):
        ahead = job.plan.time[first : first + CAPACITY]
        windows[row, : ahead.size] = ahead
    windows[len(passed) :] = windows[len(passed) - 1]
    state, own, records, counts = follow(batch, windows, span, loop=job.loop)
    for row, (first, more) in enumerate(zip(passed, np.asarray(counts), strict=False)):
        values[row, first : first + more] = np.asarray(records[row], np.float64)[:more]
    return batch._replace(state=state, own=own)


def snapshot(start: Snapshot, pieces: int, values: np.ndarray, batch: Batch) -> Snapshot:
    """The run after `pieces` compiled calls of the group that began at `start`."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves((batch.state, batch.own))]
    return start._replace(pieces=pieces, kept=values, leaves=leaves)


def check_sound(job: Job, indices: range, flow: Flow, values: np.ndarray, passed: np.ndarray) -> None:
    """Broken if a replica has failed, or its observables are not numbers, and the others have come as far."""
    failures = np.asarray(flow.failure)[: len(indices)]
    sound = np.isfinite(values[:, :, :-2]).all(axis=2)
    good = np.where(np.all(sound, axis=1), passed, np.argmin(sound, axis=1))  # observables before the first bad one
    good = np.minimum(good, passed)
    broken = (failures != 0) | (good < passed)
    if not broken.any():
        return
    end = int(good[broken].min())
    if passed.min() < end:
        return
    row = int(np.flatnonzero(broken & (good == end))[0])
    unsound = good[row] < passed[row]
    time = job.plan.time[end] if unsound else float(flow.time[row])
    kind = int(failures[row]) or 1
    raise Broken(time, indices[row] % job.request.seeds, kind, float(flow.rate[row]), values[:, :end])
