"""The driver: trains replicas of any system in groups that fit into memory, chunk by chunk, and makes the dataset."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import dmft
from dmft.checks import DivergenceError, available_memory, check_memory, precision_context
from dmft.order_parameters import build_dataset
from sim.data import replica_key
from sim.descent import Batch, Chunk, Layout, advance, begin
from sim.optimizers import Pace
from sim.progress import reporter
from sim.request import Plan, Request, make_plan
from sim.schedule import CAPACITY, chunks
from sim.stepsize import round_down, stable_step
from sim.system import System

if TYPE_CHECKING:
    import xarray

#: A train loss this many times its initial scale means that the step is too large.
DIVERGED = 1e3
#: Operations in one compiled call, between two looks at the loss: about a second.
OPERATIONS_CPU, OPERATIONS_ACCELERATOR = 4e10, 2e12


@dataclasses.dataclass(frozen=True)
class Job:
    """A system, what is asked of it and how it is run."""

    system: System
    request: Request
    plan: Plan
    layout: Layout
    group: int


def run(system: System, request: Request, attributes: Mapping[str, Any]) -> xarray.Dataset:
    """Train `request.seeds` replicas of `system`.

    Args:
        system: what to train.
        request: how long, how often observed, by which optimiser.
        attributes: what else the dataset's attributes say: the model, enough to run it again.

    Returns:
        A dataset over ("seed", "time") of the system's observables, and their `<name>_stderr` over ("time",).

    Raises:
        ParameterError: the request does not fit the system.
        DivergenceError: the loss grew without bound; its `curves` are those up to there (attribute `complete` = 0).
        MemoryLimitError: one replica does not fit into memory.
    """
    layout = Layout(vectorized=jax.default_backend() != "cpu", devices=min(jax.device_count(), request.seeds))
    group = group_size(system, request, layout)  # before anything is drawn
    plan = make_plan(system, request)
    job = Job(system, request, plan, layout, group)
    groups = [range(first, min(first + group, request.seeds)) for first in range(0, request.seeds, group)]
    kept: list[np.ndarray] = []
    with precision_context(request.precision), reporter(request.progress, request.seeds * plan.count) as report:
        try:
            for indices in groups:
                kept.append(train_group(job, indices, report))
        except Diverged as failure:
            error = divergence_error(job, failure)
            values = [part[:, : failure.values.shape[1]] for part in (*kept, failure.values)]
            error.curves = assemble(job, np.concatenate(values), {**attributes, "complete": 0})
            raise error from None
    return assemble(job, np.concatenate(kept), {**attributes, "complete": 1})


def train_group(job: Job, indices: range, report: Callable[[int], None]) -> np.ndarray:
    """Train the replicas `indices` side by side, inside a precision context.

    Returns:
        Their observables at `plan.steps`, float64 (S, T, O). `report` is told of steps x replicas as they pass.
    """
    system, plan, optimizer = job.system, job.plan, job.request.optimizer
    pace = Pace(*map(jnp.asarray, (float(plan.step), float(system.decay), float(plan.count))))
    batch = begin(system.equations, optimizer, job.layout, draw_batch(job, indices), pace)
    names, watched = len(system.observables), list(system.observables).index("train_loss")
    scale, kept, first = None, [], 0
    for piece in chunks(plan.steps, plan.count, chunk_budget(job, len(indices))):
        size = piece.marks.size
        lengths = np.zeros(CAPACITY, np.int32)
        lengths[:size] = piece.lengths
        chunk = Chunk(*map(jnp.asarray, (np.int32(first), lengths, np.int32(size))))
        state, own, records = advance(
            system.equations, optimizer, system.samples, names, job.layout, batch, pace, chunk
        )
        batch = batch._replace(state=state, own=own)
        values = np.asarray(records, np.float64)[: len(indices), :size]
        if scale is None:  # the labels have mean square 3/4 or more
            scale = np.maximum(values[:, 0, watched], 1.0)
        failed = ~np.isfinite(values).all(axis=2) | (values[:, :, watched] > DIVERGED * scale[:, None])
        observed = np.isin(piece.marks, plan.steps)
        if failed.any():
            sound = int(np.argmax(failed.any(axis=0)))
            kept.append(values[:, :sound][:, observed[:sound]])
            row = int(np.argmax(failed[:, sound]))
            curves = np.concatenate(kept, axis=1)
            raise Diverged(int(piece.marks[sound]), indices[row], float(values[row, sound, watched]), curves)
        kept.append(values[:, observed])
        first += int(piece.lengths.sum())
        report(len(indices) * int(piece.lengths.sum()))
    return np.concatenate(kept, axis=1)


def draw_batch(job: Job, indices: range) -> Batch:
    """The replicas `indices` at t = 0, stacked in the precision of the run; the last repeated to fill all devices."""
    dtype, devices = np.dtype(job.request.precision), job.layout.devices

    def rounded(array: Any) -> np.ndarray:
        array = np.asarray(array)
        return array.astype(dtype) if np.issubdtype(array.dtype, np.floating) else array

    replicas = []
    for index in indices:
        state, data = jax.tree.map(rounded, job.system.draw(job.request.seed, index))
        key = np.asarray(jax.random.key_data(jax.random.fold_in(replica_key(job.request.seed, index), 4)))
        replicas.append(Batch(state, (), data, key))  # type: ignore[arg-type]
    replicas += [replicas[-1]] * (-len(indices) % devices)
    return jax.tree.map(lambda *arrays: jnp.asarray(np.stack(arrays)), *replicas)


class Diverged(Exception):
    """Found in the loop: at step number `mark`, in replica `index`; `values` (S, T, O) are those before."""

    def __init__(self, mark: int, index: int, loss: float, values: np.ndarray) -> None:
        super().__init__(mark, index, loss)
        self.mark, self.index, self.loss, self.values = mark, index, loss, values


def divergence_error(job: Job, failure: Diverged) -> DivergenceError:
    """What to tell: when, which seed, and a step that is stable."""
    remedy, system, request = round_down(0.5 * job.plan.step), job.system, job.request
    if system.curvature is not None:
        steepest = system.curvature(request.seed, failure.index, request.optimizer.batch_size)
        remedy = min(stable_step(steepest), remedy)
    return DivergenceError(
        f"Training diverged by t = {failure.mark * job.plan.step:.4g} (step {failure.mark}, seed {failure.index}: "
        f"train loss {failure.loss:.3g}): `step` = {job.plan.step:.4g} is too large; a stable one is step = {remedy:g}."
    )


def chunk_budget(job: Job, replicas: int) -> int:
    """Steps in one compiled call."""
    operations = OPERATIONS_ACCELERATOR if job.layout.vectorized else OPERATIONS_CPU
    return min(max(int(operations / (job.system.operations * replicas)), 1), 2**30)


def group_size(system: System, request: Request, layout: Layout) -> int:
    """How many replicas fit into memory side by side; MemoryLimitError if not even one does.

    The replicas are spread evenly over the groups, so that the compiled loop fits (nearly) all of them.
    """
    replica = np.dtype(request.precision).itemsize * system.numbers
    check_memory(
        f"Simulating one seed with {system.sizes}",
        replica + system.drawing_bytes,
        'lower `dim`, `kappa` or `width`, or give precision="float32"',
    )
    free = min(available_memory(), layout.devices * device_memory())
    fitting = max(1, int((0.5 * free - system.drawing_bytes) / replica))
    groups = -(-request.seeds // fitting)
    return -(-request.seeds // groups)


def device_memory() -> float:
    """Bytes free on the accelerator, or infinity on the CPU and where the device does not say."""
    if jax.default_backend() == "cpu":
        return math.inf
    statistics = jax.devices()[0].memory_stats() or {}
    return float(statistics.get("bytes_limit", math.inf)) - float(statistics.get("bytes_in_use", 0))


def assemble(job: Job, values: np.ndarray, attributes: dict[str, Any]) -> xarray.Dataset:
    """The dataset of observables `values`, (S, T, O), with standard errors over the S seeds; T may end early."""
    request, plan, (seeds, times, _) = job.request, job.plan, values.shape
    deviation = np.std(values, axis=0, ddof=1) if seeds > 1 else np.full(values.shape[1:], np.nan)
    names = job.system.observables
    columns = {name: values[:, :, i] for i, name in enumerate(names)}
    errors = {name: deviation[:, i] / math.sqrt(seeds) for i, name in enumerate(names)}
    settings = {
        "kind": "simulation",
        "t_max": request.t_max,
        "step": plan.step,
        "step_chosen": int(request.step is None),
        "seeds": request.seeds,
        "seed": request.seed,
        "precision": request.precision,
        "backend": jax.default_backend(),
        "package_version": dmft.__version__,
    }
    settings |= request.optimizer.to_attributes()
    dataset = build_dataset(("seed", "time"), plan.time[:times], columns, errors, settings | attributes, names)
    return dataset.assign_coords(seed=("seed", np.arange(seeds), {"long_name": "independent draw"}))
