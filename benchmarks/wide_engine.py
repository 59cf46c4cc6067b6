"""The wide engine in one table: time, own error, deviation from simulation, memory, cold start.

    python benchmarks/wide_engine.py            about three minutes on two cores
    python benchmarks/wide_engine.py --quick    fewer simulated runs and no cold start

The case is alpha = 1, epsilon = 0.5, kappa = 5.5, planted overlap 0.1, to t = 12. Every `solve` is timed from call to
dataset, first with compilation, then again without. The deviation of the test loss is from the mean of simulations at
D = 400, at t = 12, relative, with the standard error of that mean. Memory is the process's peak (getrusage) so far.
The last row is the wall time of `dmft compare` on a small case in a fresh process.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import xarray

from dmft import Model, solve
from sim import simulate

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=5.5, initial_overlap=0.1)
T_MAX, DIM = 12.0, 400

#: What is timed: the tolerance driven default, fixed sampling, gradient descent, single precision.
CASES: dict[str, dict[str, Any]] = {
    "flow, rtol 0.01": {},
    "flow, 4 x 256 samples": {"replicas": 4, "sample_count": 256},
    "flow, 16 x 256 samples": {"replicas": 16, "sample_count": 256},
    "flow, 8 x 512 samples": {"replicas": 8, "sample_count": 512},
    "flow, float32, 16 x 256": {"replicas": 16, "sample_count": 256, "precision": "float32"},
    "descent, step 0.2, 8 x 256": {"replicas": 8, "sample_count": 256, "step": 0.2},
}


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """Result and wall time."""
    start = time.perf_counter()
    result = run()
    return result, time.perf_counter() - start


def peak_memory() -> float:
    """Peak resident memory of this process in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def cold_start() -> float:
    """Wall time of `dmft compare` in a fresh process, files written."""
    options = {"alpha": 1, "epsilon": 0.5, "kappa": 3, "dim": 50, "initial-overlap": 0.1, "t-max": 2, "seeds": 2}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    program = "from compare.cli import main; main()"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", program, "compare", *arguments, "--out", folder]
        return timed(lambda: subprocess.run(command, check=True, capture_output=True))[1]


def measure(settings: dict[str, Any]) -> tuple[xarray.Dataset, float, float, float]:
    """The theory, its first and second wall time, and the peak memory so far."""

    def run() -> xarray.Dataset:
        return solve(MODEL, T_MAX, times=[T_MAX], **settings)

    (theory, first), (_, warm) = timed(run), timed(run)
    return theory, first, warm, peak_memory()


def simulated(seeds: int) -> dict[str, xarray.Dataset]:
    """Means at t = 12 of the gradient flow's and of the descent's simulation at D = 400."""
    model = MODEL.replace(dim=DIM)
    return {
        "flow": simulate(model, T_MAX, seeds=seeds, times=[T_MAX], step=0.05, form="reduced"),
        "descent": simulate(model, T_MAX, seeds=seeds, times=[T_MAX], step=0.2, form="reduced"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer simulated runs, no cold start")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")
    print(f"{jax.default_backend()}, {os.cpu_count()} cores, jax {jax.__version__}; {MODEL}")
    rows = {name: measure(settings) for name, settings in CASES.items()}
    runs, spent = timed(lambda: simulated(4 if quick else 24))
    print(f"simulation: D = {DIM}, {spent:.0f} s\n")
    columns = {"first s": 9, "warm s": 8, "replicas": 9, "test error %": 13, "step %": 8, "MiB": 7, "deviation %": 18}
    print(f"{'':<28}" + "".join(f"{title:>{width}}" for title, width in columns.items()))
    for name, (theory, first, warm, memory) in rows.items():
        value = float(theory.test_loss[-1])
        run = runs["flow" if theory.attrs["step"] == "flow" else "descent"]
        mean, error = float(run.test_loss[:, -1].mean()), float(run.test_loss_stderr[-1])
        deviation = f"{100 * (value / mean - 1):+.2f} +- {100 * error / mean:.2f}"
        own = [100 * float(theory[f"test_loss_{kind}"][-1]) / value for kind in ("stderr", "step_error")]
        print(
            f"{name:<28}{first:>9.1f}{warm:>8.2f}{theory.attrs['replicas']:>9}{own[0]:>13.3f}{own[1]:>8.3f}"
            f"{memory:>7.0f}{deviation:>18}"
        )
    if not quick:
        print(f"\n`dmft compare`, D = 50, t = 2, from a cold start: {cold_start():.1f} s")


if __name__ == "__main__":
    main()
