"""Everything the wide engine knows about the rows solved so far (THEORY section 4).

T is the capacity in time points, S the number of samples, K the number of noise modes.  Rows not solved yet are
zero, so that sums over all T rows run over the past alone.  Histories are laid out [row, sample, column]: an
integral over past rows with weights shared by all samples is one matrix-vector product.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dmft.twotime.noise import Samples


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

    response_common: Float[Array, " T"]  # R_c(n, :)
    response_outlier: Float[Array, " T"]  # R_d(n, :)
    response_bulk: Float[Array, " T"]  # R_r(n, :)
    factor_common: Float[Array, " K"]  # F_c(n, :), F_c F_c^T = Gamma_c = E[g g]
    factor_outlier: Float[Array, " K"]  # F_d(n, :), F_d F_d^T = Gamma_d = E[q Delta q Delta]
    force_bulk: Float[Array, " T"]  # Gamma_r(n, :) = E[Delta(n) Delta(:) B(n, :)]
    target_overlap: Float[Array, ""]  # b(n)
    response_initial: Float[Array, ""]  # R_0(n), response of the bulk to its initial value


class Kernels(NamedTuple):
    """The rows of `Row` stacked, the bulk correlation and the equal-time noise strengths."""

    response_common: Float[Array, "T T"]
    response_outlier: Float[Array, "T T"]
    response_bulk: Float[Array, "T T"]
    factor_common: Float[Array, "T K"]
    factor_outlier: Float[Array, "T K"]
    force_bulk: Float[Array, "T T"]
    target_overlap: Float[Array, " T"]
    response_initial: Float[Array, " T"]
    correlation_bulk: Float[Array, "T T"]  # C_r, lower triangle


class Seed(NamedTuple):
    """The linear growth of the target coordinate of a random initialisation (THEORY section 5)."""

    response: Float[Array, "T T"]  # R_beta
    force: Float[Array, "T T"]  # Sigma(n, m) = (1/kappa) E[u^2 Delta(n) Delta(m) B(n, m)]
    response_initial: Float[Array, " T"]  # R_beta0
    linear: Float[Array, " T"]  # b_lin = sqrt(C_beta / D)
    source: Float[Array, " T"]  # what it adds to b(n) in row n


class Fields(NamedTuple):
    """Per-sample processes, one row a time point."""

    p: Float[Array, "T S"]
    q: Float[Array, "T S"]
    residual: Float[Array, "T S"]  # Delta
    variance: Float[Array, "T S"]  # V = B(t, t)
    force_common: Float[Array, "T S"]  # g = (1 + epsilon p) Delta
    force_outlier: Float[Array, "T S"]  # q Delta
    initial: Float[Array, "T S"]  # G_0 = H R_0
    target_residual: Float[Array, "T S"]  # dDelta/du
    target_common: Float[Array, "T S"]  # d[(1 + epsilon p) Delta]/du
    target_outlier: Float[Array, "T S"]  # d[q Delta]/du


class Bases(NamedTuple):
    """Orthonormal bases of the forces in sample space, and how many of their vectors are in use (the rest are 0)."""

    common: Float[Array, "K S"]
    outlier: Float[Array, "K S"]
    modes: Int[Array, 2]  # common, outlier


class Tangent(NamedTuple):
    """Derivatives with respect to a force on one sector, [row, sample, column]."""

    residual: Float[Array, "T S T"]  # D = dDelta
    common: Float[Array, "T S T"]  # X = d[(1 + epsilon p) Delta]
    outlier: Float[Array, "T S T"]  # Y = d[q Delta]


class History(NamedTuple):
    """Per-sample two-time arrays: the bath and the tangents."""

    bath: Float[Array, "T S T"]  # H
    force_response: Float[Array, "T S T"]  # Delta(row) G
    force_correlation: Float[Array, "T S T"]  # Delta(row) B, both triangles
    under_common: Tangent
    under_outlier: Tangent


class Residual(NamedTuple):
    """What the residual equation needs of each sample beside its fields: (S,) each."""

    target: Float[Array, " S"]  # y, label noise included
    initial_output: Float[Array, " S"]  # f(t=0) if centred, else 0
    initial_slope: Float[Array, ""]  # (df(0)/du)/u if centred, else 0


class State(NamedTuple):
    """One replica: samples drawn at the start, and all rows solved so far."""

    samples: Samples
    residual: Residual
    kernels: Kernels
    seed: Seed
    fields: Fields
    bases: Bases
    history: History
    rounds: Array  # (T,) inner iterations spent on each row
    mismatch: Float[Array, " T"]  # (T,) remaining relative residual of each row


def empty_state(samples: Samples, residual: Residual, capacity: int) -> State:
    """A state with no rows solved.  Shapes follow from `samples` and `capacity` = T."""
    modes, count = samples.common.shape
    dtype = samples.u.dtype

    def zeros(*shape: int) -> Array:
        return jnp.zeros(shape, dtype)

    t, s, k = capacity, count, modes
    square, line = (t, t), (t,)
    shapes = [square] * 3 + [(t, k)] * 2 + [square, line, line, square]
    kernels = Kernels._make(zeros(*shape) for shape in shapes)
    seed = Seed(zeros(t, t), zeros(t, t), zeros(t), zeros(t), zeros(t))
    fields = Fields._make(zeros(t, s) for _ in Fields._fields)
    bases = Bases(zeros(k, s), zeros(k, s), jnp.zeros(2, jnp.int32))
    tangents = [Tangent(zeros(t, s, t), zeros(t, s, t), zeros(t, s, t)) for _ in range(2)]
    history = History(zeros(t, s, t), zeros(t, s, t), zeros(t, s, t), tangents[0], tangents[1])
    rounds = jnp.zeros(t, jnp.int32)
    return State(samples, residual, kernels, seed, fields, bases, history, rounds, zeros(t))
