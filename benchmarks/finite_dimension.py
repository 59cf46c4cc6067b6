"""What the theory neglects at finite dimension: gradient flow of the reduced simulation at several D against `solve`.

    python benchmarks/finite_dimension.py                  every case: some twenty minutes of one core
    python benchmarks/finite_dimension.py --case planted   one of them

Two tables for each case, at a few times.  First, theory with `dim` set over the mean of the runs at that D, less one.
Second, a straight line in 1/D through the runs (weighted least squares): its value at 1/D = 0, against the theory of
infinite D where the start is planted; chi squared, sizes minus 2 degrees of freedom; the slope over the limit.
With --store FILE the means and errors are kept as JSON, and a size that is there already is not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from compare.extrapolation import line
from dmft import Model, solve
from sim import simulate

NAMES = ("train_loss", "test_loss", "trace", "overlap", "mean_weight_norm")
T_MAX, TIMES = 100.0, (3.0, 12.0, 25.0, 50.0, 100.0)


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, and how many runs there are of each D."""

    model: Model
    seeds: dict[int, int]


CASES = {
    "planted": Case(Model(alpha=1.0, epsilon=0.5, kappa=5.5, initial_overlap=0.1), {100: 60, 200: 20, 400: 6}),
    "random": Case(Model(alpha=1.0, epsilon=0.5, kappa=5.5), {100: 60, 200: 20, 400: 6}),
    "slow": Case(Model(alpha=1.0, epsilon=0.25, kappa=5.5), {100: 60, 200: 20, 400: 6}),
}


def simulated(model: Model, seeds: int) -> dict[str, list[list[float]]]:
    """Means of the runs at TIMES and their standard errors, by observable."""
    runs = simulate(
        model, T_MAX, seeds=seeds, times=[0.0, *TIMES], form="reduced", seed=11, precision="float32", rtol=3e-3
    )
    return {
        name: [runs[name].mean("seed")[1:].values.tolist(), runs[f"{name}_stderr"][1:].values.tolist()]
        for name in NAMES
    }


def predicted(model: Model) -> dict[str, list[list[float]]]:
    """The theory at TIMES and its errors, by observable."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theory = solve(model, T_MAX, times=[0.0, *TIMES])
    return {name: [theory[name][1:].values.tolist(), theory[f"{name}_error"][1:].values.tolist()] for name in NAMES}


def deviation(theory: list[list[float]], runs: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """theory / runs - 1 and its standard error, (T,) each."""
    (value, own), (mean, scatter) = np.array(theory), np.array(runs)
    ratio = value / mean
    return ratio - 1, np.abs(ratio) * np.hypot(own / value, scatter / mean)


def print_deviations(case: Case, runs: dict[int, Any], theory: dict[int, Any]) -> None:
    print(
        f"\ntheory / simulation - 1 in per cent (standard error)\n\n| | D | {' | '.join(f't = {t:g}' for t in TIMES)} |"
    )
    print(f"|{' --- |' * (len(TIMES) + 2)}")
    for name in NAMES:
        for dim, seeds in case.seeds.items():
            found = deviation(theory[dim][name], runs[dim][name])
            cells = " | ".join(f"{100 * one:+.1f}({100 * error:.1f})" for one, error in zip(*found, strict=True))
            print(f"| {name.replace('_', ' ')} | {dim} ({seeds} runs) | {cells} |")


def print_limits(runs: dict[int, Any], infinite: Any | None) -> None:
    print(f"\nlines in 1/D\n{'observable':<17}{'t':>5}{'limit':>20}{'theory':>20}{'z':>7}{'chi2':>7}{'slope':>8}")
    dims = np.array(list(runs))
    for name in NAMES:
        for i, moment in enumerate(TIMES):
            means, errors = np.array([[run[name][j][i] for run in runs.values()] for j in (0, 1)])
            limit, error, slope, _, chi2 = line(1 / dims, means, errors)
            text = f"{name:<17}{moment:>5g}{f'{limit:.5g}({error:.2g})':>20}"
            if infinite is not None:
                value, own = infinite[name][0][i], infinite[name][1][i]
                text += f"{f'{value:.5g}({own:.2g})':>20}{(value - limit) / np.hypot(own, error):>7.1f}"
            else:
                text += f"{'':>27}"
            print(f"{text}{chi2:>7.1f}{slope / limit:>8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", choices=list(CASES), help="one case alone")
    parser.add_argument("--store", type=Path, help="file for the means, from which it goes on")
    chosen = parser.parse_args()
    stored = json.loads(chosen.store.read_text()) if chosen.store and chosen.store.exists() else {}

    def kept(key: str, compute: Any) -> Any:
        if key not in stored:
            start = time.process_time()
            stored[key] = compute()
            print(f"{key}: {time.process_time() - start:.0f} s of one core", flush=True)
            if chosen.store:
                chosen.store.write_text(json.dumps(stored))
        return stored[key]

    for name, case in CASES.items():
        if chosen.case not in (None, name):
            continue
        runs, theory = {}, {}
        for dim, seeds in case.seeds.items():
            model = case.model.replace(dim=dim)
            runs[dim] = kept(f"{name} D={dim} {seeds} runs", lambda model=model, seeds=seeds: simulated(model, seeds))
            theory[dim] = kept(f"{name} D={dim} theory", lambda model=model: predicted(model))
        planted = case.model.initial_overlap > 0
        infinite = kept(f"{name} D infinite theory", lambda case=case: predicted(case.model)) if planted else None
        print(f"\n{name}: {case.model}")
        print_deviations(case, runs, theory)
        print_limits(runs, infinite)


if __name__ == "__main__":
    main()
