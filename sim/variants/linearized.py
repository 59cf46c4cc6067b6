"""The network linearised at its initial weights, trained by the same steps, exactly and at any step number at once.

    f_lin(x; theta) = f(x; theta_0) + df(x; theta_0)[theta - theta_0]

Its residuals on the training set after n steps of size dt are Delta_n = (1 - dt K / kappa)^n Delta_0 with the Gram
matrix K of the initial tangent kernel (`sim.variants.ntk`), and its parameters have moved by

    theta_n - theta_0 = -pull(c_n) / alpha,   c_n = (dt/kappa) sum_{m<n} Delta_m = K^-1 (Delta_0 - Delta_n)

(`sim.variants.ridge_functions.pull`), so one eigendecomposition replaces the run. In gradient flow
Delta(t) = exp(-t K / kappa) Delta_0. In the end, c = K^+ Delta_0: regression with K.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from dmft.checks import DivergenceError
from sim.systems.state import Parameters
from sim.variants.ridge_functions import (
    Components,
    Fixed,
    components,
    inner_by_degree,
    outputs,
    preactivations,
    pull,
)


class Spectrum(NamedTuple):
    """Rates (P,): the eigenvalues of K / kappa; its eigenvectors (P, P) in columns; Delta_0 along them, (P,); kappa."""

    rates: np.ndarray
    vectors: np.ndarray
    residual: np.ndarray
    kappa: float


def decompose(matrix: np.ndarray, kappa: float, residual: np.ndarray) -> Spectrum:
    """The spectrum of the Gram matrix K, (P, P), and the initial residual Delta_0, (P,), in its eigenbasis."""
    values, vectors = np.linalg.eigh(matrix)
    return Spectrum(np.maximum(values, 0.0) / kappa, vectors, vectors.T @ residual, kappa)


def residuals(spectrum: Spectrum, step: float | None, counts: np.ndarray) -> np.ndarray:
    """Delta_n, (T, P), after each number of steps in `counts`, (T,); without a step, Delta(t) at these times.

    Raises:
        DivergenceError: the linearised network does not stand steps of this size.
    """
    if step is None:
        return (np.exp(-spectrum.rates * counts[:, None]) * spectrum.residual) @ spectrum.vectors.T
    largest = float(spectrum.rates[-1])
    if step * largest > 2.0:
        raise DivergenceError(
            f"The linearised network diverges: `step` = {step:.4g} exceeds 2 / (largest eigenvalue of the initial "
            f"tangent kernel) = {2.0 / largest:.4g}."
        )
    factors = (1.0 - step * spectrum.rates) ** counts[:, None]
    return (factors * spectrum.residual) @ spectrum.vectors.T


def coefficients(spectrum: Spectrum, step: float | None, counts: np.ndarray) -> np.ndarray:
    """c_n = (dt/kappa) sum_{m<n} Delta_m, (T, P), for each number of steps n in `counts`, (T,).

    Without a step it is (1/kappa) times the integral of Delta up to these times.
    """
    if step is None:
        rates, time = spectrum.rates, counts[:, None]
        sums = np.where(rates > 0.0, -np.expm1(-rates * time) / np.where(rates > 0.0, rates, 1.0), time)
        return (sums * spectrum.residual / spectrum.kappa) @ spectrum.vectors.T
    r = step * spectrum.rates
    small = r < 1e-3  # there 1 - (1 - r)^n would cancel
    exponent = counts[:, None] * np.log1p(-np.where(small, r, 0.0))
    learned = np.where(small, -np.expm1(exponent), 1.0 - (1.0 - r) ** counts[:, None])
    sums = np.where(r > 0.0, learned / np.where(r > 0.0, r, 1.0), counts[:, None])
    return (step / spectrum.kappa) * (sums * spectrum.residual) @ spectrum.vectors.T


def displacement(fixed: Fixed, start: Parameters, inputs: jax.Array, c: jax.Array) -> Parameters:
    """theta - theta_0 = -pull(c) / alpha for coefficients c, (P,), of the training inputs (P, D)."""
    moved = pull(fixed, start, preactivations(start, inputs), c, inputs)
    return jax.tree.map(lambda array: -array / fixed.alpha, moved)


def error_by_degree(fixed: Fixed, start: Parameters, moved: Parameters, base: Components) -> jax.Array:
    """The exact mean square of each degree's part of base + df(x; theta_0)[moved] over x ~ N(0, I/D), (degree + 1,).

    Args:
        fixed: the network.
        start: theta_0.
        moved: theta - theta_0.
        base: f(x; theta_0) - y, or -y when centred.
    """

    def at(share: Any) -> Components:
        return components(fixed, jax.tree.map(lambda a, b: a + share * b, start, moved))

    def slope(function: Any) -> Any:
        return jax.jvp(function, (0.0,), (1.0,))[1]

    linear = slope(lambda s: inner_by_degree(base, at(s)))
    square = slope(lambda s: slope(lambda t: inner_by_degree(at(s), at(t))))
    return inner_by_degree(base, base) + 2.0 * linear + square


def change_of_outputs(fixed: Fixed, start: Parameters, moved: Parameters, inputs: jax.Array) -> jax.Array:
    """df(x; theta_0)[moved] on `inputs` (Q, D), (Q,)."""

    def function(parameters: Parameters) -> jax.Array:
        return outputs(fixed, parameters, preactivations(parameters, inputs))

    return jax.jvp(function, (start,), (moved,))[1]
