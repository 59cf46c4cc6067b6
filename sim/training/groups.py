"""Training: replicas of any system in groups, chunk by chunk; divergence, early stops and checkpoints in between."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dmft.progress import progress_report
from sim.request import Plan, Request
from sim.training.batches import replica_key
from sim.training.checkpoint import Checkpoint, Snapshot
from sim.training.descent import Batch, Chunk, Layout, Loop, advance, begin
from sim.training.optimizers import Pace
from sim.training.schedule import CAPACITY, Piece, chunks
from sim.training.system import System

#: Follows one group: (job, its replicas, the run as it begins, as it was saved or None, told of progress) -> records.
Trainer = Callable[[Any, range, Snapshot, Snapshot | None, Callable[[int, int], None]], np.ndarray]
#: A train loss this many times its initial scale means that the step is too large.
DIVERGED = 1e3
#: Operations in one compiled call, between two looks at the loss: about a second.
OPERATIONS_CPU, OPERATIONS_ACCELERATOR = 4e10, 2e12
#: The scale of a train loss is at least this; labels have mean square 3/4 or more.
SMALLEST_SCALE = 1.0
#: The parts of a snapshot that belong to a group in training, before it begins: kept, scale, leaves.
NOTHING = np.empty((0, 0, 0)), np.empty(0), []


@dataclasses.dataclass(frozen=True)
class Job:
    """A system, what is asked of it and how it is run.

    Attributes:
        system: what is trained.
        request: what is asked.
        plan: the request fitted to the system.
        layout: how replicas share the machine.
        checkpoint: where the run is saved.
        keep: given the state after the last step, of all replicas; then they are one group, and the end of the run is
            no checkpoint, so that a run that is done comes to it again.
    """

    system: System
    request: Request
    plan: Plan
    layout: Layout
    checkpoint: Checkpoint
    keep: Callable[[Any], object] | None = None

    @property
    def loop(self) -> Loop:
        """What the compiled loop is made for."""
        system = self.system
        return Loop(
            system.equations,
            self.request.optimizer,
            system.presence,
            system.samples,
            system.numbers_observed,
            self.layout,
        )


def train_groups(job: Job, train: Trainer, columns: int, group: int, saved: Snapshot | None) -> np.ndarray:
    """Records of all replicas, (S, T, columns), made by `train` group by group, from where the run was `saved`."""
    replicas = job.request.replicas
    finished = saved.finished if saved else np.empty((0, job.plan.steps.size, columns))
    with progress_report("simulating", job.request.progress) as report:
        while len(finished) < replicas:
            indices = range(len(finished), min(len(finished) + group, replicas))
            try:
                values = train(job, indices, Snapshot(group, finished, 0, *NOTHING), saved, report)
            except Halted as failure:
                before = finished[:, : failure.values.shape[1]]
                failure.values = np.concatenate([before, failure.values])
                raise
            finished, saved = np.concatenate([finished[:, : values.shape[1]], values]), None
            snapshot = Snapshot(group, finished, 0, *NOTHING)
            if job.keep is None:
                job.checkpoint.save(lambda snapshot=snapshot: snapshot, now=len(finished) == replicas)
    return finished


def train_group(
    job: Job, indices: range, start: Snapshot, saved: Snapshot | None, report: Callable[[int, int], None]
) -> np.ndarray:
    """Train the replicas `indices` side by side, inside a precision context.

    Args:
        job: the run.
        indices: the replicas.
        start: the run as this group begins.
        saved: the run as it was saved within this group, or None.
        report: told of steps x replicas, those of all groups.

    Returns:
        Their observables at `plan.steps`, float64 (S, T, O); cut where they are all below the thresholds.
    """
    system, plan = job.system, job.plan
    pace = Pace(*np.asarray([plan.step, system.decay, plan.count], job.request.precision))
    batch = begin(draw_batch(job, indices), pace, loop=job.loop)
    pieces = chunks(plan.steps, plan.count, chunk_budget(job, len(indices)))
    done, first, scale, kept = 0, 0, None, []
    if saved is not None and saved.pieces:
        batch, done, scale, kept = restored(batch, saved.leaves), saved.pieces, saved.scale, [saved.kept]
        first = sum(int(piece.lengths.sum()) for piece in islice(pieces, done))

    def tell() -> None:
        report(indices.start * plan.count + len(indices) * first, job.request.seeds * plan.count)

    tell()
    for i, piece in enumerate(pieces, done):
        batch, values = run_piece(job, batch, pace, piece, first)
        values = values[: len(indices)]
        if scale is None:
            scale = np.maximum(values[:, 0, watched(system)], SMALLEST_SCALE)
        kept.append(values[:, np.isin(piece.marks, plan.steps)])
        check_bounded(job, indices, piece.marks, values, scale, kept)
        if (reached := first_below(job, kept[-1])) is not None:
            kept[-1] = kept[-1][:, : reached + 1]
            break
        job.checkpoint.save(partial(snapshot, start, i + 1, kept, scale, batch))
        first += int(piece.lengths.sum())
        tell()
    if job.keep is not None:
        job.keep(jax.tree.map(np.asarray, batch.state))
    return np.concatenate(kept, axis=1)


def run_piece(job: Job, batch: Batch, pace: Pace, piece: Piece, first: int) -> tuple[Batch, np.ndarray]:
    """The batch after the steps of `piece`, which begins with step `first`, and its observables, float64 (S, T, O)."""
    size = piece.marks.size
    lengths = np.zeros(CAPACITY, np.int32)
    lengths[:size] = piece.lengths
    chunk = Chunk(*map(np.asarray, (np.int32(first), lengths, np.int32(size))))  # type: ignore[arg-type]
    state, own, records = advance(batch, pace, chunk, loop=job.loop)
    return batch._replace(state=state, own=own), np.asarray(records, np.float64)[:, :size]


def snapshot(start: Snapshot, pieces: int, kept: list[np.ndarray], scale: np.ndarray, batch: Batch) -> Snapshot:
    """The run after `pieces` compiled calls of the group that began at `start`."""
    leaves = [np.asarray(key_words(leaf)) for leaf in jax.tree.leaves((batch.state, batch.own))]
    return start._replace(pieces=pieces, kept=np.concatenate(kept, axis=1), scale=scale, leaves=leaves)


def restored(batch: Batch, leaves: list[Any]) -> Batch:
    """The batch with its state and its optimiser's own state as they were saved."""
    begun, structure = jax.tree.flatten((batch.state, batch.own))
    arrays = [
        jax.random.wrap_key_data(leaf, impl=jax.random.key_impl(before)) if is_key(before) else jnp.asarray(leaf)
        for before, leaf in zip(begun, leaves, strict=True)
    ]
    state, own = jax.tree.unflatten(structure, arrays)
    return batch._replace(state=state, own=own)


