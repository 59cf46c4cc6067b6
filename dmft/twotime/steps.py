"""The grid's multistep weights as jax arrays, for compiled rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmft.twotime.grid import Grid


class Steps(NamedTuple):
    """Multistep weights of the grid (see `dmft.twotime.grid`): h_n and a_{n,j}."""

    weights: Float[Array, " T"]
    past: Float[Array, "T J"]

    def history(self, rows: Array, n: Array) -> Array:
        """sum_j a_{n,j} rows[n-1-j], the multistep history of row n >= 1."""
        count = self.past.shape[1]
        indices = jnp.maximum(n - 1 - jnp.arange(count), 0)
        return jnp.tensordot(self.past[n], rows[indices], axes=1)


def multistep(grid: Grid, capacity: int, dtype: Any) -> Steps:
    """The grid's weights for `capacity` rows; rows beyond the grid get weight 0."""
    rows = min(capacity, grid.size)
    weights, past = np.zeros(capacity), np.zeros((capacity, grid.past.shape[1]))
    weights[:rows], past[:rows] = grid.weights[:rows], grid.past[:rows]
    return Steps(np.asarray(weights, dtype), np.asarray(past, dtype))  # type: ignore[arg-type]
