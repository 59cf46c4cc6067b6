"""A variant of the network trained, with its linearisation and its tangent kernel beside it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dmft.checks import ParameterError, precision_context
from dmft.compiled.executables import compilable
from sim.request import Request
from sim.systems.state import Parameters
from sim.training.driver import run
from sim.variants.experiment import Experiment
from sim.variants.linearized import (
    Spectrum,
    change_of_outputs,
    coefficients,
    decompose,
    displacement,
    error_by_degree,
    residuals,
)
from sim.variants.ntk import minimum_norm_coefficients
from sim.variants.ridge_functions import Components, components, difference, outputs, preactivations
from sim.variants.system import choose_experiment_form, experiment_system
from sim.variants.task import Task, draw_task, gram_matrix

if TYPE_CHECKING:
    import xarray

LINEARIZED = {
    "linearized_train_loss": "train loss of the network linearised at its start, after the same steps",
    "linearized_test_loss": "test loss of the network linearised at its start, after the same steps",
}
REGRESSION = {
    "kernel_regression_train_loss": "train loss of regression with the initial tangent kernel, without ridge",
    "kernel_regression_test_loss": "test loss of regression with the initial tangent kernel, without ridge",
}


def run_experiment(
    experiment: Experiment, form: str, asked: Request, *, kernel: bool = False, linearized: bool = False
) -> xarray.Dataset:
    """Train the network of an experiment, with its tangent kernel or its linearised network beside it.

    Args:
        experiment: the network and its task.
        form: "network", "reduced" (quadratic activation with fixed readouts only) or "auto", the cheaper.
        asked: how long, how often, by which optimiser.
        kernel: follow the tangent kernel.
        linearized: add the curves of the linearised network, and regression with the initial kernel.

    Raises:
        ParameterError: an argument is out of range, or does not go with another; the message names it.
        DivergenceError: the network, or its linearisation, does not stand steps of this size.
        MemoryLimitError: one draw does not fit into memory.
    """
    if linearized:
        _check_linearizable(experiment, asked)
    chosen = choose_experiment_form(experiment, form, asked.optimizer)
    settings = {"form": chosen, "form_requested": form, "kernel": int(kernel), "linearized": int(linearized)}
    dataset = run(experiment_system(experiment, chosen, kernel), asked, experiment.to_attributes() | settings)
    return _add_linearized(dataset, experiment, chosen) if linearized else dataset


def _check_linearizable(experiment: Experiment, asked: Request) -> None:
    if not asked.optimizer.is_flow:
        raise ParameterError(
            "Argument `linearized` must be False unless the optimizer is gd on all samples at a constant rate, whose "
            "steps, and whose flow, have a closed form, but is True."
        )
    if experiment.model.weight_decay:
        raise ParameterError(
            "Argument `linearized` must be False with weight decay, under which the linearised network has no fixed "
            f"kernel, but is True with weight_decay = {experiment.model.weight_decay:g}."
        )


def _add_linearized(dataset: xarray.Dataset, experiment: Experiment, form: str) -> xarray.Dataset:
    """The dataset with the curves of the linearised network and the regression errors."""
    seed, time = int(dataset.attrs["seed"]), dataset["time"].to_numpy()
    step = None if dataset.attrs["step"] == "flow" else float(dataset.attrs["step"])
    counts = time if step is None else np.rint(time / step)
    curves, limits = [], []
    for index in range(dataset.sizes["seed"]):
        start = linear_start(experiment, form, seed, index)
        curve, limit = linearized_losses(start, step, counts)
        curves.append(curve)
        limits.append(limit)
    values, seeds = np.array(curves), len(curves)
    deviation = np.std(values, axis=0, ddof=1) if seeds > 1 else np.full(values.shape[1:], np.nan)
    added: dict[str, Any] = {}
    for i, (name, meaning) in enumerate(LINEARIZED.items()):
        added[name] = (("seed", "time"), values[:, i], {"long_name": meaning, "units": "1"})
        error = {"long_name": f"standard error of the mean of {name}", "units": "1"}
        added[f"{name}_stderr"] = (("time",), deviation[i] / math.sqrt(seeds), error)
    for i, (name, meaning) in enumerate(REGRESSION.items()):
        added[name] = (("seed",), np.array(limits)[:, i], {"long_name": meaning, "units": "1"})
    return dataset.assign(added)


class LinearStart(NamedTuple):
    """What determines the linearised network of one replica.

    Attributes:
        centered: f - f(t=0) is trained.
        parameters: theta_0.
        task: the replica.
        gram: K on the training set, (P, P).
        residual: Delta_0 on the training set, (P,).
        spectrum: of K / kappa.
    """

    centered: bool
    parameters: Parameters
    task: Task
    gram: np.ndarray
    residual: np.ndarray
    spectrum: Spectrum


def linear_start(experiment: Experiment, form: str, seed: int, index: int) -> LinearStart:
    """Replica `index` at t = 0, in float64."""
    parameters, task = draw_task(experiment, form, seed, index)
    centered = experiment.model.centered
    with precision_context("float64"):
        x, start = jnp.asarray(task.inputs), jax.tree.map(jnp.asarray, parameters)
        f = np.asarray(outputs(jax.tree.map(jnp.asarray, task.fixed), start, preactivations(start, x)))
    residual = (0.0 if centered else f) - task.labels
    matrix = gram_matrix(task.fixed, parameters, task.inputs)
    spectrum = decompose(matrix, experiment.model.kappa, residual)
    return LinearStart(centered, parameters, task, matrix, residual, spectrum)


def linearized_losses(start: LinearStart, step: float | None, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Train and test loss of the linearised network after each number of steps in `counts`, (2, T), and at last, (2,).

    Without a step they are those of gradient flow, and `counts` are times.

    The last are those of infinitely many steps: regression with the initial tangent kernel, without ridge.
    """
    limit = minimum_norm_coefficients(start.gram, start.residual)
    left = np.vstack([residuals(start.spectrum, step, counts), start.residual - start.gram @ limit])
    c = np.vstack([coefficients(start.spectrum, step, counts), limit])
    losses = np.stack([np.mean(left**2, axis=1), test_losses(start, c)])
    return losses[:, :-1], losses[:, -1]


