"""Speed and memory of `sim.simulate` against bare loops and a notebook's Python loop: one table of targets, one run.

    python benchmarks/simulation.py            D = 100, P = 550, N = 500: about ten minutes on two cores
    python benchmarks/simulation.py --quick    fewer rounds and seeds, no presets, for a look

Every contender trains the same network on the same data. Each is compiled first, then timed in turn with the others,
several rounds; a ratio is the median over rounds of the ratio within a round, so that load hits both sides alike. The
bare loops and the notebook are given their data; `simulate` is timed from call to dataset, drawing included. A bare
loop is the two matrix products of a gradient-descent step, no nonlinearity and no residual.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dmft.checks import precision_context
from dmft.models.model import Model
from sim import simulate
from sim.systems.draws import draw_replica

MODEL = Model(alpha=1.0, epsilon=0.25, kappa=5.5, dim=100, width=500)
STEP = 0.02
EVERY = 10
FRESH = 1000


def notebook(precision: str, steps: int, every: int) -> Callable[[], None]:
    """A research notebook: a Python loop over a jitted gradient, and two jitted losses `every` so many steps."""
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
        for n in range(steps):
            w = w - rate * gradient(w)
            if n % every == 0:
                history.append((float(train_loss(w)), float(test_loss(w))))

    return run


def bare(precision: str, steps: int, seeds: int = 1, batching: str = "map") -> Callable[[], object]:
    """A lax.scan of the two matrix products alone, over `seeds` networks at once: not gradient descent."""
    draws = [draw_replica(MODEL, 0, index) for index in range(seeds)]
    dtype = np.dtype(precision)
    x, w0 = (jnp.asarray(np.stack([getattr(d, name) for d in draws]).astype(dtype)) for name in ("inputs", "weights"))

    def one(operands: tuple[jax.Array, jax.Array]) -> jax.Array:
        x, w = operands
        rate = jnp.asarray(1e-3, dtype)
        return jax.lax.scan(lambda w, _: (w - rate * ((w @ x.T) @ x), None), w, None, length=steps)[0]

    function = jax.jit(jax.vmap(one) if batching == "vmap" else lambda operands: jax.lax.map(one, operands))
    return lambda: jax.block_until_ready(function((x, w0)))


def ours(precision: str, steps: int, form: str, seeds: int = 1) -> Callable[[], object]:
    """`simulate` from call to dataset, drawing included, with all eight observables every 10 steps."""
    times = STEP * np.arange(0, steps + 1, EVERY)
    return lambda: simulate(MODEL, STEP * steps, seeds=seeds, step=STEP, form=form, times=times, precision=precision)


def seconds(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each contender in every round, (rounds,), after a first call that compiles."""
    for run in contenders.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in taken.items()}


class Line(NamedTuple):
    """One line of the table: what was measured, against which target, and whether it is met (None: not measured)."""

    what: str
    measured: str
    target: str
    met: bool | None


def at_least(what: str, ratios: np.ndarray, target: float, detail: str) -> Line:
    """A line for a ratio, the median of `ratios` over rounds, that must be at least `target`."""
    ratio = float(np.median(ratios))
    shown, wanted = (f"{ratio:.0%}", f">= {target:.0%}") if target < 1.0 else (f"{ratio:.1f} x", f">= {target:g} x")
    return Line(what, f"{shown}  ({detail})", wanted, ratio >= target)


def single_network(precision: str, rounds: int, steps: int) -> list[Line]:
    """One seed: the cheaper form against a notebook, the plain network against bare matrix products."""
    passes = {"notebook": steps, "sparse": steps, "bare": 5 * steps, "network": 5 * steps, "auto": 20 * steps}
    with precision_context(precision):
        contenders = {
            "notebook": notebook(precision, passes["notebook"], 1),
            "sparse": notebook(precision, passes["sparse"], EVERY),
            "bare": bare(precision, passes["bare"]),
            "network": ours(precision, passes["network"], "network"),
            "auto": ours(precision, passes["auto"], "auto"),
        }
        taken = seconds(contenders, rounds)
    rates = {name: passes[name] / taken[name] for name in taken}

    def versus(first: str, second: str) -> tuple[np.ndarray, str]:
        shown = f"{np.median(rates[first]):.0f} and {np.median(rates[second]):.0f} steps/s"
        return rates[first] / rates[second], shown

    ratios, detail = versus("auto", "notebook")
    lines = [at_least(f"{precision}: form auto / notebook, losses every step", ratios, 8.0, detail)]
    ratios, detail = versus("auto", "sparse")
    sparse = f"{precision}: form auto / notebook, losses every {EVERY} steps"
    lines.append(Line(sparse, f"{np.median(ratios):.1f} x  ({detail})", "-", None))
    ratios, detail = versus("network", "bare")
    lines.append(at_least(f"{precision}: form network / bare products", ratios, 0.85, detail))
    return lines


