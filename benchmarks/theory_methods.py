"""`dmft.solve` against other ways to the same curve, its cost against the horizon, and its time and memory targets.

    python benchmarks/theory_methods.py            half an hour on two free cores
    python benchmarks/theory_methods.py --quick    a smoke run: tiny sizes, no verdict means anything

The case is alpha = 1, epsilon = 0.5, kappa = 5.5, planted overlap 0.1, to t = 300, by four methods:

- `dmft.solve`, gradient flow at rtol = 0.01;
- uniform grid: the same equations row after row on a uniform grid, `solve(step=0.6)`, about the largest stable step;
- Picard: kernels and paths of all times iterated together on the same grid (benchmarks/picard.py), with the largest
  damping factor of DAMPINGS that converges, to 1e-3 in the test loss;
- simulation: `simulate` at D = 300 and the same step, as many seeds as the standard error takes.

Each of the last three runs to the longest horizon that `--limit` seconds allow; a power of the number of rows, fitted
to its horizons, carries its cost on to t = 300.  "At equal error" means at the error that `solve` reports for the test
loss at t = 300, its standard error and its step error together; the others are charged for their standard errors
alone.  A method's replicas or seeds are scaled by (its relative standard error / that error)^2.

Every measurement has a process of its own, whose peak memory is reported.  Costs are compared in processor time, all
threads together, so that other work on the machine cancels; on an accelerator in wall time.
"""

from __future__ import annotations

import argparse
import os
from typing import Any, NamedTuple

import numpy as np
from measuring import Measured, fitted_power, isolated

from dmft import Model
from dmft.checks import RunError

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=5.5, initial_overlap=0.1)
T_MAX, RTOL, STEP, DIM = 300.0, 0.01, 0.6, 300
#: Replicas of the uniform grid, samples of each replica, and the fewest whose scatter is an error.
REPLICAS, SAMPLES, FEWEST = 8, 256, 4
#: Fractions of a sweep that the Picard iteration may take.
DAMPINGS = (0.5, 0.25, 0.12, 0.06)
MOST_SWEEPS = 500
#: Rows of the uniform grid (its compiled sizes) and of the Picard iteration.
ROWS_DESCENT, ROWS_PICARD = (48, 96, 192, 384), (16, 32, 64, 128, 192)

PARTS = ("methods", "horizons", "targets")

#: Time and memory targets: model, horizon, rtol, seconds, GiB.
TARGETS = (
    (MODEL, 300.0, 0.01, 20.0, 3.0),
    (MODEL, 1e4, 0.02, 60.0, 4.0),
    (Model(alpha=4.0, epsilon=0.25, kappa=4.0, dim=300), 1000.0, 0.03, 60.0, 4.0),
    (Model(alpha=0.25, epsilon=0.5, kappa=2.5, dim=300), 100.0, 0.03, 60.0, 4.0),
)


class Line(NamedTuple):
    """One method: what was measured at its longest horizon, and its cost at t_max and equal error.

    Attributes:
        reached: longest time solved.
        relative: relative standard error of the test loss there.
        cost: seconds there.
        exponent: of the cost in the number of rows.
        count: replicas or seeds at equal error.
        total: seconds to t_max at equal error.
        memory: peak there, GiB.
        loss: test loss there.
    """

    name: str
    reached: float
    relative: float
    cost: float
    exponent: float
    count: float
    total: float
    memory: float
    loss: float


def theory(model: Model, t_max: float, rtol: float) -> dict[str, Any]:
    """The test loss over time, its relative error at t_max, and whether the tolerance was met."""
    from dmft import solve

    result = solve(model, t_max, rtol=rtol)
    error = np.hypot(result.test_loss_stderr[-1], result.test_loss_step_error[-1])
    attributes = {name: result.attrs[name] for name in ("replicas", "points", "tolerance_met")}
    curve = {"time": result.time.values, "loss": result.test_loss.values}
    return {**curve, "relative": float(error / result.test_loss[-1]), **attributes}


def descent(t_max: float, replicas: int) -> tuple[float, float]:
    """Test loss and its standard error at t_max, row after row on the uniform grid."""
    from dmft import solve

    result = solve(MODEL, t_max, step=STEP, replicas=replicas, samples=SAMPLES, times=[t_max])
    return float(result.test_loss[-1]), float(result.test_loss_stderr[-1])


def iterated(t_max: float, damping: float, most: int) -> tuple[float, int, float]:
    """Test loss at t_max, sweeps and remaining change of the Picard iteration."""
    from picard import picard

    result = picard(MODEL, t_max, STEP, samples=SAMPLES, damping=damping, most=most)
    return float(result.test_loss[-1]), result.sweeps, result.change


