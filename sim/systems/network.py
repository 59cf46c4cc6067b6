"""The plain two-layer network of finite width, as anyone would write it (THEORY section 1).

    f(x) = (alpha/N) sum_i phi(w_i.x),  phi(h) = h + (epsilon/2) h^2,
    w_i <- (1 - dt lambda) w_i - (dt/(alpha kappa)) sum_mu Delta_mu phi'(h_i,mu) x_mu.

A step costs two matrix products, 4 P D N floating-point operations. Neurons come first in every array, and they are
summed by a product with a constant vector: on a CPU that is a quarter faster than rows of samples and a plain sum.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dmft.models.model import Model
from sim.systems.draws import Replica
from sim.systems.quadratic import Data, Fields, centre, make_data, observe, select
from sim.training.system import Equations


def start(model: Model, replica: Replica) -> tuple[np.ndarray, Data]:
    """The weights w(0), (N, D), and the data."""
    assert model.width is not None
    return replica.weights, make_data(model, replica, None)


def outputs(weights: jax.Array, data: Data) -> tuple[jax.Array, jax.Array]:
    """Preactivations h, (N, P), and f, (P,), of `weights` (N, D)."""
    h = weights @ data.inputs.T
    average = jnp.full(weights.shape[0], 1.0 / weights.shape[0], h.dtype)
    return h, data.alpha * (average @ (h * (1.0 + (0.5 * data.epsilon) * h)))


def forward(weights: jax.Array, data: Data) -> Fields:
    """Preactivations and residuals."""
    h, f = outputs(weights, data)
    return Fields(h, f - data.targets)


def gradient(weights: jax.Array, data: Data, fields: Fields) -> jax.Array:
    """(1/(alpha kappa)) sum_mu Delta_mu phi'(h_i,mu) x_mu, (N, D), as a mean over the samples of `data`."""
    del weights
    force = fields.residual * (1.0 + data.epsilon * fields.h)
    return (data.rate / fields.residual.size) * (force @ data.inputs)


def moments(weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """M = (1/N) sum w_i w_i^T, (D, D), and wbar = (1/N) sum w_i, (D,)."""
    return weights.T @ weights / weights.shape[0], jnp.mean(weights, axis=0)


EQUATIONS = Equations(
    forward=forward,
    gradient=gradient,
    observe=lambda weights, data, fields: observe(data, fields.residual, *moments(weights)),
    prepare=lambda weights, data: centre(data, outputs(weights, data)[1], *moments(weights)),
    select=select,
)
