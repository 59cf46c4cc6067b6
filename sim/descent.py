"""The compiled loop: from one observation to the next, step by step, for a group of replicas of any system."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sim.optimizers import Optimizer, Pace, make_rule
from sim.system import Equations


class Batch(NamedTuple):
    """Replicas in training; every array has the replica as leading axis S.

    Attributes:
        state: the state of the system.
        own: the optimiser's own state.
        data: the data of the system.
        key: random key of the minibatches as raw numbers, (S, 2) uint32.
    """

    state: Any
    own: Any
    data: Any
    key: jax.Array


class Chunk(NamedTuple):
    """What one compiled call does: observe, then take `lengths[i]` steps, for i = 0 .. size - 1.

    Attributes:
        first: number of the first step.
        lengths: steps to take after each observation, (C,), integers >= 0; only the first `size` are used.
        size: number of observations, <= C.
    """

    first: jax.Array
    lengths: jax.Array
    size: jax.Array


class Layout(NamedTuple):
    """How replicas share the machine: all of a device's at once or one after the other, over how many devices.

    On a CPU one after the other is faster: a replica's matrices then stay in the cache (twice as fast as the batched
    product at D = 100, P = 550, N = 500).
    """

    vectorized: bool
    devices: int


@partial(jax.jit, static_argnames=("equations", "optimizer", "layout"))
def begin(equations: Equations, optimizer: Optimizer, layout: Layout, batch: Batch, pace: Pace) -> Batch:
    """The batch at t = 0: data prepared from the initial state, and the optimiser's own state."""

    def one(replica: Batch, pace: Pace) -> Batch:
        data = equations.prepare(replica.state, replica.data)
        return replica._replace(data=data, own=make_rule(optimizer, pace).start(replica.state))

    return spread(one, layout)(batch, pace)


@partial(jax.jit, static_argnames=("equations", "optimizer", "samples", "names", "layout"))
def advance(
    equations: Equations,
    optimizer: Optimizer,
    samples: int,
    names: int,
    layout: Layout,
    batch: Batch,
    pace: Pace,
    chunk: Chunk,
) -> tuple[Any, Any, jax.Array]:
    """Take the steps of one chunk. Loop bounds are data: chunks of any length share one compilation.

    With full batches the forward pass of an observation is that of the step which follows it.

    Args:
        equations: of the system.
        optimizer: how a gradient becomes a step.
        samples: P.
        names: number of observables O.
        layout: how replicas share the machine.
        batch: replicas; state and own are the parts that change.
        pace: scalars of the run.
        chunk: what to do.

    Returns:
        State and own state after the last step, and observables, (S, C, O), of which the first `size` are set.
    """

    def one(replica: Batch, shared: tuple[Pace, Chunk]) -> tuple[Any, Any, jax.Array]:
        pace, chunk = shared
        data, rule = replica.data, make_rule(optimizer, pace)
        order, choose = minibatches(optimizer, samples, replica.key, chunk.first)
        shared_pass = optimizer.batch_size is None

        def step(n: jax.Array, moving: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
            state, own, order = moving
            if shared_pass:
                part = data
            else:
                assert equations.select is not None
                indices, order = choose(n, order)
                part = equations.select(data, indices)
            gradient = equations.gradient(state, part, equations.forward(state, part))
            return *rule.move(n, state, gradient, own), order

        def interval(i: jax.Array, carry: tuple[jax.Array, Any, jax.Array]) -> tuple[jax.Array, Any, jax.Array]:
            n, moving, records = carry
            state, own, order = moving
            fields = equations.forward(state, data)
            records = records.at[i].set(equations.observe(state, data, fields).astype(records.dtype))
            begun = n
            if shared_pass:
                moved = *rule.move(n, state, equations.gradient(state, data, fields), own), order
                moving = jax.tree.map(partial(jnp.where, chunk.lengths[i] > 0), moved, moving)
                begun = n + 1
            last = n + chunk.lengths[i]
            return last, jax.lax.fori_loop(begun, last, step, moving), records

        records = jnp.full((chunk.lengths.size, names), jnp.nan)
        carry = chunk.first, (replica.state, replica.own, order), records
        _, (state, own, _), records = jax.lax.fori_loop(0, chunk.size, interval, carry)
        return state, own, records

    return spread(one, layout)(batch, (pace, chunk))


def minibatches(optimizer: Optimizer, samples: int, key: jax.Array, first: jax.Array) -> tuple[Any, Any]:
    """The order of the samples at step `first`, and (n, order) -> indices (B,) of step n, and the order then.

    Batches depend on the key and on the step's number alone, so that a run can be cut anywhere. With replacement, and
    with full batches, there is no order: an empty tuple.
    """
    if optimizer.batch_size is None:
        return (), None
    key, size = jax.random.wrap_key_data(key, impl="threefry2x32"), optimizer.batch_size
    if optimizer.replacement:
        # 32 bits in every precision, for the same numbers
        return (), lambda n, order: (
            jax.random.randint(jax.random.fold_in(key, n), (size,), 0, samples, "int32"),
            order,
        )
    per_epoch = samples // size

    def shuffled(n: jax.Array) -> jax.Array:
        return jax.random.permutation(jax.random.fold_in(key, n // per_epoch), jnp.arange(samples, dtype="int32"))

    def choose(n: jax.Array, order: jax.Array) -> tuple[jax.Array, jax.Array]:
        order = jax.lax.cond(n % per_epoch == 0, shuffled, lambda _: order, n)
        return jax.lax.dynamic_slice_in_dim(order, (n % per_epoch) * size, size), order

    return shuffled(first), choose


def spread(one: Any, layout: Layout) -> Any:
    """(replicas, shared) -> `one` of every replica, side by side or in turn, sharded over the layout's devices."""

    def local(replicas: Any, shared: Any) -> Any:
        if layout.vectorized:
            return jax.vmap(one, in_axes=(0, None))(replicas, shared)
        return jax.lax.map(lambda replica: one(replica, shared), replicas)

    if layout.devices == 1:
        return local
    along, everywhere = jax.sharding.PartitionSpec("seed"), jax.sharding.PartitionSpec()
    mesh = jax.sharding.Mesh(jax.devices()[: layout.devices], ("seed",))
    if hasattr(jax, "shard_map"):
        return jax.shard_map(local, mesh=mesh, in_specs=(along, everywhere), out_specs=along, check_vma=False)
    from jax.experimental.shard_map import shard_map  # jax < 0.7

    return shard_map(local, mesh=mesh, in_specs=(along, everywhere), out_specs=along, check_rep=False)
