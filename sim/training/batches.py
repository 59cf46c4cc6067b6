"""Which samples a step sees: all of them, a minibatch of fixed size, or each with a probability.

Batches depend on the replica's key and on the step's number alone, so that a run can be cut anywhere. What a scheme
remembers from step to step is carried with the optimiser's own state, and saved with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sim.training.optimizers import Optimizer, Pace
from sim.training.system import Equations, Presence


def replica_key(seed: int, index: int) -> jax.Array:
    """The random key of replica `index` of the stream `seed` < 2^63, the same in every precision."""
    return key_of(seed_words(seed), index)


def seed_words(seed: int) -> Any:
    """The stream `seed` < 2^63 as two words, uint32."""
    return np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32)


def key_of(words: jax.Array, index: jax.Array | int) -> jax.Array:
    """The random key of replica `index` of the stream with these words."""
    return jax.random.fold_in(jax.random.wrap_key_data(words, impl="threefry2x32"), index)


class Batches(NamedTuple):
    """A scheme, inside a compiled function.

    Attributes:
        start: what is remembered at step 0.
        part: (n, memory, data) -> (data as step n sees them, memory).
        whole: whether `part` keeps all samples, so that the fields of all the data serve the step.
    """

    start: Any
    part: Callable[[jax.Array, Any, Any], tuple[Any, Any]]
    whole: bool


def make_batches(
    equations: Equations, optimizer: Optimizer, presence: Presence | None, samples: int, pace: Pace, key: jax.Array
) -> Batches:
    """The scheme of an optimiser's batches or of a system's presence; at most one of them is set.

    Args:
        equations: of the system.
        optimizer: with its batches of fixed size.
        presence: of the system.
        samples: P.
        pace: scalars of the run.
        key: random key of the replica's batches as raw numbers, (2,) uint32.
    """
    key = jax.random.wrap_key_data(key, impl="threefry2x32")
    batches = Batches((), _everything, True)
    if presence is not None:
        batches = _present(equations, presence, samples, pace, key)
    elif optimizer.batch_size is not None:
        batches = _minibatches(equations, optimizer, samples, key)
    return batches if equations.randomize is None else _randomized(equations, batches, jax.random.fold_in(key, 2**31))


def _randomized(equations: Equations, batches: Batches, key: jax.Array) -> Batches:
    """These batches, with what each step draws besides."""
    randomize = equations.randomize
    assert randomize is not None

    def part(n: jax.Array, memory: Any, data: Any) -> tuple[Any, Any]:
        data, memory = batches.part(n, memory, data)
        return randomize(data, jax.random.fold_in(key, n)), memory

    return Batches(batches.start, part, False)


def _everything(n: jax.Array, memory: Any, data: Any) -> tuple[Any, Any]:
    del n
    return data, memory


def _present(equations: Equations, presence: Presence, samples: int, pace: Pace, key: jax.Array) -> Batches:
    """Each sample with probability b, its gradient divided by b.

    Its presence is drawn anew with probability dt/(b tau) in each step, or always: an absent sample then joins with
    probability dt/tau, a present one leaves with probability (1 - b) dt/(b tau).
    """
    weigh, fraction = equations.weigh, presence.fraction
    assert weigh is not None

    def part(n: jax.Array, memory: jax.Array, data: Any) -> tuple[Any, jax.Array]:
        # 32 bits in every precision, for the same numbers
        again, joined = jax.random.uniform(jax.random.fold_in(key, n), (2, samples), "float32")
        present = joined < fraction
        if presence.persistence is not None:
            renewed = jnp.where(n == 0, 1.0, pace.step / (fraction * presence.persistence))
            present = jnp.where(again < renewed, present, memory)
        return weigh(data, present.astype(pace.step.dtype) / fraction), present

    return Batches(jnp.zeros(samples, bool), part, True)


def _minibatches(equations: Equations, optimizer: Optimizer, samples: int, key: jax.Array) -> Batches:
    """Batches of B samples: drawn independently, or the slices of an order that is shuffled for every epoch."""
    size, select = optimizer.batch_size, equations.select
    assert size is not None
    assert select is not None
    per_epoch = samples // size

    def independent(n: jax.Array, memory: Any, data: Any) -> tuple[Any, Any]:
        # 32 bits in every precision, for the same numbers
        return select(data, jax.random.randint(jax.random.fold_in(key, n), (size,), 0, samples, "int32")), memory

    def shuffled(n: jax.Array) -> jax.Array:
        return jax.random.permutation(jax.random.fold_in(key, n // per_epoch), jnp.arange(samples, dtype="int32"))

    def from_order(n: jax.Array, order: jax.Array, data: Any) -> tuple[Any, jax.Array]:
        order = jax.lax.cond(n % per_epoch == 0, shuffled, lambda _: order, n)
        return select(data, jax.lax.dynamic_slice_in_dim(order, (n % per_epoch) * size, size)), order

    if optimizer.replacement:
        return Batches((), independent, False)
    return Batches(jnp.arange(samples, dtype="int32"), from_order, False)
