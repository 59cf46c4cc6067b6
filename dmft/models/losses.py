"""Losses of a committee: l(f, y), its slope l' and curvature l'' in f, elementwise (THEORY section 14).

    square     Delta^2 / 2                         logistic  log(1 + e^(-y f))      labels -1 and 1
    huber      Delta^2 / 2 for |Delta| < 1,        hinge     max(0, 1 - y f)        labels -1 and 1
               |Delta| - 1/2 beyond

with the residual Delta = f - y. The force on a sample is l': Delta itself for the square loss. Every function here
takes (Delta, y); since y^2 = 1, y f is 1 + y Delta where labels are signs. A function of one's own is any elementwise
l(f, y) that jax can differentiate twice.

*What is reported* as train and test loss is the mean of l; of the square loss, as in all of this project, that of
Delta^2 = 2 l.

*Kinks.* Where l' jumps, l'' has a delta function. Jumps are listed as those of an activation are, each for a label:
l'' also has jump delta(Delta - place) at samples of that label.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dmft.checks import ParameterError, precision_context
from dmft.models.activations import GRID, STEEPEST, Derivative, first_line, jumps
from dmft.models.fingerprint import Known, describe

#: The two labels of a classification, and those that a loss of real labels is looked at for.
SIGNS, REALS = (-1.0, 1.0), (-3.1, -1.2, -0.4, 0.3, 0.9, 2.2)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=[],
    meta_fields=["name", "functions", "factor", "kinks", "convex", "steepest"],
)
@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss l: an argument of compiled functions.

    Attributes:
        name: as in a model's attributes.
        functions: l, l' and l'' without the delta functions of the kinks, of (Delta, y), elementwise.
        factor: what is reported is factor l.
        kinks: ((label, place, jump of l'), ...): l'' also has jump delta(Delta - place) for this label.
        convex: whether l' never falls.
        steepest: the largest l'', kinks aside.
    """

    name: str
    functions: tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]
    factor: float = 1.0
    kinks: tuple[tuple[float, float, float], ...] = ()
    convex: bool = True
    steepest: float = 1.0

    def value(self, residual: Any, label: Any) -> Any:
        """l(f, y)."""
        return self.functions[0](residual, label)

    def reported(self, residual: Any, label: Any) -> Any:
        """What train and test loss are the means of."""
        return residual**2 if self.name == "square" else self.value(residual, label)

    def slope(self, residual: Any, label: Any) -> Any:
        """l'(f, y), in f."""
        return self.functions[1](residual, label)

    def curvature(self, residual: Any, label: Any) -> Any:
        """l''(f, y), in f, without the delta functions of the kinks."""
        return self.functions[2](residual, label)


def _logistic_slope(residual: Any, label: Any) -> Any:
    return -label * jax.nn.sigmoid(-1.0 - label * residual)


def _logistic_curvature(residual: Any, label: Any) -> Any:
    margin = 1.0 + label * residual
    return jax.nn.sigmoid(margin) * jax.nn.sigmoid(-margin)


def _huber(residual: Any, label: Any) -> Any:
    del label
    size = jnp.abs(residual)
    return jnp.where(size < 1.0, 0.5 * residual**2, size - 0.5)


def _hinge_slope(residual: Any, label: Any) -> Any:
    return jnp.where(label * residual < 0.0, -label, 0.0)


_NAMED: dict[str, Loss] = {
    "square": Loss("square", (lambda d, _: 0.5 * d**2, lambda d, _: d, lambda d, _: jnp.ones_like(d)), factor=2.0),
    "logistic": Loss(
        "logistic",
        (lambda d, y: jax.nn.softplus(-1.0 - y * d), _logistic_slope, _logistic_curvature),
        steepest=0.25,
    ),
    "huber": Loss(
        "huber", (_huber, lambda d, _: jnp.clip(d, -1.0, 1.0), lambda d, _: jnp.where(jnp.abs(d) < 1.0, 1.0, 0.0))
    ),
    "hinge": Loss(
        "hinge",
        (lambda d, y: jnp.maximum(-y * d, 0.0), _hinge_slope, lambda d, _: jnp.zeros_like(d)),
        kinks=tuple((label, 0.0, 1.0) for label in SIGNS),
    ),
}

#: Names of all losses, and of those whose labels are signs.
NAMES, OF_SIGNS = tuple(_NAMED), ("logistic", "hinge")


def named(name: str) -> Loss:
    """The loss `name`, one of NAMES."""
    return _NAMED[name]


@dataclasses.dataclass(frozen=True)
class _OfResidual:
    """l(f, y) as a function of (Delta, y)."""

    function: Known

    def __call__(self, residual: Any, label: Any) -> Any:
        return self.function(residual + label, label)


@dataclasses.dataclass(frozen=True)
class _Slope:
    """The derivative in Delta of a function of (Delta, y)."""

    function: Callable[[Any, Any], Any]

    def __call__(self, residual: Any, label: Any) -> Any:
        return Derivative(lambda d: self.function(d, label))(residual)


