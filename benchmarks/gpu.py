"""An accelerator in one short run: the solver's target cases, and the simulator against the matrix-product peak.

    python benchmarks/gpu.py            a few minutes on one GPU; on the CPU the sizes are small, and say nothing
    python benchmarks/gpu.py --quick    a smoke run

The fraction is that of the network's own products, 4 P D N operations a step, in float32, against the fastest product
of two large square matrices measured there. A curve of the theory is timed from call to dataset: first, and compiled.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from dmft import Model, solve
from dmft.checks import precision_context
from sim import simulate

#: Model, t_max, rtol of the solver's cases.
CASES = (
    (Model(alpha=1.0, epsilon=0.5, kappa=5.5, initial_overlap=0.1), 300.0, 0.01),
    (Model(alpha=1.0, epsilon=0.5, kappa=5.5, initial_overlap=0.1), 1e4, 0.02),
    (Model(alpha=4.0, epsilon=0.25, kappa=4.0, dim=300), 1000.0, 0.03),
    (Model(alpha=0.25, epsilon=0.5, kappa=2.5, dim=300), 100.0, 0.03),
)
QUICK = ((Model(alpha=1.0, epsilon=0.5, kappa=5.5, initial_overlap=0.1), 0.5, 0.3),)


def fastest(run: Callable[[], object], rounds: int = 3) -> float:
    """Seconds of the fastest of some calls, after one that compiles."""
    run()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)


def product_peak(size: int, count: int = 20) -> float:
    """Operations per second of products of two square matrices in float32."""
    with precision_context("float32"):
        square = jnp.ones((size, size), jnp.float32)
        product = jax.jit(lambda a: jax.lax.fori_loop(0, count, lambda _, b: (a @ b) * (1.0 / size), a))
        return count * 2.0 * size**3 / fastest(lambda: jax.block_until_ready(product(square)))


def simulator_speed(dim: int, width: int, steps: int) -> float:
    """Operations per second of the products of gradient descent at kappa = 5, without the drawing."""
    model, step = Model(alpha=1.0, epsilon=0.25, kappa=5.0, dim=dim, width=width), 0.01

    def run(count: int) -> float:
        times = [0.0, step * count]
        return fastest(
            lambda: simulate(model, step * count, seeds=1, step=step, form="network", precision="float32", times=times)
        )

    return (steps - 1) * 4.0 * model.samples * dim * width / max(run(steps) - run(1), 1e-9)


def curve(model: Model, t_max: float, rtol: float) -> str:
    """One line about a case of the solver."""
    start = time.perf_counter()
    solve(model, t_max, rtol=rtol)
    between = time.perf_counter()
    theory = solve(model, t_max, rtol=rtol)
    end = "met" if theory.attrs["tolerance_met"] else "not met"
    seconds = f"first {between - start:6.1f} s, then {time.perf_counter() - between:6.1f} s"
    return f"alpha {model.alpha:g}, epsilon {model.epsilon:g}, t = {t_max:g}, rtol {rtol:g}: {seconds}, {end}"


def main() -> None:
    parser = argparse.ArgumentParser(description="An accelerator in one short run.")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, a smoke run")
    quick = parser.parse_args().quick
    small = quick or jax.default_backend() == "cpu"
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}", flush=True)
    dim, width, size, steps = (100, 400, 512, 200) if small else (1000, 4000, 8192, 2000)
    peak, speed = product_peak(size), simulator_speed(dim, width, steps)
    about = f"D {dim}, P {5 * dim}, N {width}"
    print(f"simulator, {about}: {speed / peak:.0%} of the peak ({speed / 1e12:.3g} of {peak / 1e12:.3g} TFLOP/s)")
    for case in QUICK if quick else CASES:
        print(curve(*case), flush=True)


if __name__ == "__main__":
    main()
