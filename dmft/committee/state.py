"""Everything the committee engine knows about the rows solved so far (THEORY section 8).

T is the capacity in time points, N the width, K the number of teacher directions, S the number of samples, L the number
of noise modes. The modes are those of the initial weights, N of them, and then N of the forces of each row.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dmft.committee.sampling import Samples


class Couplings(NamedTuple):
    """The model's numbers as jax scalars, so that a sweep over them compiles once."""

    alpha: Float[Array, ""]
    kappa: Float[Array, ""]
    weight_decay: Float[Array, ""]
    kink_width: Float[Array, ""] | None  # over which kinks of the activation are smoothed, None where they are not
    loss_width: Float[Array, ""] | None  # the same for those of the loss
    epsilon: Float[Array, ""]  # of the quadratic activation; others have none

    @property
    def k(self) -> Float[Array, ""]:
        """k = 1/(alpha kappa)."""
        return 1.0 / (self.alpha * self.kappa)

    @property
    def strength(self) -> Float[Array, ""]:
        """1/(alpha sqrt(kappa)): size of the noise that the other samples' forces make."""
        return 1.0 / (self.alpha * jnp.sqrt(self.kappa))


class Kernels(NamedTuple):
    """Order parameters, by row."""

    instant: Float[Array, "T N N"]  # R_ij(n; n), how a row of the flow answers its own force; 0 of steps
    target_overlap: Float[Array, "T N K"]  # m_i(n)
    readout: Float[Array, "T N"]  # a_i(n)
    noise: Float[Array, "T N L"]  # zeta_i(n) = sum_l noise(n, i, l) z_l, so that C - m m^T = noise noise^T
    carried: Float[Array, "T N L"]  # noise without what the row's own forces add; 0 of steps


class Fields(NamedTuple):
    """Per-sample processes, by row."""

    h: Float[Array, "T N S"]
    residual: Float[Array, "T S"]  # Delta


class Row(NamedTuple):
    """Row n of the order parameters that a time point determines."""

    instant: Float[Array, "N N"]
    target_overlap: Float[Array, "N K"]
    readout: Float[Array, " N"]
    noise: Float[Array, "N L"]
    carried: Float[Array, "N L"]


class Start(NamedTuple):
    """What a sample keeps from t = 0: labels, and f(0) with its derivatives (zero unless centred)."""

    label: Float[Array, " S"]  # y
    label_slope: Float[Array, "S K"]  # dy/du; 0 of labels that are drawn
    score: Float[Array, "S K"]  # d log P(y | u)/du of labels that are drawn; 0 of others
    output: Float[Array, " S"]  # f(0)
    output_slope: Float[Array, "S N"]  # df(0)/dw_j(0)
    output_target_slope: Float[Array, "S K"]  # df(0)/du


class State(NamedTuple):
    """The whole state: a fixed shape for a given capacity."""

    samples: Samples
    presence: Float[Array, "T_last S"]  # s, at all rows from the start
    start: Start
    kernels: Kernels
    fields: Fields
    factor: Float[Array, "T N L"]  # g_i(n) = sum_l factor(n, i, l) e_l, so that Gamma = factor factor^T
    basis: Float[Array, "L S"]  # e: orthonormal basis of the forces in sample space
    modes: Int[Array, ""]  # where its next vectors go, after those of the initial weights and of earlier rows
    velocity: Row  # U(n) of equation 13.1; 0 without momentum
    rounds: Int[Array, " T"]  # inner iterations (implicit steps)
    mismatch: Float[Array, " T"]  # what they left, relative


def empty_state(samples: Samples, presence: Array, start: Start, width: int, capacity: int) -> State:
    """Nothing solved yet."""
    directions, modes = samples.u.shape[0], samples.modes.shape[0]
    count, dtype = samples.weight.shape[0], samples.weight.dtype

    def zeros(*shape: int) -> Array:
        return jnp.zeros(shape, dtype)

    t, n = capacity, width
    return State(
        samples=samples,
        presence=presence,
        start=start,
        kernels=Kernels(zeros(t, n, n), zeros(t, n, directions), zeros(t, n), zeros(t, n, modes), zeros(t, n, modes)),
        fields=Fields(zeros(t, n, count), zeros(t, count)),
        factor=zeros(t, n, modes),
        basis=zeros(modes, count),
        modes=jnp.int32(width),
        velocity=Row(zeros(n, n), zeros(n, directions), zeros(n), zeros(n, modes), zeros(n, modes)),
        rounds=jnp.zeros(t, jnp.int32),
        mismatch=zeros(t),
    )
