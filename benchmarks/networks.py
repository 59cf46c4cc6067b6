"""What `sim.train` costs over a bare compiled loop of the same passes, and 8 seeds over one.

    python benchmarks/networks.py [--steps 100]

The modular network at full size (p = 97, N = 500). Costs are processor time, all threads together, so that other work
on the machine counts little; those of a run of no steps are taken off.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dmft.checks import precision_context
from sim import measures, networks, tasks, train

TASK = tasks.modular("add", 97, corruption=0.35)
NETWORK = networks.two_embeddings(500)
RULE = optax.adamw(0.01, b1=0.9, b2=0.98, weight_decay=5.0)


def cost(work: Callable[[], Any]) -> tuple[float, float]:
    """Processor and wall time of the second call, seconds."""
    work()
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.process_time() - processor, time.perf_counter() - wall


def bare(steps: int) -> Callable[[], Any]:
    """A jitted scan of gradient and optimiser alone."""
    start = measures.initial(NETWORK, TASK)
    with precision_context("float32"):
        parameters = jax.tree.map(jnp.float32, start.parameters)

        def loss(p: Any) -> Any:
            return jnp.mean((start.program(p, start.arrays.x) - jax.nn.one_hot(start.arrays.y, 97)) ** 2)

        def step(carry: Any, _: Any) -> Any:
            p, own = carry
            update, own = RULE.update(jax.grad(loss)(p), own, p)
            return (optax.apply_updates(p, update), own), None

        loop = jax.jit(lambda p: jax.lax.scan(step, (p, RULE.init(p)), None, length=steps)[0])

    def work() -> Any:
        with precision_context("float32"):
            return jax.block_until_ready(loop(parameters))

    return work


def trained(steps: int, seeds: int) -> Callable[[], Any]:
    """`sim.train`, observed at the start and at the end."""
    return lambda: train(NETWORK, TASK, steps, optimizer=RULE, seeds=seeds, times=[0, steps])


def main() -> None:
    """Print processor time per step, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    steps = parser.parse_args().steps
    alone = cost(bare(steps))[0]
    one, one_wall = cost(trained(steps, 1))
    eight, eight_wall = cost(trained(steps, 8))
    none, many = cost(trained(1, 1))[0], cost(trained(1, 8))[0]
    print(f"bare scan {1e3 * alone / steps:.1f} ms of processor time a step")
    each = (one - none) / (steps - 1)
    print(f"train {1e3 * each:.1f} ms a step: {each * steps / alone:.2f} times")
    print(f"8 seeds over one: {(eight - many) / (one - none):.2f} times; wall {one_wall:.1f} s and {eight_wall:.1f} s")


if __name__ == "__main__":
    main()
