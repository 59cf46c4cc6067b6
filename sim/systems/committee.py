"""Gradient descent of a committee: any activation, teacher and loss (THEORY sections 8 and 14).

    f(x) = (alpha/N) sum_i a_i phi(h_i),  h_i = w_i.x,  Delta = f - y   (centred: f - f(t=0) - y),
    w_i <- (1 - dt lambda) w_i - (dt/(alpha kappa)) sum_mu s_mu Delta_mu a_i phi'(h_i,mu) x_mu,
    a_i <- (1 - dt lambda) a_i - (dt/(alpha P)) sum_mu s_mu Delta_mu phi(h_i,mu)   if readouts are trained.

Another loss than the square has l'(f, y) in place of Delta.
s_mu is 1, or presence / b where the model's `batch_fraction` b is below 1: then each sample is present in a step with
probability b. All observables are exact for the weights reached: overlaps, and test loss and accuracy as functions of
them.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dmft.checks import ParameterError, check_choice
from dmft.losses import committee as committee_observables
from dmft.losses.committee import DIMENSIONS, Neurons, observables
from dmft.losses.new_inputs import Task, correctness, scores, task_of
from dmft.models.activations import Activation
from dmft.models.committee import FUNCTIONS, Committee
from dmft.models.losses import Loss
from dmft.models.teachers import Teacher
from sim.systems.draws import Replica, draw_committee
from sim.systems.state import Fields, Parameters, With
from sim.training.stepsize import batch_curvature, largest_eigenvalue
from sim.training.system import Equations, Presence, System, keep


class CommitteeData(NamedTuple):
    """One replica's constants; numpy arrays as drawn, jax arrays in the loop.

    Attributes:
        inputs: x, (P, D).
        labels: y, (P,).
        targets: y; plus f(t=0) when centred, so that Delta = f - targets either way.
        presence: s_mu, (P,), or a single 1.
        directions: beta, (K, D).
        readouts: a(0), (N,).
        alpha: output scale.
        rate: P / (alpha kappa): the gradient is `rate` times a mean over samples.
        start: w(0), (N, D), when centred; None otherwise.
        phi: the activation.
        loss: the loss.
    """

    inputs: Any
    labels: Any
    targets: Any
    presence: Any
    directions: Any
    readouts: Any
    alpha: Any
    rate: Any
    start: Any
    phi: Activation
    loss: Loss


def amplitudes(parameters: Parameters, data: CommitteeData) -> jax.Array:
    """a, (N,): trained, or as they were."""
    return data.readouts if parameters.readouts is None else parameters.readouts


def outputs(readouts: jax.Array, data: CommitteeData, h: jax.Array) -> jax.Array:
    """f, (P,), from the preactivations h, (N, P)."""
    return (data.alpha / readouts.size) * (readouts @ data.phi.value(h))


def forward(parameters: Parameters, data: CommitteeData) -> Fields:
    """Preactivations and residuals."""
    h = parameters.vectors @ data.inputs.T
    return Fields(h, outputs(amplitudes(parameters, data), data, h) - data.targets)


def gradient(parameters: Parameters, data: CommitteeData, fields: Fields) -> Parameters:
    """Minus the velocities of weights and readouts, as a mean over the samples of `data`."""
    push = data.loss.slope(fields.residual, data.labels)
    force, samples = data.presence * push, push.size
    pull = amplitudes(parameters, data)[:, None] * (force * data.phi.slope(fields.h))
    weights = (data.rate / samples) * (pull @ data.inputs)
    if parameters.readouts is None:
        return Parameters(weights, None)
    return Parameters(weights, (1.0 / (data.alpha * samples)) * (data.phi.value(fields.h) @ force))


def objective(parameters: Parameters, data: CommitteeData, fields: Fields) -> jax.Array:
    """(N P/(alpha^2 kappa)) <s l>, whose gradient is `gradient` where readouts stay."""
    scale = len(parameters.vectors) * data.rate / data.alpha / data.loss.factor
    return scale * jnp.mean(data.presence * data.loss.reported(fields.residual, data.labels))


def neurons(readouts: jax.Array, weights: jax.Array, data: CommitteeData) -> Neurons:
    """The neurons as the test loss sees them."""
    dim, scale = weights.shape[1], data.alpha / readouts.size
    return Neurons(scale * readouts, weights @ data.directions.T / dim, weights @ weights.T / dim)


def prepare(parameters: Parameters, data: CommitteeData) -> CommitteeData:
    """The data of a centred network: f - f(t=0) is trained."""
    f = outputs(data.readouts, data, parameters.vectors @ data.inputs.T)
    return data._replace(targets=data.targets + f, start=parameters.vectors)


def observe(psi: Teacher, task: Task | None, parameters: Parameters, data: CommitteeData, fields: Fields) -> jax.Array:
    """All observables one after the other; the network is centred if the data hold its start."""
    now = neurons(amplitudes(parameters, data), parameters.vectors, data)
    seen = now
    if data.start is not None:
        cross = parameters.vectors @ data.start.T / data.start.shape[1]
        seen = committee_observables.centered(now, neurons(data.readouts, data.start, data), cross)
    tested = committee_observables.test_loss(data.phi, psi)(seen) if task is None else scores(data.phi, task)(seen)
    train_loss = jnp.mean(data.loss.reported(fields.residual, data.labels))
    parts = [train_loss, tested if task is None else tested[0], now.teacher, now.neurons]
    if parameters.readouts is not None:
        parts.append(parameters.readouts)
    if task is not None and task.labels != "teacher":
        correct = correctness(fields.residual, data.labels, fields.residual.dtype)
        parts += [jnp.mean(correct), tested[1], jnp.mean(data.labels * (fields.residual + data.labels))]
    return jnp.concatenate([jnp.ravel(part) for part in parts])


def select(data: CommitteeData, indices: jax.Array) -> CommitteeData:
    """The data of the samples `indices`, (B,)."""
    part = {name: getattr(data, name)[indices] for name in ("inputs", "labels", "targets")}
    return data._replace(**part)


def weigh(data: CommitteeData, weights: jax.Array) -> CommitteeData:
    """The data in which each sample counts with its weight, (P,)."""
    return data._replace(presence=weights)


def equations(model: Committee) -> Equations:
    """The compiled part."""
    return Equations(
        forward,
        gradient,
        With(observe, (model.psi, task_of(model))),
        prepare if model.centered else keep,
        select,
        weigh,
        None if model.train_readout else objective,
    )


def start(model: Committee, replica: Replica) -> tuple[Parameters, CommitteeData]:
    """Parameters at t = 0, and the data before `prepare`: nothing is centred yet."""
    readouts = model.readouts
    alpha, rate = np.float64(model.alpha), np.float64(model.samples / (model.alpha * model.kappa))
    fixed = replica.directions, readouts, alpha, rate, None, model.phi, model.criterion
    data = CommitteeData(replica.inputs, replica.labels, replica.labels, np.float64(1.0), *fixed)
    return Parameters(replica.weights, readouts if model.train_readout else None), data


def committee_system(model: Committee, form: str) -> System:
    """The system of a committee with `dim` set; its only form is that of the plain network.

    Raises:
        ParameterError: `form` is neither "auto" nor "network", or `dim` is infinite.
    """
    check_choice("form", form, ("auto", "network"))
    if model.dim is None:
        raise ParameterError("Argument `dim` of the model must be an integer >= 2 to simulate, but is None (infinite).")
    dim, samples, width = model.dim, model.samples, model.width
    meanings = observables(model)
    sizes = {"neuron": width, "neuron2": width, "direction": model.teacher_dim}

    def draw(seed: int, index: int) -> tuple[Parameters, CommitteeData]:
        return start(model, draw_committee(model, seed, index))

    def steepest(seed: int, index: int, batch_size: int | None) -> float:
        if batch_size is None and model.batch_fraction < 1.0:
            batch_size = max(1, round(model.batch_fraction * samples))
        bound = partial(curvature, model)
        return batch_curvature(bound, draw_committee(model, seed, index), batch_size) + model.weight_decay

    return System(
        equations=equations(model),
        draw=draw,
        observables=meanings,
        shapes={name: {dim: sizes[dim] for dim in DIMENSIONS[name]} for name in meanings if name in DIMENSIONS},
        samples=samples,
        operations=4.0 * samples * dim * width,
        # inputs twice (host and device), weights in all roles, preactivations, slopes and forces, the test loss's grid
        numbers=2.0 * samples * dim + 8.0 * width * dim + 6.0 * samples * width + 2e6,
        drawing_bytes=8.0 * (2.0 * samples * dim + 4.0 * (width + model.teacher_dim) * dim),
        sizes=f"dim = {dim}, samples = {samples}, width = {width}",
        description=model.to_attributes(),
        decay=model.weight_decay,
        functions={name: own for name in FUNCTIONS if callable(own := getattr(model, name))},
        steps_only=f"the derivative of the loss {model.criterion.name} jumps" if model.criterion.kinks else None,
        presence=None if model.batch_fraction == 1.0 else Presence(model.batch_fraction, model.persistence),
        curvature=steepest,
    )


def curvature(model: Committee, replica: Replica) -> float:
    """Largest rate of the training dynamics of one replica: steps below 2 / curvature are stable, by an estimate.

    The residuals relax with the tangent kernel K = (1/kappa) (X X^T) o Phi,
    Phi = (1/N) sum_i a_i^2 phi'(h_i) phi'(h_i)^T, plus (1/(N P)) sum_i phi(h_i) phi(h_i)^T if readouts are trained. Its
    largest eigenvalue is taken at the start, and where all neurons lie along one direction of the teacher, with lengths
    up to that at which the network is as large as the labels (at most 10): for a quadratic activation and target that
    is the end of training. Another loss than the square multiplies all of it by l'', at most its largest.
    """
    phi, inputs, readouts = model.phi, replica.inputs, model.readouts
    u = inputs @ replica.beta
    size = float(np.sqrt(np.mean(replica.labels**2)))
    fields = [inputs @ replica.weights.T]
    scale = model.alpha * max(float(np.mean(np.abs(readouts))), 1e-12)
    for length in np.geomspace(0.5, 10.0, 8):
        fields.append(np.repeat((length * u)[:, None], readouts.size, axis=1))
        if scale * float(np.sqrt(np.mean(np.asarray(phi.value(length * u)) ** 2))) > size:
            break
    rates = []
    for h in fields:
        features = np.asarray(phi.slope(h)) * readouts / np.sqrt(readouts.size)
        rate = largest_eigenvalue(inputs, features) / model.kappa
        if model.train_readout:
            rate += float(np.mean(np.asarray(phi.value(h)) ** 2))
        rates.append(rate)
    return max(rates) * model.criterion.steepest
