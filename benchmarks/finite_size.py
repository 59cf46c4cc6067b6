"""Means of the reduced simulation, extrapolated linearly in 1/D, against the theory at the same gradient-descent step.

    python benchmarks/finite_size.py            D = 100, 200, 400, 800: about eight minutes on two cores
    python benchmarks/finite_size.py --quick    D = 50, 100, 200 with fewer runs

Weighted least squares of the means against 1/D gives the value at D = infinity and its standard error; z compares it
with the theory, both errors combined, and chi2 tells whether a straight line fits (degrees of freedom: sizes - 2).
The slope, relative to the limit, is the coefficient of 1/D.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np

from dmft import Model, solve
from sim import simulate

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, initial_overlap=0.1)
STEP, T_MAX, TIMES = 0.2, 6.0, (1.2, 2.4, 6.0)
NAMES = ("train_loss", "test_loss", "trace", "overlap", "mean_weight_norm")
#: Runs of each size: standard errors below 1 % for the losses and 2 % for the rest.
FULL = {100: 400, 200: 200, 400: 100, 800: 50}
QUICK = {50: 400, 100: 200, 200: 80}


def line_at_infinity(dims: np.ndarray, means: np.ndarray, errors: np.ndarray) -> tuple[float, float, float, float]:
    """Weighted straight line in 1/D: value at 1/D = 0, its standard error, the slope, chi squared."""
    design = np.stack([np.ones(len(dims)), 1 / dims], axis=1) / errors[:, None]
    covariance = np.linalg.inv(design.T @ design)
    limit, slope = covariance @ design.T @ (means / errors)
    chi2 = float(np.sum(((means - limit - slope / dims) / errors) ** 2))
    return float(limit), float(np.sqrt(covariance[0, 0])), float(slope), chi2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer runs")
    sizes = QUICK if parser.parse_args().quick else FULL
    runs = []
    for dim, seeds in sizes.items():
        start = time.perf_counter()
        model = MODEL.replace(dim=dim)
        runs.append(simulate(model, T_MAX, step=STEP, seeds=seeds, times=TIMES, form="reduced", seed=3))
        print(f"D = {dim}: {seeds} runs in {time.perf_counter() - start:.0f} s", flush=True)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theory = solve(MODEL, T_MAX, step=STEP, replicas=16, sample_count=512, times=TIMES)
    print(f"theory: {time.perf_counter() - start:.0f} s\n")
    header = "".join(f"{f'D = {dim}':>18}" for dim in sizes)
    print(f"{'observable':<17}{'t':>5}{header}{'limit':>18}{'theory':>18}{'z':>7}{'chi2':>7}{'slope':>8}")
    scores = []
    for name in NAMES:
        for i, moment in enumerate(TIMES):
            means = np.array([float(run[name][:, i].mean()) for run in runs])
            errors = np.array([float(run[f"{name}_stderr"][i]) for run in runs])
            limit, error, slope, chi2 = line_at_infinity(np.array(list(sizes)), means, errors)
            value, own = float(theory[name][i]), float(theory[f"{name}_stderr"][i])
            scores.append(abs(value - limit) / np.hypot(error, own))
            columns = [*zip(means, errors, strict=True), (limit, error), (value, own)]
            cells = "".join(f"{f'{mean:.5f}({spread:.5f})':>18}" for mean, spread in columns)
            print(f"{name:<17}{moment:>5}{cells}{scores[-1]:>7.2f}{chi2:>7.2f}{slope / limit:>8.1f}")
    print(f"\nlargest |z| {max(scores):.2f} of {len(scores)} comparisons")


if __name__ == "__main__":
    main()
