"""The compiled loop: from one observation to the next, step by step, for a group of replicas of any system."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dmft.compiled.executables import compilable
from sim.training.batches import Batches, make_batches
from sim.training.optimizers import Optimizer, Pace, make_rule
from sim.training.system import Equations, Presence


class Batch(NamedTuple):
    """Replicas in training; every array has the replica as leading axis S.

    Attributes:
        state: the state of the system.
        own: the optimiser's own state, and what its batches remember.
        data: the data of the system.
        key: random key of the batches as raw numbers, (S, 2) uint32.
    """

    state: Any
    own: Any
    data: Any
    key: jax.Array


class Layout(NamedTuple):
    """How replicas share the machine: all of a device's at once or one after the other, over how many devices.

    On a CPU one after the other is faster: a replica's matrices then stay in the cache (twice as fast as the batched
    product at D = 100, P = 550, N = 500).
    """

    vectorized: bool
    devices: int


class Loop(NamedTuple):
    """What the compiled loop is made for.

    Attributes:
        equations: of the system.
        optimizer: how a gradient becomes a step.
        presence: which samples take part, if the system says so.
        samples: P.
        numbers: how many numbers are observed, O.
        layout: how replicas share the machine.
    """

    equations: Equations
    optimizer: Optimizer
    presence: Presence | None
    samples: int
    numbers: int
    layout: Layout


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


@compilable()
def begin(batch: Batch, pace: Pace, *, loop: Loop) -> Batch:
    """The batch at t = 0: data prepared from the initial state, the optimiser's own state and its batches' memory."""

    def one(replica: Batch, pace: Pace) -> Batch:
        data = loop.equations.prepare(replica.state, replica.data)
        rule, batches = make_rule(loop.optimizer, pace), _batches(loop, pace, replica.key)
        return replica._replace(data=data, own=(rule.start(replica.state), batches.start))

    return spread(one, loop.layout)(batch, pace)


@compilable()
def advance(batch: Batch, pace: Pace, chunk: Chunk, *, loop: Loop) -> tuple[Any, Any, jax.Array]:
    """Take the steps of one chunk. Loop bounds are data: chunks of any length share one compilation.

    Where a step sees all samples, the forward pass of an observation is that of the step which follows it.

    Args:
        batch: replicas; state and own are the parts that change.
        pace: scalars of the run.
        chunk: what to do.
        loop: what is compiled.

    Returns:
        State and own state after the last step, and observables, (S, C, O), of which the first `size` are set.
    """
    equations, objective = loop.equations, loop.equations.objective

    def one(replica: Batch, shared: tuple[Pace, Chunk]) -> tuple[Any, Any, jax.Array]:
        pace, chunk = shared
        data, rule = replica.data, make_rule(loop.optimizer, pace)
        batches = _batches(loop, pace, replica.key)

        def step(n: jax.Array, moving: tuple[Any, Any], fields: Any = None) -> tuple[Any, Any]:
            state, (own, memory) = moving
            part, memory = batches.part(n, memory, data)
            fields = equations.forward(state, part) if fields is None else fields
            gradient = equations.gradient(state, part, fields)

            def loss(moved: Any) -> jax.Array:
                assert objective is not None
                return objective(moved, part, equations.forward(moved, part))

            state, own = rule.move(n, state, gradient, own, None if objective is None else loss)
            return state, (own, memory)

        def interval(i: jax.Array, carry: tuple[jax.Array, Any, jax.Array]) -> tuple[jax.Array, Any, jax.Array]:
            n, moving, records = carry
            fields = equations.forward(moving[0], data)
            records = records.at[i].set(equations.observe(moving[0], data, fields).astype(records.dtype))
            begun = n
            if batches.whole:
                moving = jax.tree.map(partial(jnp.where, chunk.lengths[i] > 0), step(n, moving, fields), moving)
                begun = n + 1
            last = n + chunk.lengths[i]
            return last, jax.lax.fori_loop(begun, last, step, moving), records

        records = jnp.full((chunk.lengths.size, loop.numbers), jnp.nan)
        carry = chunk.first, (replica.state, replica.own), records
        _, (state, own), records = jax.lax.fori_loop(0, chunk.size, interval, carry)
        return state, own, records

    return spread(one, loop.layout)(batch, (pace, chunk))


def _batches(loop: Loop, pace: Pace, key: jax.Array) -> Batches:
    return make_batches(loop.equations, loop.optimizer, loop.presence, loop.samples, pace, key)


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
