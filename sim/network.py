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

from dmft.model import Model
from sim.data import Replica


def initial(model: Model, replica: Replica) -> np.ndarray:
    """The weights w(0), (N, D)."""
    assert model.width is not None
    return replica.weights


def forward(weights: jax.Array, inputs: jax.Array, alpha: jax.Array, epsilon: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Preactivations h, (N, P), and outputs f, (P,), of `weights` (N, D) on `inputs` (P, D)."""
    h = weights @ inputs.T
    average = jnp.full(weights.shape[0], 1.0 / weights.shape[0], h.dtype)
    return h, alpha * (average @ (h * (1.0 + (0.5 * epsilon) * h)))


def descend(
    weights: jax.Array,
    h: jax.Array,
    residual: jax.Array,
    inputs: jax.Array,
    rate: jax.Array,
    shrink: jax.Array,
    epsilon: jax.Array,
) -> jax.Array:
    """The weights one gradient-descent step later.

    Args:
        weights: (N, D).
        h: their preactivations, (N, P).
        residual: Delta, (P,).
        inputs: x, (P, D).
        rate: dt / (alpha kappa).
        shrink: 1 - dt lambda.
        epsilon: weight of the quadratic feature.
    """
    force = residual * (1.0 + epsilon * h)
    return shrink * weights - rate * (force @ inputs)


def moments(weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """M = (1/N) sum w_i w_i^T, (D, D), and wbar = (1/N) sum w_i, (D,)."""
    return weights.T @ weights / weights.shape[0], jnp.mean(weights, axis=0)
