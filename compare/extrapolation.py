"""Polynomials in a power of 1/D through simulations at several D, by weighted least squares.

An observable of the simulations over that of the theory is, to the second order that several sizes can tell,

    ratio(D) = limit + slope x + curvature x^2,    x = D^-power,

power 1 where the overlap is planted, 1/2 or 1 of a random start. If the networks approach the theory the limit is 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Fitted(NamedTuple):
    """Coefficients (n, ...), their covariance (..., n, n) and chi^2 (...); NaN where a value or error is not known."""

    coefficients: np.ndarray
    covariance: np.ndarray
    chi2: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """The coefficients' standard errors, (n, ...)."""
        return np.sqrt(np.moveaxis(np.diagonal(self.covariance, axis1=-2, axis2=-1), -1, 0))


def fitted(basis: np.ndarray, values: np.ndarray, errors: np.ndarray) -> Fitted:
    """Coefficients for which chi^2 = sum_l [(values - basis . coefficients)/errors]^2 of values (L, ...) is least.

    Args:
        basis: (L, n).
        values, errors: (L, ...), errors > 0.
    """
    known = np.asarray((np.isfinite(values) & np.isfinite(errors) & (errors > 0)).all(axis=0))
    values, weights = np.where(known, values, 0.0), np.where(known, errors, 1.0) ** -2.0
    normal = np.einsum("li,l...,lj->...ij", basis, weights, basis)
    scale = np.sqrt(np.diagonal(normal, axis1=-2, axis2=-1))  # powers of 1/D are of very different size
    scales = scale[..., :, None] * scale[..., None, :]
    covariance = np.linalg.inv(normal / scales) / scales
    coefficients = np.einsum("...ij,lj,l...->i...", covariance, basis, weights * values)
    left = values - np.tensordot(basis, coefficients, axes=1)
    found = Fitted(coefficients, covariance, (weights * left**2).sum(axis=0))
    return Fitted(
        *(
            np.where(place, one, np.nan)
            for one, place in zip(found, (known, known[..., None, None], known), strict=True)
        )
    )


def polynomial(x: np.ndarray, values: np.ndarray, errors: np.ndarray, order: int = 1) -> Fitted:
    """limit + slope x (+ curvature x^2) through values (L, ...) at x (L,)."""
    return fitted(x[:, None] ** np.arange(order + 1), values, errors)


def line(x: np.ndarray, values: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, ...]:
    """A straight line through values (L, ...) at x (L,): limit, its error, slope, its error, chi^2, (...) each."""
    found = polynomial(x, values, errors)
    (limit, slope), (limit_error, slope_error) = found.coefficients, found.errors
    return limit, limit_error, slope, slope_error, found.chi2


def bridged(x: np.ndarray, ratios: np.ndarray, errors: np.ndarray, at: float) -> tuple[np.ndarray, np.ndarray]:
    """1 + slope x + curvature x^2 through ratios (L, ...): its value at x = `at` and the standard error, (...) each."""
    found = fitted(np.stack([x, x**2], axis=1), ratios - 1, errors)
    row = np.array([at, at**2])
    error = np.sqrt(np.einsum("i,...ij,j->...", row, found.covariance, row))
    return 1 + np.tensordot(row, found.coefficients, axes=1), error


def first_within(near: float, slope: np.ndarray, curvature: np.ndarray) -> np.ndarray:
    """The largest x up to which |slope x + curvature x^2| stays within `near`."""
    candidates = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for side in (near, -near):  # slope x + curvature x^2 = side, in the form that holds for any curvature
            root = np.sqrt(slope**2 + 4 * curvature * side)
            candidates += [2 * side / (slope + root), 2 * side / (slope - root)]
        positive = np.where(np.array(candidates) > 0, candidates, np.inf)
    return np.where(np.isnan(slope), np.nan, positive.min(axis=0))
