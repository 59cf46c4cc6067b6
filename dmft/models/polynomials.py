"""The polynomial features of activations and targets, and what they become when averaged over Gaussian inputs.

An activation is phi(z) = z + (epsilon/2) g(z) and a target is y = (1/2) sum_k strength_k g(beta_k.x), with g one of

    quadratic: z^2      hermite2: He_2 = z^2 - 1      hermite3: He_3 = z^3 - 3z      hermite4: He_4 = z^4 - 6z^2 + 3

He_k are the probabilists' Hermite polynomials, orthogonal under N(0, 1). A polynomial is an array (or tuple) of
coefficients, lowest power first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

#: Coefficients of g by name.
FEATURES: dict[str, tuple[float, ...]] = {
    "quadratic": (0.0, 0.0, 1.0),
    "hermite2": (-1.0, 0.0, 1.0),
    "hermite3": (0.0, -3.0, 0.0, 1.0),
    "hermite4": (3.0, 0.0, -6.0, 0.0, 1.0),
}

Coefficients = Sequence[Any]


def degree(name: str) -> int:
    """The degree of the feature `name`."""
    return len(FEATURES[name]) - 1


def evaluate(coefficients: Coefficients, z: Any) -> Any:
    """sum_n coefficients[n] z^n by Horner's rule; z of any shape."""
    top = len(coefficients) - 1
    value = coefficients[top]
    for n in range(top - 1, -1, -1):
        value = value * z + coefficients[n]
    return value


def derivative(coefficients: Coefficients) -> list[Any]:
    """Coefficients of the derivative."""
    return [n * coefficients[n] for n in range(1, len(coefficients))]


def wick_coefficients(coefficients: Coefficients, variance: Any) -> list[Any]:
    """Coefficients c_m of the polynomial in powers :z^m: that are orthogonal for z ~ N(0, variance).

    For jointly Gaussian z, z' the Wick powers obey E[:z^m: :z'^n:] = delta_mn m! E[z z']^m, and

        z^n = sum_j n! / (2^j j! (n - 2j)!) variance^j :z^(n-2j):

    Args:
        coefficients: of the polynomial, lowest power first.
        variance: of z, any shape.

    Returns:
        c_m, each of that shape, for m = 0 .. degree.
    """
    top = len(coefficients) - 1
    result: list[Any] = []
    for m in range(top + 1):
        value = 0.0 * variance
        for j in range((top - m) // 2 + 1):
            factor = math.factorial(m + 2 * j) / (2.0**j * math.factorial(j) * math.factorial(m))
            value = value + factor * coefficients[m + 2 * j] * variance**j
        result.append(value)
    return result
