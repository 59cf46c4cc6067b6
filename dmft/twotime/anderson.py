"""Anderson acceleration of a fixed-point map, as one compiled loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

#: Growth of the residual over the best one at which the iteration restarts.
ASTRAY = 1e2


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
    """Solve x = f(x) by Anderson mixing (type II, mixing 1), restarted from the best iterate where it goes astray.

    Minimises |r_k - sum_j c_j (r_{j+1} - r_j)| over the last `depth` differences of residuals r = f(x) - x.  An
    iterate ASTRAY times worse than the best one is left for a damped step from the best, half as long each time until
    a better one is found; one that is not finite takes the differences with it.

    Args:
        function: f.
        start: first guess.
        scale: positive; sizes in which the residual is measured.
        tolerance: stop once max |f(x) - x| / scale is below it.
        depth: number of differences kept.
        max_rounds: evaluations of f at most.
    """
    dtype = start.dtype
    # normal equations would square the condition number: at late times that costs the convergence
    cutoff = 1e4 * float(jnp.finfo(dtype).eps)

    def body(carry: _Carry) -> _Carry:
        image = function(carry.x * scale) / scale
        r = image - carry.x
        mismatch = jnp.max(jnp.abs(r))
        astray = ~(mismatch <= ASTRAY * carry.best_mismatch)  # also if it is not a number
        finite = jnp.isfinite(mismatch)
        slot = carry.rounds % depth
        first = carry.rounds == 0
        steps = carry.steps.at[slot].set(jnp.where(first, 0.0, carry.x - carry.last_x))
        differences = carry.differences.at[slot].set(jnp.where(first, 0.0, r - carry.last_r))
        size = jnp.linalg.norm(differences, axis=1)
        unit = differences / jnp.where(size > 0, size, 1.0)[:, None]
        unit = jnp.where(finite, unit, 0.0)
        weights = jnp.linalg.lstsq(unit.T, jnp.where(finite, r, 0.0), rcond=cutoff)[0] / jnp.where(size > 0, size, 1.0)
        mixed = carry.x + r - weights @ (steps + differences)
        better = mismatch < carry.best_mismatch
        best_x, best_r = jnp.where(better, carry.x, carry.best_x), jnp.where(better, r, carry.best_r)
        return _Carry(
            x=jnp.where(astray, carry.best_x + carry.damping * carry.best_r, mixed),
            last_x=jnp.where(astray, carry.best_x, carry.x),
            last_r=jnp.where(astray, carry.best_r, r),
            steps=jnp.where(finite, steps, 0.0),
            differences=jnp.where(finite, differences, 0.0),
            best_x=best_x,
            best_r=best_r,
            best_mismatch=jnp.where(better, mismatch, carry.best_mismatch),
            damping=jnp.where(astray, 0.5 * carry.damping, jnp.where(better, 0.5, carry.damping)),
            rounds=carry.rounds + 1,
        )

    def unfinished(carry: _Carry) -> Array:
        return (carry.rounds < max_rounds) & ~(carry.best_mismatch <= tolerance)

    x = start / scale
    store, zero = jnp.zeros((depth, x.shape[0]), dtype), jnp.zeros_like(x)
    infinite = jnp.asarray(jnp.finfo(dtype).max / 1e4, dtype)
    carry = _Carry(x, x, zero, store, store, x, zero, infinite, jnp.asarray(0.5, dtype), jnp.int32(0))
    final = jax.lax.while_loop(unfinished, body, carry)
    return FixedPoint((final.best_x + final.best_r) * scale, final.rounds, final.best_mismatch)


class _Carry(NamedTuple):
    x: Array
    last_x: Array
    last_r: Array
    steps: Array
    differences: Array
    best_x: Array
    best_r: Array
    best_mismatch: Array
    damping: Array
    rounds: Array
