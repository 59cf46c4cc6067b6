"""Teachers of a committee: y = psi(u) with u_k = beta_k.x, K orthogonal directions, so that u ~ N(0, I) in R^K.

A teacher given by name is itself a committee of K neurons, with the activations of `dmft.models.activations`:

    psi(u) = (1/K) sum_k g(u_k),   g one of linear, half_square, hermite2..4, relu, erf, tanh, softplus,

so that a student of alpha = 1, N = K, readouts of 1 and the same activation fits it exactly. Any other is a function of
one's own, which maps u of shape (..., K) to (...).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dmft.checks import ParameterError, precision_context
from dmft.models import activations
from dmft.models.activations import Activation
from dmft.models.fingerprint import Known, describe

#: Names of all teachers.
NAMES = tuple(name for name in activations.NAMES if name != "quadratic")


class Teacher(NamedTuple):
    """A teacher psi of K directions.

    Attributes:
        name: as in a model's attributes.
        directions: K.
        function: u (..., K) -> (...). A function of one's own may be written with numpy, so that it can be called on
            numpy arrays alone, outside compiled code: that is what `values` does.
        feature: g, if psi is a sum over directions, else None.
    """

    name: str
    directions: int
    function: Callable[[Any], Any]
    feature: Activation | None

    def values(self, u: np.ndarray) -> np.ndarray:
        """psi(u) in float64, (...), for u of shape (..., K); numbers also while the caller is being compiled."""
        import jax

        with precision_context("float64"), jax.ensure_compile_time_eval():
            return np.asarray(self.function(np.asarray(u, np.float64)), np.float64)


@functools.lru_cache(maxsize=64)
def named(name: str, directions: int) -> Teacher:
    """The teacher `name`, one of NAMES, of K directions."""
    feature = activations.named(name)
    return Teacher(name, directions, lambda u: feature.value(u).mean(-1), feature)


def custom(function: Callable[[Any], Any], directions: int) -> Teacher:
    """The teacher of a function of one's own, as it is now.

    Raises:
        ParameterError: it fails, returns another shape or numbers that are not finite, or mixes samples.
    """
    teacher = Teacher(describe(function), directions, Known(function), None)
    _check(teacher)
    return teacher


@functools.lru_cache(maxsize=64)
def _check(teacher: Teacher) -> None:
    """ParameterError unless the function of one's own is a teacher."""
    directions = teacher.directions
    random = np.random.default_rng(0)
    for shape in ((), (7,), (3, 5)):
        u = random.standard_normal((*shape, directions))
        try:
            y = teacher.values(u)
        except Exception as error:
            raise ParameterError(
                f"Argument `teacher` must map u of shape (..., {directions}) to (...), but {teacher.name} raises "
                f"{type(error).__name__} for shape {u.shape}: {activations.first_line(error)}"
            ) from None
        if y.shape != shape:
            raise ParameterError(
                f"Argument `teacher` must map u of shape {u.shape} to shape {shape}, but {teacher.name} returns shape "
                f"{y.shape}."
            )
        if not np.all(np.isfinite(y)):
            raise ParameterError(f"Argument `teacher` must return finite numbers, but {teacher.name} does not.")
        if shape == (7,) and not np.allclose(teacher.values(u[::-2]), y[::-2], rtol=1e-9, atol=1e-12):
            raise ParameterError(
                f"Argument `teacher` must treat every sample alike, but {teacher.name} of one depends on the others."
            )
