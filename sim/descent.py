"""The compiled loop: gradient descent from one observation to the next, for a batch of replicas."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dmft.order_parameters import OBSERVABLES
from sim.forms import Form
from sim.observables import observe


class Batch(NamedTuple):
    """Replicas in training; every array has the replica as leading axis S.

    Attributes:
        state: the state of the form.
        inputs: x, (S, P, D).
        targets: labels, (S, P); plus f(t=0) when centred, so that Delta = f - targets either way.
        beta: (S, D).
        second_moment: M(0) when centred, else 0, (S, D, D).
        mean_weight: wbar(0) when centred, else 0, (S, D).
    """

    state: Any
    inputs: jax.Array
    targets: jax.Array
    beta: jax.Array
    second_moment: jax.Array
    mean_weight: jax.Array


class Coefficients(NamedTuple):
    """Scalars of the equations of motion: `rate` is dt / (alpha kappa) and `shrink` is 1 - dt lambda."""

    alpha: jax.Array
    epsilon: jax.Array
    rate: jax.Array
    shrink: jax.Array


@partial(jax.jit, static_argnames=("form", "vectorized"))
def center(form: Form, batch: Batch, coefficients: Coefficients, vectorized: bool) -> Batch:
    """The batch with f replaced by f - f(t=0): references M(0), wbar(0), and f(0) added to the targets."""

    def one(replica: Batch) -> Batch:
        _, outputs = form.forward(replica.state, replica.inputs, coefficients.alpha, coefficients.epsilon)
        second_moment, mean_weight = form.moments(replica.state)
        return replica._replace(targets=replica.targets + outputs, second_moment=second_moment, mean_weight=mean_weight)

    return jax.vmap(one)(batch) if vectorized else jax.lax.map(one, batch)


@partial(jax.jit, static_argnames=("form", "vectorized"))
def train(
    form: Form, batch: Batch, coefficients: Coefficients, lengths: jax.Array, count: jax.Array, vectorized: bool
) -> tuple[Any, jax.Array]:
    """Observe, then take `lengths[i]` gradient-descent steps, for i = 0 .. count - 1.

    The forward pass of an observation is that of the step which follows it, so observing costs only M. Loop bounds
    are data: calls of any length share one compilation.

    Args:
        form: arrangement of the state.
        batch: replicas; its state is the only part that changes.
        coefficients: scalars.
        lengths: steps to take after each observation, (C,), integers >= 0; only the first `count` are used.
        count: number of observations, <= C.
        vectorized: advance all replicas at once (accelerators), or one after the other (CPU, where a replica's
            matrices then stay in the cache: twice as fast as the batched product at D = 100, P = 550, N = 500).

    Returns:
        The state after the last step, and the observables, (S, C, 8), of which the first `count` are set.
    """
    alpha, epsilon, rate, shrink = coefficients

    def one(replica: Batch) -> tuple[Any, jax.Array]:
        def forward(state: Any) -> tuple[jax.Array, jax.Array]:
            h, outputs = form.forward(state, replica.inputs, alpha, epsilon)
            return h, outputs - replica.targets

        def step(_: Any, state: Any) -> Any:
            h, residual = forward(state)
            return form.descend(state, h, residual, replica.inputs, rate, shrink, epsilon)

        def interval(i: jax.Array, carry: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
            state, records = carry
            h, residual = forward(state)
            second_moment, mean_weight = form.moments(state)
            record = observe(
                residual,
                second_moment,
                mean_weight,
                replica.second_moment,
                replica.mean_weight,
                replica.beta,
                alpha,
                epsilon,
            )
            moved = form.descend(state, h, residual, replica.inputs, rate, shrink, epsilon)
            state = jax.tree.map(partial(jnp.where, lengths[i] > 0), moved, state)
            return jax.lax.fori_loop(1, lengths[i], step, state), records.at[i].set(record)

        records = jnp.full((lengths.size, len(OBSERVABLES)), jnp.nan, replica.inputs.dtype)
        return jax.lax.fori_loop(0, count, interval, (replica.state, records))

    return jax.vmap(one)(batch) if vectorized else jax.lax.map(one, batch)
