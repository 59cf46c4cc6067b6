"""Anderson acceleration of a fixed-point map, as one compiled loop."""

# jax gives `device` of its array functions no type, nor the results of what it compiles
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from dmft.twotime.engine import Iteration

#: Growth of the residual over the best one at which the iteration restarts.
ASTRAY = 1e2
#: Share of a difference, in units of rounding, that must be new for it to be kept.
CUTOFF = 1e4
#: Part of the largest entry of all times below which an entry need not be known.
NEGLIGIBLE = 1e-4


class FixedPoint(NamedTuple):
    """Result: the image of the best x, what is seen at x, the rounds spent, and max |f(x) - x| / scale at x.

    Where the tolerance was not reached, what is seen is that at the image.
    """

    value: Float[Array, " n"]
    seen: Any
    rounds: Array
    mismatch: Array


def projection(differences: Float[Array, "depth n"], r: Float[Array, " n"], newest: Array) -> Float[Array, " depth"]:
    """Weights w that minimise |r - sum_j w_j differences_j|, by QR from the newest difference to the oldest.

    Normal equations would square the condition number: at late times that costs the convergence.  A difference that is
    a combination of newer ones, but for CUTOFF roundings, gets no weight.
    """
    depth, size = len(differences), cast("Array", jnp.linalg.norm(differences, axis=1))
    scale = jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1.0), 0.0)
    order = (newest - jnp.arange(depth)) % depth
    units = jnp.pad((scale[:, None] * differences)[order], ((0, 0), (0, max(0, depth - len(r)))))
    basis, triangle = jnp.linalg.qr(units.T)
    new = jnp.abs(triangle.diagonal()) > CUTOFF * np.finfo(r.dtype).eps
    triangle = jnp.where(new[:, None], triangle, jnp.eye(depth, dtype=r.dtype))
    weights = solve_triangular(triangle, jnp.where(new, r @ basis[: len(r)], 0.0))
    return jnp.zeros_like(size).at[order].set(weights) * scale


def solve_row(
    function: Callable[[Any], tuple[Any, Any]], guess: Any, iteration: Iteration, known: Any
) -> tuple[Any, FixedPoint]:
    """`anderson` for a row that is a tree of arrays, each measured in its largest entry: the row, and how it was found.

    Args:
        function: the row that a proposed row implies, and what is seen there.
        known: all rows, time first; what has fallen below NEGLIGIBLE of its largest is measured in that. (Where the
            training set is learnt exactly, forces fall to rounding errors, and have no fixed point in their own size.)
    """
    start, unravel = ravel_pytree(guess)

    def flat(x: Array) -> tuple[Array, Any]:
        row, seen = function(unravel(x))
        return ravel_pytree(row)[0], seen

    solution = anderson(
        flat,
        start,
        ravel_pytree(jax.tree.map(_block_scale, guess, known))[0],
        tolerance=iteration.tolerance,
        depth=iteration.depth,
        max_rounds=iteration.max_rounds,
    )
    return unravel(solution.value), solution


def _block_scale(block: Array, known: Array) -> Array:
    """Every entry of a block is measured in the block's largest one, or in NEGLIGIBLE of the largest of all times."""
    size, largest = (jnp.max(jnp.abs(array), initial=0.0) for array in (block, known))
    size = jnp.maximum(size, NEGLIGIBLE * largest)
    return jnp.broadcast_to(jnp.where(size > 0, size, 1.0), jnp.shape(block))


def anderson(
    function: Callable[[Float[Array, " n"]], tuple[Float[Array, " n"], Any]],
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
    a better one is found; one that is not finite takes the differences with it.  If the rounds run out, f is evaluated
    once more, at the image of the best iterate, for what is seen there.

    Args:
        function: f(x), and arrays that belong to x and are returned with the result.
        start: first guess.
        scale: positive; sizes in which the residual is measured.
        tolerance: stop once max |f(x) - x| / scale is below it.
        depth: number of differences kept.
        max_rounds: evaluations of f at most.
    """
    dtype = start.dtype

    def body(carry: _Carry) -> _Carry:
        image, seen = function(carry.x * scale)
        r = image / scale - carry.x
        mismatch = jnp.max(jnp.abs(r))
        astray = ~(mismatch <= ASTRAY * carry.best_mismatch)  # also if it is not a number
        finite = jnp.isfinite(mismatch)
        slot = carry.rounds % depth
        here = ((jnp.arange(depth) == slot) & (carry.rounds > 0))[:, None]
        steps = jnp.where(finite, jnp.where(here, carry.x - carry.last_x, carry.steps), 0.0)
        differences = jnp.where(finite, jnp.where(here, r - carry.last_r, carry.differences), 0.0)
        mixed = carry.x + r - projection(differences, jnp.where(finite, r, 0.0), slot) @ (steps + differences)
        better = (mismatch < carry.best_mismatch) & ~carry.last
        best_x, best_r = jnp.where(better, carry.x, carry.best_x), jnp.where(better, r, carry.best_r)
        best_mismatch = jnp.where(better, mismatch, carry.best_mismatch)
        rounds = carry.rounds + ~carry.last
        last, reached = rounds >= max_rounds, mismatch <= tolerance
        following = jnp.where(astray, carry.best_x + carry.damping * carry.best_r, mixed)
        following = jnp.where(last, best_x + best_r, following)
        return _Carry(
            x=jnp.where(carry.last, carry.x, jnp.where(reached, carry.x + r, following)),
            last_x=jnp.where(astray, carry.best_x, carry.x),
            last_r=jnp.where(astray, carry.best_r, r),
            steps=steps,
            differences=differences,
            best_x=best_x,
            best_r=best_r,
            best_mismatch=best_mismatch,
            damping=jnp.where(astray, 0.5 * carry.damping, jnp.where(better, 0.5, carry.damping)),
            rounds=rounds,
            seen=seen,
            last=last,
            done=carry.last | reached,
        )

    x = start / scale
    store, zero = jnp.zeros((depth, x.shape[0]), dtype), jnp.zeros_like(x)
    infinite = jnp.asarray(np.finfo(dtype).max / 1e4, dtype)
    nothing = jax.tree.map(_zeros, jax.eval_shape(function, start)[1])
    half, no = jnp.asarray(0.5, dtype), jnp.asarray(False)
    carry = _Carry(x, x, zero, store, store, x, zero, infinite, half, jnp.int32(0), nothing, no, no)
    final = jax.lax.while_loop(lambda carry: ~carry.done, body, carry)
    return FixedPoint(final.x * scale, final.seen, final.rounds, final.best_mismatch)


def _zeros(like: jax.ShapeDtypeStruct) -> Array:
    return jnp.zeros(like.shape, like.dtype)


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
    seen: Any
    last: Array  # x is the image of the best one, and the result
    done: Array
