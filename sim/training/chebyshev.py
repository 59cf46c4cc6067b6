"""One step of the Runge-Kutta-Chebyshev method of order 2 (Sommeijer, Shampine and Verwer, 1997).

s evaluations of the velocity are stable along the negative real axis up to h rho = 0.65 s^2, rho the spectral radius of
its Jacobian, where s steps of descent reach h rho = 2 s. So a time T costs of order sqrt(rho T) evaluations. With T_j
the Chebyshev polynomials, w0 = 1 + eps / s^2, w1 = T_s'(w0) / T_s''(w0) and b_j = T_j'' / T_j'^2 (b_0 = b_1 = b_2):

    Y_1 = y + b_1 w1 h f(y),
    Y_j = (1 - mu - nu) y + mu Y_{j-1} + nu Y_{j-2} + mt h f(Y_{j-1}) + gt h f(y),
    mu = 2 b_j w0 / b_{j-1},  nu = -b_j / b_{j-2},  mt = 2 b_j w1 / b_{j-1},  gt = -(1 - b_{j-1} T_{j-1}) mt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

#: eps: damps every mode by at least 5 % a step.
DAMPING = 2.0 / 13.0
#: s^2 = 1 + STIFFNESS h rho is stable with this damping.
STIFFNESS = 1.54


def stages(stiffness: jax.Array) -> jax.Array:
    """The fewest stages s >= 2 that are stable at h rho = `stiffness`."""
    return jnp.maximum(jnp.ceil(jnp.sqrt(1.0 + STIFFNESS * stiffness)), 2.0).astype("int32")


def stiffness_of(stages: Any) -> Any:
    """The largest h rho at which so many stages are stable."""
    return (stages**2 - 1.0) / STIFFNESS


class Polynomial(NamedTuple):
    """T_j, T_j' and T_j'' at w0."""

    value: jax.Array
    first: jax.Array
    second: jax.Array


def following(w0: jax.Array, now: Polynomial, before: Polynomial) -> Polynomial:
    """T_{j+1} from T_j and T_{j-1}."""
    return Polynomial(
        2.0 * w0 * now.value - before.value,
        2.0 * now.value + 2.0 * w0 * now.first - before.first,
        4.0 * now.first + 2.0 * w0 * now.second - before.second,
    )


def chebyshev_step(velocity: Callable[[Any], Any], state: Any, start: Any, h: jax.Array, s: jax.Array) -> Any:
    """The state a time h later, by s >= 2 stages, the first of which uses `start`, the velocity at `state`."""
    zero, one = jnp.zeros_like(h), jnp.ones_like(h)
    w0 = 1.0 + DAMPING / s.astype(h.dtype) ** 2
    first = Polynomial(w0, one, zero), Polynomial(one, zero, zero)
    last, _ = jax.lax.fori_loop(1, s, lambda _, pair: (following(w0, *pair), pair[0]), first)
    w1 = last.first / last.second
    b = 0.25 / w0**2

    def stage(_: jax.Array, carry: Any) -> Any:
        (now, before), (b1, b2), (y1, y2) = carry
        new = following(w0, now, before)
        b0 = new.second / new.first**2
        mu, nu, mt = 2.0 * b0 * w0 / b1, -b0 / b2, 2.0 * b0 * w1 / b1
        gt = -(1.0 - b1 * now.value) * mt

        def combine(y: jax.Array, f: jax.Array, a1: jax.Array, a2: jax.Array, f1: jax.Array) -> jax.Array:
            return (1.0 - mu - nu) * y + mu * a1 + nu * a2 + h * (mt * f1 + gt * f)

        y0 = jax.tree.map(combine, state, start, y1, y2, velocity(y1))
        return (new, now), (b0, b1), (y0, y1)

    y1 = jax.tree.map(lambda y, f: y + (b * w1 * h) * f, state, start)
    return jax.lax.fori_loop(1, s, stage, (first, (b, b), (y1, state)))[2][0]
