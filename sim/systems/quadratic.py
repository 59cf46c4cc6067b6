"""What both forms of the quadratic network share: data, fields and observables (THEORY sections 1 and 2)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dmft.losses.quadratic import OBSERVABLES, test_loss_terms
from dmft.models.model import Model
from sim.systems.draws import Replica


class Data(NamedTuple):
    """One replica's constants; numpy arrays as drawn, jax arrays in the loop.

    Attributes:
        inputs: x, (P, D).
        targets: labels, (P,); plus f(t=0) when centred, so that Delta = f - targets either way.
        linear: the weights a_j of the linear feature, (n,), in the reduced form; None for the plain network.
        beta: (D,) with |beta|^2 = D.
        alpha: output scale.
        epsilon: weight of the quadratic feature.
        rate: P / (alpha kappa): the gradient is `rate` times a mean over samples.
        centered: 1 if f - f(t=0) is trained, else 0.
        second_moment: M(0) when centred, else 0, (D, D).
        mean_weight: wbar(0) when centred, else 0, (D,).
    """

    inputs: Any
    targets: Any
    linear: Any
    beta: Any
    alpha: Any
    epsilon: Any
    rate: Any
    centered: Any
    second_moment: Any
    mean_weight: Any


class Fields(NamedTuple):
    """Preactivations h, (n, P), and residuals Delta, (P,), of n rows of weights."""

    h: jax.Array
    residual: jax.Array


def make_data(model: Model, replica: Replica, linear: np.ndarray | None) -> Data:
    """The data of a replica before `prepare`: nothing is centred yet."""
    dim = replica.beta.size
    numbers = (model.alpha, model.epsilon, replica.labels.size / (model.alpha * model.kappa), model.centered)
    alpha, epsilon, rate, centered = (np.float64(number) for number in numbers)
    references = np.zeros((dim, dim)), np.zeros(dim)
    return Data(replica.inputs, replica.labels, linear, replica.beta, alpha, epsilon, rate, centered, *references)


def centre(data: Data, outputs: jax.Array, second_moment: jax.Array, mean_weight: jax.Array) -> Data:
    """The data with f replaced by f - f(t=0) if the model is centred.

    Args:
        data: as drawn.
        outputs: f(t=0), (P,).
        second_moment: M(0), (D, D).
        mean_weight: wbar(0), (D,).
    """
    return data._replace(
        targets=data.targets + data.centered * outputs,
        second_moment=data.centered * second_moment,
        mean_weight=data.centered * mean_weight,
    )


def select(data: Data, indices: jax.Array) -> Data:
    """The data of the samples `indices`, (B,)."""
    return data._replace(inputs=data.inputs[indices], targets=data.targets[indices])


def observe(data: Data, residual: jax.Array, second_moment: jax.Array, mean_weight: jax.Array) -> jax.Array:
    """All observables at one time, (8,), in the order of `OBSERVABLES`.

    E = alpha epsilon M' - beta beta^T with M' = M - M_ref and wbar' = wbar - wbar_ref; the references are M(0) and
    wbar(0) when the model is centred, and zero otherwise. Trace, overlap and mean_weight_norm are those of M and wbar.

    Args:
        data: the replica.
        residual: Delta on the training set, (P,).
        second_moment: M, (D, D).
        mean_weight: wbar, (D,).
    """
    beta, dim = data.beta, data.beta.size
    error = data.alpha * data.epsilon * (second_moment - data.second_moment) - jnp.outer(beta, beta)
    change = mean_weight - data.mean_weight
    parts = jnp.trace(error) / dim, jnp.sum(error**2) / dim**2, change @ change / dim
    values = {
        "train_loss": jnp.mean(residual**2),
        **test_loss_terms(data.alpha, *parts)._asdict(),
        "trace": jnp.trace(second_moment) / dim,
        "overlap": beta @ second_moment @ beta / dim**2,
        "mean_weight_norm": mean_weight @ mean_weight / dim,
    }
    return jnp.stack([values[name] for name in OBSERVABLES])
