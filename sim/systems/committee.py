"""Gradient descent of a committee: any activation, any teacher (THEORY section 8).

    f(x) = (alpha/N) sum_i a_i phi(h_i),  h_i = w_i.x,  Delta = f - y   (centred: f - f(t=0) - y),
    w_i <- (1 - dt lambda) w_i - (dt/(alpha kappa)) sum_mu s_mu Delta_mu a_i phi'(h_i,mu) x_mu,
    a_i <- (1 - dt lambda) a_i - (dt/(alpha P)) sum_mu s_mu Delta_mu phi(h_i,mu)   if readouts are trained.

s_mu is 1, or presence / b where the model's `batch_fraction` b is below 1: then each sample is present in a step with
probability b. All observables are exact for the weights reached: overlaps, and the test loss as a function of them.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dmft.checks import ParameterError, check_choice
from dmft.losses import committee as committee_observables
from dmft.losses.committee import DIMENSIONS, OBSERVABLES, READOUTS, Neurons
from dmft.models.activations import Activation
from dmft.models.committee import Committee
from dmft.models.teachers import Teacher
from sim.systems.committee_draws import CommitteeReplica, draw_committee
from sim.training.stepsize import largest_eigenvalue
from sim.training.system import Equations, Presence, System


class Parameters(NamedTuple):
    """What is trained: weights w, (N, D), and readouts a, (N,), or None if they stay."""

    weights: Any
    readouts: Any


class Data(NamedTuple):
    """One replica's constants; numpy arrays as drawn, jax arrays in the loop.

    Attributes:
        inputs: x, (P, D).
        targets: labels, (P,); plus f(t=0) when centred, so that Delta = f - targets either way.
        presence: s_mu, (P,), or a single 1.
        directions: beta, (K, D).
        readouts: a(0), (N,).
        alpha: output scale.
        rate: P / (alpha kappa): the gradient is `rate` times a mean over samples.
        start: w(0), (N, D), when centred; None otherwise.
    """

    inputs: Any
    targets: Any
    presence: Any
    directions: Any
    readouts: Any
    alpha: Any
    rate: Any
    start: Any


class Fields(NamedTuple):
    """Preactivations h, (N, P), and residuals Delta, (P,)."""

    h: jax.Array
    residual: jax.Array


def amplitudes(parameters: Parameters, data: Data) -> jax.Array:
    """a, (N,): trained, or as they were."""
    return data.readouts if parameters.readouts is None else parameters.readouts


@functools.cache
def equations(phi: Activation, psi: Teacher, centered: bool) -> Equations:
    """The compiled part; one value per activation, teacher and kind, so that compilations are shared."""
    test_loss = committee_observables.test_loss(phi, psi)

    def outputs(readouts: jax.Array, data: Data, h: jax.Array) -> jax.Array:
        """f, (P,), from the preactivations h, (N, P)."""
        return (data.alpha / readouts.size) * (readouts @ phi.value(h))

    def prepare(parameters: Parameters, data: Data) -> Data:
        if not centered:
            return data
        f = outputs(data.readouts, data, parameters.weights @ data.inputs.T)
        return data._replace(targets=data.targets + f, start=parameters.weights)

    def forward(parameters: Parameters, data: Data) -> Fields:
        h = parameters.weights @ data.inputs.T
        return Fields(h, outputs(amplitudes(parameters, data), data, h) - data.targets)

    def gradient(parameters: Parameters, data: Data, fields: Fields) -> Parameters:
        force, samples = data.presence * fields.residual, fields.residual.size
        pull = amplitudes(parameters, data)[:, None] * (force * phi.slope(fields.h))
        weights = (data.rate / samples) * (pull @ data.inputs)
        if parameters.readouts is None:
            return Parameters(weights, None)
        return Parameters(weights, (1.0 / (data.alpha * samples)) * (phi.value(fields.h) @ force))

    def neurons(readouts: jax.Array, weights: jax.Array, data: Data) -> Neurons:
        dim, scale = weights.shape[1], data.alpha / readouts.size
        return Neurons(scale * readouts, weights @ data.directions.T / dim, weights @ weights.T / dim)

    def observe(parameters: Parameters, data: Data, fields: Fields) -> jax.Array:
        now = neurons(amplitudes(parameters, data), parameters.weights, data)
        seen = now
        if centered:
            cross = parameters.weights @ data.start.T / data.start.shape[1]
            seen = committee_observables.centered(now, neurons(data.readouts, data.start, data), cross)
        parts = [jnp.mean(fields.residual**2), test_loss(seen), now.teacher, now.neurons]
        if parameters.readouts is not None:
            parts.append(parameters.readouts)
        return jnp.concatenate([jnp.ravel(part) for part in parts])

    def select(data: Data, indices: jax.Array) -> Data:
        return data._replace(inputs=data.inputs[indices], targets=data.targets[indices])

    def weigh(data: Data, weights: jax.Array) -> Data:
        return data._replace(presence=weights)

    return Equations(forward, gradient, observe, prepare, select, weigh)


def start(model: Committee, replica: CommitteeReplica) -> tuple[Parameters, Data]:
    """Parameters at t = 0, and the data before `prepare`: nothing is centred yet."""
    readouts = model.readouts
    alpha, rate = np.float64(model.alpha), np.float64(model.samples / (model.alpha * model.kappa))
    data = Data(replica.inputs, replica.labels, np.float64(1.0), replica.directions, readouts, alpha, rate, None)
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
    observables = OBSERVABLES | (READOUTS if model.train_readout else {})
    sizes = {"neuron": width, "neuron2": width, "direction": model.teacher_dim}

    def draw(seed: int, index: int) -> tuple[Parameters, Data]:
        return start(model, draw_committee(model, seed, index))

    def steepest(seed: int, index: int, batch_size: int | None) -> float:
        if batch_size is None and model.batch_fraction < 1.0:
            batch_size = max(1, round(model.batch_fraction * samples))
        return curvature(model, draw_committee(model, seed, index), batch_size)

    return System(
        equations=equations(model.phi, model.psi, model.centered),
        draw=draw,
        observables=observables,
        shapes={name: {dim: sizes[dim] for dim in DIMENSIONS[name]} for name in observables if name in DIMENSIONS},
        samples=samples,
        operations=4.0 * samples * dim * width,
        # inputs twice (host and device), weights in all roles, preactivations, slopes and forces, the test loss's grid
        numbers=2.0 * samples * dim + 8.0 * width * dim + 6.0 * samples * width + 2e6,
        drawing_bytes=8.0 * (2.0 * samples * dim + 4.0 * (width + model.teacher_dim) * dim),
        sizes=f"dim = {dim}, samples = {samples}, width = {width}",
        description=model.to_attributes(),
        decay=model.weight_decay,
        presence=None if model.batch_fraction == 1.0 else Presence(model.batch_fraction, model.persistence),
        curvature=steepest,
    )


def curvature(model: Committee, replica: CommitteeReplica, batch_size: int | None = None) -> float:
    """Largest rate of the training dynamics of one replica: steps below 2 / curvature are stable, by an estimate.

    The residuals relax with the tangent kernel K = (1/kappa) (X X^T) o Phi,
    Phi = (1/N) sum_i a_i^2 phi'(h_i) phi'(h_i)^T, plus (1/(N P)) sum_i phi(h_i) phi(h_i)^T if readouts are trained. Its
    largest eigenvalue is taken at the start, and where all neurons lie along one direction of the teacher, with lengths
    up to that at which the network is as large as the labels (at most 10): for a quadratic activation and target that
    is the end of training. Weight decay adds lambda. A batch of B samples stands for all P, and its bound is doubled.
    """
    if batch_size is not None:
        part = replica._replace(inputs=replica.inputs[:batch_size], labels=replica.labels[:batch_size])
        bound = curvature(model, part) - model.weight_decay
        return 2.0 * replica.labels.size / batch_size * bound + model.weight_decay
    phi, inputs, readouts = model.phi, replica.inputs, model.readouts
    u = inputs @ replica.directions[0]
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
    return max(rates) + model.weight_decay
