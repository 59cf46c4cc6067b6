"""What the samples of row n mean for the other kernels: averages of their forces (THEORY sections 4.3 and 4.5)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.twotime.noise import factor_row
from dmft.wide.drawn import AnyState
from dmft.wide.local import Local
from dmft.wide.state import Bases, Couplings


class ForceRow(NamedTuple):
    """Row n of the factors F_c and F_d, F F^T = E[g g^T], and the basis vectors that they add in sample space."""

    factor: Float[Array, "cd M"]
    unit: Float[Array, "cd S"]


def forces(c: Couplings, local: Local) -> Float[Array, "cd S"]:
    """g = (1 + epsilon p) Delta, and q Delta of the directions that have kernels of their own."""
    kinds = len(local.gain.outlier)
    return jnp.stack([(1 + c.epsilon * local.p) * local.residual, *(local.q[:kinds] * local.residual)])


def force_row(state: AnyState, forces: Float[Array, "cd S"]) -> ForceRow:
    """Rows n of F_c and F_d, equation 4.6: Gamma_c = E[g g], Gamma_d = E[q Delta q Delta]."""
    both = jax.vmap(factor_row, in_axes=(0, 0, None, 0))
    return ForceRow(*both(forces, state.bases.vectors, state.samples.weight, state.bases.modes))


def extended_bases(bases: Bases, row: ForceRow) -> Bases:
    """The bases of the forces with what row n adds to them."""
    new = jnp.arange(bases.vectors.shape[1]) == bases.modes[:, None]
    vectors = jnp.where(new[..., None], row.unit[:, None], bases.vectors)
    return Bases(vectors, bases.modes + jnp.any(row.unit != 0, axis=1))


def bulk_force_row(state: AnyState, n: Array, local: Local) -> Float[Array, " T"]:
    """Gamma_r(n, :) = E[Delta(n) Delta(:) B(n, :)], equation 4.6."""
    return (all_residuals(state, n, local) * local.bath.correlation) @ (state.samples.weight * local.residual)


def all_residuals(state: AnyState, n: Array, local: Local) -> Float[Array, "T S"]:
    """Delta up to row n."""
    residuals = state.fields.residual
    return jnp.where(jnp.arange(len(residuals))[:, None] == n, local.residual, residuals)


def target_drift(c: Couplings, state: AnyState, local: Local) -> Float[Array, " G"]:
    """(epsilon/alpha) E[Delta q u]: what drives b in equation 4.8."""
    kinds = len(local.gain.outlier)
    force = (local.q * local.residual * state.samples.u)[:kinds]
    return c.epsilon / c.alpha * jnp.stack([state.samples.weight @ one for one in force])