def simulated(t_max: float, seeds: int) -> np.ndarray:
    """Test loss at t_max of every seed."""
    from sim import simulate

    return simulate(MODEL.replace(dim=DIM), t_max, step=STEP, seeds=seeds, times=[t_max]).test_loss.values[:, -1]


def horizon(rows: int) -> float:
    """Last time of a uniform grid of so many rows."""
    return STEP * (rows - 1)


def measure_descent(limit: float, target: float, t_max: float) -> Line:
    """The uniform grid at longer and longer horizons."""
    sizes: list[int] = []
    runs: list[Measured] = []
    for rows in ROWS_DESCENT:
        if len(runs) > 1 and sum(run.cost for run in runs) + 6 * runs[-1].cost > limit:
            break
        runs.append(isolated(descent, horizon(rows), REPLICAS, first=(horizon(rows), FEWEST)))
        sizes.append(rows)
        say(f"uniform grid, {rows} rows: {runs[-1].cost:.1f} s for {REPLICAS} replicas, test loss {runs[-1].value}")
    exponent, prefactor = fitted_power(sizes, [run.cost / REPLICAS for run in runs])
    loss, error = runs[-1].value
    count = max(FEWEST, REPLICAS * (error / loss / target) ** 2)
    total = count * prefactor * (t_max / STEP + 1) ** exponent
    last = runs[-1]
    return Line("uniform grid", horizon(sizes[-1]), error / loss, last.cost, exponent, count, total, last.memory, loss)


def measure_picard(limit: float, target: float, scatter: float, t_max: float) -> Line:
    """The Picard iteration at longer and longer horizons.

    Args:
        limit: seconds.
        target: relative error wanted.
        scatter: relative standard error of REPLICAS replicas of the uniform grid: the fixed point is the same.
        t_max: to which the cost is carried on.
    """
    sizes: list[int] = []
    runs: list[Measured] = []
    damping = 0
    for rows in ROWS_PICARD:
        if len(runs) > 1 and sum(run.cost for run in runs) + 12 * runs[-1].cost > limit:
            break
        run = None
        while run is None and damping < len(DAMPINGS):
            arguments = horizon(rows), DAMPINGS[damping]
            trial = isolated(iterated, *arguments, MOST_SWEEPS, first=(*arguments, 1))
            if np.isfinite(trial.value[2]) and trial.value[1] < MOST_SWEEPS:
                run = trial
            else:  # the cost of attempts that fail is not charged
                damping += 1
        if run is None:
            say(f"Picard, {rows} rows: no convergence")
            break
        runs.append(run)
        sizes.append(rows)
        sweeps = f"{run.value[1]} sweeps at damping {DAMPINGS[damping]:g}"
        say(f"Picard, {rows} rows: {run.cost:.1f} s a replica, {sweeps}, test loss {run.value[0]:.6f}")
    exponent, prefactor = fitted_power(sizes, [run.cost for run in runs])
    count = max(FEWEST, REPLICAS * (scatter / target) ** 2)
    total = count * prefactor * (t_max / STEP + 1) ** exponent
    last, reached = runs[-1], horizon(sizes[-1])
    return Line("Picard", reached, scatter, last.cost, exponent, count, total, last.memory, last.value[0])


def measure_simulation(limit: float, target: float, t_max: float) -> Line:
    """Seeds of the simulation, between 4 and 64 and as many as the limit allows; if not even 4, to a shorter time."""
    trial = isolated(simulated, t_max / 30, 2)
    seeds = int(np.clip(limit / (15 * trial.cost), 4, 64))
    reached = t_max * float(np.clip(limit / (60 * trial.cost), 0.1, 1))
    run = isolated(simulated, reached, seeds, first=(t_max / 30, 2))
    loss, deviation = float(run.value.mean()), float(run.value.std(ddof=1))
    count = (deviation / loss / target) ** 2
    total = count * run.cost / seeds * t_max / reached
    say(f"simulation, D = {DIM}: {seeds} seeds, {run.cost / seeds:.1f} s each, scatter {deviation / loss:.3f}")
    relative = deviation / loss / np.sqrt(seeds)
    return Line("simulation", reached, relative, run.cost, 1.0, count, total, run.memory, loss)


