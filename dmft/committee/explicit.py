"""Discrete gradient descent of a committee, step after step (THEORY section 8), exactly.

Row n is known when its turn comes: the samples' fields follow from it, then the forces, their tangents, and row n + 1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dmft.committee.network import Network
from dmft.committee.rows import (
    Local,
    factor_rows,
    force_tangents,
    local_forces,
    memory_weights,
    past_fields,
    tangent_weight,
    tangents,
)
from dmft.committee.state import Couplings, Fields, History, Kernels, Row, State
from dmft.compiled.executables import compilable
from dmft.twotime.steps import Steps


@compilable(donated=["state"])
def advance_explicit(c: Couplings, steps: Steps, state: State, first: Array, stop: Array, *, network: Network) -> State:
    """Rows first <= n < stop: evaluate row n, and step to row n + 1."""
    weights = steps.weights

    def body(n: Array, state: State) -> State:
        row = Row._make(array[n] for array in state.kernels)
        memory = memory_weights(c, weights, row)
        local = local_forces(c, network, state, row, n, past_fields(state, row, memory))
        moved = force_tangents(state, local, *tangents(state, row, memory))
        following, basis = next_row(c, network, weights[n], state, row, n, local, moved[0])
        following, velocity = steps.gliding(n, row, following, state.velocity)
        state = _store(state, n, local, moved, following)
        return state._replace(basis=basis, modes=state.modes + row.readout.shape[0], velocity=velocity)

    return jax.lax.fori_loop(first, stop, body, state)


def next_row(
    c: Couplings, network: Network, step: Array, state: State, row: Row, n: Array, local: Local, tangent: Array
) -> tuple[Row, Array]:
    """Row n + 1 from the forces of row n, and the basis of the forces with its new vectors."""
    weight, rate, keep = state.samples.weight, step / c.alpha, 1 - step * c.weight_decay
    width, capacity = row.response.shape[:2]
    factor, basis = factor_rows(local.force, state.basis, weight, state.modes)
    kick = (jnp.arange(capacity) == n + 1)[:, None] * jnp.eye(width)[:, None, :]
    weighted = local.force * weight
    learned = (local.value * state.presence[n]) @ (weight * local.push)
    following = Row(
        response=keep * row.response + kick - rate * jnp.einsum("s,iscj->icj", tangent_weight(state), tangent),
        target_overlap=keep * row.target_overlap - rate * weighted @ state.samples.u.T,
        readout=keep * row.readout - rate * learned if network.train_readout else row.readout,
        noise=keep * row.noise + step * c.strength * factor - rate * weighted @ state.samples.modes.T,
    )
    return following, basis


def _store(state: State, n: Array, local: Local, moved: tuple[Array, Array], following: Row) -> State:
    """Fields of row n; its forces in slot n + 1 and row n + 1, dropped where there is no room for them."""

    def put(array: Array, at: Array, value: Array) -> Array:
        return array.at[at].set(value, mode="drop")

    fields = Fields(put(state.fields.h, n, local.h), put(state.fields.residual, n, local.residual))
    slot = zip(state.history, (local.force, *moved), strict=True)
    row = zip(state.kernels, following, strict=True)
    return state._replace(
        kernels=Kernels._make(put(array, n + 1, value) for array, value in row),
        fields=fields,
        history=History._make(put(array, n + 1, value) for array, value in slot),
    )
