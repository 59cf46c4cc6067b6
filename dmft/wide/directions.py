"""The target's directions beyond the first (THEORY section 15).

A sample answers to what moves one of them as it does to what moves the bulk: given Delta its field is linear in its
past, with an answer G_d = R_d - e int R_d Delta G_d of its own (equation 15.3). So

    dq(t) = G_d head - e int G_d(t,s) q(s) D(s) ds,

and in D these directions stand beside the bulk: G B becomes G B + sum_k G_k q_k q_k. Of F different G_d there is one if
all directions are alike, and else one for each.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.wide.history import Block, past_sums
from dmft.wide.local import Local
from dmft.wide.state import Couplings, Row, State


class Further(NamedTuple):
    """Row n of the directions beyond the first."""

    answer: Float[Array, "F T S"]  # G_d(n, :)
    q: Float[Array, "L T S"]  # up to row n
    now: Float[Array, "L S"]  # q(n)


def further_row(c: Couplings, h: Float[Array, " T"], state: State, n: Array, row: Row, local: Local) -> Further:
    """Equation 15.3 at row n."""
    kinds = _kinds(state)
    answer = jnp.zeros((0, *local.bath.response.shape), local.residual.dtype)
    if kinds:
        response, gain = row.response_outlier[-kinds:], local.gain.outlier[-kinds:]
        fed = (response * h).T[:, :, None, None] * state.fields.residual[:, None, None]
        past = past_sums(state.history, n, {"further": fed})["further"]
        answer = gain[:, None] * (response[..., None] - c.e * past)
    here = jnp.arange(len(h))[:, None, None] == n
    q = jnp.where(here, local.q[1:], state.fields.q[:, 1:]).swapaxes(0, 1)
    return Further(answer, q, local.q[1:])


def memory(further: Further) -> Float[Array, "T S"]:
    """sum_k G_k(n, :) q_k(n) q_k(:), which adds to G B."""
    return jnp.sum(further.answer * further.now[:, None] * further.q, 0)


def heads(further: Further, sources: int) -> Float[Array, "cd T S"]:
    """2 q_k(n) G_k(n, :), the head of W under a force on direction k; 0 under those on c and on the first."""
    own = 2 * further.now[:, None] * further.answer
    return jnp.concatenate([jnp.zeros((2, *own.shape[1:]), own.dtype), own[: sources - 2]])


def own_weights(c: Couplings, h: Float[Array, " T"], further: Further) -> Float[Array, "T L 1 S"]:
    """e h_j G_k(n,j) q_k(j): what D(j) of the force on direction k takes from its own q_k."""
    return (c.e * h[:, None] * further.answer * further.q).swapaxes(0, 1)[:, :, None]


def own_changes(local: Local, further: Further, past: Array, d: Array) -> Float[Array, "L T S"]:
    """Y_k = dq_k Delta + q_k D under a force on direction k, row n.

    Args:
        past: the sum of `own_weights` D over the rows before, (K-1, T, S).
        d: D under each of these forces, (K-1, T, S).
    """
    feedback = local.gain.outlier[1:] * local.q[1:]
    return local.residual * (further.answer - past) + feedback[:, None] * d


def own_gains(c: Couplings, local: Local, answer: Float[Array, " S"]) -> Float[Array, "O S"]:
    """dY_k/dQ_0 of each direction that has kernels of its own.

    Args:
        answer: dDelta/dy = -`answer` at fixed histories.
    """
    gain = local.gain.outlier[1:]
    feedback = gain * local.q[1 : 1 + len(gain)]
    return gain * local.residual + c.alpha * c.epsilon * answer * feedback**2


def _kinds(state: State) -> int:
    """F."""
    last = state.history[-1]
    assert isinstance(last, Block)
    return last.further.shape[1]
