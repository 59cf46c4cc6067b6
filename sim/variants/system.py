"""The system of an experiment: what is trained, by which gradient, and what is observed."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dmft.checks import ParameterError, check_choice
from sim.systems.forms import CHOICES, choose_form, row_count
from sim.systems.state import Fields, Parameters, With
from sim.training.optimizers import Optimizer
from sim.training.system import Equations, System
from sim.variants.experiment import Experiment
from sim.variants.ntk import alignment, centered_alignment, distance, gram
from sim.variants.ridge_functions import (
    components,
    difference,
    inner_by_degree,
    outputs,
    preactivations,
    pull,
)
from sim.variants.task import Task, draw_task

#: Observables of every experiment: name and meaning.
LOSSES = {
    "train_loss": "mean squared residual on the training set",
    "test_loss": "mean squared error on new inputs, clean labels",
}
#: With an exact test loss: its parts by degree in the inputs, which sum up to it.
PARTS = {
    "variance_error": "part of the test loss of degree 0: squared mean of f - y",
    "misalignment_error": "part of the test loss of degrees 2 and more",
    "linear_power": "part of the test loss of degree 1: (alpha^2 / D) |mean weight|^2 if the activation is quadratic",
    "overlap": "(1/N) sum_i a_i sum_k (w_i.beta_k)^2 / D^2",
}
SAMPLED = {"test_loss_sampling_error": "standard error of the test loss from the finite number of test inputs"}
ORDER = {
    "trace": "(1/N) sum_i a_i |w_i|^2 / D",
    "mean_weight_norm": "|(1/N) sum_i a_i w_i|^2 / D",
    "parameter_movement": "|theta - theta(0)| / |theta(0)|",
}
KERNEL = {
    "kernel_alignment": "y^T K y / (|K|_F |y|^2), tangent kernel K and labels y on the training set",
    "kernel_alignment_centered": "the same of H K H and H y, H = 1 - 1 1^T / P",
    "kernel_distance": "|K - K(0)|_F / |K(0)|_F",
}


class Watch(NamedTuple):
    """What decides which equations are compiled.

    Attributes:
        centered: f - f(t=0) is trained.
        exact: the test loss is exact, not an average over test inputs.
        kernel: the tangent kernel is followed.
    """

    centered: bool
    exact: bool
    kernel: bool


def observables(watch: Watch) -> dict[str, str]:
    """Names and meanings, in the order observed."""
    return LOSSES | (PARTS if watch.exact else SAMPLED) | ORDER | (KERNEL if watch.kernel else {})


def forward(parameters: Parameters, task: Task) -> Fields:
    """Preactivations and residuals on the training set."""
    h = preactivations(parameters, task.inputs)
    return Fields(h, outputs(task.fixed, parameters, h) - task.targets)


def gradient(parameters: Parameters, task: Task, fields: Fields) -> Parameters:
    """(s/(alpha^2 kappa)) sum_mu Delta_mu df(x_mu)/d theta, as a mean over the samples of `task`."""
    full = pull(task.fixed, parameters, fields.h, fields.residual, task.inputs)
    return jax.tree.map(lambda array: (task.rate / fields.residual.size) * array, full)


def select(task: Task, indices: jax.Array) -> Task:
    """The task of the samples `indices`, (B,)."""
    return task._replace(inputs=task.inputs[indices], labels=task.labels[indices], targets=task.targets[indices])


def objective(parameters: Parameters, task: Task, fields: Fields) -> jax.Array:
    """(speed P/(alpha^2 kappa)) <Delta^2> / 2, whose gradient is `gradient` where readouts stay."""
    del parameters
    return (0.5 * task.fixed.speed * task.rate / task.fixed.alpha) * jnp.mean(fields.residual**2)


def prepare(watch: Watch, parameters: Parameters, task: Task) -> Task:
    """The task with what refers to the initial parameters."""
    task = task._replace(start=parameters)
    h = preactivations(parameters, task.inputs)
    if watch.centered:
        task = task._replace(targets=task.labels + outputs(task.fixed, parameters, h))
        if not watch.exact:
            test_outputs = outputs(task.fixed, parameters, preactivations(parameters, task.test_inputs))
            task = task._replace(test_targets=task.test_targets + test_outputs)
    return task._replace(start_gram=gram(task.fixed, parameters, task.inputs, h)) if watch.kernel else task


def observe(watch: Watch, parameters: Parameters, task: Task, fields: Fields) -> jax.Array:
    """All observables at one time, in the order of `observables`."""
    values = {"train_loss": jnp.mean(fields.residual**2)}
    values |= exact_test(watch, parameters, task) if watch.exact else sampled_test(parameters, task)
    values |= order_parameters(parameters, task)
    if watch.kernel:
        matrix = gram(task.fixed, parameters, task.inputs, fields.h)
        values["kernel_alignment"] = alignment(matrix, task.labels)
        values["kernel_alignment_centered"] = centered_alignment(matrix, task.labels)
        values["kernel_distance"] = distance(matrix, task.start_gram)
    return jnp.stack([values[name] for name in observables(watch)])


def equations(watch: Watch, train_readout: bool) -> Equations:
    """The compiled part."""
    loss = None if train_readout else objective
    return Equations(forward, gradient, With(observe, (watch,)), With(prepare, (watch,)), select, objective=loss)


def exact_test(watch: Watch, parameters: Parameters, task: Task) -> dict[str, jax.Array]:
    """Test loss and its parts over all inputs x ~ N(0, I/D), and the overlap with the target's directions."""
    assert task.target is not None
    assert task.start is not None
    error = components(task.fixed, parameters)
    if watch.centered:
        error = difference(error, components(task.fixed, task.start))
    error = difference(error, task.target)
    parts = jnp.maximum(inner_by_degree(error, error), 0.0)  # squares, but for rounding
    weights = quadratic_amplitudes(parameters, task)
    return {
        "test_loss": jnp.sum(parts),
        "variance_error": parts[0],
        "misalignment_error": jnp.sum(parts[2:]),
        "linear_power": parts[1],
        "overlap": jnp.sum(weights @ (parameters.vectors @ task.target.vectors.T) ** 2) / task.inputs.shape[1] ** 2,
    }