def custom(function: Callable[[Any, Any], Any], *, signs: bool) -> Loss:
    """The loss of a function l(f, y) of one's own as it is now, its derivatives by jax and its kinks by bisection.

    Args:
        signs: whether labels are -1 and 1. Kinks may then be anywhere; of real labels there must be none.

    Raises:
        ParameterError: jax cannot trace or differentiate it; it is not elementwise; it returns another shape, or
            numbers that are not finite or not real; it jumps; or it has kinks where it must not.
    """
    return _checked(Known(function), signs)


@functools.lru_cache(maxsize=64)
def _checked(function: Known, signs: bool) -> Loss:
    name, value = describe(function.function), _OfResidual(function)
    slope = _Slope(value)
    with precision_context("float64"):
        _check_traceable(name, function, slope)
        parts = [jax.jit(part) for part in (value, slope, _Slope(slope))]
        seen = [_look(name, parts, label) for label in (SIGNS if signs else REALS)]
    kinks = tuple((label, *kink) for label, (found, _) in zip(SIGNS if signs else REALS, seen, strict=True)
                  for kink in found)  # fmt: skip
    if kinks and not signs:
        raise ParameterError(
            "Argument `loss` must have a continuous derivative where labels are real numbers (labels = 'teacher'), but "
            f"that of {name} jumps by {kinks[0][2]:.3g} at f - y = {kinks[0][1]:.3g}."
        )
    lowest = min(float(np.min(curvature)) for _, curvature in seen)
    highest = max(float(np.max(curvature)) for _, curvature in seen)
    convex = lowest > -1e-9 * max(1.0, highest) and all(jump > 0 for _, _, jump in kinks)
    return Loss(name, (value, slope, _Slope(slope)), 1.0, kinks, convex, highest if highest > 0 else 1.0)


def _check_traceable(name: str, function: Known, slope: Any) -> None:
    """ParameterError unless jax can trace and twice differentiate the function, and shapes and types are preserved."""
    for shape in ((), (5,), (2, 3)):
        array = jax.ShapeDtypeStruct(shape, jnp.float64)
        try:
            result = jax.eval_shape(function, array, array)
        except Exception as error:
            raise ParameterError(
                "Argument `loss` must be a function l(f, y) of two arrays that jax can trace (written with jax.numpy), "
                f"but {name} raises {type(error).__name__}: {first_line(error)}"
            ) from None
        if not hasattr(result, "shape") or result.shape != shape or result.dtype != jnp.float64:
            got = f"shape {result.shape} and type {result.dtype}" if hasattr(result, "shape") else repr(result)
            raise ParameterError(
                f"Argument `loss` must return an array of the shape and type of f and y, shape {shape} and type "
                f"float64, but {name} returns {got}."
            )
    array = jax.ShapeDtypeStruct((5,), jnp.float64)
    try:
        jax.eval_shape(_Slope(slope), array, array)
    except Exception as error:
        raise ParameterError(
            f"Argument `loss` must be twice differentiable by jax, but {name} raises {type(error).__name__}: "
            f"{first_line(error)}"
        ) from None


def _look(
    name: str, parts: Sequence[Callable[..., Any]], label: float
) -> tuple[tuple[tuple[float, float], ...], np.ndarray]:
    """Kinks ((place, jump of l'), ...) and l'' on the grid of Delta, for one label; ParameterError if it is no loss."""
    at_label = [functools.partial(_at, part, label) for part in parts]
    on_grid = [part(GRID) for part in at_label]
    for meaning, array in zip(("values", "first derivatives", "second derivatives"), on_grid, strict=True):
        if not np.all(np.isfinite(array)):
            raise ParameterError(
                f"Argument `loss` must have finite {meaning} for |f - y| < 8, but {name} has not for y = {label:g}."
            )
    if not np.allclose(at_label[0](GRID[::-7]), on_grid[0][::-7], rtol=1e-9, atol=1e-12):
        raise ParameterError(f"Argument `loss` must be elementwise, but {name} of one entry depends on the others.")
    if np.ptp(on_grid[0]) == 0.0:
        raise ParameterError(f"Argument `loss` must depend on f, but {name} does not for y = {label:g}.")
    breaks = jumps(at_label[0], at_label[1])
    if breaks:
        raise ParameterError(
            f"Argument `loss` must be continuous in f, but {name} jumps by {breaks[0][1]:.3g} at f - y = "
            f"{breaks[0][0]:.3g} for y = {label:g}."
        )
    kinks = jumps(at_label[1], at_label[2])
    if kinks and max(abs(jump) for _, jump in kinks) > STEEPEST:
        raise ParameterError(
            f"Argument `loss` must have a bounded derivative, but that of {name} grows beyond {STEEPEST:g} at f - y = "
            f"{kinks[0][0]:.3g} for y = {label:g}."
        )
    return kinks, on_grid[2]


def _at(part: Callable[[Any, Any], Any], label: float, residual: Any) -> np.ndarray:
    return np.asarray(part(residual, np.full_like(residual, label)))
