"""Everything the wide engine knows about the rows solved so far (THEORY section 4).

T is the capacity in time points, S the number of samples, K the number of noise modes.  Rows not solved yet are
zero, so that sums over all T rows run over the past alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dmft.twotime.noise import Samples
from dmft.wide.history import History, empty_history


class Couplings(NamedTuple):
    """The model's numbers as jax scalars, so that a sweep over them compiles once."""

    alpha: Float[Array, ""]
    epsilon: Float[Array, ""]
    kappa: Float[Array, ""]
    weight_decay: Float[Array, ""]
    seed_overlap: Float[Array, ""]  # 1/D for a random initialisation, 0 for a planted one

    @property
    def k(self) -> Float[Array, ""]:
        """k = 1/(alpha kappa), the gain of a sample's own field on the common direction."""
        return 1.0 / (self.alpha * self.kappa)

    @property
    def e(self) -> Float[Array, ""]:
        """e = epsilon/(alpha kappa), the same for the outlier and the bulk."""
        return self.epsilon / (self.alpha * self.kappa)


class Row(NamedTuple):
    """Row n of all kernels: what the self-consistency of one time point determines."""

    response: Float[Array, "3 T"]  # R_c(n, :), R_d(n, :), R_r(n, :)
    factor: Float[Array, "2 K"]  # F_c(n, :), F_d(n, :), F F^T = Gamma: E[g g], E[q Delta q Delta]
    force_bulk: Float[Array, " T"]  # Gamma_r(n, :) = E[Delta(n) Delta(:) B(n, :)]
    target_overlap: Float[Array, ""]  # b(n)
    response_initial: Float[Array, ""]  # R_0(n), response of the bulk to its initial value

    @property
    def response_common(self) -> Float[Array, " T"]:
        """R_c(n, :)."""
        return self.response[0]

    @property
    def response_outlier(self) -> Float[Array, " T"]:
        """R_d(n, :)."""
        return self.response[1]

    @property
    def response_bulk(self) -> Float[Array, " T"]:
        """R_r(n, :)."""
        return self.response[2]


class Kernels(NamedTuple):
    """The rows of `Row` stacked, the bulk correlation, and the mean changes of the forces."""

    response: Float[Array, "T 3 T"]
    factor: Float[Array, "T 2 K"]
    force_bulk: Float[Array, "T T"]
    target_overlap: Float[Array, " T"]
    response_initial: Float[Array, " T"]
    correlation_bulk: Float[Array, "T T"]  # C_r
    change: Float[Array, "T 3 T"]  # E[X] under a force on c, E[Y] under one on d, E[Delta G]
    force_correlation: Float[Array, "T T"]  # E[Delta(n) B(n, :)]

    @property
    def response_bulk(self) -> Float[Array, "T T"]:
        """R_r."""
        return self.response[:, 2]

    def rows(self, function: Any) -> Row:
        """`function` of each kernel that has a row in `Row`."""
        return Row(**{name: function(getattr(self, name)) for name in Row._fields})


class Seeding(NamedTuple):
    """The linear growth of the target coordinate of a random initialisation (THEORY section 5)."""

    response: Float[Array, "T T"]  # R_beta
    noise: Float[Array, "T T"]  # Sigma(n, m) = (1/kappa) E[u^2 Delta(n) Delta(m) B(n, m)]
    response_initial: Float[Array, " T"]  # R_beta0
    linear_overlap: Float[Array, " T"]  # b_lin = sqrt(C_beta / D)
    source: Float[Array, " T"]  # what it adds to b(n) in row n


class Moving(NamedTuple):
    """What of row n descent moves; the rest of the row follows from the samples."""

    response: Float[Array, "3 T"]
    target_overlap: Float[Array, ""]
    response_initial: Float[Array, ""]


class Grown(NamedTuple):
    """What of a row of `Seeding` it moves."""

    response: Float[Array, " T"]
    response_initial: Float[Array, ""]
    linear_overlap: Float[Array, ""]