def is_key(leaf: jax.Array) -> bool:
    """Whether an array holds random keys, as some optimisers do."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def key_words(leaf: jax.Array) -> jax.Array:
    """An array as numbers."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def watched(system: System) -> int:
    """Position of the train loss among the observables."""
    return system.columns["train_loss"].start


def first_below(job: Job, values: np.ndarray) -> int | None:
    """The first of the times of `values`, (S, T, O), at which every seed is below every threshold, if there is one."""
    thresholds = job.request.stop_below or {}
    columns = job.system.columns
    below = [(values[:, :, columns[name].start] < level).all(axis=0) for name, level in thresholds.items()]
    reached = np.all(below, axis=0) if below else np.zeros(0, bool)
    return int(np.argmax(reached)) if reached.any() else None


def draw_batch(job: Job, indices: range) -> Batch:
    """The replicas `indices` at t = 0, stacked in the precision of the run; the last repeated to fill all devices."""
    dtype, devices = np.dtype(job.request.precision), job.layout.devices

    def rounded(array: Any) -> np.ndarray:
        array = np.asarray(array)
        return array.astype(dtype) if np.issubdtype(array.dtype, np.floating) else array

    replicas = []
    for number in indices:
        index = number % job.request.seeds  # after the seeds come those that are followed a second time
        state, data = jax.tree.map(rounded, job.system.draw(job.request.seed, index))
        key = np.asarray(jax.random.key_data(jax.random.fold_in(replica_key(job.request.seed, index), 4)))
        replicas.append(Batch(state, (), data, key))  # type: ignore[arg-type]
    replicas += [replicas[-1]] * (-len(indices) % devices)
    return jax.tree.map(lambda *arrays: np.stack(arrays), *replicas)


class Halted(Exception):
    """A replica cannot go on; `values`, (S, T, C), are the records before."""

    values: np.ndarray


class Diverged(Halted):
    """Found in the loop: at step number `mark`, in replica `index`; `values` (S, T, O) are those before."""

    def __init__(self, mark: int, index: int, loss: float, values: np.ndarray) -> None:
        super().__init__(mark, index, loss)
        self.mark, self.index, self.loss, self.values = mark, index, loss, values


def check_bounded(
    job: Job, indices: range, marks: np.ndarray, values: np.ndarray, scale: np.ndarray, kept: list[np.ndarray]
) -> None:
    """Diverged if an observable is not finite or a train loss exceeds DIVERGED x `scale`.

    Args:
        job: the run.
        indices: the replicas of the group, S of them.
        marks: step numbers of the observations, (T,).
        values: observables, (S, T, O).
        scale: initial scale of the train loss, (S,).
        kept: observables at the reported times so far, those among `marks` included.
    """
    losses = values[:, :, watched(job.system)]
    failed = ~np.isfinite(values).all(axis=2) | (losses > DIVERGED * scale[:, None])
    if failed.any():
        first = int(np.argmax(failed.any(axis=0)))
        row = int(np.argmax(failed[:, first]))
        sound = int(np.searchsorted(job.plan.steps, marks[first]))
        curves = np.concatenate(kept, axis=1)[:, :sound]
        raise Diverged(int(marks[first]), indices[row], float(losses[row, first]), curves)


def chunk_budget(job: Job, replicas: int) -> int:
    """Steps in one compiled call."""
    operations = OPERATIONS_ACCELERATOR if job.layout.vectorized else OPERATIONS_CPU
    return min(max(int(operations / (job.system.operations * replicas)), 1), 2**30)
