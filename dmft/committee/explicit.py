"""Discrete gradient descent of a committee, step after step (THEORY section 8), exactly.

Row n is known when its turn comes: the samples' fields follow from it, then the forces, and row n + 1. The responses
are not needed; `dmft.committee.response` has them.
"""

from __future__ import annotations

import jax
from jaxtyping import Array

from dmft.committee.network import Network
from dmft.committee.rows import Local, factor_rows, free_fields, local_forces
from dmft.committee.state import Couplings, Fields, Kernels, Row, State
from dmft.compiled.executables import compilable
from dmft.twotime.steps import Steps


@compilable(donated=["state"])
def advance_explicit(c: Couplings, steps: Steps, state: State, first: Array, stop: Array, *, network: Network) -> State:
    """Rows first <= n < stop: evaluate row n, and step to row n + 1."""

    def body(n: Array, state: State) -> State:
        row = Row._make(array[n] for array in state.kernels)
        local = local_forces(c, network, state, row, n, free_fields(c, state, row, row.noise))
        factor, basis = factor_rows(local.force, state.basis, state.samples.weight, state.modes)
        following = next_row(c, network, steps.weights[n], state, row, n, local, factor)
        following, velocity = steps.gliding(n, row, following, state.velocity)
        state = _store(state, n, local, factor, following)
        return state._replace(basis=basis, modes=state.modes + row.readout.shape[0], velocity=velocity)

    return jax.lax.fori_loop(first, stop, body, state)


def next_row(
    c: Couplings, network: Network, step: Array, state: State, row: Row, n: Array, local: Local, factor: Array
) -> Row:
    """Row n + 1 from the forces of row n, which are F e."""
    weight, rate, keep = state.samples.weight, step / c.alpha, 1 - step * c.weight_decay
    weighted = local.force * weight
    learned = (local.value * state.presence[n]) @ (weight * local.push)
    return Row(
        instant=row.instant,
        target_overlap=keep * row.target_overlap - rate * weighted @ state.samples.u.T,
        readout=keep * row.readout - rate * learned if network.train_readout else row.readout,
        noise=keep * row.noise + step * c.strength * factor - rate * weighted @ state.samples.modes.T,
        carried=row.carried,
    )


def _store(state: State, n: Array, local: Local, factor: Array, following: Row) -> State:
    """Fields and forces of row n, and row n + 1, dropped where there is no room for it."""

    def put(array: Array, at: Array, value: Array) -> Array:
        return array.at[at].set(value, mode="drop")

    fields = Fields(put(state.fields.h, n, local.h), put(state.fields.residual, n, local.residual))
    row = zip(state.kernels, following, strict=True)
    kernels = Kernels._make(put(array, n + 1, value) for array, value in row)
    return state._replace(kernels=kernels, fields=fields, factor=put(state.factor, n, factor))
