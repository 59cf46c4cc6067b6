"""The sampled Gaussian variables and the factor of a correlation kernel in their space.

The effective processes are driven by u ~ N(0, 1), by the common noise zeta^p and by the outlier noise zeta^q.
Under (u, zeta^q) -> (-u, -zeta^q) every residual is unchanged, so samples with u > 0 suffice: each stands for a
mirror pair, averages of even quantities are averages over the half, those of odd ones vanish. The same holds for each
of several directions.
"""

# scipy has no stubs; jax gives `device` of its array functions no type
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

from typing import Any, NamedTuple, cast

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

#: Width of the normal whose strata carry the target field (see `target_quadrature`).
STRETCH = 1.4
#: E u^0, E u^2, ..., E u^8.
EVEN_MOMENTS = (1.0, 1.0, 3.0, 15.0, 105.0)
#: Of more samples than so many only polynomial weights are tried: the rest takes seconds, and is hardly needed.
MANY = 512
#: Share of its plain weight that every sample keeps where moments are matched.
LEAST = 0.1
#: Coordinates of the sequence that nothing uses: the modes are orthogonal to their signs, and stay what they are.
SPARE = 3


class Samples(NamedTuple):
    """One replica's matched standard normals, S samples of each.

    Attributes:
        weight: (S,) sample weights, sum 1.
        u: (K, S) the target field of each of K directions, > 0 (mirror pairs).
        label: (S,) unit label noise; even sector.
        common: (M, S) modes of the common noise, orthonormal against 1, u^2, label and each other.
        outlier: (K, M, S) modes of the outlier noise, of each direction orthonormal against its u and each other.
    """

    weight: Float[Array, " S"]
    u: Float[Array, "K S"]
    label: Float[Array, " S"]
    common: Float[Array, "M S"]
    outlier: Float[Array, "K M S"]


def draw_samples(samples: int, modes: int, seed: np.random.SeedSequence, dtype: Any, directions: int = 1) -> Samples:
    """Scrambled Sobol points turned into moment-matched normals.

    The first Sobol coordinate orders the first u, the next ones (other u, label noise, then common and outlier modes in
    turn) carry the leading modes, so that their joint distribution with u is as even as the sequence allows.

    Args:
        samples: S, a power of two.
        modes: M <= S - 5 - K, number of noise modes in each sector.
        seed: source of the scrambling.
        dtype: of the result; the matching itself is done in float64.
        directions: K.
    """
    further, sectors = directions - 1, 1 + directions
    points = sobol_points(samples, 2 + SPARE + further + sectors * modes, seed)
    order = np.argsort(np.argsort(points[:, 0]))
    u, weight = (array[order] for array in target_quadrature(samples))
    others, label, spare, noise = np.split(normals(points[:, 1:]), np.cumsum([further, 1, SPARE]), axis=1)
    u = u[:, None]
    if further:
        u = np.column_stack([u, STRETCH * np.abs(others)])
        weight = joint_quadrature(u)
    even = np.column_stack([np.ones(samples), u**2, label, np.sign(spare), noise[:, ::sectors]])
    even = orthonormal(weight, even)[:, 1 + directions :]
    odd = [
        orthonormal(weight, np.column_stack([u[:, k], noise[:, 1 + k :: sectors]]))[:, 1:].T for k in range(directions)
    ]
    arrays = (weight, u.T, even[:, 0], even[:, 1 + SPARE :].T, np.stack(odd))
    return Samples._make(jnp.asarray(array, dtype) for array in arrays)


def sobol_points(samples: int, coordinates: int, seed: np.random.SeedSequence) -> np.ndarray:
    """Scrambled points of the unit cube, (samples, coordinates)."""
    from scipy.stats import qmc

    return qmc.Sobol(coordinates, scramble=True, rng=np.random.default_rng(seed)).random(samples)


def normals(points: np.ndarray) -> np.ndarray:
    """Points of (0, 1) as standard normals."""
    from scipy.special import ndtri

    return ndtri(np.clip(points, 1e-12, 1 - 1e-12))


