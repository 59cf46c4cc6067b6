"""Everything the wide engine knows about the rows solved so far (THEORY section 4).

T is the capacity in time points, S the number of samples, M the number of noise modes, K that of the target's
directions.  Directions that are alike share their kernels (THEORY section 15): there are G = 1 of them, or else G = K.
Axes cd are of c and of each kind of d, 1 + G long, and cdr of r after them; L is K - 1, O is G - 1.
Rows not solved yet are zero, so that sums over all T rows run over the past alone.
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
    seed_overlap: Float[Array, " G"]  # 1/D for a random initialisation, 0 for a planted one

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

    response: Float[Array, "cdr T"]  # R_c(n, :), R_d(n, :) of each direction, R_r(n, :)
    factor: Float[Array, "cd M"]  # F_c(n, :), F_d(n, :), F F^T = Gamma: E[g g], E[q Delta q Delta]
    force_bulk: Float[Array, " T"]  # Gamma_r(n, :) = E[Delta(n) Delta(:) B(n, :)]
    target_overlap: Float[Array, " G"]  # b(n)
    response_initial: Float[Array, ""]  # R_0(n), response of the bulk to its initial value

    @property
    def response_common(self) -> Float[Array, " T"]:
        """R_c(n, :)."""
        return self.response[0]

    @property
    def response_outlier(self) -> Float[Array, "G T"]:
        """R_d(n, :)."""
        return self.response[1:-1]

    @property
    def response_bulk(self) -> Float[Array, " T"]:
        """R_r(n, :)."""
        return self.response[-1]


class Kernels(NamedTuple):
    """The rows of `Row` stacked, the bulk correlation, and the mean changes of the forces."""

    response: Float[Array, "T cdr T"]
    factor: Float[Array, "T cd M"]
    force_bulk: Float[Array, "T T"]
    target_overlap: Float[Array, "T G"]
    response_initial: Float[Array, " T"]
    correlation_bulk: Float[Array, "T T"]  # C_r
    change: Float[Array, "T cdr T"]  # E[X] under a force on c, E[Y] under one on d, E[Delta G]
    force_correlation: Float[Array, "T T"]  # E[Delta(n) B(n, :)]

    @property
    def response_bulk(self) -> Float[Array, "T T"]:
        """R_r."""
        return self.response[:, -1]

    def rows(self, function: Any) -> Row:
        """`function` of each kernel that has a row in `Row`."""
        return Row(**{name: function(getattr(self, name)) for name in Row._fields})


class Seeding(NamedTuple):
    """The linear growth of one target coordinate of a random initialisation (THEORY section 5)."""

    response: Float[Array, "T T"]  # R_beta
    noise: Float[Array, "T T"]  # Sigma(n, m) = (1/kappa) E[u^2 Delta(n) Delta(m) B(n, m)]
    response_initial: Float[Array, " T"]  # R_beta0
    linear_overlap: Float[Array, " T"]  # b_lin = sqrt(C_beta / D)
    source: Float[Array, " T"]  # what it adds to b(n) in row n


class Moving(NamedTuple):
    """What of row n descent moves; the rest of the row follows from the samples."""

    response: Float[Array, "cdr T"]
    target_overlap: Float[Array, " G"]
    response_initial: Float[Array, ""]


class Grown(NamedTuple):
    """What of a row of `Seeding` it moves."""

    response: Float[Array, " T"]
    response_initial: Float[Array, ""]
    linear_overlap: Float[Array, ""]


class Velocity(NamedTuple):
    """U(n) of equation 13.1, row n alone; 0 without momentum."""

    rows: Moving
    seeding: tuple[Grown | None, ...]  # of each direction, G


class Fields(NamedTuple):
    """Per-sample processes, one row a time point."""

    p: Float[Array, "T S"]
    q: Float[Array, "T K S"]
    residual: Float[Array, "T S"]  # Delta
    variance: Float[Array, "T S"]  # V = B(t, t)
    force_common: Float[Array, "T S"]  # g = (1 + epsilon p) Delta
    force_outlier: Float[Array, "T K S"]  # q Delta
    target_residual: Float[Array, "T S"]  # dDelta/du, u of the first direction
    target_common: Float[Array, "T S"]  # d[(1 + epsilon p) Delta]/du
    target_outlier: Float[Array, "T S"]  # d[q Delta]/du


class Bases(NamedTuple):
    """Orthonormal bases of the forces in sample space, and how many of their vectors are in use (the rest are 0)."""

    vectors: Float[Array, "cd M S"]  # of c, of d
    modes: Int[Array, " cd"]


class Labels(NamedTuple):
    """What equation (4.1) needs of each sample beside its fields: (S,) each."""

    target: Float[Array, " S"]  # y, label noise included
    initial_output: Float[Array, " S"]  # f(t=0) if centred, else 0
    slope: Float[Array, " S"]  # d(y + f(0))/du of the first direction


class State(NamedTuple):
    """One replica: samples drawn at the start, and all rows solved so far."""

    samples: Samples
    labels: Labels
    kernels: Kernels
    seeding: tuple[Seeding, ...]  # of each direction, G
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


def put_rows(each: tuple[Any, ...], n: Array, rows: tuple[Any, ...]) -> tuple[Any, ...]:
    """`put` for each of several."""
    return tuple(put(one, n, **row._asdict()) for one, row in zip(each, rows, strict=True))


def put_next(rows: Any, n: Array, **values: Any) -> Any:
    """Write `values` into row n + 1 of the arrays of these names; the last row has no successor."""
    last = n + 1 == len(next(iter(rows)))
    at = jnp.where(last, 0, n + 1)
    return put(rows, at, **{name: jnp.where(last, getattr(rows, name)[at], new) for name, new in values.items()})


def empty_state(samples: Samples, labels: Labels, capacity: int, kinds: int, zeros: Any) -> State:
    """A state with no rows solved and room for `capacity` = T of them, made by `zeros(*shape)`; `kinds` = G."""
    (modes, count), directions, t, g = samples.common.shape, len(samples.u), capacity, kinds
    fields = Fields(*(zeros(t, count) for _ in Fields._fields))
    return State(
        samples=samples,
        labels=labels,
        kernels=Kernels(
            response=zeros(t, 2 + g, t),
            factor=zeros(t, 1 + g, modes),
            force_bulk=zeros(t, t),
            target_overlap=zeros(t, g),
            response_initial=zeros(t),
            correlation_bulk=zeros(t, t),
            change=zeros(t, 2 + g, t),
            force_correlation=zeros(t, t),
        ),
        seeding=tuple(Seeding(zeros(t, t), zeros(t, t), zeros(t), zeros(t), zeros(t)) for _ in range(g)),
        fields=fields._replace(q=zeros(t, directions, count), force_outlier=zeros(t, directions, count)),
        bases=Bases(zeros(1 + g, modes, count), np.zeros(1 + g, np.int32)),  # type: ignore[arg-type]
        history=empty_history(t, count, zeros, sources=1 + g, further=further_kinds(directions, g)),
        rounds=np.zeros(t, np.int32),  # type: ignore[arg-type]
        mismatch=zeros(t),
        velocity=Velocity(
            Moving(zeros(2 + g, t), zeros(g), zeros()), tuple(Grown(zeros(t), zeros(), zeros()) for _ in range(g))
        ),
        guide=Row(zeros(t, 2 + g, t), zeros(t, 1 + g, modes), zeros(t, t), zeros(t, g), zeros(t)),
    )


def further_kinds(directions: int, kinds: int) -> int:
    """How many different resolvents the directions beyond the first have."""
    return min(directions - 1, max(1, kinds - 1))
