"""What one replica draws: inputs, directions of the target, labels and initial weights (THEORY sections 1 and 8)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dmft.checks import precision_context
from dmft.compiled.executables import compilable
from dmft.models import labels
from dmft.models.committee import Committee
from dmft.models.model import Model
from sim.training.batches import key_of, seed_words


class Replica(NamedTuple):
    """One draw of everything random, as float64 numpy arrays.

    Attributes:
        inputs: x, (P, D), independent N(0, 1/D).
        directions: beta_k, (K, D), orthogonal, |beta_k|^2 = D, uniformly distributed.
        labels: y with label noise or flips, (P,).
        weights: w(0), (N, D), with the model's overlaps; (0, D) at infinite width.
    """

    inputs: np.ndarray
    directions: np.ndarray
    labels: np.ndarray
    weights: np.ndarray

    @property
    def beta(self) -> np.ndarray:
        """The first direction, (D,)."""
        return self.directions[0]


def draw_replica(model: Model, seed: int, index: int) -> Replica:
    """Draw replica `index` of a Model, of the random stream `seed`.

    The draw depends on (model, seed, index) alone: not on the number of replicas, the form of the simulation or its
    precision, because numbers are drawn in float64 and rounded later. Inputs, beta and noise are the same at every
    width.
    """
    dim, width = model.dim, model.width or 0
    assert dim is not None
    with precision_context("float64"):
        words, sizes = seed_words(seed), {"samples": model.samples, "dim": dim, "width": width}
        drawn = _normals(words, np.uint32(index), **sizes, further=model.directions - 1)
        inputs, direction, noise, weights, *further = map(np.asarray, drawn)
    inputs = inputs / np.sqrt(dim)
    beta = (direction * np.sqrt(dim) / np.linalg.norm(direction))[None, :]
    if further:
        beta = orthogonal(np.vstack([beta, *further]))
    y = 0.5 * ((inputs @ beta.T) ** 2 @ np.array(model.strengths)) + model.label_noise * noise
    return Replica(inputs, beta, y, plant(model, beta, weights))


@compilable()
def _normals(words: Any, index: Any, *, samples: int, dim: int, width: int, further: int) -> list[jax.Array]:
    """Standard normals for inputs, the first beta, noise, weights, and the further beta if there are any."""
    keys = jax.random.split(key_of(words, index), 4)
    shapes = [(samples, dim), (dim,), (samples,), (width, dim)]
    drawn = [jax.random.normal(key, shape, jnp.float64) for key, shape in zip(keys, shapes, strict=True)]
    if further:
        drawn.append(jax.random.normal(jax.random.fold_in(keys[1], 1), (further, dim), jnp.float64))
    return drawn


def plant(model: Model, beta: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """w U(0)^T, U(0) = I + sum_k (m_k sqrt(D) - 1) beta_k beta_k^T / D over the planted m_k^2 > 0 (THEORY section 3).

    Args:
        model: gives m_k^2 = `initial_overlaps`; 0 leaves the weights as they are.
        beta: (K, D), orthogonal, |beta_k|^2 = D.
        weights: (n, D), one weight vector a row.
    """
    dim, start = beta.shape[1], weights
    for own, overlap in zip(beta, model.initial_overlaps, strict=True):
        if overlap > 0.0:
            stretch = np.sqrt(overlap * dim) - 1.0
            weights = weights + (stretch / dim) * np.outer(start @ own, own)
    return weights


def draw_committee(model: Committee, seed: int, index: int) -> Replica:
    """Draw replica `index` of a Committee, of the random stream `seed`.

    The draw depends on (model, seed, index) alone, not on the number of replicas or the precision of the run; inputs
    and noise on dim, kappa, seed and index. numpy draws them, several times as fast as jax on a CPU: at large D and
    with few steps little else takes time.
    """
    dim, directions, width = model.dim, model.teacher_dim, model.width
    assert dim is not None
    for_inputs, for_beta, for_noise, for_weights = (np.random.default_rng([seed, index, what]) for what in range(4))
    inputs = for_inputs.standard_normal((model.samples, dim))
    inputs /= np.sqrt(dim)
    noise = for_noise.standard_normal(model.samples)
    drawn = for_beta.standard_normal((directions, dim))
    weights = for_weights.standard_normal((width, dim))
    if model.planted:
        frame = orthogonal(np.vstack([drawn, weights]))
        beta, weights = frame[:directions], plant_overlaps(model, frame[:directions], frame[directions:])
    else:
        beta = orthogonal(drawn)
    psi = model.psi.values(inputs @ beta.T)
    if model.classifies:
        y = labels.draw(model.labels, model.label_flips, psi, for_noise.random(model.samples))
    else:
        y = psi + model.label_noise * noise
    return Replica(inputs, beta, y, weights)


def orthogonal(rows: np.ndarray) -> np.ndarray:
    """The rows, (n, D), made orthogonal one after the other, each of squared length D."""
    basis, triangle = np.linalg.qr(rows.T)
    return np.sqrt(rows.shape[1]) * (basis * np.sign(np.diag(triangle))).T


def plant_overlaps(model: Committee, beta: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Weights with w_i.beta_k / D = m_ik and w_i.w_j / D = C_ij: w = m beta + (C - m m^T)^(1/2) others.

    Args:
        model: gives m(0) and C(0).
        beta: (K, D), orthogonal with |beta_k|^2 = D.
        others: (N, D), likewise, and orthogonal to beta.
    """
    m, c = model.initial_overlaps
    values, vectors = np.linalg.eigh(c - m @ m.T)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return m @ beta + root @ others
