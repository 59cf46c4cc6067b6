"""What one replica of a committee draws: inputs, teacher directions, labels and initial weights with exact overlaps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dmft.models.committee import Committee


class CommitteeReplica(NamedTuple):
    """One draw of everything random, as float64 numpy arrays.

    Attributes:
        inputs: x, (P, D), independent N(0, 1/D).
        directions: beta_k, (K, D), orthogonal, |beta_k|^2 = D, uniformly distributed.
        labels: y = psi(u) + label noise, (P,).
        weights: w(0), (N, D): with exactly the model's overlaps if it gives any, else N(0, I).
    """

    inputs: np.ndarray
    directions: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


def draw_committee(model: Committee, seed: int, index: int) -> CommitteeReplica:
    """Draw replica `index` of the random stream `seed`.

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
        beta, weights = frame[:directions], plant(model, frame[:directions], frame[directions:])
    else:
        beta = orthogonal(drawn)
    labels = model.psi.values(inputs @ beta.T) + model.label_noise * noise
    return CommitteeReplica(inputs, beta, labels, weights)


def orthogonal(rows: np.ndarray) -> np.ndarray:
    """The rows, (n, D), made orthogonal one after the other, each of squared length D."""
    basis, triangle = np.linalg.qr(rows.T)
    return np.sqrt(rows.shape[1]) * (basis * np.sign(np.diag(triangle))).T


def plant(model: Committee, beta: np.ndarray, others: np.ndarray) -> np.ndarray:
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
