"""What the samples of row n mean for the other kernels: averages of their forces (THEORY sections 4.3 and 4.5)."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.twotime.noise import factor_row
from dmft.wide.local import Local
from dmft.wide.state import Couplings, State


class ForceRow(NamedTuple):
    """Row n of a factor F, F F^T = E[g g^T], and the basis vector that it adds in sample space."""

    factor: Float[Array, " K"]
    unit: Float[Array, " S"]


def forces(c: Couplings, local: Local) -> tuple[Float[Array, " S"], Float[Array, " S"]]:
    """g = (1 + epsilon p) Delta and q Delta."""
    return (1 + c.epsilon * local.p) * local.residual, local.q * local.residual


def force_rows(c: Couplings, state: State, local: Local) -> tuple[ForceRow, ForceRow]:
    """Rows n of F_c and F_d, equation 4.6: Gamma_c = E[g g], Gamma_d = E[q Delta q Delta]."""
    (common, outlier), bases, weight = forces(c, local), state.bases, state.samples.weight
    return (
        ForceRow(*factor_row(common, bases.common, weight, bases.modes[0])),
        ForceRow(*factor_row(outlier, bases.outlier, weight, bases.modes[1])),
    )


def bulk_force_row(state: State, n: Array, local: Local) -> Float[Array, " T"]:
    """Gamma_r(n, :) = E[Delta(n) Delta(:) B(n, :)], equation 4.6."""
    residuals = state.fields.residual.at[n].set(local.residual)
    return jnp.einsum("s,ms,sm->m", state.samples.weight * local.residual, residuals, local.bath.correlation)


def target_drift(c: Couplings, state: State, local: Local) -> Float[Array, ""]:
    """(epsilon/alpha) E[Delta q u]: what drives b in equation 4.8."""
    return c.epsilon / c.alpha * (state.samples.weight @ (local.q * local.residual * state.samples.u))