def target_quadrature(samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Points u > 0 and weights for averages over u ~ N(0, 1), both (S,), u increasing.

    Midpoints of equal-probability strata are 1 to 2 % low in E u^4, which would shift every curve.  So the strata
    are those of a normal `STRETCH` times wider, which puts more points where y = u^2/2 is large, with weights
    proportional to the ratio of the densities times a polynomial in u^2 that makes the moments of order
    0, 2, 4, 6, 8 exactly 1, 1, 3, 15, 105.  Of few points (S < 32) only the lower moments can be, if no weight is to
    be negative.
    """
    from scipy.special import ndtri

    u: NDArray[np.float64] = STRETCH * ndtri(0.5 + (np.arange(samples) + 0.5) / (2 * samples))
    rough: NDArray[np.float64] = np.exp(-0.5 * u**2 * (1 - STRETCH**-2))
    rough /= rough.sum()
    for count in (5, 4, 3, 2):
        moments = np.array(EVEN_MOMENTS)[:count]
        powers = u ** (2 * np.arange(count)[:, None]) / moments[:, None]
        weight = rough * (1 + np.linalg.solve((powers * rough) @ powers.T, 1 - powers @ rough) @ powers)
        if (weight > 0).all():
            break
    return u, weight


def joint_quadrature(u: np.ndarray) -> np.ndarray:
    """Weights for averages over K independent fields at given points, as `target_quadrature` has them, (S,).

    The moments E prod_k u_k^(2 n_k) are exact up to as high an order, at most 8, as weights allow that are positive and
    leave at least half of the effective number of samples.

    Args:
        u: (S, K), as drawn from normals `STRETCH` times wider.
    """
    rough = np.exp(-0.5 * np.sum(u**2, axis=1) * (1 - STRETCH**-2))
    rough /= rough.sum()
    for order in range(len(EVEN_MOMENTS) - 1, 0, -1):
        powers = _powers(u.shape[1], order)
        if 2 * len(powers) > len(u):
            continue
        moments = np.array([np.prod(np.take(EVEN_MOMENTS, n)) for n in powers])
        columns = np.stack([np.prod(u ** (2 * np.array(n)), axis=1) for n in powers]) / moments[:, None]
        weight = _nearest_weights(rough, columns)
        exact = np.abs(columns @ weight - 1).max() < 1e-6
        if exact and 2 * np.sum(rough**2) >= np.sum(weight**2):
            return weight
    return rough


def _powers(count: int, order: int) -> list[tuple[int, ...]]:
    """All n_1, ..., n_count >= 0 whose sum is at most `order`."""
    if count == 0:
        return [()]
    return [(first, *rest) for first in range(order + 1) for rest in _powers(count - 1, order - first)]


def _nearest_weights(rough: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The weights next to `rough`, relative to it, with which all `columns`, (C, S), have mean 1.

    None is below LEAST times `rough`.
    """
    from scipy import optimize

    change = np.linalg.lstsq((columns * rough) @ columns.T, 1 - columns @ rough, rcond=None)[0]
    weight = rough * (1 + change @ columns)
    least = LEAST * rough
    if (weight >= least).all() or len(rough) > MANY:
        return np.maximum(weight, least)
    strict = 1e4  # how much more the moments count
    matrix = np.vstack([np.diag(rough**-0.5), strict * columns])
    wanted = np.append(rough**0.5, np.full(len(columns), strict)) - matrix @ least
    further = cast("np.ndarray", optimize.nnls(matrix, wanted, maxiter=10 * len(rough))[0])
    return least + further


def orthonormal(weight: np.ndarray, columns: np.ndarray) -> np.ndarray:
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
    rounding = 64 * np.finfo(vector.dtype).eps * jnp.sqrt(weight @ vector**2)
    adds = (size > rounding) & (mode < modes)
    unit = jnp.where(adds, rest / jnp.where(adds, size, 1.0), 0.0)
    return first + second + jnp.where((jnp.arange(modes) == mode) & adds, size, 0.0), unit
