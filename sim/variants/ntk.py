"""The neural tangent kernel of a network: Gram matrices, alignment with the labels, and regression with it.

    K(x, x') = (1/alpha^2) sum_theta s_theta (df(x)/d theta) (df(x')/d theta)
             = (x.x') (1/N) sum_i a_i^2 phi'(w_i.x) phi'(w_i.x')  [+ (1/(N D)) sum_i phi(w_i.x) phi(w_i.x')]

with the speeds s = N of weights and N / D of readouts (`sim.variants.ridge_functions`); the bracket is there if
readouts are trained. The normalisation makes K of order one. During training dDelta/dt = -(1/kappa) K Delta on the
training inputs, and f - f(0) at any other input follows from the same residuals.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sim.systems.state import Parameters
from sim.variants.ridge_functions import Fixed, features, slopes

#: Eigenvalues of a Gram matrix below this fraction of the largest count as zero: they are not learned in any time.
RANK_CUTOFF = 1e-10


def kernel(
    fixed: Fixed, parameters: Parameters, inputs: jax.Array, h: jax.Array, other_inputs: jax.Array, other_h: jax.Array
) -> jax.Array:
    """K between two sets of inputs, (P, Q).

    Args:
        fixed: the network.
        parameters: where the gradients are taken.
        inputs: x, (P, D).
        h: their preactivations, (n, P).
        other_inputs: x', (Q, D).
        other_h: their preactivations, (n, Q).
    """
    weights = slopes(fixed, parameters, h).T @ slopes(fixed, parameters, other_h)
    value = (inputs @ other_inputs.T) * weights
    if parameters.readouts is not None:
        value = value + features(fixed, h).T @ features(fixed, other_h) / inputs.shape[1]
    return fixed.speed * value


def gram(fixed: Fixed, parameters: Parameters, inputs: jax.Array, h: jax.Array) -> jax.Array:
    """K among `inputs` (P, D) with preactivations h, (n, P): symmetric, (P, P)."""
    return kernel(fixed, parameters, inputs, h, inputs, h)


def alignment(matrix: jax.Array, labels: jax.Array) -> jax.Array:
    """y^T K y / (|K|_F |y|^2), between 0 and 1 for a Gram matrix K, (P, P), and labels y, (P,)."""
    return labels @ matrix @ labels / (jnp.linalg.norm(matrix) * (labels @ labels))


def centered(matrix: jax.Array) -> jax.Array:
    """H K H with H = I - 1 1^T / P: the Gram matrix of the features minus their mean over samples."""
    rows = matrix - jnp.mean(matrix, axis=0, keepdims=True)
    return rows - jnp.mean(rows, axis=1, keepdims=True)


def centered_alignment(matrix: jax.Array, labels: jax.Array) -> jax.Array:
    """The alignment of the centred matrix with the centred labels."""
    return alignment(centered(matrix), labels - jnp.mean(labels))


def distance(matrix: jax.Array, reference: jax.Array) -> jax.Array:
    """|K - K_ref|_F / |K_ref|_F."""
    return jnp.linalg.norm(matrix - reference) / jnp.linalg.norm(reference)


def minimum_norm_coefficients(matrix: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """c = K^+ residual, (P,): regression without ridge, the end of training with a fixed kernel.

    Args:
        matrix: Gram matrix K, (P, P).
        residual: what is to be fitted, (P,): y - f(0), or y when centred.
    """
    values, vectors = np.linalg.eigh(matrix)
    kept = values > RANK_CUTOFF * values[-1]
    inverse: Any = np.zeros_like(values)
    inverse[kept] = 1.0 / values[kept]
    return vectors @ (inverse * (vectors.T @ residual))


def label_eigenvector(matrix: np.ndarray, index: int) -> np.ndarray:
    """The eigenvector of `matrix` with the index-th largest eigenvalue (1-based), |v|^2 = its length, (P,).

    The sign makes the largest component positive.
    """
    _, vectors = np.linalg.eigh(matrix)
    vector = vectors[:, -index]
    return vector * np.sign(vector[np.argmax(np.abs(vector))]) * np.sqrt(vector.size)