def sampled_test(parameters: Parameters, task: Task) -> dict[str, jax.Array]:
    """Test loss on the test inputs, and its standard error."""
    test = outputs(task.fixed, parameters, preactivations(parameters, task.test_inputs))
    squares = (test - task.test_targets) ** 2
    error = jnp.std(squares, ddof=1) / jnp.sqrt(squares.size)
    return {"test_loss": jnp.mean(squares), "test_loss_sampling_error": error}


def quadratic_amplitudes(parameters: Parameters, task: Task) -> jax.Array:
    """Weights c_j, (n,), for which M = (1/N) sum_i a_i w_i w_i^T = sum_j c_j v_j v_j^T."""
    amplitude = task.fixed.nonlinear
    return amplitude if parameters.readouts is None else amplitude * parameters.readouts


def order_parameters(parameters: Parameters, task: Task) -> dict[str, jax.Array]:
    """Trace, mean weight, and how far the parameters have moved."""
    assert task.start is not None
    dim = task.inputs.shape[1]
    linear = task.fixed.linear if parameters.readouts is None else task.fixed.linear * parameters.readouts
    mean_weight = linear @ parameters.vectors
    moved, start = squared_norm(jax.tree.map(jnp.subtract, parameters, task.start)), squared_norm(task.start)
    return {
        "trace": quadratic_amplitudes(parameters, task) @ jnp.sum(parameters.vectors**2, axis=1) / dim,
        "mean_weight_norm": mean_weight @ mean_weight / dim,
        "parameter_movement": jnp.sqrt(moved / start),
    }


def squared_norm(parameters: Parameters) -> jax.Array:
    """Sum of the squares of all entries."""
    return sum((jnp.sum(array**2) for array in jax.tree.leaves(parameters)), start=jnp.zeros(()))


def choose_experiment_form(experiment: Experiment, form: str, optimizer: Optimizer) -> str:
    """The form asked for; "auto" is the cheaper exact one (`sim.systems.forms`); only some experiments can be
    reduced.
    """
    check_choice("form", form, CHOICES)
    if experiment.reducible:
        return choose_form(experiment.model, form, optimizer)
    if form == "reduced":
        raise ParameterError(
            "Argument `form` must be auto or network unless the activation is quadratic and the readouts fixed, but is "
            "'reduced'."
        )
    return "network"


def experiment_system(experiment: Experiment, form: str, kernel: bool) -> System:
    """The system of an experiment in the form "network" or "reduced", following its kernel or not."""
    watch = Watch(experiment.model.centered, experiment.exact_test_loss, kernel)
    dim, samples, rows = experiment.dim, experiment.samples, row_count(experiment.model, form)
    tests = experiment.test_samples or 0
    pairs = 3.0 * (2 * rows + len(experiment.strengths)) ** 2 if watch.exact else 2.0 * rows * tests
    everything = float(samples + tests)

    def draw(seed: int, index: int) -> tuple[Parameters, Any]:
        return draw_task(experiment, form, seed, index)

    return System(
        equations=equations(watch, experiment.train_readout),
        draw=draw,
        observables=observables(watch),
        samples=samples,
        operations=4.0 * samples * dim * rows,
        # inputs twice (host and device), parameters in all roles, fields and forces, overlaps of rows, Gram matrices
        numbers=2.0 * everything * dim + 6.0 * rows * dim + 4.0 * samples * rows + pairs + 4.0 * kernel * samples**2,
        drawing_bytes=8.0 * (2.0 * everything * dim + 4.0 * experiment.width * dim + 4.0 * (tests and everything) ** 2),
        sizes=f"dim = {dim}, samples = {samples}, width = {experiment.width}",
        description={**experiment.to_attributes(), "form": form, "kernel": int(kernel)},
        decay=experiment.model.weight_decay,
    )