def many_networks(precision: str, rounds: int, steps: int, seeds: int) -> Line:
    """Many seeds at once against the faster of two batched loops of bare matrix products."""
    with precision_context(precision):
        taken = seconds(
            {
                "vmap": bare(precision, steps, seeds, "vmap"),
                "map": bare(precision, steps, seeds, "map"),
                "network": ours(precision, steps, "network", seeds),
            },
            rounds,
        )
    ratios = np.minimum(taken["vmap"], taken["map"]) / taken["network"]
    rates = {name: steps * seeds / float(np.median(values)) for name, values in taken.items()}
    detail = f"{rates['network']:.0f} and, vmap, map, {rates['vmap']:.0f}, {rates['map']:.0f} network steps/s"
    return at_least(f"{precision}: {seeds} seeds, form network / bare products", ratios, 0.70, detail)


#: Prints the peak memory in MiB of a process (Linux) that trains for the number of steps given.
MEMORY = """
import sys
import numpy as np
from dmft.models.model import Model
from sim import simulate
steps = int(sys.argv[1])
model = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=20)
simulate(model, 0.05 * steps, seeds=4, step=0.05, times=0.05 * np.linspace(0, steps, 100))
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024)
"""


def memory(short: int, long: int) -> Line:
    """Peak memory of a process whose run has `long` steps, less that of one with `short` steps."""
    what = f"memory of {long} steps less that of {short}"
    if not sys.platform.startswith("linux"):
        return Line(what, "skipped: not Linux", "< 10 MiB", None)
    peaks = []
    for steps in (short, long):
        command = [sys.executable, "-c", MEMORY, str(steps)]
        peaks.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    growth = peaks[1] - peaks[0]
    return Line(what, f"{growth:+.1f} MiB  (of {peaks[0]:.0f} MiB)", "< 10 MiB", growth < 10.0)


#: Presets of `dmft simulate --preset` with a time they must stay under, in seconds.
PRESETS = {"fig1": 240.0}


def preset_time(name: str, limit: float) -> Line:
    """Seconds that a preset takes, compilation included, in its own size."""
    from sim.presets import preset, run_preset

    start = time.perf_counter()
    run_preset(preset(name))
    taken = time.perf_counter() - start
    return Line(f"preset {name}", f"{taken:.0f} s", f"< {limit:.0f} s", taken < limit)


def load() -> str:
    """The load average of the last minute, which a reader of timings must know."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds and seeds, no presets")
    options = parser.parse_args()
    rounds, seeds = (3, 16) if options.quick else (5, 64)
    print(f"{jax.default_backend()}, {os.cpu_count()} cores, load {load()}, jax {jax.__version__}")
    print(f"D = {MODEL.dim}, P = {MODEL.samples}, N = {MODEL.width}; observables every {EVERY} steps\n", flush=True)
    jobs: list[Callable[[], list[Line]]] = []
    for precision in ("float64", "float32"):
        jobs.append(partial(single_network, precision, rounds, 100 if options.quick else 600))
        jobs.append(lambda precision=precision: [many_networks(precision, (rounds + 1) // 2, 60, seeds)])
    jobs.append(lambda: [memory(10_000, 40_000 if options.quick else 200_000)])
    if not options.quick:
        jobs.extend(lambda name=name, limit=limit: [preset_time(name, limit)] for name, limit in PRESETS.items())
    for job in jobs:
        for row in job():
            verdict = "" if row.met is None else "met" if row.met else "MISSED"
            print(f"{row.what:<52} {row.target:>8}  {verdict:<6}  {row.measured}", flush=True)
    print(f"\nload at the end: {load()}")


if __name__ == "__main__":
    main()
