"""The Marchenko-Pastur law as a quadrature (THEORY section 7)."""

from __future__ import annotations

import numpy as np

from dmft.checks import check_integer, check_real


def marchenko_pastur(kappa: float, nodes: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of (1/kappa) X^T X, X with P = kappa D rows of N(0, I/D), as a quadrature (THEORY section 7).

    The law of the D eigenvalues is (1 - kappa)_+ delta(s) + kappa sqrt((s_+ - s)(s - s_-)) / (2 pi s) ds with edges
    s_-+ = (1 -+ kappa^-1/2)^2. On s = 1 + 1/kappa + 2 kappa^-1/2 cos(theta) the continuous part is
    (2/pi) sin(theta)^2 / s dtheta, whose 1/s turns into a pole close to theta = pi as kappa -> 1 (the hard edge).
    With tan((pi - theta)/2) = e^x that pole stays at |Im x| = pi/2 for every kappa,

        s = (delta^2 + (1 + kappa^-1/2)^2 e^2x) / (1 + e^2x),          delta = |1 - kappa^-1/2|,
        weight = (16/pi) e^3x / [(1 + e^2x)^2 (delta^2 + (1 + kappa^-1/2)^2 e^2x)] dx,

    and Re s >= 0 for |Im x| <= pi/4: the trapezoidal rule in x converges geometrically, for e^{-s t} uniformly in t
    and in kappa. 512 nodes give smooth averages, also of e^{-s t} and (1 - e^{-s t})^2 / s, to about 1e-13.

    Args:
        kappa: sample ratio P / D > 0.
        nodes: number of nodes of the continuous part, >= 2.

    Returns:
        eigenvalues and weights, each (nodes,), or (nodes + 1,) with the atom at 0 first if kappa < 1.
        The weights sum to 1.

    Raises:
        ParameterError: an argument is out of range.
    """
    kappa = check_real("kappa", kappa, above=0.0)
    nodes = check_integer("nodes", nodes, at_least=2)
    eigenvalues, weights = continuous_part(kappa, nodes)
    if kappa < 1.0:
        return np.append(0.0, eigenvalues), np.append(1.0 - kappa, weights)
    return eigenvalues, weights


def sample_spectrum(kappa: float) -> tuple[np.ndarray, np.ndarray]:
    """The P eigenvalues of (1/kappa) X X^T: Marchenko-Pastur / kappa and an atom 1 - 1/kappa at 0."""
    eigenvalues, weights = continuous_part(kappa, 512)
    atom = max(0.0, 1.0 - 1.0 / kappa)
    return np.append(0.0, eigenvalues), np.append(atom, weights / kappa)


def continuous_part(kappa: float, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the continuous part of Marchenko-Pastur, of mass min(1, kappa)."""
    ratio = kappa**-0.5
    delta_squared, span_squared = (1.0 - ratio) ** 2, (1.0 + ratio) ** 2
    # below delta/(1 + ratio) the weight falls like e^{3x} (at the hard edge like e^x), far above it like e^{-3x}
    corner = np.sqrt(delta_squared / span_squared)
    x = np.linspace(np.log(max(1e-6 * corner, 1e-20)), np.log(1e6), nodes)
    square = np.exp(2.0 * x)
    numerator = delta_squared + span_squared * square
    weights = (16.0 / np.pi) * np.exp(3.0 * x) / ((1.0 + square) ** 2 * numerator) * (x[1] - x[0])
    return numerator / (1.0 + square), weights
