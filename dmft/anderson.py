"""Anderson acceleration of a fixed-point map, as one compiled loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class FixedPoint(NamedTuple):
    """Result: the last image of the map, the rounds spent, and max |f(x) - x| / scale at the end."""

    value: Float[Array, " n"]
    rounds: Array
    mismatch: Array


def anderson(
    function: Callable[[Float[Array, " n"]], Float[Array, " n"]],
    start: Float[Array, " n"],
    scale: Float[Array, " n"],
    *,
    tolerance: float,
    depth: int,
    max_rounds: int,
) -> FixedPoint:
    """Solve x = f(x) by Anderson mixing (type II, mixing 1).

    Minimises |r_k - sum_j c_j (r_{j+1} - r_j)| over the last `depth` differences of residuals r = f(x) - x.

    Args:
        function: f.
        start: first guess.
        scale: positive; sizes in which the residual is measured.
        tolerance: stop once max |f(x) - x| / scale is below it.
        depth: number of differences kept.
        max_rounds: evaluations of f at most.
    """
    dtype = start.dtype
    regularisation = 64 * float(jnp.finfo(dtype).eps)

    def body(carry):
        x, previous_x, previous_r, steps, differences, rounds, _, _ = carry
        image = function(x * scale) / scale
        r = image - x
        slot = (rounds - 1) % depth
        keep = rounds > 0
        steps = jnp.where(keep, steps.at[slot].set(x - previous_x), steps)
        differences = jnp.where(keep, differences.at[slot].set(r - previous_r), differences)
        size = jnp.linalg.norm(differences, axis=1)
        unit = differences / jnp.where(size > 0, size, 1.0)[:, None]
        gram = unit @ unit.T + jnp.diag(jnp.where(size > 0, regularisation, 1.0))
        weights = jnp.linalg.solve(gram, unit @ r) / jnp.where(size > 0, size, 1.0)
        weights = jnp.where(jnp.all(jnp.isfinite(weights)), weights, 0.0)
        update = r - weights @ (steps + differences)
        return x + update, x, r, steps, differences, rounds + 1, jnp.max(jnp.abs(r)), image

    def unfinished(carry):
        rounds, mismatch = carry[5], carry[6]
        return (rounds < max_rounds) & ~(mismatch <= tolerance) & jnp.all(jnp.isfinite(carry[0]))

    n = start.shape[0]
    x = start / scale
    store = jnp.zeros((depth, n), dtype)
    carry = (x, x, jnp.zeros_like(x), store, store, jnp.int32(0), jnp.asarray(jnp.inf, dtype), x)
    final = jax.lax.while_loop(unfinished, body, carry)
    return FixedPoint(final[7] * scale, final[5], final[6])
