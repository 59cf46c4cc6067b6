"""Losses of single samples, (P, K) outputs z and labels -> (P,); what is descended is their mean.

    square         (1/K) sum_k (z_k - y_k)^2, of classes with y one-hot
    cross_entropy  -log(softmax(z)_y), the softmax in the precision of the run, or in that of its name
    stablemax      -log(s(z_y) / sum_k s(z_k)), s(x) = x + 1 for x >= 0, 1 / (1 - x) below (arXiv 2501.04697)
    logistic       log(1 + exp(-+z)) of a single output, two classes

*Precision of the softmax.* The logits are rounded to it, and loss and gradient, softmax(z) - onehot, are computed in
it; the gradient is rounded back to the run's, in which it is averaged. 16 bits are rounded to after each operation,
which every device can do; sums are accumulated in 32 bits and then rounded, as devices do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dmft.checks import ParameterError, check_choice, precision_context
from sim.tasks import Task

PRECISIONS = ("float16", "float32", "float64")


class Loss(NamedTuple):
    """A loss.

    Attributes:
        name: of the loss.
        samples: (z (P, K), y) -> (P,).
        softmax: precision of its softmax: one of PRECISIONS, or None for that of the run, or no softmax.
    """

    name: str
    samples: Callable[[jax.Array, jax.Array], jax.Array]
    softmax: str | None = None


def square(z: jax.Array, y: jax.Array) -> jax.Array:
    """(1/K) sum_k (z_k - y_k)^2."""
    target = jax.nn.one_hot(y, z.shape[1], dtype=z.dtype) if y.ndim == 1 else y
    return jnp.mean((z - target) ** 2, axis=1)


def logistic(z: jax.Array, y: jax.Array) -> jax.Array:
    """log(1 + exp(-z)) where y = 1, log(1 + exp(z)) where y = 0."""
    return jax.nn.softplus(jnp.where(y == 1, -z[:, 0], z[:, 0]))


def stablemax(z: jax.Array, y: jax.Array) -> jax.Array:
    """-log(s(z_y) / sum_k s(z_k)) = log(1 + sum_(k not y) s(z_k) / s(z_y)), which no rounding makes 0 before 1e-38."""
    s = jnp.where(z >= 0.0, z + 1.0, 1.0 / (1.0 - jnp.minimum(z, 0.0)))
    others = jnp.sum(jnp.where(jax.nn.one_hot(y, z.shape[1], dtype=bool), 0.0, s), axis=1)
    return jnp.log1p(others / _of_class(s, y))


def cross_entropy(z: jax.Array, y: jax.Array) -> jax.Array:
    """-log(softmax(z)_y)."""
    return -_of_class(jax.nn.log_softmax(z), y)


def exponentials(z: jax.Array, softmax: str | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """z - max z, exp of it, and the sum of those, (P, 1), each in the precision of the softmax; so is z already."""
    keep = half if softmax == "float16" else (lambda value: value)
    shifted = keep(z - jnp.max(z, axis=1, keepdims=True))
    powers = keep(jnp.exp(shifted))
    return shifted, powers, keep(jnp.sum(powers, axis=1, keepdims=True))


def in_precision(z: jax.Array, softmax: str | None) -> jax.Array:
    """z rounded to the precision of the softmax; for 64 bits, inside of a context of that precision."""
    if softmax == "float16":
        return half(z)
    return z if softmax is None else jax.lax.convert_element_type(z, softmax)


def half(value: jax.Array) -> jax.Array:
    """Rounded to 16 bits: 5 of exponent, 10 of mantissa."""
    return jax.lax.reduce_precision(value, 5, 10)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def rounded_cross_entropy(z: jax.Array, y: jax.Array, softmax: str) -> jax.Array:
    """-log(softmax(z)_y) in the precision `softmax`, given back in that of z."""
    return _rounded(z, y, softmax)[0]


def _rounded(z: jax.Array, y: jax.Array, softmax: str) -> tuple[jax.Array, jax.Array]:
    """Loss (P,) and gradient (P, K)."""
    keep = half if softmax == "float16" else (lambda value: value)
    with precision_context("float64" if softmax == "float64" or z.dtype == jnp.float64 else "float32"):
        shifted, powers, total = exponentials(in_precision(z, softmax), softmax)
        loss = keep(keep(jnp.log(total[:, 0])) - _of_class(shifted, y))
        hot = jax.nn.one_hot(y, z.shape[1], dtype=powers.dtype)
        gradient = keep(keep(powers / total) - hot)
        return jax.lax.convert_element_type(loss, z.dtype), jax.lax.convert_element_type(gradient, z.dtype)


def _forward(z: jax.Array, y: jax.Array, softmax: str) -> tuple[jax.Array, jax.Array]:
    return _rounded(z, y, softmax)


def _backward(softmax: str, gradient: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, None]:
    del softmax
    return cotangent[:, None] * gradient, None


rounded_cross_entropy.defvjp(_forward, _backward)


def _rounded_samples(softmax: str, z: jax.Array, y: jax.Array) -> jax.Array:
    return rounded_cross_entropy(z, y, softmax)


def collapsed(z: jax.Array, softmax: str | None) -> jax.Array:
    """Which samples have sum_k exp(z_k - max z) == 1 in the precision of the softmax, (P,)."""
    with precision_context("float64" if softmax == "float64" or z.dtype == jnp.float64 else "float32"):
        return exponentials(in_precision(z, softmax), softmax)[2][:, 0] == 1.0


LOSSES = {
    "square": Loss("square", square),
    "cross_entropy": Loss("cross_entropy", cross_entropy),
    **{
        f"cross_entropy_{bits}": Loss(f"cross_entropy_{bits}", functools.partial(_rounded_samples, bits), bits)
        for bits in PRECISIONS
    },
    "stablemax": Loss("stablemax", stablemax),
    "logistic": Loss("logistic", logistic),
}


def fitting_loss(name: object, task: Task) -> Loss:
    """The loss of this name.

    Raises:
        ParameterError: there is none, or it does not fit the labels of the task.
    """
    loss = LOSSES[check_choice("loss", name, tuple(LOSSES))]
    if not task.classes and loss.name != "square":
        raise ParameterError(f"Argument `loss` must be square for values, which {task.name} has, but is {loss.name!r}.")
    if loss.name == "logistic" and task.outputs != 2:
        raise ParameterError(
            f"Argument `loss` must not be logistic unless there are two classes, but {task.name} has {task.outputs}."
        )
    return loss


def outputs_for(loss: Loss, task: Task) -> int:
    """How many outputs the network has."""
    return 1 if loss.name == "logistic" else task.outputs


def right(z: Any, y: Any, tolerance: float | None) -> jax.Array:
    """Which answers are right, (P,): the class of the largest output (sign of a single one); values by tolerance."""
    if y.ndim > 1:
        return jnp.mean((z - y) ** 2, axis=1) <= (0.0 if tolerance is None else tolerance)
    return (z[:, 0] > 0.0) == (y == 1) if z.shape[1] == 1 else jnp.argmax(z, axis=1) == y


def _of_class(values: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.take_along_axis(values, y[:, None], axis=1)[:, 0]
