"""Test loss and accuracy of any loss as functions of the overlaps (THEORY section 14).

With (u, h) of a new input Gaussian, of covariance [[1, m^T], [m, C]], and p(u) the share of clean labels 1,

    test loss     = E[p l(f, 1) + (1 - p) l(f, -1)],   or E[l(f, psi(u))] of real labels,
    test accuracy = E[p theta(f) + (1 - p) theta(-f)],  f = sum_i c_i phi(h_i),

averages over the K + N directions of u and h, by the same 2^16 points at all times and on both sides: a scrambled Sobol
sequence with its mirror image, u in its first K coordinates. Other scramblings differ by less than 2e-4 in accuracy and
1e-4 of the logistic loss for N + K <= 4, by about 5e-4 for N = 8, or 2N + K = 9 of a centred network.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dmft.losses.committee import Neurons
from dmft.models import labels
from dmft.models.activations import Activation
from dmft.models.committee import Committee
from dmft.models.losses import Loss
from dmft.models.teachers import Teacher

#: Points are 2^SOBOL of the sequence, and as many mirrored.
SOBOL = 15


class Task(NamedTuple):
    """What the output is measured against (hashable)."""

    psi: Teacher
    labels: str
    loss: Loss


def task_of(model: Committee) -> Task | None:
    """The task of a model; None of the square loss on the teacher's values, whose average is known in closed form."""
    return None if model.loss == "square" and not model.classifies else Task(model.psi, model.labels, model.criterion)


def scores(phi: Activation, task: Task) -> Callable[[Neurons], jax.Array]:
    """The function Neurons -> (test loss, test accuracy) of an activation; it can be compiled and mapped.

    Without labels that are signs the accuracy is NaN.
    """

    def of(student: Neurons) -> jax.Array:
        points, target = _inputs(task, student.teacher.shape)
        m, dtype = student.teacher, student.amplitudes.dtype
        u, z = (jnp.asarray(part, dtype) for part in points)
        f = phi.value(u @ m.T + z @ _root(student.neurons - m @ m.T)) @ student.amplitudes
        y = jnp.asarray(target, dtype)
        if task.labels == "teacher":
            return jnp.stack([jnp.mean(task.loss.reported(f - y, y)), jnp.asarray(jnp.nan, dtype)])
        positive, negative = (
            jnp.stack([task.loss.reported(f - sign, jnp.full_like(f, sign)), correctness(f - sign, sign, dtype)])
            for sign in (1.0, -1.0)
        )
        return jnp.mean(y * positive + (1.0 - y) * negative, axis=1)

    return of


def correctness(residual: Any, label: Any, dtype: Any) -> Any:
    """1 where f = Delta + y has the sign of the label, 0 where not, 1/2 where f is 0 to the rounding of `dtype`."""
    margin = label * (residual + label)
    return jnp.where(jnp.abs(margin) <= 16 * jnp.finfo(dtype).eps, 0.5, jnp.where(margin > 0.0, 1.0, 0.0))


@functools.lru_cache(maxsize=8)
def _inputs(task: Task, shape: tuple[int, int]) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Normals for u (Q, K) and h (Q, N), shape = (N, K), and at each u the teacher's value, or of signs p(u)."""
    count, directions = shape
    normals = _normals(count + directions)
    u, psi = normals[:, :directions], task.psi.values(normals[:, :directions])
    target = psi if task.labels == "teacher" else labels.positive_share(task.labels, psi)
    return (u, normals[:, directions:]), target


def _normals(dimensions: int) -> np.ndarray:
    """Standard normals (Q, dimensions)."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    points = qmc.Sobol(dimensions, rng=np.random.default_rng(0)).random_base2(SOBOL)
    normals = ndtri(np.clip(points, 1e-12, 1.0 - 1e-12))
    return np.concatenate([normals, -normals])


def _root(matrix: jax.Array) -> jax.Array:
    """The symmetric square root; eigenvalues below 0 by rounding count as 0."""
    values, vectors = jnp.linalg.eigh(matrix)
    return (vectors * jnp.sqrt(jnp.maximum(values, 0.0))) @ vectors.T
