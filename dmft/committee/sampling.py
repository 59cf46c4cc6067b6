"""The sampled variables of the committee's single-sample process: target fields, noise modes, presence.

Unlike the wide engine's, these have no mirror symmetry: the activation, the teacher and the overlaps are arbitrary.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmft.twotime.noise import normals, orthonormal, sobol_points

#: Width of the normals whose points carry u.  Wider would be worse: a sample of little weight has a large coordinate e
#: in the basis of the forces, by which equation 8.4 multiplies its noise.
STRETCH = 1.2
#: Largest degree of the monomials of u whose averages are exact, by K; 4 beyond.
DEGREES = {1: 8, 2: 6, 3: 4}


class Samples(NamedTuple):
    """One replica's matched samples, S of each.

    Attributes:
        weight: (S,) sample weights, sum 1.
        u: (K, S) the fields of the teacher.
        label: (S,) unit label noise.
        modes: (L, S) standard normals of the noise, orthonormal against 1, u, u u, label and each other.
    """

    weight: Float[Array, " S"]
    u: Float[Array, "K S"]
    label: Float[Array, " S"]
    modes: Float[Array, "L S"]


def draw_samples(samples: int, directions: int, modes: int, seed: np.random.SeedSequence, dtype: Any) -> Samples:
    """Scrambled Sobol points turned into weighted, moment-matched normals.

    Args:
        samples: S, a power of two.
        directions: K, teacher directions.
        modes: L, noise modes, at most S - (K + 1) (K + 2) / 2 - 1.
        seed: source of the scrambling.
        dtype: of the result; the matching itself is done in float64.
    """
    drawn = normals(sobol_points(samples, directions + 1 + modes, seed)).T
    u = STRETCH * drawn[:directions]
    weight = target_weights(u, STRETCH)
    pairs = [u[a] * u[b] for a in range(directions) for b in range(a + 1)]
    columns = np.column_stack([np.ones(samples), *u, *pairs, *drawn[directions:]])
    matched = orthonormal(weight, columns).T[1 + directions + len(pairs) :]
    return Samples(*(jnp.asarray(array, dtype) for array in (weight, u, matched[0], matched[1:])))


def target_weights(u: np.ndarray, stretch: float) -> np.ndarray:
    """Weights of points u (K, S) of a normal `stretch` times too wide: averages of monomials of u become exact.

    The ratio of the densities times a polynomial that makes all Gaussian moments up to DEGREES[K] exact, or of a
    lower degree if a weight would be negative.
    """
    directions, samples = u.shape
    rough = np.exp(-0.5 * (1 - stretch**-2) * (u**2).sum(axis=0))
    rough /= rough.sum()
    for degree in range(DEGREES.get(directions, 4), 0, -2):
        exponents = [e for e in itertools.product(range(degree + 1), repeat=directions) if sum(e) <= degree]
        if 4 * len(exponents) > samples:
            continue
        size = np.array([math.prod(_moment(2 * e) for e in row) for row in exponents]) ** 0.5
        exact = np.array([math.prod(_moment(e) for e in row) for row in exponents]) / size
        monomials = np.stack([np.prod(u ** np.array(row)[:, None], axis=0) for row in exponents]) / size[:, None]
        gram = (monomials * rough) @ monomials.T
        weight = rough * (1 + np.linalg.lstsq(gram, exact - monomials @ rough, rcond=1e-10)[0] @ monomials)
        if (weight > 0).all():
            return weight
    return rough


def _moment(power: int) -> float:
    """E z^power of a standard normal."""
    return 0.0 if power % 2 else float(math.prod(range(power - 1, 0, -2)))


def draw_presence(
    samples: int, steps: int, fraction: float, switch: float | None, seed: np.random.SeedSequence
) -> np.ndarray:
    """s(t) = presence / b of every sample at every step, (steps, samples): minibatches (all 1 for b = 1).

    Each step draws stratified numbers, so that the share of present samples is exact to 1/samples.

    Args:
        fraction: b, probability of a sample to be present.
        switch: None to draw every step afresh, or the probability that an absent sample enters in a step; a present
            one then leaves with probability switch (1 - b)/b, so that b stays the share of those present.
    """
    if fraction == 1.0:
        return np.ones((steps, samples))
    generator = np.random.default_rng(seed)

    def chosen(who: np.ndarray, probability: float) -> np.ndarray:
        uniform = (generator.permutation(len(who)) + generator.random()) / max(len(who), 1) % 1.0
        return who[uniform < probability]

    everyone = np.arange(samples)
    present = np.zeros((steps, samples))
    present[0, chosen(everyone, fraction)] = 1.0
    for n in range(1, steps):
        if switch is None:
            present[n, chosen(everyone, fraction)] = 1.0
        else:
            on, off = np.flatnonzero(present[n - 1]), np.flatnonzero(present[n - 1] == 0)
            present[n] = present[n - 1]
            present[n, chosen(on, switch * (1 - fraction) / fraction)] = 0.0
            present[n, chosen(off, switch)] = 1.0
    return present / fraction
