"""Training a group of replicas side by side: memory, chunk by chunk, and stopping when the loss runs away."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dmft.checks import DivergenceError, available_memory, check_memory
from dmft.model import Model
from dmft.order_parameters import OBSERVABLES
from sim.data import draw_replica
from sim.descent import Batch, Coefficients, center, train
from sim.forms import Form, row_count
from sim.schedule import CAPACITY, chunks
from sim.stepsize import curvature, round_down, stable_step

#: A train loss this many times its initial scale means that the step is too large.
DIVERGED = 1e3
#: Operations in one compiled call, between two looks at the loss: about half a second.
OPERATIONS_CPU, OPERATIONS_ACCELERATOR = 2e10, 2e12
TRAIN_LOSS = list(OBSERVABLES).index("train_loss")


class Plan(NamedTuple):
    """A checked request: `count` steps of size `step`, observed at step numbers `steps`, `group` replicas at once."""

    model: Model
    form: Form
    step: float
    count: int
    steps: np.ndarray
    precision: str
    seed: int
    group: int


def train_group(plan: Plan, indices: range, report: Callable[[int], None]) -> np.ndarray:
    """Train the replicas `indices` side by side, inside a precision context.

    Returns:
        Their observables at `plan.steps`, float64 (S, T, 8). `report` is told of steps x replicas as they pass.
    """
    model, vectorized = plan.model, jax.default_backend() != "cpu"
    rate, shrink = plan.step / (model.alpha * model.kappa), 1.0 - plan.step * model.weight_decay
    coefficients = Coefficients(*map(jnp.asarray, (model.alpha, model.epsilon, rate, shrink)))
    batch = draw_batch(plan, indices)
    if model.centered:
        batch = center(plan.form, batch, coefficients, vectorized)
    operations = 4.0 * batch.inputs.size * row_count(model, plan.form)
    budget = int((OPERATIONS_ACCELERATOR if vectorized else OPERATIONS_CPU) / operations)
    scale, kept = None, []
    for chunk in chunks(plan.steps, plan.count, min(max(budget, 1), 2**30)):
        size = chunk.marks.size
        lengths = np.zeros(CAPACITY, np.int32)
        lengths[:size] = chunk.lengths
        state, records = train(plan.form, batch, coefficients, lengths, size, vectorized)
        batch = batch._replace(state=state)
        values = np.asarray(records, np.float64)[:, :size]
        if scale is None:  # the labels have mean square 3/4 or more
            scale = np.maximum(values[:, 0, TRAIN_LOSS], 1.0)
        check_bounded(plan, indices, chunk.marks, values, scale)
        kept.append(values[:, np.isin(chunk.marks, plan.steps)])
        report(len(indices) * int(chunk.lengths.sum()))
    return np.concatenate(kept, axis=1)


def draw_batch(plan: Plan, indices: range) -> Batch:
    """The replicas `indices` at t = 0, stacked in the precision of the plan, not centred."""
    dtype, dim = np.dtype(plan.precision), plan.model.dim
    replicas = []
    for index in indices:
        draw = draw_replica(plan.model, plan.seed, index)
        arrays = (plan.form.initial(plan.model, draw), draw.inputs, draw.labels, draw.beta)
        replicas.append(jax.tree.map(lambda array: array.astype(dtype), arrays))
    state, inputs, labels, beta = jax.tree.map(lambda *arrays: jnp.asarray(np.stack(arrays)), *replicas)
    count = len(indices)
    return Batch(state, inputs, labels, beta, jnp.zeros((count, dim, dim), dtype), jnp.zeros((count, dim), dtype))


def check_bounded(plan: Plan, indices: range, marks: np.ndarray, values: np.ndarray, scale: np.ndarray) -> None:
    """DivergenceError if an observable is not finite or a train loss exceeds DIVERGED x `scale`.

    Args:
        plan: the request.
        indices: the replicas of the group, S of them.
        marks: step numbers of the observations, (T,).
        values: observables, (S, T, 8).
        scale: initial scale of the train loss, (S,).
    """
    losses = values[:, :, TRAIN_LOSS]
    failed = ~np.isfinite(values).all(axis=2) | (losses > DIVERGED * scale[:, None])
    if not failed.any():
        return
    first = int(np.argmax(failed.any(axis=0)))
    row = int(np.argmax(failed[:, first]))
    steepest = curvature(plan.model, draw_replica(plan.model, plan.seed, indices[row]))
    remedy = min(stable_step(steepest), round_down(0.5 * plan.step))
    raise DivergenceError(
        f"Training diverged by t = {marks[first] * plan.step:.4g} (seed {indices[row]}: train loss "
        f"{losses[row, first]:.3g}): `step` = {plan.step:.4g} is too large; a stable one is step = {remedy:g}."
    )


def group_size(model: Model, form: Form, seeds: int, precision: str) -> int:
    """How many replicas fit into memory side by side; MemoryLimitError if not even one does.

    The replicas are spread evenly over the groups, so that the compiled loop fits (nearly) all of them.
    """
    dim, rows, samples = float(model.dim or 0), float(row_count(model, form)), float(model.samples)
    item = np.dtype(precision).itemsize
    # inputs twice (host and device), the state before, after and in between, references and M, fields and forces
    replica = item * (2 * samples * dim + 4 * rows * dim + 3 * dim**2 + 2 * samples * rows)
    drawing = 8 * (2 * samples * dim + 3 * (model.width or model.dim or 0) * dim)
    sizes = f"dim = {model.dim}, samples = {model.samples}, width = {model.width or 'infinite'}"
    check_memory(
        f"Simulating one seed with {sizes}",
        replica + drawing,
        'lower `dim`, `kappa` or `width`, or give precision="float32"',
    )
    fitting = max(1, int((0.5 * min(available_memory(), device_memory()) - drawing) / replica))
    groups = -(-seeds // fitting)
    return -(-seeds // groups)


def device_memory() -> float:
    """Bytes free on the accelerator, or infinity on the CPU and where the device does not say."""
    if jax.default_backend() == "cpu":
        return math.inf
    statistics = jax.devices()[0].memory_stats() or {}
    return float(statistics.get("bytes_limit", math.inf)) - float(statistics.get("bytes_in_use", 0))
