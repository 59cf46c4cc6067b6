"""The sampled Gaussian variables and the factor of a correlation kernel in their space.

The effective processes are driven by u ~ N(0, 1), by the common noise zeta^p and by the outlier noise zeta^q.
Under (u, zeta^q) -> (-u, -zeta^q) every residual is unchanged, so samples with u > 0 suffice: each stands for a
mirror pair, averages of even quantities are averages over the half, those of odd ones vanish.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

#: Width of the normal whose strata carry the target field (see `target_quadrature`).
STRETCH = 1.4
#: Coordinates of the sequence that nothing uses: the modes are orthogonal to their signs, and stay what they are.
SPARE = 3


class Samples(NamedTuple):
    """One replica's matched standard normals, S samples of each.

    Attributes:
        weight: (S,) sample weights, sum 1.
        u: (S,) the target field, > 0 (mirror pairs).
        label: (S,) unit label noise; even sector.
        common: (K, S) modes of the common noise, orthonormal against 1, u^2, label and each other.
        outlier: (K, S) modes of the outlier noise, orthonormal against u and each other.
    """

    weight: Float[Array, " S"]
    u: Float[Array, " S"]
    label: Float[Array, " S"]
    common: Float[Array, "K S"]
    outlier: Float[Array, "K S"]


def draw_samples(samples: int, modes: int, seed: np.random.SeedSequence, dtype: Any) -> Samples:
    """Scrambled Sobol points turned into moment-matched normals.

    The first Sobol coordinate orders u, the next ones (label noise, then common and outlier modes in turn) carry
    the leading modes, so that their joint distribution with u is as even as the sequence allows.

    Args:
        samples: S, a power of two.
        modes: K <= S - 6, number of noise modes in each sector.
        seed: source of the scrambling.
        dtype: of the result; the matching itself is done in float64.
    """
    from scipy.special import ndtri
    from scipy.stats import qmc

    generator = np.random.default_rng(seed)
    points = qmc.Sobol(2 + SPARE + 2 * modes, scramble=True, rng=generator).random(samples)
    order = np.argsort(np.argsort(points[:, 0]))
    u, weight = (array[order] for array in target_quadrature(samples))
    normals = ndtri(np.clip(points[:, 1:], 1e-12, 1 - 1e-12))
    label, spare = normals[:, :1], np.sign(normals[:, 1 : 1 + SPARE])
    common, outlier = normals[:, 1 + SPARE :: 2], normals[:, 2 + SPARE :: 2]
    even = _orthonormal(weight, np.column_stack([np.ones(samples), u**2, label, spare, common]))
    odd = _orthonormal(weight, np.column_stack([u, outlier]))
    arrays = (weight, u, even[:, 2], even[:, 3 + SPARE :].T, odd[:, 1:].T)
    return Samples._make(jnp.asarray(array, dtype) for array in arrays)


def target_quadrature(samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Points u > 0 and weights for averages over u ~ N(0, 1), both (S,), u increasing.

    Midpoints of equal-probability strata are 1 to 2 % low in E u^4, which would shift every curve.  So the strata
    are those of a normal `STRETCH` times wider, which puts more points where y = u^2/2 is large, with weights
    proportional to the ratio of the densities times a polynomial in u^2 that makes the moments of order
    0, 2, 4, 6, 8 exactly 1, 1, 3, 15, 105.  Of few points (S < 32) only the lower moments can be, if no weight is to
    be negative.
    """
    from scipy.special import ndtri

    u = STRETCH * ndtri(0.5 + (np.arange(samples) + 0.5) / (2 * samples))
    rough = np.exp(-0.5 * u**2 * (1 - STRETCH**-2))
    rough /= rough.sum()
    for count in (5, 4, 3, 2):
        moments = np.array([1.0, 1.0, 3.0, 15.0, 105.0])[:count]
        powers = u ** (2 * np.arange(count)[:, None]) / moments[:, None]
        weight = rough * (1 + np.linalg.solve((powers * rough) @ powers.T, 1 - powers @ rough) @ powers)
        if (weight > 0).all():
            break
    return u, weight


def _orthonormal(weight: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Weighted Gram-Schmidt from the left; columns keep their direction and get unit mean square."""
    root = np.sqrt(weight)[:, None]
    q, r = np.linalg.qr(root * columns)
    return q * np.sign(np.diagonal(r)) / root


def factor_row(
    vector: Float[Array, " S"], basis: Float[Array, "K S"], weight: Float[Array, " S"], mode: Array
) -> tuple[Float[Array, " K"], Float[Array, " S"]]:
    """Row n of the triangular factor F of a Gram kernel Gamma = E[g g^T], by Gram-Schmidt in sample space.

    F(n, l) = E[g_n e_l] on the basis vectors so far; what is left of g_n, of size F(n, mode), becomes the next
    basis vector.  Positive semi-definite by construction: no pivot is ever divided by.  A rest of the size of the
    rounding errors adds no vector, nor does any rest once all K are in use.

    Args:
        vector: g_n.
        basis: e_l for l < mode, zero from there on.
        weight: sample weights, sum 1.
        mode: number of basis vectors so far.

    Returns:
        The row F(n, :) and the new basis vector (zero if there is none).
    """
    modes = basis.shape[0]
    first = basis @ (weight * vector)
    rest = vector - first @ basis
    second = basis @ (weight * rest)  # twice is enough: orthogonal to rounding
    rest = rest - second @ basis
    size = jnp.sqrt(weight @ rest**2)
    rounding = 64 * jnp.finfo(vector.dtype).eps * jnp.sqrt(weight @ vector**2)
    adds = (size > rounding) & (mode < modes)
    unit = jnp.where(adds, rest / jnp.where(adds, size, 1.0), 0.0)
    return first + second + jnp.where((jnp.arange(modes) == mode) & adds, size, 0.0), unit