def compare(limit: float, t_max: float, rtol: float) -> Measured:
    """The table of methods; returns the measurement of `solve`."""
    ours = isolated(theory, MODEL, t_max, rtol)
    target = ours.value["relative"]
    say(f"solve to t = {t_max:g}: {ours.cost:.1f} s, relative error of the test loss {target:.4f}")
    grid = measure_descent(limit, target, t_max)
    lines = [
        grid,
        measure_picard(limit, target, grid.relative, t_max),
        measure_simulation(limit, target, t_max),
    ]
    wanted = {"uniform grid": 50, "Picard": 50, "simulation": 10}
    print(f"\nto t = {t_max:g}, relative error {target:.4f} of the test loss; seconds of processor time on a CPU")
    columns = (
        "method",
        "reached",
        "seconds",
        "GiB",
        "loss",
        "solve's",
        "exponent",
        "count",
        "total s",
        "ratio",
        "target",
    )
    print(row(columns))
    print(row(("solve", t_max, ours.cost, ours.memory, "", float(ours.value["loss"][-1]), "", "", ours.cost, 1, "")))
    for line in lines:
        ratio = line.total / ours.cost
        verdict = f">= {wanted[line.name]} {'met' if ratio >= wanted[line.name] else 'not met'}"
        own = float(np.interp(line.reached, ours.value["time"], ours.value["loss"]))
        cells = (line.name, line.reached, line.cost, line.memory, line.loss, own)
        print(row((*cells, line.exponent, line.count, line.total, ratio, verdict)))
    return ours


def scale(horizons: tuple[float, ...], rtol: float) -> dict[float, Measured]:
    """Cost of `solve` against t_max at fixed tolerance, and the fitted exponent."""
    print(f"\nsolve at rtol = {rtol:g} against t_max")
    print(row(("t_max", "first s", "warm s", "proc. s", "GiB", "points", "replicas", "tolerance", "test loss")))
    runs = {}
    for t_max in horizons:
        run = isolated(theory, MODEL, t_max, rtol)
        value = run.value
        met = "met" if value["tolerance_met"] else "not met"
        cells = (t_max, run.cold, run.warm, run.processor, run.memory, value["points"], value["replicas"], met)
        print(row((*cells, float(value["loss"][-1]))), flush=True)
        runs[t_max] = run
    exponent = fitted_power(list(runs), [run.cost for run in runs.values()])[0]
    print(f"fitted exponent {exponent:.2f}, target < 0.5: {'met' if exponent < 0.5 else 'not met'}")
    return runs


def check_targets(known: dict[tuple[float, float], Measured]) -> None:
    """Time and memory of the four target cases; `known`, keyed by t_max and rtol, are not measured again."""
    print("\ntargets: wall time of a warm call, peak memory")
    print(row(("alpha", "epsilon", "kappa", "dim", "t_max", "rtol", "first s", "warm s", "proc. s", "GiB", "verdict")))
    for model, t_max, rtol, seconds, memory in TARGETS:
        head = (model.alpha, model.epsilon, model.kappa, model.dim or "inf", t_max, rtol)
        try:
            run = known.get((t_max, rtol)) if model == MODEL else None
            run = run or isolated(theory, model, t_max, rtol)
        except RunError as error:
            print(f"{row(head)}  failed: {error}")
            continue
        met = run.warm <= seconds and run.memory <= memory
        verdict = f"{seconds:g} s, {memory:g} GiB {'met' if met else 'not met'}"
        if not run.value["tolerance_met"]:
            verdict += ", tolerance not met"
        print(row((*head, run.cold, run.warm, run.processor, run.memory, verdict)), flush=True)


def row(cells: tuple[Any, ...]) -> str:
    """Cells of a line of a table, 11 characters wide; numbers to three digits."""
    texts = [cell if isinstance(cell, str) else f"{cell:.4g}" for cell in cells]
    return " ".join(f"{text:>11}" for text in texts)


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, a smoke run")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="leave some out")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for each of the other methods")
    options = parser.parse_args()
    import jax

    load = f"load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    print(f"{jax.default_backend()}, {os.cpu_count()} cores, jax {jax.__version__}, {load}; {MODEL}")
    if options.quick:
        compare(0.0, 20.0, 0.1)
        return
    known: dict[tuple[float, float], Measured] = {}
    if "methods" in options.parts:
        known[T_MAX, RTOL] = compare(options.limit, T_MAX, RTOL)
    if "horizons" in options.parts:
        known |= {(t_max, 0.02): run for t_max, run in scale((10.0, 100.0, 1000.0, 1e4), 0.02).items()}
    if "targets" in options.parts:
        check_targets(known)


if __name__ == "__main__":
    main()