def test_losses(start: LinearStart, c: np.ndarray) -> np.ndarray:
    """Test loss of f_0 - K(., X) c, for every row of coefficients c, (T, P)."""
    with precision_context("float64"):
        parameters, task = jax.tree.map(jnp.asarray, (start.parameters, start.task))
        losses = _sampled_losses if task.target is None else _exact_losses
        return np.asarray(losses(parameters, task, jnp.asarray(c), centered=start.centered))


test_losses.__test__ = False  # type: ignore[attr-defined]  # not a test function


@compilable()
def _exact_losses(parameters: Parameters, task: Task, many: jax.Array, *, centered: bool) -> jax.Array:
    assert task.target is not None
    minus_target = Components(task.target.vectors, -task.target.amplitudes)
    base = minus_target if centered else difference(components(task.fixed, parameters), task.target)

    def loss(c: jax.Array) -> jax.Array:
        moved = displacement(task.fixed, parameters, task.inputs, c)
        return jnp.sum(error_by_degree(task.fixed, parameters, moved, base))

    return jax.lax.map(loss, many)


@compilable()
def _sampled_losses(parameters: Parameters, task: Task, many: jax.Array, *, centered: bool) -> jax.Array:
    f = outputs(task.fixed, parameters, preactivations(parameters, task.test_inputs))
    base = (0.0 if centered else f) - task.test_targets

    def loss(c: jax.Array) -> jax.Array:
        moved = displacement(task.fixed, parameters, task.inputs, c)
        return jnp.mean((base + change_of_outputs(task.fixed, parameters, moved, task.test_inputs)) ** 2)

    return jax.lax.map(loss, many)
