"""Speed of `sim.simulate` against a notebook's Python loop and against bare compiled loops, all in one run.

    python benchmarks/simulation.py            D = 100, P = 550, N = 500: about two minutes on two cores
    python benchmarks/simulation.py --quick    fewer repetitions, for a look

Every contender trains the same network on the same data. Each is compiled first, then timed in turn with the others,
several rounds; the table gives the median steps per second and ratios of medians, so that load hits all alike.
The bare loops and the notebook are given their data; `simulate` is timed from call to dataset, drawing included. The
ratio in the last column is to the bare scan, for the batched rows to the faster of the two bare batched loops.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dmft.checks import precision_context
from dmft.model import Model
from sim import simulate
from sim.data import draw_replica

MODEL = Model(alpha=1.0, epsilon=0.25, kappa=5.5, dim=100, width=500)
STEP = 0.02
EVERY = 10
FRESH = 1000


def notebook(precision: str, steps: int) -> Callable[[], None]:
    """A research notebook: a Python loop over a jitted gradient and two jitted losses, every step."""
    draw = draw_replica(MODEL, 0, 0)
    dtype = np.dtype(precision)
    x, y, w0, beta = (jnp.asarray(a.astype(dtype)) for a in (draw.inputs, draw.labels, draw.weights, draw.beta))
    x_test = jax.random.normal(jax.random.key(1), (FRESH, beta.size), dtype) / np.sqrt(beta.size)
    y_test = 0.5 * (x_test @ beta) ** 2
    rate = MODEL.learning_rate_from_step(STEP)

    def loss(w: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        h = x @ w.T
        f = MODEL.alpha * jnp.mean(h + 0.5 * MODEL.epsilon * h**2, axis=1)
        return jnp.mean((f - y) ** 2)

    gradient = jax.jit(jax.grad(lambda w: 0.5 * loss(w, x, y)))
    train_loss, test_loss = jax.jit(lambda w: loss(w, x, y)), jax.jit(lambda w: loss(w, x_test, y_test))

    def run() -> None:
        w, history = w0, []
        for _ in range(steps):
            w = w - rate * gradient(w)
            history.append((float(train_loss(w)), float(test_loss(w))))

    return run


def bare(precision: str, steps: int, seeds: int = 0, batching: str = "vmap") -> Callable[[], None]:
    """A lax.scan over gradient-descent steps, nothing observed; over `seeds` networks at once if not 0."""
    draws = [draw_replica(MODEL, 0, index) for index in range(max(seeds, 1))]
    dtype = np.dtype(precision)
    x, y, w0 = (
        jnp.asarray(np.stack([getattr(draw, name) for draw in draws]).astype(dtype))
        for name in ("inputs", "labels", "weights")
    )
    rate = jnp.asarray(STEP / (MODEL.alpha * MODEL.kappa), dtype)

    def one(x: jax.Array, y: jax.Array, w: jax.Array) -> jax.Array:
        def step(w: jax.Array, _: None) -> tuple[jax.Array, None]:
            h = w @ x.T
            residual = MODEL.alpha * jnp.mean(h + 0.5 * MODEL.epsilon * h * h, axis=0) - y
            return w - rate * ((residual * (1.0 + MODEL.epsilon * h)) @ x), None

        return jax.lax.scan(step, w, None, length=steps)[0]

    if not seeds:
        function = jax.jit(one)
        return lambda: jax.block_until_ready(function(x[0], y[0], w0[0]))
    batched = jax.jit(jax.vmap(one) if batching == "vmap" else lambda *a: jax.lax.map(lambda z: one(*z), a))
    return lambda: jax.block_until_ready(batched(x, y, w0))


def products(precision: str, steps: int) -> Callable[[], None]:
    """A lax.scan of the two matrix products alone, no nonlinearity and no residual: not gradient descent."""
    draw = draw_replica(MODEL, 0, 0)
    dtype = np.dtype(precision)
    x, w0 = jnp.asarray(draw.inputs.astype(dtype)), jnp.asarray(draw.weights.astype(dtype))

    def step(w: jax.Array, _: None) -> tuple[jax.Array, None]:
        return w - jnp.asarray(1e-3, dtype) * ((w @ x.T) @ x), None

    function = jax.jit(lambda w: jax.lax.scan(step, w, None, length=steps)[0])
    return lambda: jax.block_until_ready(function(w0))


def ours(precision: str, steps: int, form: str, seeds: int = 1) -> Callable[[], object]:
    """`simulate` from call to dataset, drawing included, with all eight observables every 10 steps."""
    times = STEP * np.arange(0, steps + 1, EVERY)
    return lambda: simulate(MODEL, STEP * steps, seeds=seeds, step=STEP, form=form, times=times, precision=precision)


def rates(contenders: dict[str, tuple[Callable[[], object], int]], rounds: int) -> dict[str, float]:
    """Median steps per second (times networks) of each contender, the rounds interleaved."""
    for run, _ in contenders.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, (run, _) in contenders.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: contenders[name][1] / statistics.median(taken) for name, taken in seconds.items()}


def report(precision: str, rounds: int, steps: int, seeds: int) -> None:
    """Measure and print one table, inside a precision context."""
    single = rates(
        {
            "Python loop": (notebook(precision, steps // 4), steps // 4),
            "bare scan, network": (bare(precision, steps), steps),
            "bare scan, two products only": (products(precision, steps), steps),
            "simulate, form network": (ours(precision, steps, "network"), steps),
            "simulate, form auto": (ours(precision, 4 * steps, "auto"), 4 * steps),
        },
        rounds,
    )
    several, many = {}, steps // 10
    if seeds:
        contenders: dict[str, tuple[Callable[[], object], int]] = {
            f"bare vmap, {seeds} networks": (bare(precision, many, seeds, "vmap"), many * seeds),
            f"bare map, {seeds} networks": (bare(precision, many, seeds, "map"), many * seeds),
            f"simulate, form network, {seeds} seeds": (ours(precision, many, "network", seeds), many * seeds),
            f"simulate, form auto, {seeds} seeds": (ours(precision, 4 * many, "auto", seeds), 4 * many * seeds),
        }
        several = rates(contenders, (rounds + 1) // 2)
    loop, scan = single["Python loop"], single["bare scan, network"]
    fastest = max((rate for name, rate in several.items() if name.startswith("bare")), default=scan)
    print(f"\n{precision}: {'network steps/s':>47} {'/ Python loop':>14} {'/ bare scan':>12}")
    for name, rate in (single | several).items():
        print(f"{name:<40} {rate:>15.0f} {rate / loop:>14.2f} {rate / (scan if name in single else fastest):>12.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--seeds", type=int, default=64, help="networks in the batched rows (0: leave them out)")
    parser.add_argument("--precision", choices=("float64", "float32"), nargs="+", default=["float64", "float32"])
    options = parser.parse_args()
    print(
        f"{jax.default_backend()}, {os.cpu_count()} cores, jax {jax.__version__}; D = {MODEL.dim}, "
        f"P = {MODEL.samples}, N = {MODEL.width}; observables every {EVERY} steps, the notebook's every step"
    )
    for precision in options.precision:
        with precision_context(precision):
            report(
                precision, rounds=3 if options.quick else 9, steps=200 if options.quick else 400, seeds=options.seeds
            )


if __name__ == "__main__":
    main()
