"""What every sample was at the rows before: arrays over pairs of times m <= j, in blocks of rows.

A block has the rows from where the block before ended up to twice as many, and the columns up to its last row: two
thirds of a square. A sum over the past runs over the rows that are solved and no others, so that room for more of them
costs next to nothing, and one compiled program serves all numbers of rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

#: Rows of the first block.
FIRST = 16


class BathBlock(NamedTuple):
    """Rows j of the bath's resolvent H, [row, column, sample], where nothing else is asked for."""

    bath: Float[Array, "J M S"]

    @property
    def first(self) -> int:
        """The row that this block begins with."""
        rows, columns, _ = self.bath.shape
        return columns - rows


class Block(NamedTuple):
    """Rows j of the bath's resolvent H, and of the tangents under a force on c or d: [row, c or d, column, sample].

    Of the directions beyond the first, rows j of the answer G_d of each kind of them (THEORY section 15).
    """

    bath: Float[Array, "J M S"]  # H
    residual: Float[Array, "J cd M S"]  # D = dDelta
    common: Float[Array, "J cd M S"]  # X = d[(1 + epsilon p) Delta]
    outlier: Float[Array, "J cd M S"]  # Y = d[q Delta], q of the first direction
    further: Float[Array, "J F M S"]  # G_d

    @property
    def own(self) -> Float[Array, "J O M S"]:
        """D of the forces on the directions beyond the first."""
        return self.residual[:, 2:]

    @property
    def first(self) -> int:
        """The row that this block begins with."""
        rows, columns, _ = self.bath.shape
        return columns - rows


#: All rows of a replica, or of a data set.
History = tuple[Block, ...] | tuple[BathBlock, ...]


def empty_history(capacity: int, samples: int, zeros: Any, *, sources: int = 0, further: int = 0) -> Any:
    """Blocks with room for `capacity` rows, made by `zeros(*shape)`.

    Args:
        sources: number of forces that tangents are kept of; 0: the bath alone.
        further: F.
    """
    blocks, first = [], 0
    while first < capacity:
        stop = min(max(FIRST, 2 * first), capacity)
        rows, shape = stop - first, (stop, samples)
        bath = zeros(rows, *shape)
        d, x, y = (zeros(rows, sources, *shape) for _ in range(3))
        blocks.append(Block(bath, d, x, y, zeros(rows, further, *shape)) if sources else BathBlock(bath))
        first = stop
    return tuple(blocks)


def past_sums(
    history: History, n: Array, weights: dict[str, Float[Array, "T ..."]]
) -> dict[str, Float[Array, "... T S"]]:
    """sum_{j<n} weights_j A(j, ...) of the arrays A of these names; a weight is one number, or one for each sample."""
    sums = {name: jnp.zeros(getattr(history[-1], name).shape[1:], history[-1].bath.dtype) for name in weights}
    beyond: list[Any] = []
    for block in reversed(history):  # the columns of the blocks before are the first of this one
        rest = {name: total[..., block.bath.shape[1] :, :] for name, total in sums.items()}
        beyond = [rest, *beyond]

        def add(j: Array, sums: Any, block: Any = block) -> Any:
            return {
                name: total + weights[name][block.first + j] * getattr(block, name)[j] for name, total in sums.items()
            }

        sums = {name: total[..., : block.bath.shape[1], :] for name, total in sums.items()}
        sums = jax.lax.fori_loop(0, jnp.clip(n - block.first, 0, len(block.bath)), add, sums)
    return {name: jnp.concatenate([total, *(rest[name] for rest in beyond)], axis=-2) for name, total in sums.items()}


def bath_sums(history: History, n: Array, weights: Float[Array, "T S"]) -> Float[Array, "T S"]:
    """sum_{l<n} H(j, l) weights_l at every row j."""

    def of(array: Array) -> Array:
        def add(column: Array, total: Array) -> Array:
            return total + array[:, column] * weights[column]

        return jax.lax.fori_loop(0, jnp.minimum(n, array.shape[1]), add, jnp.zeros_like(array[:, 0]))

    return jnp.concatenate([of(block.bath) for block in history])


def with_row(history: History, n: Array, rows: Any) -> Any:
    """The history with row n, whose arrays have all columns and no axis of rows."""

    def put(block: Any) -> Any:
        at = jnp.clip(n - block.first, 0, len(block.bath) - 1)
        here = n - block.first == at

        def written(array: Array, row: Array) -> Array:
            row = jnp.where(here, row[..., : array.shape[-2], :], array[at])
            return jax.lax.dynamic_update_index_in_dim(array, row, at, 0)

        return jax.tree.map(written, block, rows)

    return tuple(put(block) for block in history)
