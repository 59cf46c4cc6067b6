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
loss at t = 300, standard error and step error together: replicas or seeds are scaled by (relative standard error
/ that error)^2.  This is done twice: as if step 0.6 had no error of its own, which is to solve gradient descent at that
step instead of gradient flow; and with steps so small that their error, first order in the step and measured by
simulations of the same draws at two steps, is that error too.

Every measurement has a process of its own, whose peak memory is reported.  Costs are compared in processor time, all
threads together, so that other work on the machine cancels; on an accelerator in wall time.
"""

from __future__ import annotations

import argparse
import os
from typing import Any, NamedTuple

import numpy as np
from measuring import Measured, fitted_exponent, isolated

from dmft import Model
from dmft.checks import RunError

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=5.5, initial_overlap=0.1)
T_MAX, RTOL, STEP, DIM = 300.0, 0.01, 0.6, 300
#: Dimension of the simulations that measure the error of the step.
DIM_BIAS = 100
#: Replicas of the uniform grid, samples of each replica, and the fewest whose scatter is an error.
REPLICAS, SAMPLES, FEWEST = 8, 256, 4
#: Fractions of a sweep that the Picard iteration may take.
DAMPINGS = (0.5, 0.25, 0.12, 0.06)
MOST_SWEEPS = 500
#: Rows of the uniform grid (its compiled sizes) and of the Picard iteration.
ROWS_DESCENT, ROWS_PICARD = (48, 96, 192, 384), (16, 32, 64, 128, 192)

#: Ratios of cost to that of `solve` that are aimed at.
WANTED = {"uniform grid": 50, "Picard": 50, "simulation": 10}

PARTS = ("methods", "horizons", "targets")

#: Time and memory targets: model, horizon, rtol, seconds, GiB.
TARGETS = (
    (MODEL, 300.0, 0.01, 20.0, 3.0),
    (MODEL, 1e4, 0.02, 60.0, 4.0),
    (Model(alpha=4.0, epsilon=0.25, kappa=4.0, dim=300), 1000.0, 0.03, 60.0, 4.0),
    (Model(alpha=0.25, epsilon=0.5, kappa=2.5, dim=300), 100.0, 0.03, 60.0, 4.0),
)


class Line(NamedTuple):
    """One method at its longest horizon, and what it takes at equal error.

    Attributes:
        reached: longest time solved.
        unit: seconds there of one replica or seed.
        exponent: of these in the number of rows or steps.
        relative: relative standard error of the test loss of `count` replicas or seeds there.
        memory: peak there, GiB.
        loss: test loss there.
    """

    name: str
    reached: float
    unit: float
    exponent: float
    relative: float
    count: int
    memory: float
    loss: float

    def needed(self, target: float) -> float:
        """Replicas or seeds for a relative standard error of `target`."""
        return max(FEWEST, self.count * (self.relative / target) ** 2)

    def total(self, target: float, t_max: float, refined: float = 1.0) -> float:
        """Seconds to t_max at `target`, on a grid `refined` times finer."""
        return self.needed(target) * self.unit * (refined * t_max / self.reached) ** self.exponent


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

    result = solve(MODEL, t_max, step=STEP, replicas=replicas, sample_count=SAMPLES, times=[t_max])
    return float(result.test_loss[-1]), float(result.test_loss_stderr[-1])


def iterated(t_max: float, damping: float, most: int) -> tuple[float, int, float]:
    """Test loss at t_max, sweeps and remaining change of the Picard iteration."""
    from picard import picard

    result = picard(MODEL, t_max, STEP, samples=SAMPLES, damping=damping, most=most)
    return float(result.test_loss[-1]), result.sweeps, result.change


def simulated(dim: int, step: float, t_max: float, seeds: int) -> np.ndarray:
    """Test loss at t_max of every seed."""
    from sim import simulate

    return simulate(MODEL.replace(dim=dim), t_max, step=step, seeds=seeds, times=[t_max]).test_loss.values[:, -1]


def horizon(rows: int) -> float:
    """Last time of a uniform grid of so many rows."""
    return STEP * (rows - 1)


def measure_descent(limit: float) -> Line:
    """The uniform grid at longer and longer horizons."""
    sizes: list[int] = []
    runs: list[Measured] = []
    for rows in ROWS_DESCENT:
        if len(runs) > 1 and sum(run.cost for run in runs) + 6 * runs[-1].cost > limit:
            break
        runs.append(isolated(descent, horizon(rows), REPLICAS, first=(horizon(rows), FEWEST)))
        sizes.append(rows)
        say(f"uniform grid, {rows} rows: {runs[-1].cost:.1f} s for {REPLICAS} replicas, test loss {runs[-1].value}")
    last, (loss, error) = runs[-1], runs[-1].value
    exponent = fitted_exponent(sizes, [run.cost for run in runs])
    unit = last.cost / REPLICAS
    return Line("uniform grid", horizon(sizes[-1]), unit, exponent, error / loss, REPLICAS, last.memory, loss)


def measure_picard(limit: float, scatter: float) -> Line:
    """The Picard iteration at longer and longer horizons.

    Args:
        limit: seconds.
        scatter: relative standard error of REPLICAS replicas of the uniform grid: the fixed point is the same.
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
        say(f"Picard, {rows} rows: {run.cost:.2f} s a replica, {sweeps}, test loss {run.value[0]:.6f}")
    last, exponent = runs[-1], fitted_exponent(sizes, [run.cost for run in runs])
    return Line("Picard", horizon(sizes[-1]), last.cost, exponent, scatter, REPLICAS, last.memory, last.value[0])


