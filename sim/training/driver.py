"""The driver: trains replicas of any system and makes the dataset."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from dmft.checks import (
    DivergenceError,
    MemoryLimitError,
    ParameterError,
    available_memory,
    check_memory,
    precision_context,
)
from dmft.losses.dataset import build_dataset
from dmft.models.fingerprint import UnknownCode, describe, fingerprint
from dmft.version import __version__, numerics
from sim.request import Plan, Request, make_plan
from sim.training.checkpoint import Checkpoint
from sim.training.descent import Layout
from sim.training.flow_groups import follow_group, numbers_recorded
from sim.training.flow_report import broken_error, flow_parts
from sim.training.groups import Diverged, Halted, Job, train_group, train_groups
from sim.training.optimizers import is_transformation, schedule_attributes
from sim.training.stepsize import round_down, stable_step
from sim.training.system import System

if TYPE_CHECKING:
    import xarray


def run(
    system: System,
    request: Request,
    attributes: Mapping[str, Any],
    keep: Callable[[Any], object] | None = None,
) -> xarray.Dataset:
    """Train `request.seeds` replicas of `system`.

    Args:
        system: what to train.
        request: how long, how often observed, by which optimiser.
        attributes: what else the dataset's attributes say: the model, enough to run it again.
        keep: given the state after the last step, of all replicas, which must then fit into memory at once.

    Returns:
        A dataset over ("seed", "time") of the system's observables, and their `<name>_stderr` over ("time",).

    Raises:
        ParameterError: the request does not fit the system, or its checkpoint is damaged or of another run.
        DivergenceError: the loss grew without bound; its `curves` are those up to there (attribute `complete` = 0).
        StiffnessError: gradient flow is too stiff to be followed; with `curves` likewise.
        MemoryLimitError: one replica does not fit into memory; with `stop_below`, if not all of them do.
    """
    layout = Layout(vectorized=jax.default_backend() != "cpu", devices=min(jax.device_count(), request.seeds))
    group = group_size(system, request, layout)  # before anything is drawn
    if (request.stop_below is not None or keep is not None) and group < request.replicas:
        name = "stop_below" if keep is None else "weights"
        raise MemoryLimitError(
            f"Argument `{name}` needs all {request.replicas} seeds in memory at once, but only {group} fit; "
            "lower `seeds`, or leave it out."
        )
    with precision_context("float64"):
        plan = make_plan(system, request)
    with precision_context(request.precision):
        known = {} if request.checkpoint is None else everything(system, request, plan, layout)
        checkpoint = Checkpoint(request.checkpoint, request.checkpoint_every, known)
        job = Job(system, request, plan, layout, checkpoint, keep)
        saved = checkpoint.load()
        numbers = system.numbers_observed
        train, columns = (follow_group, numbers_recorded(system)) if request.is_flow else (train_group, numbers)
        try:
            values = train_groups(job, train, columns, saved.group if saved else group, saved)
        except Halted as failure:
            checkpoint.remove()
            error = divergence_error(job, failure) if isinstance(failure, Diverged) else broken_error(job, failure)
            if failure.values.shape[1]:  # else it failed at once
                error.curves = assemble(job, failure.values, {**attributes, "complete": 0})
            raise error from None
    return assemble(job, values, {**attributes, "complete": 1})


def everything(system: System, request: Request, plan: Plan, layout: Layout) -> dict[str, Any]:
    """Everything that determines a run to the last bit, flat and JSON-able.

    Raises:
        ParameterError: the code of a function of the user's cannot be compared.
    """
    codes = {}
    for name, function in {**system.functions, **request.optimizer.functions}.items():
        try:
            codes[f"{name}_code"] = fingerprint(function)
        except UnknownCode as held:
            raise ParameterError(
                f"Argument `checkpoint` must be left out with this `{name}`, {describe(function)}: it holds {held}, "
                "which cannot be compared with that of another run."
            ) from None
    device = jax.devices()[0]
    if request.is_flow:
        pace = {"step": "flow", "rtol": request.rtol, "observed_times": digest(plan.time)}
    else:
        pace = {"step": plan.step, "steps": plan.count, "observed_steps": digest(plan.steps)}
    return {
        **system.description,
        "t_max": request.t_max,
        **pace,
        "seeds": request.seeds,
        "seed": request.seed,
        "precision": request.precision,
        **request.optimizer.to_attributes(),
        **codes,
        "stop_below": dict(request.stop_below or {}),
        "python_version": platform.python_version(),
        **numerics(),
        "device": device.device_kind,
        "devices": layout.devices,
    }


def digest(array: np.ndarray) -> str:
    """A hash of the numbers in `array`."""
    return hashlib.sha256(array.tobytes()).hexdigest()


def divergence_error(job: Job, failure: Diverged) -> DivergenceError:
    """What to tell: when, which seed, and a step that is stable."""
    remedy, system, request = round_down(0.5 * job.plan.step), job.system, job.request
    own_rate = is_transformation(request.optimizer.rule)
    if system.curvature is not None:
        steepest = system.curvature(request.seed, failure.index, request.optimizer.batch_size)
        if request.optimizer.batch_size is not None:  # the noise of batches adds up over the memory of the momentum
            steepest /= 1.0 - (request.optimizer.momentum or 0.0)
        remedy = stable_step(steepest) if own_rate else min(stable_step(steepest), remedy)
    advice = f"`step` = {job.plan.step:.4g} is too large; a stable one is step = {remedy:g}."
    if own_rate:  # `step` is but the time that passes
        advice = "lower the learning rate of the `optimizer`, which is its own"
        advice += f"; that of optax.sgd is stable at {remedy:g}." if system.curvature is not None else "."
    return DivergenceError(
        f"Training diverged by t = {failure.mark * job.plan.step:.4g} (step {failure.mark}, seed {failure.index}: "
        f"train loss {failure.loss:.3g}): {advice}"
    )


def group_size(system: System, request: Request, layout: Layout) -> int:
    """How many replicas fit into memory side by side; MemoryLimitError if not even one does.

    The replicas are spread evenly over the groups, so that the compiled loop fits (nearly) all of them.
    """
    # of a flow, the last two states, their velocities and the stages between them are kept besides
    replica = np.dtype(request.precision).itemsize * system.numbers * (2.0 if request.is_flow else 1.0)
    check_memory(
        f"Simulating one seed with {system.sizes}",
        replica + system.drawing_bytes,
        'lower `dim`, `kappa` or `width`, or give precision="float32"',
    )
    free = min(available_memory(), layout.devices * device_memory())
    fitting = max(1, int((0.5 * free - system.drawing_bytes) / replica))
    groups = -(-request.replicas // fitting)
    return -(-request.replicas // groups)


def device_memory() -> float:
    """Bytes free on the accelerator, or infinity on the CPU and where the device does not say."""
    if jax.default_backend() == "cpu":
        return math.inf
    statistics = jax.devices()[0].memory_stats() or {}
    return float(statistics.get("bytes_limit", math.inf)) - float(statistics.get("bytes_in_use", 0))


def assemble(job: Job, values: np.ndarray, attributes: dict[str, Any]) -> xarray.Dataset:
    """The dataset of observables `values`, (S, T, O), with standard errors over the S seeds; T may end early."""
    request, plan, everyone = job.request, job.plan, values
    values = values[: request.seeds, :, : job.system.numbers_observed]
    seeds, times, _ = values.shape
    deviation = np.std(values, axis=0, ddof=1) if seeds > 1 else np.full(values.shape[1:], np.nan)
    columns, errors = {}, {}
    for name, column in job.system.columns.items():
        shape = tuple(job.system.shapes.get(name, {}).values())
        columns[name] = values[:, :, column].reshape(seeds, times, *shape)
        errors[name] = deviation[:, column].reshape(times, *shape) / math.sqrt(seeds)
    settings = {
        "kind": "simulation",
        "t_max": request.t_max,
        "step": "flow" if request.is_flow else plan.step,
        "seeds": request.seeds,
        "seed": request.seed,
        "precision": request.precision,
        "backend": jax.default_backend(),
        "package_version": __version__,
    }
    settings |= request.optimizer.to_attributes() | schedule_attributes(request.optimizer, plan.count)
    if request.stop_below is not None:
        settings |= {f"stop_below_{name}": float(level) for name, level in request.stop_below.items()}
        settings["stopped"] = int(times < plan.time.size)
    inner = {name: tuple(shape) for name, shape in job.system.shapes.items()}
    dataset = build_dataset(
        ("seed", "time"), plan.time[:times], columns, errors, settings | attributes, job.system.observables, inner
    )
    if request.is_flow:
        errors, settings = flow_parts(job, everyone)
        dataset = dataset.assign(errors).assign_attrs(settings)
    return dataset.assign_coords(seed=("seed", np.arange(seeds), {"long_name": "independent draw"}))