class Velocity(NamedTuple):
    """U(n) of equation 13.1, row n alone; 0 without momentum."""

    rows: Moving
    seeding: Grown


class Fields(NamedTuple):
    """Per-sample processes, one row a time point."""

    p: Float[Array, "T S"]
    q: Float[Array, "T S"]
    residual: Float[Array, "T S"]  # Delta
    variance: Float[Array, "T S"]  # V = B(t, t)
    force_common: Float[Array, "T S"]  # g = (1 + epsilon p) Delta
    force_outlier: Float[Array, "T S"]  # q Delta
    target_residual: Float[Array, "T S"]  # dDelta/du
    target_common: Float[Array, "T S"]  # d[(1 + epsilon p) Delta]/du
    target_outlier: Float[Array, "T S"]  # d[q Delta]/du


class Bases(NamedTuple):
    """Orthonormal bases of the forces in sample space, and how many of their vectors are in use (the rest are 0)."""

    vectors: Float[Array, "2 K S"]  # of c, of d
    modes: Int[Array, " 2"]


class Labels(NamedTuple):
    """What equation (4.1) needs of each sample beside its fields: (S,) each."""

    target: Float[Array, " S"]  # y, label noise included
    initial_output: Float[Array, " S"]  # f(t=0) if centred, else 0
    initial_slope: Float[Array, ""]  # (df(0)/du)/u if centred, else 0


class State(NamedTuple):
    """One replica: samples drawn at the start, and all rows solved so far."""

    samples: Samples
    labels: Labels
    kernels: Kernels
    seeding: Seeding
    fields: Fields
    bases: Bases
    history: History
    rounds: Array  # (T,) inner iterations spent on each row
    mismatch: Float[Array, " T"]  # (T,) remaining relative residual of each row
    velocity: Velocity
    guide: Row  # the rows of another replica on the same grid, (T, ...) each: the first guess, if not 0


def put(rows: Any, n: Array, **values: Any) -> Any:
    """Write `values` into row n of the arrays of these names."""

    def written(array: Array, value: Any) -> Array:
        return jax.lax.dynamic_update_index_in_dim(array, jnp.asarray(value, array.dtype), n, 0)

    return rows._replace(**{name: written(getattr(rows, name), value) for name, value in values.items()})


def put_next(rows: Any, n: Array, **values: Any) -> Any:
    """Write `values` into row n + 1 of the arrays of these names; the last row has no successor."""
    last = n + 1 == len(next(iter(rows)))
    at = jnp.where(last, 0, n + 1)
    return put(rows, at, **{name: jnp.where(last, getattr(rows, name)[at], new) for name, new in values.items()})


def empty_state(samples: Samples, labels: Labels, capacity: int, zeros: Any) -> State:
    """A state with no rows solved and room for `capacity` = T of them, made by `zeros(*shape)`."""
    (modes, count), t = samples.common.shape, capacity
    return State(
        samples=samples,
        labels=labels,
        kernels=Kernels(
            response=zeros(t, 3, t),
            factor=zeros(t, 2, modes),
            force_bulk=zeros(t, t),
            target_overlap=zeros(t),
            response_initial=zeros(t),
            correlation_bulk=zeros(t, t),
            change=zeros(t, 3, t),
            force_correlation=zeros(t, t),
        ),
        seeding=Seeding(zeros(t, t), zeros(t, t), zeros(t), zeros(t), zeros(t)),
        fields=Fields(*(zeros(t, count) for _ in Fields._fields)),
        bases=Bases(zeros(2, modes, count), np.zeros(2, np.int32)),  # type: ignore[arg-type]
        history=empty_history(t, count, zeros),
        rounds=np.zeros(t, np.int32),  # type: ignore[arg-type]
        mismatch=zeros(t),
        velocity=Velocity(Moving(zeros(3, t), zeros(), zeros()), Grown(zeros(t), zeros(), zeros())),
        guide=Row(zeros(t, 3, t), zeros(t, 2, modes), zeros(t, t), zeros(t), zeros(t)),
    )
