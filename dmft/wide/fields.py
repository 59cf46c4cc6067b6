"""The fields p, q and the residual Delta of every sample at row n (THEORY sections 4.1 and 4.2).

In both time schemes an integral int_0^t R(t,s) v(s) ds is the sum sum_m R(n,m) h_m v_m.  Explicit steps have
R(n,n) = 0.  In implicit ones row n feeds back on itself: with x_i = e h_n R_i(n,n) for i = c, d, r,

    p = a_c (p_0 - k h_n R_c(n,n) Delta),   q = a_d q_0,   V = a_r^2 V_0,   a_i = 1/(1 + x_i Delta),

where p_0, q_0, V_0 come from the rows before.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.wide.sectors import BySector
from dmft.wide.state import Couplings, Kernels, Labels, Row, State


def instant_weights(h: Float[Array, " T"], n: Array, row: Row) -> BySector:
    """h_n R(n,n): the feedback of row n on itself."""
    weights = jnp.maximum(h[n] * row.response[:, n], 0.0)
    return BySector(weights[0], weights[1:-1], weights[-1])


def feedback_gains(c: Couplings, instant: BySector, residual: Float[Array, " S"]) -> BySector:
    """a_i = 1/(1 + e h_n R_i(n,n) Delta), (S,) each, of the outliers (G, S)."""
    common, bulk = (1 / (1 + c.e * weight * residual) for weight in (instant.common, instant.bulk))
    outlier = jnp.stack([1 / (1 + c.e * weight * residual) for weight in instant.outlier])
    return BySector(common, outlier, bulk)


def noise_weights(h: Float[Array, " T"], kernels: Kernels, n: Array, row: Row) -> Float[Array, "cd M"]:
    """(R_c h F_c)(n, :) and (R_d h F_d)(n, :): zeta^p and zeta^q of row n in their modes (equations 4.3 and 4.11).

    C_c = (1/(alpha^2 kappa)) R_c Gamma_c R_c^T with Gamma_c = F_c F_c^T, and the same for d.
    """
    weights = row.response[:-1] * h
    return jnp.einsum("ij,jik->ik", weights, kernels.factor) + weights[:, n, None] * row.factor


def past_fields(
    c: Couplings, h: Float[Array, " T"], state: State, n: Array, row: Row
) -> tuple[Float[Array, " S"], Float[Array, "K S"]]:
    """p_0 and q_0: equation 4.4 without the feedback of row n itself.

    p = zeta^p - k int R_c (1 + epsilon p) Delta,  q = zeta^q - e int R_d q Delta,  zeta^q = b u + ...
    """
    samples, fields = state.samples, state.fields
    noise, directions = noise_weights(h, state.kernels, n, row), len(samples.u)
    strength = 1 / (c.alpha * jnp.sqrt(c.kappa))
    p = -strength * (noise[0] @ samples.common) - c.k * ((row.response_common * h) @ fields.force_common)
    forced = jnp.einsum("km,kms->ks", of_each(noise[1:], directions), samples.outlier)
    own = jnp.einsum("kt,tks->ks", of_each(row.response_outlier * h, directions), fields.force_outlier)
    return p, row.target_overlap[:, None] * samples.u - c.epsilon * strength * forced - c.e * own


def of_each(kinds: Float[Array, "G X"], directions: int) -> Float[Array, "K X"]:
    """What directions that are alike share, for each of them."""
    return jnp.broadcast_to(kinds, (directions, kinds.shape[1]))


def common_field(c: Couplings, p_0: Array, delta: Array, instant: BySector) -> Array:
    """p = (p_0 - k h_n R_c(n,n) Delta)/(1 + x_c Delta)."""
    return (p_0 - c.k * instant.common * delta) / (1 + c.e * instant.common * delta)


def excess(
    c: Couplings, delta: Array, p_0: Array, q_0: Array, v_0: Array, offset: Array, instant: BySector
) -> tuple[Array, Array]:
    """Equation 4.1: alpha [p + (epsilon/2)(p^2 + q^2 + V)] - offset - Delta, and minus its slope in Delta."""
    a = feedback_gains(c, instant, delta)
    p, q, v = common_field(c, p_0, delta, instant), a.outlier * q_0, a.bulk**2 * v_0
    value = c.alpha * (p + 0.5 * c.epsilon * (p**2 + jnp.sum(q**2, 0) + v)) - offset - delta
    fed = (1 + c.epsilon * p) ** 2 * a.common * c.k * instant.common
    outlier = jnp.sum(q**2 * a.outlier * instant.outlier[:, None], 0)
    fed = fed + c.epsilon * c.e * (outlier + v * a.bulk * instant.bulk)
    return value, 1 + c.alpha * fed


def solve_residual(
    c: Couplings,
    guess: Float[Array, " S"],
    p_0: Float[Array, " S"],
    q_0: Float[Array, "K S"],
    v_0: Float[Array, " S"],
    offset: Float[Array, " S"],
    instant: BySector,
) -> Float[Array, " S"]:
    """Delta of each sample: the root of equation 4.1 by Newton's method, kept inside the domain of the root.

    Where all 1 + x_i Delta are positive the left side of 4.1 falls strictly and is convex in Delta, from +infinity at
    the edge to -infinity.  So the root there is unique, and it is the one that connects to small steps.

    Args:
        guess: the previous time's.
        p_0, q_0: fields without the feedback of row n.
        v_0: V without it, not negative.
        offset: y + f(0).
        instant: h_n R(n,n), not negative.
    """
    precision = jnp.finfo(p_0.dtype)
    largest = jnp.maximum(jnp.maximum(instant.common, jnp.max(instant.outlier)), instant.bulk)
    edge = -1.0 / jnp.maximum(c.e * largest, jnp.sqrt(precision.tiny))

    def body(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        delta, _, count = carry
        value, slope = excess(c, delta, p_0, q_0, v_0, offset, instant)
        new = jnp.maximum(delta + value / slope, 0.5 * (delta + edge))
        return new, jnp.max(jnp.abs(new - delta) / (jnp.abs(new) + 1e-3)), count + 1

    def unfinished(carry: tuple[Array, Array, Array]) -> Array:
        return (carry[1] > 16 * precision.eps) & (carry[2] < 60)

    start = jnp.maximum(guess, 0.5 * edge)
    return jax.lax.while_loop(unfinished, body, (start, jnp.asarray(jnp.inf, start.dtype), jnp.int32(0)))[0]


def offsets(labels: Labels) -> Float[Array, " S"]:
    """y + f(0) of equation 4.1."""
    return labels.target + labels.initial_output
