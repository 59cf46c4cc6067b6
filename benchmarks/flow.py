"""Gradient flow of the simulation: evaluations and errors, beside steps of descent and beside diffrax if it is there.

    python benchmarks/flow.py                  the reduced form at D = 100, to t = 60 and 1000
    python benchmarks/flow.py --long           and to 10^4
    python benchmarks/flow.py --library        and explicit and implicit methods of diffrax

Errors are the largest relative ones of train and test loss over 60 times, against a run at a local tolerance of 10^-8.
Steps of equal error are counted from steps of 0.02, whose error is proportional to the step.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from dmft import Model
from dmft.checks import precision_context
from sim import simulate
from sim.systems.forms import quadratic_system
from sim.training.system import System

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=5.5, initial_overlap=0.1, dim=100)
LOSSES = ("train_loss", "test_loss")
FINE, RTOL, STEP = 3e-6, 2.5e-3, 0.02


def curves(model: Model, t_max: float, **options: Any) -> Any:
    """One seed in the reduced form at 60 times."""
    times = np.append(0.0, np.geomspace(1.0, t_max, 60))
    return simulate(model, t_max, seeds=1, form="reduced", times=times, **options)


def errors(result: Any, exact: Any) -> list[float]:
    """The largest relative error of each loss, at the times of `result`."""
    at = exact.interp(time=result.time) if not np.array_equal(result.time, exact.time) else exact
    return [float(np.abs(result[name] / at[name] - 1.0).max()) for name in LOSSES]


def flow_line(t_max: float) -> tuple[Any, int, list[float]]:
    """The exact curves, the evaluations of one seed, and its errors."""
    exact = curves(MODEL, t_max, rtol=FINE)
    result = curves(MODEL, t_max, rtol=RTOL)
    found, count = errors(result, exact), result.attrs["evaluations"]
    claimed = [float((result[f"{name}_step_error"] / result[name].mean("seed")).max()) for name in LOSSES]
    print(
        f"t = {t_max:g}: {count} evaluations (and {result.attrs['evaluations_for_errors']} for the error), errors "
        f"of train and test loss {100 * found[0]:.3f} and {100 * found[1]:.3f} %, claimed {100 * claimed[0]:.3f} and "
        f"{100 * claimed[1]:.3f} %",
        flush=True,
    )
    return exact, count, found


def steps_line(exact: Any, t_max: float, count: int, wanted: list[float]) -> None:
    """Steps of descent with the same errors."""
    times = np.unique(np.round(exact.time.values / STEP)) * STEP
    same = curves_at(times, t_max, rtol=FINE)
    found = errors(curves_at(times, t_max, step=STEP), same)
    needed = [t_max / STEP * error / allowed for error, allowed in zip(found, wanted, strict=True)]
    stable = max(max(needed), t_max / 0.6)
    print(
        f"    steps of {STEP:g}: {t_max / STEP:.0f}, errors {100 * found[0]:.3f} and {100 * found[1]:.3f} %; "
        f"of the same error {stable:.0f}, {stable / count:.0f} times as many",
        flush=True,
    )


def curves_at(times: np.ndarray, t_max: float, **options: Any) -> Any:
    """One seed in the reduced form at these times."""
    return simulate(MODEL, t_max, seeds=1, form="reduced", times=times, **options)


def wall_line(t_max: float = 200.0, rounds: int = 7) -> None:
    """Wall time per evaluation over that of a step of descent, measured in turn."""
    steps = 1000
    ratios = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        result = simulate(MODEL, t_max, seeds=1, times=[0.0, t_max], rtol=1e-4, form="reduced")
        between = time.perf_counter()
        simulate(MODEL, 0.1 * steps, seeds=1, times=[0.0, 0.1 * steps], step=0.1, form="reduced")
        end = time.perf_counter()
        evaluations = result.attrs["evaluations"] + result.attrs["evaluations_for_errors"]
        ratios.append((between - start) / evaluations / ((end - between) / steps))
    print(f"wall time per evaluation: {np.median(ratios[1:]):.2f} times that of a step of descent (median of {rounds})")


def velocity_of(system: System) -> tuple[Any, Any, Any]:
    """(velocity, observe, state) of the first seed; inside a precision context."""
    import jax
    import jax.numpy as jnp

    state, data = jax.tree.map(jnp.asarray, system.draw(0, 0))
    equations = system.equations
    data = equations.prepare(state, data)
    return (
        lambda y: -equations.gradient(y, data, equations.forward(y, data)) - system.decay * y,
        lambda y: equations.observe(y, data, equations.forward(y, data)),
        state,
    )


def library_lines(model: Model, t_max: float, solvers: dict[str, tuple[Any, int]], tolerances: list[float]) -> None:
    """Methods of diffrax on the same problem: right-hand sides of explicit ones, seconds of all."""
    import diffrax
    import jax
    import jax.numpy as jnp

    exact = curves(model, t_max, rtol=FINE)
    start = time.perf_counter()
    result = curves(model, t_max, rtol=RTOL)
    start, first = time.perf_counter(), start
    result = curves(model, t_max, rtol=RTOL)
    own = errors(result, exact)
    print(
        f"D = {model.dim}, t = {t_max:g}: here {result.attrs['evaluations']} evaluations, {100 * max(own):.3f} %, "
        f"{time.perf_counter() - start:.1f} s (first {start - first:.1f} s)",
        flush=True,
    )
    with precision_context("float64"):
        velocity, observe, state = velocity_of(quadratic_system(model, "reduced"))
        for name, (solver, stages) in solvers.items():
            for tolerance in tolerances:
                solve = jax.jit(
                    lambda y, solver=solver, tolerance=tolerance: diffrax.diffeqsolve(
                        diffrax.ODETerm(lambda _, y, __: velocity(y)),
                        solver,
                        0.0,
                        t_max,
                        None,
                        y,
                        saveat=diffrax.SaveAt(ts=jnp.asarray(exact.time.values), fn=lambda _, y, __: observe(y)),
                        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
                        max_steps=100_000,
                        throw=False,
                    )
                )
                jax.block_until_ready(solve(state).ys)
                begun = time.perf_counter()
                solution = jax.block_until_ready(solve(state))
                took = time.perf_counter() - begun
                at = {loss: np.asarray(solution.ys)[:, i] for i, loss in enumerate(LOSSES)}
                found = [float(np.abs(at[loss] / exact[loss].values[0] - 1.0).max()) for loss in LOSSES]
                steps = int(solution.stats["num_steps"])
                cost = f"{steps * stages} evaluations" if stages else f"{steps} steps"
                print(
                    f"    {name}, tolerance {tolerance:g}: {cost}, {100 * max(found):.3f} %, {took:.1f} s", flush=True
                )


def library(t_max: float) -> None:
    """diffrax beside: explicit methods at D = 100, implicit ones at D = 20, whose matrices are 420 x 420."""
    try:
        import diffrax
    except ImportError:
        print("diffrax is not installed: pip install diffrax")
        return
    explicit = {"Tsit5": (diffrax.Tsit5(), 6), "Dopri8": (diffrax.Dopri8(), 13)}
    library_lines(MODEL, t_max, explicit, [1e-3, 1e-5])
    implicit = {"Kvaerno3": (diffrax.Kvaerno3(), 0), "Kvaerno5": (diffrax.Kvaerno5(), 0)}
    library_lines(MODEL.replace(dim=20), t_max, implicit, [1e-4, 1e-6])


def main() -> None:
    """Print the lines asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="also to t = 10^4")
    parser.add_argument("--library", action="store_true", help="also methods of diffrax")
    options = parser.parse_args()
    wall_line()
    for t_max in (60.0, 1000.0, *([1e4] if options.long else [])):
        exact, count, found = flow_line(t_max)
        if t_max <= 1000.0:
            steps_line(exact, t_max, count, found)
    if options.library:
        library(1000.0)


if __name__ == "__main__":
    main()
