"""The grid's multistep weights as jax arrays, for compiled rows, and one step of a row with weight decay.

Every row X(n) of an order parameter obeys d_t X = -F - lambda X in the grid's linear rule (THEORY section 4.7).  An
explicit step takes F and the decay from the row before, an implicit one from row n itself.
"""

# jax gives `device` of its array functions no type, nor the structure of a tree
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import DTypeLike

from dmft.twotime.grid import Grid
from dmft.twotime.momentum import glided


class Glide(NamedTuple):
    """Momentum and schedule of explicit steps (see `dmft.twotime.momentum`): push_n, glide_n and mu."""

    push: Float[Array, " T"]
    glide: Float[Array, " T"]
    momentum: Float[Array, ""]


class Steps(NamedTuple):
    """Multistep weights of the grid (see `dmft.twotime.grid`): h_n and a_{n,j}."""

    weights: Float[Array, " T"]
    past: Float[Array, "T J"]
    glide: Glide | None = None

    def history(self, rows: Array, n: Array) -> Array:
        """sum_j a_{n,j} rows[n-1-j], the multistep history of row n >= 1."""
        count = self.past.shape[1]
        indices = jnp.maximum(n - 1 - jnp.arange(count), 0)
        return jnp.tensordot(self.past[n], rows[indices], axes=1)

    def explicit(self, row: Array, n: Array, force: Array, decay: Array) -> Array:
        """Row n + 1 of gradient descent from row n: (1 - h_n lambda) X(n) - h_n F(n)."""
        return (1 - self.weights[n] * decay) * row - self.weights[n] * force

    def gliding(self, n: Array, before: Any, plain: Any, velocity: Any) -> tuple[Any, Any]:
        """Row n + 1 and U(n + 1) of equation 13.1 from X(n), X(n) - dt G(n) and U(n), trees of one form."""
        if self.glide is None:
            return plain, velocity
        push, glide, mu = self.glide.push[n], self.glide.glide[n], self.glide.momentum
        pull = jax.tree.map(jnp.subtract, before, plain)

        def step(x: Array, g: Array, u: Array) -> tuple[Array, Array]:
            return glided(x, g, u, push, glide, mu)

        moved = jax.tree.map(step, before, pull, velocity)
        rows, pair = (cast("Any", jax.tree.structure(tree)) for tree in (before, (0, 0)))
        return jax.tree.transpose(rows, pair, moved)

    def implicit(self, past: Array, n: Array, force: Array, decay: Array, gain: Array | float = 0.0) -> Array:
        """Row n of the flow from its history, where F(n) + gain X(n) is the force: (history - h_n F)/(1 + ...)."""
        return (past - self.weights[n] * force) / (1 + self.weights[n] * (decay + gain))


def multistep(grid: Grid, capacity: int, dtype: DTypeLike) -> Steps:
    """The grid's weights for `capacity` rows; rows beyond the grid get weight 0, and row 0 is its own past."""
    rows = min(capacity, grid.size)
    weights, past = np.zeros(capacity), np.zeros((capacity, grid.past.shape[1]))
    weights[:rows], past[:rows] = grid.weights[:rows], grid.past[:rows]
    past[0, 0] = 1.0
    rule, glide = grid.momentum, None
    if rule is not None:
        # the last row has no step
        by_row = (np.pad(x[: rows - 1], (0, capacity - min(rows - 1, len(x)))) for x in (rule.push, rule.glide))
        glide = Glide(*(_as_jax(x, dtype) for x in (*by_row, rule.momentum)))
    return Steps(_as_jax(weights, dtype), _as_jax(past, dtype), glide)


def _as_jax(values: np.ndarray | float, dtype: DTypeLike) -> Array:
    """Still NumPy's, which compiled work takes like its own."""
    return cast("Array", np.asarray(values, dtype))


def next_row(
    grid: Grid, rows: np.ndarray, n: int, force: np.ndarray, decay: float, source: np.ndarray | float = 0.0
) -> np.ndarray:
    """Row n >= 1 of a given force, in NumPy, from `rows` before n.

    Args:
        rows: X, time first.
        force: F at all times, time first; taken at n - 1 by explicit steps, at n by implicit ones.
        decay: lambda.
        source: added in row n beside the force.
    """
    past = grid.history(rows, n)
    if grid.momentum is not None:
        return grid.momentum.step(rows, force, n, float(grid.weights[0]), decay) + source
    if grid.explicit:
        return (1 - grid.weights[n - 1] * decay) * past - grid.weights[n - 1] * force[n - 1] + source
    return (past - grid.weights[n] * force[n] + source) / (1 + grid.weights[n] * decay)
