"""One time point of the committee (THEORY section 8), given all earlier ones: fields, forces, tangents, averages.

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
the fields of the same row (R(n; n) > 0): they are the root of h + B g(h) = history, B = k h_n R(n; n), and all tangents
pass through P = (1 + B A)^-1 with A_il = dg_i/dh_l.
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


def free_fields(c: Couplings, state: State, row: Row) -> Float[Array, "N S"]:
    """m_i.u + zeta_i and the response to the sample's own past forces, by equation 8.4."""
    return row.target_overlap @ state.samples.u + row.noise @ (state.samples.modes - state.basis / jnp.sqrt(c.kappa))


def past_sum(weights: Float[Array, "N T N"], history: Array) -> Array:
    """sum_cl weights[i, c, l] history[c, l, ...]: one matrix product, shared by all samples."""
    rows = weights.shape[0]
    t, n, *rest = history.shape
    return (weights.reshape(rows, -1) @ history.reshape(t * n, -1)).reshape(rows, *rest)


def memory_weights(c: Couplings, weights: Float[Array, " T"], row: Row) -> Float[Array, "N T N"]:
    """-k R(n; c) h_c: what a sample's own past forces add to its fields."""
    return -c.k * row.response * weights[:, None]


def past_fields(state: State, row: Row, memory: Array) -> Float[Array, "N S"]:
    """m_i.u + zeta_i and the response to the sample's own past forces."""
    free = row.target_overlap @ state.samples.u + row.noise @ state.samples.modes
    return free + past_sum(memory, state.history.force)


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


def tangents(state: State, row: Row, memory: Array) -> tuple[Array, Array]:
    """dh_i without the feedback of row n: under a force of slot c on j, (N, S, T, N), and under u, (N, S, K)."""
    under_force = past_sum(memory, state.history.tangent) + row.response[:, None]
    under_target = past_sum(memory, state.history.target_tangent) + row.target_overlap[:, None]
    return under_force, under_target


def tangent_weight(state: State) -> Float[Array, " Q"]:
    """Weights of the samples with tangents, sum 1."""
    weight = state.samples.weight[: state.history.tangent.shape[2]]
    return weight / weight.sum()


def force_tangents(state: State, local: Local, under_force: Array, under_target: Array) -> tuple[Array, Array]:
    """dg_i = s a_i (phi'' l' dh_i + phi' l'' dDelta), dDelta = sum_l slope_l dh_l - df(0) - dy."""
    start, few = state.start, under_force.shape[1]
    slope, own, shared = (part[:, :few] for part in (local.slope, local.own[..., None], local.shared[..., None]))
    residual_force = jnp.einsum("is,iscj->scj", slope, under_force).at[:, 0].add(-start.output_slope[:few])
    residual_target = jnp.einsum("is,isk->sk", slope, under_target)
    residual_target = residual_target - start.output_target_slope[:few] - start.label_slope[:few]
    return (
        own[..., None] * under_force + shared[..., None] * residual_force,
        own * under_target + shared * residual_target,
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
