"""Which combinations of parameters a fit determines: the curvature of its chi^2, in words."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

#: A combination is determined if its logarithm is known to better than this: a factor e either way.
KNOWN = 1.0


def directions(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard errors of the principal combinations of log parameters, the best known first, and these as columns."""
    variances, axes = np.linalg.eigh(covariance)
    return np.sqrt(np.maximum(variances, 0.0)), axes


def covariance_of(jacobian: np.ndarray, largest: float = 1e3) -> np.ndarray:
    """(J^T J)^-1, (p, p); of a direction that is not determined at all, `largest`^2 in place of infinity."""
    _, sizes, axes = np.linalg.svd(jacobian, full_matrices=False)
    variances = 1.0 / np.maximum(sizes, 1.0 / largest) ** 2
    return (axes.T * variances) @ axes


def unidentified(names: Sequence[str], covariance: np.ndarray) -> str:
    """What is not identifiable, in words; "" if everything is.

    Args:
        names: of the parameters.
        covariance: of their logarithms, (p, p).
    """
    errors, axes = directions(covariance)
    known = errors < KNOWN
    if known.all():
        return ""
    flat = axes[:, ~known]
    loose = [name for row, name in enumerate(names) if np.abs(flat[row]).max() > 0.05]
    said = f"not identifiable: {' and '.join(loose)}"
    rows = _combinations(axes[:, known].T)
    mixed = [product(names, row) for row in rows if np.count_nonzero(np.abs(row) > 0.05) > 1]
    return f"{said}; only {' and '.join(mixed)} {'is' if len(mixed) == 1 else 'are'}" if mixed else said


def _combinations(rows: np.ndarray) -> np.ndarray:
    """The same space spanned by rows with as many zeros as its dimension allows (reduced echelon form, pivoted)."""
    rows, used = rows.copy(), []
    for place in range(len(rows)):
        sizes = np.abs(rows[place]) * ~np.isin(np.arange(rows.shape[1]), used)
        pivot = int(np.argmax(sizes > 0.99 * sizes.max()))
        used.append(pivot)
        rows[place] /= rows[place, pivot]
        for other in range(len(rows)):
            if other != place:
                rows[other] -= rows[other, pivot] * rows[place]
    return rows


def product(names: Sequence[str], exponents: np.ndarray) -> str:
    """Such as "alpha * epsilon" or "alpha^2 / kappa"; exponents below 0.05 of the largest are left out."""
    scaled = exponents / np.abs(exponents).max()
    scaled = scaled * np.sign(scaled[np.argmax(np.abs(scaled) > 0.05)])
    above, below = [], []
    for name, power in zip(names, scaled, strict=True):
        if abs(power) > 0.05:
            (above if power > 0 else below).append(name + _power(abs(power)))
    return " * ".join(above) + "".join(f" / {one}" for one in below)


def _power(power: float) -> str:
    near = Fraction(power).limit_denominator(3)
    if abs(power - near) > 0.04:
        return f"^{power:.2f}"
    return "" if near == 1 else f"^{near}" if near.denominator == 1 else f"^({near})"
