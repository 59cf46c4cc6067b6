"""Responses R_ij(t, s) of a committee trained in steps, after all of its rows are known (equations 8.1 and 8.2).

The steps themselves do without (equation 8.4). So the tangents, N^2 T^2 numbers a sample, are those of some samples
of a solved replica, and kinks are smoothed here alone.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dmft.committee.network import Network
from dmft.committee.rows import force_tangents, local_forces, memory_weights, tangent_weight, tangents
from dmft.committee.state import Couplings, Row, State, empty_history
from dmft.compiled.executables import compilable
from dmft.twotime.steps import Steps


@compilable(donated=["state"])
def respond_explicit(c: Couplings, steps: Steps, state: State, first: Array, stop: Array, *, network: Network) -> State:
    """The responses of rows first < n <= stop, and the tangents of rows first <= n < stop."""

    def body(n: Array, state: State) -> State:
        row = Row._make(array[n] for array in state.kernels)
        local = local_forces(c, network, state, row, n, state.fields.h[n])
        under = tangents(state, row, memory_weights(c, steps.weights, row))
        tangent, target_tangent = force_tangents(state, local, *under)
        plain = next_response(c, steps.weights[n], state, row, n, tangent)
        following, velocity = steps.gliding(n, row.response, plain, state.velocity.response)
        history = state.history
        return state._replace(
            kernels=state.kernels._replace(response=state.kernels.response.at[n + 1].set(following, mode="drop")),
            history=history._replace(
                tangent=history.tangent.at[n + 1].set(tangent, mode="drop"),
                target_tangent=history.target_tangent.at[n + 1].set(target_tangent, mode="drop"),
            ),
            velocity=state.velocity._replace(response=velocity),
        )

    return jax.lax.fori_loop(first, stop, body, state)


def next_response(c: Couplings, step: Array, state: State, row: Row, n: Array, tangent: Array) -> Array:
    """R(n + 1; .) by an explicit step of equation 8.1."""
    width, capacity = row.response.shape[:2]
    kick = (jnp.arange(capacity) == n + 1)[:, None] * jnp.eye(width)[:, None, :]
    change = jnp.einsum("s,iscj->icj", tangent_weight(state), tangent)
    return (1 - step * c.weight_decay) * row.response + kick - step / c.alpha * change


def some_samples(state: State, count: int) -> State:
    """The first `count` samples of a solved state, in NumPy, with room for their tangents."""
    cut = jax.tree.map(np.asarray, state)
    samples = cut.samples
    width, capacity = cut.kernels.response.shape[1:3]
    history = jax.tree.map(np.asarray, empty_history(capacity, width, count, count, len(samples.u), samples.u.dtype))
    response = np.zeros_like(cut.kernels.response)
    response[0, :, 0] = np.eye(width)
    return cut._replace(
        samples=type(samples)(
            samples.weight[:count], *(array[:, :count] if array.ndim == 2 else array[:count] for array in samples[1:])
        ),
        presence=cut.presence[:, :count],
        start=type(cut.start)(*(array[:count] for array in cut.start)),
        kernels=cut.kernels._replace(response=response),
        fields=type(cut.fields)(*(array[..., :count] for array in cut.fields)),
        history=history._replace(force=cut.history.force[..., :count]),
        basis=cut.basis[:, :0],
        velocity=jax.tree.map(np.zeros_like, cut.velocity),
    )
