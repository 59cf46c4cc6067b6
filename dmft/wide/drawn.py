"""What is known of one data set that is drawn: the rows solved so far (see `dmft.wide.dataset`).

T is the capacity in time points, P the number of samples, M the number of modes, as in `dmft.wide.state`. In a data set
no two of the K directions are alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Float

from dmft.twotime.noise import Samples
from dmft.wide.history import BathBlock
from dmft.wide.state import Bases, Kernels, Labels, Row, Seeding, State


class DrawRow(NamedTuple):
    """Row n of what determines the samples, of c and of d, and of the bulk."""

    components: Float[Array, "cd M"]  # N(n, :)
    factor: Float[Array, "cd M"]  # E[g(n) e_m]
    response_bulk: Float[Array, " T"]  # R_r(n, :)
    force_bulk: Float[Array, " T"]  # Gamma_r(n, :)
    target_overlap: Float[Array, " K"]  # b(n)
    response_initial: Float[Array, ""]  # R_0(n)


class DrawKernels(NamedTuple):
    """The rows of `DrawRow` stacked, and the bulk correlation."""

    components: Float[Array, "T cd M"]
    factor: Float[Array, "T cd M"]
    response_bulk: Float[Array, "T T"]
    force_bulk: Float[Array, "T T"]
    target_overlap: Float[Array, "T K"]
    response_initial: Float[Array, " T"]
    correlation_bulk: Float[Array, "T T"]  # C_r

    def rows(self, function: Callable[[Array], Array]) -> DrawRow:
        """`function` of each kernel that has a row in `DrawRow`."""
        return DrawRow(**{name: function(getattr(self, name)) for name in DrawRow._fields})


class DrawFields(NamedTuple):
    """Per-sample processes, one row a time point."""

    residual: Float[Array, "T S"]  # Delta


class Draw(NamedTuple):
    """One data set: its samples, what of its matrix X is revealed, and all rows solved so far."""

    samples: Samples
    labels: Labels
    lengths: Float[Array, "cd M"]  # t_m
    features: Float[Array, "cd M S"]  # X v_m; z_m where v_m is not known yet
    kernels: DrawKernels
    seeding: tuple[Seeding, ...]
    fields: DrawFields
    bases: Bases  # e_m
    history: tuple[BathBlock, ...]
    rounds: Array  # (T,) inner iterations spent on each row
    mismatch: Float[Array, " T"]  # (T,) remaining relative residual of each row


#: The bulk and the averages over samples are the same in the theory and in a data set.
AnyRow = Row | DrawRow
AnyKernels = Kernels | DrawKernels
AnyState = State | Draw
