"""Theory of committees with other losses against simulations at D = 500 to 4000, extrapolated in 1/D.

    python benchmarks/committee_losses.py [CASE ...]     a few minutes each; the table of docs/validation.md

Prints theory and limit of every observable after 10 and 30 steps, with errors, and z.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np

from compare.extrapolation import line
from dmft import Committee, solve
from sim import simulate

PAIR = {"initial_teacher_overlap": [[0.4], [-0.1]], "initial_self_overlap": [[1.0, 0.2], [0.2, 0.8]]}
LINEAR = Committee(
    alpha=1.0,
    kappa=2.0,
    width=1,
    activation="linear",
    teacher="linear",
    loss="logistic",
    labels="probability",
    initial_teacher_overlap=[[0.3]],
)
ERF = Committee(
    alpha=2.0,
    kappa=2.0,
    width=2,
    activation="erf",
    teacher="linear",
    loss="logistic",
    labels="sign",
    label_flips=0.1,
    **PAIR,
)
#: Model, step, samples of a replica and replicas of the theory.
CASES = {
    "linear": (LINEAR, 1.0, 2**13, 16),
    "erf": (ERF, 1.0, 2**15, 16),
    "relu": (ERF.replace(activation="relu", readout=[1.0, -1.0], label_flips=0.0), 1.0, 2**14, 16),
    "huber": (ERF.replace(loss="huber"), 0.5, 2**13, 8),
    "hinge": (ERF.replace(loss="hinge"), 0.5, 2**14, 8),
}
SIZES = {"linear": {500: 200, 1000: 120, 2000: 60, 4000: 24}, "huber": {500: 60, 1000: 40, 2000: 20}}
SIZES |= {"erf": SIZES["linear"], "relu": SIZES["linear"], "hinge": SIZES["huber"]}
NAMES = ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "margin", "teacher_overlap", "self_overlap")


def main() -> None:
    warnings.simplefilter("ignore")
    for case in sys.argv[1:] or CASES:
        model, step, samples, replicas = CASES[case]
        about = {"step": step, "times": [10 * step, 30 * step]}
        theory = solve(model, 30 * step, replicas=replicas, sample_count=samples, **about)
        runs = {
            dim: simulate(model.replace(dim=dim), 30 * step, seeds=seeds, seed=5, precision="float32", **about)
            for dim, seeds in SIZES[case].items()
        }
        for name in NAMES:
            own, error = (theory[f"{name}{ending}"].to_numpy().ravel() for ending in ("", "_error"))
            means = np.array([run[name].mean("seed").to_numpy().ravel() for run in runs.values()])
            scatter = np.array([run[f"{name}_stderr"].to_numpy().ravel() for run in runs.values()])
            value, own_error = line(1 / np.array(list(runs)), means, np.maximum(scatter, 1e-9))[:2]
            z = (own - value) / np.hypot(error, own_error)
            for k in range(own.size):
                found = f"{own[k]:.4f}({error[k]:.4f}) {value[k]:.4f}({own_error[k]:.4f}) z {z[k]:+.1f}"
                print(f"{case} {name} {k}: {found}")


if __name__ == "__main__":
    main()
