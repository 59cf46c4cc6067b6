"""Activations of a committee: value, first and second derivative, elementwise, for jax arrays of any shape.

    linear       phi(h) = h                        relu      max(0, h)
    quadratic    h + (epsilon/2) h^2               erf       erf(h), with no factor in the argument
    half_square  h^2 / 2                           tanh      tanh(h)
    hermite2     He_2(h) = h^2 - 1                 softplus  log(1 + e^h)
    hermite3     He_3(h) = h^3 - 3 h
    hermite4     He_4(h) = h^4 - 6 h^2 + 3

A function of one's own may be any elementwise function that jax can differentiate twice.

*Kinks.* Where phi' jumps, phi'' contains a delta function, which no derivative of a program shows. The jumps are listed
instead: phi''(h) = curvature(h) + sum over (place, jump) in `kinks` of jump delta(h - place). ReLU has kinks
((0, 1),) and curvature 0. Those of a function of one's own are found by bisection.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dmft.checks import ParameterError, precision_context
from dmft.models.fingerprint import Known, describe
from dmft.models.polynomials import FEATURES, derivative, evaluate

#: Activations that are polynomials, lowest power first; "quadratic" is apart, since it depends on epsilon.
POLYNOMIALS: dict[str, tuple[float, ...]] = {
    "linear": (0.0, 1.0),
    "half_square": (0.0, 0.0, 0.5),
    "hermite2": FEATURES["hermite2"],
    "hermite3": FEATURES["hermite3"],
    "hermite4": FEATURES["hermite4"],
}

#: A function of one's own is looked at on this grid, which no round number is part of.
GRID = np.linspace(-8.0123, 8.0077, 4001)
#: A jump of a value or a slope within a cell, relative to the largest of them, that is looked into.
_SUSPICIOUS = 1e-6
#: Halvings of a cell, and how much of a jump must be left after them for it to be one.
_HALVINGS, _LEFT = 26, 1e-4
#: A larger jump of a slope means that it grows without bound.
STEEPEST = 1e4


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["epsilon"], meta_fields=["name", "functions", "kinks"]
)
@dataclasses.dataclass(frozen=True)
class Activation:
    """An activation phi: an argument of compiled functions, which see epsilon as a number like any other.

    Attributes:
        name: as in a model's attributes.
        functions: phi, phi' and phi'' without the delta functions of the kinks, elementwise for arrays of any shape; of
            (epsilon, h) if there is an epsilon, of h otherwise.
        kinks: ((place, jump of phi'), ...): phi'' also has jump delta(h - place).
        epsilon: of the quadratic activation, else None.
    """

    name: str
    functions: tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]
    kinks: tuple[tuple[float, float], ...] = ()
    epsilon: Any = None

    def value(self, h: Any) -> Any:
        """phi(h)."""
        return self._apply(0, h)

    def slope(self, h: Any) -> Any:
        """phi'(h)."""
        return self._apply(1, h)

    def curvature(self, h: Any) -> Any:
        """phi''(h), without the delta functions of the kinks."""
        return self._apply(2, h)

    def at(self, epsilon: Any) -> Activation:
        """With another epsilon, if it has one."""
        return self if self.epsilon is None else dataclasses.replace(self, epsilon=epsilon)

    def _apply(self, order: int, h: Any) -> Any:
        function = self.functions[order]
        return function(h) if self.epsilon is None else function(self.epsilon, h)


def _relu_slope(h: Any) -> Any:
    return jnp.where(h > 0.0, 1.0, 0.0) + 0.0 * h


def _erf_slope(h: Any) -> Any:
    return (2.0 / math.sqrt(math.pi)) * jnp.exp(-(h**2))


def _tanh_slope(h: Any) -> Any:
    return 1.0 - jnp.tanh(h) ** 2


def _softplus_curvature(h: Any) -> Any:
    return jax.nn.sigmoid(h) * jax.nn.sigmoid(-h)


def _polynomials(coefficients: tuple[float, ...]) -> Any:
    """A polynomial and its first two derivatives."""
    slope = derivative(coefficients)
    parts = coefficients, slope, derivative(slope) or [0.0]
    return tuple(functools.partial(_polynomial, tuple(part)) for part in parts)


def _polynomial(coefficients: tuple[float, ...], h: Any) -> Any:
    return evaluate(coefficients, h) + 0.0 * h  # a constant gets the shape of h


#: phi(h) = h + (epsilon/2) h^2 and its derivatives.
_QUADRATIC = (
    lambda epsilon, h: (0.5 * epsilon * h + 1.0) * h,
    lambda epsilon, h: epsilon * h + 1.0,
    lambda epsilon, h: epsilon + 0.0 * h,
)

#: All activations by name; epsilon is that of the model.
_NAMED: dict[str, Activation] = {
    "linear": Activation("linear", _polynomials(POLYNOMIALS["linear"])),
    "quadratic": Activation("quadratic", _QUADRATIC),
    **{name: Activation(name, _polynomials(part)) for name, part in POLYNOMIALS.items() if name != "linear"},
    "relu": Activation("relu", (lambda h: jnp.maximum(h, 0.0), _relu_slope, jnp.zeros_like), kinks=((0.0, 1.0),)),
    "erf": Activation("erf", (jax.scipy.special.erf, _erf_slope, lambda h: -2.0 * h * _erf_slope(h))),
    "tanh": Activation("tanh", (jnp.tanh, _tanh_slope, lambda h: -2.0 * jnp.tanh(h) * _tanh_slope(h))),
    "softplus": Activation("softplus", (jax.nn.softplus, jax.nn.sigmoid, _softplus_curvature)),
}

#: Names of all activations.
NAMES = tuple(_NAMED)


def named(name: str, epsilon: float = 0.0) -> Activation:
    """The activation `name`, one of NAMES; `epsilon` matters to "quadratic" alone."""
    return dataclasses.replace(_NAMED[name], epsilon=epsilon) if name == "quadratic" else _NAMED[name]


@dataclasses.dataclass(frozen=True)
class Derivative:
    """The derivative of an elementwise function, elementwise."""

    function: Callable[[Any], Any]

    def __call__(self, h: Any) -> Any:
        h = jnp.asarray(h)
        return jax.jvp(self.function, (h,), (jnp.ones_like(h),))[1]


def custom(function: Callable[[Any], Any]) -> Activation:
    """The activation of a function of one's own as it is now, its derivatives by jax and its kinks by bisection.

    Raises:
        ParameterError: jax cannot trace or differentiate it; it is not elementwise; it returns another shape, numbers
            that are not finite or not real; or it jumps.
    """
    value = Known(function)
    slope = Derivative(value)
    return Activation(describe(function), (value, slope, Derivative(slope)), _checked_kinks(value))


@functools.lru_cache(maxsize=64)
def _checked_kinks(value: Known) -> tuple[tuple[float, float], ...]:
    """The kinks of a function of one's own; ParameterError if it is no activation."""
    function, slope = value.function, Derivative(value)
    with precision_context("float64"):
        _check_traceable(function)
        value_at, slope_at, curvature_at = (jax.jit(part) for part in (value, slope, Derivative(slope)))
        for meaning, part in (("values", value_at), ("first", slope_at), ("second", curvature_at)):
            meaning += "" if part is value_at else " derivatives"
            if not np.all(np.isfinite(np.asarray(part(GRID)))):
                raise ParameterError(
                    f"Argument `activation` must have finite {meaning} for |h| < 8, but {describe(function)} has not."
                )
        _check_elementwise(function, value_at)
        breaks = jumps(value_at, slope_at)
        if breaks:
            raise ParameterError(
                f"Argument `activation` must be continuous, but {describe(function)} jumps by {breaks[0][1]:.3g} at "
                f"h = {breaks[0][0]:.3g}."
            )
        kinks = jumps(slope_at, curvature_at)
        if kinks and max(abs(jump) for _, jump in kinks) > STEEPEST:
            raise ParameterError(
                f"Argument `activation` must have a bounded derivative, but that of {describe(function)} grows beyond "
                f"{STEEPEST:g} at h = {kinks[0][0]:.3g}."
            )
    return kinks


def _check_traceable(function: Callable[[Any], Any]) -> None:
    """ParameterError unless jax can trace the function twice differentiated, and shapes and types are preserved."""
    for shape in ((), (5,), (2, 3)):
        h = jax.ShapeDtypeStruct(shape, jnp.float64)
        try:
            result = jax.eval_shape(function, h)
        except Exception as error:
            raise ParameterError(
                f"Argument `activation` must be a function of an array that jax can trace (written with jax.numpy), "
                f"but {describe(function)} raises {type(error).__name__}: {first_line(error)}"
            ) from None
        if not hasattr(result, "shape") or result.shape != shape or result.dtype != jnp.float64:
            got = f"shape {result.shape} and type {result.dtype}" if hasattr(result, "shape") else repr(result)
            raise ParameterError(
                f"Argument `activation` must return an array of the shape and type of its argument, "
                f"shape {shape} and type float64, but {describe(function)} returns {got}."
            )
    try:
        jax.eval_shape(Derivative(Derivative(function)), jax.ShapeDtypeStruct((5,), jnp.float64))
    except Exception as error:
        raise ParameterError(
            f"Argument `activation` must be twice differentiable by jax, but {describe(function)} raises "
            f"{type(error).__name__}: {first_line(error)}"
        ) from None


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def _check_elementwise(function: Callable[[Any], Any], value_at: Callable[[Any], Any]) -> None:
    whole, part = np.asarray(value_at(GRID)), np.asarray(value_at(GRID[::-7]))
    if not np.allclose(part, whole[::-7], rtol=1e-9, atol=1e-12):
        raise ParameterError(
            f"Argument `activation` must be elementwise, but {describe(function)} of one entry depends on the others."
        )


def jumps(function: Callable[[Any], Any], slope: Callable[[Any], Any]) -> tuple[tuple[float, float], ...]:
    """((place, jump), ...): where `function` changes by more than its derivative says, however small the cell."""
    value, rate, width = np.asarray(function(GRID)), np.asarray(slope(GRID)), np.diff(GRID)
    excess = np.diff(value) - 0.5 * width * (rate[1:] + rate[:-1])
    scale = max(1.0, float(np.max(np.abs(value))))
    found = []
    left, right = GRID[:-1], GRID[1:]
    suspicious = np.abs(excess) > _SUSPICIOUS * scale
    left, right, excess = left[suspicious], right[suspicious], excess[suspicious]
    for _ in range(_HALVINGS if left.size else 0):
        middle = 0.5 * (left + right)
        at = [np.asarray(function(place)) for place in (left, middle, right)]
        first = np.abs(at[1] - at[0]) > np.abs(at[2] - at[1])
        left, right = np.where(first, left, middle), np.where(first, middle, right)
    if left.size:
        change = np.asarray(function(right)) - np.asarray(function(left))
        real = (np.abs(change) > _LEFT * scale) | (np.abs(change) > 0.5 * np.abs(excess))
        found = [(float(place), float(jump)) for place, jump in zip(right[real], change[real], strict=True)]
    return tuple((0.0 if abs(place) < 1e-9 else place, jump) for place, jump in found)