def measure_simulation(limit: float, t_max: float) -> Line:
    """Seeds of the simulation, between 4 and 64 and as many as the limit allows; if not even 4, to a shorter time."""
    trial = isolated(simulated, DIM, STEP, t_max / 30, 2)
    seeds = int(np.clip(limit / (15 * trial.cost), 4, 64))
    reached = t_max * float(np.clip(limit / (60 * trial.cost), 0.1, 1))
    run = isolated(simulated, DIM, STEP, reached, seeds, first=(DIM, STEP, t_max / 30, 2))
    loss, deviation = float(run.value.mean()), float(run.value.std(ddof=1))
    unit, relative = run.cost / seeds, deviation / loss / np.sqrt(seeds)
    say(f"simulation, D = {DIM}, to t = {reached:g}: {seeds} seeds, {unit:.2f} s each, scatter {deviation / loss:.3f}")
    return Line("simulation", reached, unit, 1.0, relative, seeds, run.memory, loss)


def step_bias(t_max: float, step: float) -> float:
    """Relative error of the test loss at t_max by the uniform step, from simulations of the same draws at step / 6."""
    coarse, fine = (simulated(DIM_BIAS, size, t_max, 8).mean() for size in (step, step / 6))
    return abs(coarse / fine - 1) * 6 / 5


def compare(limit: float, t_max: float, rtol: float) -> Measured:
    """The table of methods; returns the measurement of `solve`."""
    ours = isolated(theory, MODEL, t_max, rtol)
    target = ours.value["relative"]
    say(f"solve to t = {t_max:g}: {ours.cost:.1f} s, relative error of the test loss {target:.4f}")
    grid = measure_descent(limit)
    lines = [grid, measure_picard(limit, grid.relative), measure_simulation(limit, t_max)]
    bias = isolated(step_bias, t_max, STEP).value
    print_methods(ours, lines, t_max, bias)
    return ours


def print_methods(ours: Measured, lines: list[Line], t_max: float, bias: float) -> None:
    """Costs and ratios at equal standard error, and at equal total error on a grid finer by bias / error."""
    target = ours.value["relative"]
    refined = max(1.0, bias / target)
    print(f"\nto t = {t_max:g} at a relative error of {target:.4f}; solve: {ours.cost:.1f} s, {ours.memory:.2f} GiB")
    print(f"step {STEP:g}: {bias:.4f} off the flow at t = {t_max:g}; at equal total error {refined:.1f} times finer")
    titles = ("method", "reached", "s each", "GiB", "loss", "solve's", "exponent", "needed")
    print(row((*titles, "total s", "ratio", "finer: s", "ratio", "wanted")))
    for line in lines:
        own = float(np.interp(line.reached, ours.value["time"], ours.value["loss"]))
        totals = line.total(target, t_max), line.total(target, t_max, refined)
        ratios = [total / ours.cost for total in totals]
        wanted = WANTED[line.name]
        verdicts = ", ".join("met" if ratio >= wanted else "not met" for ratio in ratios)
        cells = (line.name, line.reached, line.unit, line.memory, line.loss, own, line.exponent, line.needed(target))
        print(row((*cells, totals[0], ratios[0], totals[1], ratios[1], f">= {wanted}: {verdicts}")))


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
    exponent = fitted_exponent(list(runs), [run.cost for run in runs.values()])
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
