"""What one replica draws: inputs, target direction, labels and initial weights (THEORY section 1)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dmft.checks import precision_context
from dmft.compiled.executables import compilable
from dmft.models.model import Model


class Replica(NamedTuple):
    """One draw of everything random, as float64 numpy arrays.

    Attributes:
        inputs: x, (P, D), independent N(0, 1/D).
        beta: target direction, (D,), uniform on the sphere |beta|^2 = D.
        labels: y = (1/2)(beta.x)^2 + label noise, (P,).
        weights: w(0), (N, D), planted if the model says so; (0, D) at infinite width.
    """

    inputs: np.ndarray
    beta: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


def draw_replica(model: Model, seed: int, index: int) -> Replica:
    """Draw replica `index` of the random stream `seed`.

    The draw depends on (model, seed, index) alone: not on the number of replicas, the form of the simulation or its
    precision, because numbers are drawn in float64 and rounded later. Inputs, beta and noise are the same at every
    width.
    """
    dim, width = model.dim, model.width or 0
    assert dim is not None
    with precision_context("float64"):
        drawn = _normals(np.int64(seed), np.uint32(index), samples=model.samples, dim=dim, width=width)
        inputs, direction, noise, weights = map(np.asarray, drawn)
    inputs = inputs / np.sqrt(dim)
    beta = direction * np.sqrt(dim) / np.linalg.norm(direction)
    labels = 0.5 * (inputs @ beta) ** 2 + model.label_noise * noise
    return Replica(inputs, beta, labels, plant(model, beta, weights))


@compilable()
def _normals(seed: jax.Array, index: jax.Array, *, samples: int, dim: int, width: int) -> list[jax.Array]:
    """Standard normals for inputs, beta, noise and weights."""
    keys = jax.random.split(replica_key(seed, index), 4)
    shapes = ((samples, dim), (dim,), (samples,), (width, dim))
    return [jax.random.normal(key, shape, jnp.float64) for key, shape in zip(keys, shapes, strict=True)]


def replica_key(seed: int | jax.Array, index: int | jax.Array) -> jax.Array:
    """The random key of replica `index` of the stream `seed`."""
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), index)


def plant(model: Model, beta: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """w U(0)^T with U(0) = I + (m0 sqrt(D) - 1) beta beta^T / D if an overlap m0^2 > 0 is planted (THEORY section 3).

    Args:
        model: gives m0^2 = `initial_overlap`; 0 leaves the weights as they are.
        beta: (D,) with |beta|^2 = D.
        weights: (n, D), one weight vector a row.
    """
    if model.initial_overlap == 0.0:
        return weights
    dim = beta.size
    stretch = np.sqrt(model.initial_overlap * dim) - 1.0
    return weights + (stretch / dim) * np.outer(weights @ beta, beta)
