"""Test loss and accuracy of any loss as functions of the overlaps (THEORY section 14).

With (u, h) of a new input Gaussian, of covariance [[1, m^T], [m, C]], and p(u) the share of clean labels 1,

    test loss     = E[p l(f, 1) + (1 - p) l(f, -1)],   or E[l(f, psi(u))] of real labels,
    test accuracy = E[p theta(f) + (1 - p) theta(-f)],  f = sum_i c_i phi(h_i).

Given u, h = m u + R z with R R^T = C - m m^T. One direction of z, the one along which f changes most if phi is linear,
is averaged on a line by the trapezoidal rule, with nodes that are shifted from line to line. u, the other directions
and the shifts are the same at all times and on both sides: a scrambled Sobol sequence with its mirror image.
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

#: Lines are 2^SOBOL points of the sequence, and as many mirrored; nodes of each, and its reach.
SOBOL, NODES, REACH = 12, 24, 6.0


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
        m, c, dtype = student.teacher, student.amplitudes, student.amplitudes.dtype
        u, others, line, weight, target = (jnp.asarray(part, dtype) for part in _inputs(task, *m.shape))
        root = _root(student.neurons - m @ m.T)
        spread = root @ _rotation(root @ c)
        h = (u @ m.T + others @ spread[:, 1:].T)[:, None] + line[..., None] * spread[:, 0]
        f = phi.value(h) @ c  # (points, nodes)
        y = target[:, None]
        if task.labels == "teacher":
            loss = task.loss.reported(f - y, jnp.broadcast_to(y, f.shape))
            return jnp.stack([jnp.sum(weight * loss), jnp.asarray(jnp.nan, dtype)])
        positive, negative = (
            jnp.stack([task.loss.reported(f - sign, jnp.full_like(f, sign)), correctness(f - sign, sign, dtype)])
            for sign in (1.0, -1.0)
        )
        return jnp.sum(weight * (y * positive + (1.0 - y) * negative), axis=(1, 2))

    return of


def correctness(residual: Any, label: Any, dtype: Any) -> Any:
    """1 where f = Delta + y has the sign of the label, 0 where not, 1/2 where f is 0 to the rounding of `dtype`."""
    margin = label * (residual + label)
    return jnp.where(jnp.abs(margin) <= rounding(dtype), 0.5, jnp.where(margin > 0.0, 1.0, 0.0))


def rounding(dtype: Any) -> float:
    """Outputs of at most this size are those of a centred network that has not moved."""
    return 64.0 * float(jnp.finfo(dtype).eps)


@functools.lru_cache(maxsize=8)
def _inputs(task: Task, count: int, directions: int) -> tuple[np.ndarray, ...]:
    """Normals for u (Q, K) and all but one direction of h, nodes and weights (Q, T) of that one, and psi(u) or p(u)."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    points = qmc.Sobol(directions + count, rng=np.random.default_rng(0)).random_base2(SOBOL)
    normals = ndtri(np.clip(points[:, 1:], 1e-12, 1.0 - 1e-12))
    line = REACH * (2.0 * (np.arange(NODES) + points[:, :1]) / NODES - 1.0)
    normals, line = np.concatenate([normals, -normals]), np.concatenate([line, -line])
    weight = np.exp(-0.5 * line**2)
    u = normals[:, :directions]
    psi = task.psi.values(u)
    target = psi if task.labels == "teacher" else labels.positive_share(task.labels, psi)
    return u, normals[:, directions:], line, weight / weight.sum(), target


def _root(matrix: jax.Array) -> jax.Array:
    """The symmetric square root; eigenvalues that are 0 to rounding count as 0."""
    values, vectors = jnp.linalg.eigh(matrix)
    kept = values > 16 * len(matrix) * jnp.finfo(matrix.dtype).eps * values[-1]
    return (vectors * jnp.sqrt(jnp.where(kept, values, 0.0))) @ vectors.T


def _rotation(direction: jax.Array) -> jax.Array:
    """An orthogonal matrix whose first column is along `direction`: Householder's reflection."""
    length = jnp.linalg.norm(direction)
    axis = jnp.zeros_like(direction).at[0].set(jnp.where(direction[0] > 0.0, -1.0, 1.0))
    normal = jnp.where(length > 0.0, direction / jnp.where(length > 0.0, length, 1.0), axis) - axis
    square = normal @ normal
    return jnp.eye(len(direction), dtype=direction.dtype) - 2.0 * jnp.outer(normal, normal) / jnp.where(
        square > 0.0, square, 1.0
    )
