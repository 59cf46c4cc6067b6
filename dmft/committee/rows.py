"""One time point of the committee (THEORY section 8), given all earlier ones: fields, forces, averages.

Everything follows from row n of the order parameters.

*Noise.* With zeta_i(n) = sum_l noise(n, i, l) z_l on orthonormal modes, the equation of R gives

    d_t noise(n, i, l) = F_i(n, l)/(alpha sqrt(kappa)) - (1/alpha) sum_m,j K_ij(n, m) noise(m, j, l),

K the response of g to the fields. By Stein's identity the last sum is E[g_i(n) z_l], which needs no tangents: taken
from the samples, it makes noise noise^T obey the equation of motion of C, d_t C = -(1/alpha) E[g h], on the samples
exactly. Measured, the standard error of C is up to 25 times smaller than with noise = R h F.

*Reaction.* Nor does -k R g, what a sample's own past forces add to its fields, need R. The sample's forces are
g = F e, with e its coordinates in the basis that Gram-Schmidt makes of all forces, and k R g = k R F e is

    k R g = kappa^-1/2 noise e                                                                                  (8.4)

So steps need no derivative at all, and networks with kinks are as good as others. In the flow row n's own force acts on
the fields of the same row (R(n; n) > 0): they are the root of h + B g(h) = history, B = k h_n R(n; n). In 8.4 only the
noise that is carried over from earlier rows then counts: h_n strength R(n; n) F of it is B g.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.committee.network import Network, smoothed, smoothed_loss
from dmft.committee.state import Couplings, Row, State
from dmft.twotime.noise import factor_row


class Local(NamedTuple):
    """Sample by sample at row n."""

    h: Float[Array, "N S"]
    residual: Float[Array, " S"]  # Delta
    push: Float[Array, " S"]  # l': Delta of the square loss
    force: Float[Array, "N S"]  # g_i = s a_i phi'(h_i) l'
    value: Float[Array, "N S"]  # phi(h_i)
    own: Float[Array, "N S"]  # s a_i phi''(h_i) l'
    shared: Float[Array, "N S"]  # s a_i phi'(h_i) l''
    slope: Float[Array, "N S"]  # dDelta/dh_i = (alpha/N) a_i phi'(h_i)


def free_fields(c: Couplings, state: State, row: Row, past: Float[Array, "N L"]) -> Float[Array, "N S"]:
    """m_i.u + zeta_i and the response to the sample's own past forces, by equation 8.4.

    Args:
        past: the noise that earlier rows made: all of it in a step.
    """
    free = row.target_overlap @ state.samples.u + row.noise @ state.samples.modes
    return free - past @ state.basis / jnp.sqrt(c.kappa)


def local_forces(c: Couplings, network: Network, state: State, row: Row, n: Array, h: Float[Array, "N S"]) -> Local:
    """Residual and forces of fields h at row n."""
    value, first, second = smoothed(network.activation.at(c.epsilon), h, c.kink_width)
    amplitude = c.alpha / h.shape[0] * row.readout
    residual = amplitude @ value - state.start.output - state.start.label
    push, stiffness = smoothed_loss(network.loss, residual, state.start.label, c.loss_width)
    pull = state.presence[n] * row.readout[:, None] * first
    return Local(
        h=h,
        residual=residual,
        push=push,
        force=pull * push,
        value=value,
        own=state.presence[n] * row.readout[:, None] * second * push,
        shared=pull * stiffness,
        slope=amplitude[:, None] * first,
    )


def factor_rows(
    forces: Float[Array, "N S"], basis: Float[Array, "L S"], weight: Float[Array, " S"], modes: Array
) -> tuple[Float[Array, "N L"], Float[Array, "L S"]]:
    """Rows F_i(n, :) of the factor of Gamma = E[g g^T] for all neurons, and the basis with their N new vectors.

    Gram-Schmidt in sample space, as `dmft.twotime.noise.factor_row`, in blocks: all forces against the basis so far
    at once,
    then against each other. A rest of the size of the rounding errors counts as none; its vector stays zero.
    """
    count = forces.shape[0]
    first = (forces * weight) @ basis.T
    rest = forces - first @ basis
    second = (rest * weight) @ basis.T  # twice is enough: orthogonal to rounding
    rest = rest - second @ basis
    rounding = 64 * jnp.finfo(forces.dtype).eps * jnp.sqrt(forces**2 @ weight)
    rest = jnp.where((jnp.sqrt(rest**2 @ weight) > rounding)[:, None], rest, 0.0)
    block, own = jnp.zeros_like(forces), []
    for i in range(count):
        row, unit = factor_row(rest[i], block, weight, jnp.int32(i))
        block = block.at[i].set(unit)
        own.append(row)
    rows = first + second
    rows = rows + jax.lax.dynamic_update_slice(jnp.zeros_like(rows), jnp.stack(own), (jnp.int32(0), modes))
    return rows, jax.lax.dynamic_update_slice(basis, block, (modes, jnp.int32(0)))
