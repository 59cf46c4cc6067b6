"""Reference means of committees: simulations at several dimensions D, extrapolated in 1/D to what theory describes.

    .venv/bin/python benchmarks/committee_reference.py relu erf        # these cases
    .venv/bin/python benchmarks/committee_reference.py --quick         # all, with few seeds at small D: a trial

Each case of CASES is trained for ten steps of gradient descent at every D, and its observables fitted with

    mean(D) = limit + slope / D

by least squares, with weights from the scatter over seeds pooled over all D (its variance falls as 1/D); the error of
the limit comes from the scatter at each D by itself. Where the line fits, chi2 is about the number of sizes minus 2.

Writes FOLDER/committee_CASE.json: the model, the settings, time, and for each observable an array over time (and
neurons, directions) of `mean` and `stderr` at every size, and of the limit, its `stderr` and `chi2`. Training is in
float32: `rounding` is the largest difference that float64 makes to one run, and no stated error is below it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from dmft import Committee
from sim import simulate

#: Steps of every case.
STEPS = 10
#: Seeds at each D, and how many are trained at once, so that memory does not grow with their number.
SEEDS = {500: 128, 1000: 64, 2000: 32, 4000: 12}
MANY = {500: 512, 1000: 256, 2000: 96, 4000: 32}
SMALL = {500: 128, 1000: 96, 2000: 48}
QUICK = {50: 24, 100: 24, 200: 12}
AT_ONCE = 4


def two_directions(u: Any) -> Any:
    """tanh(u_1 + u_2^3 - 3 u_2), no polynomial, for u of shape (..., 2)."""
    return jnp.tanh(u[..., 0] + u[..., 1] ** 3 - 3.0 * u[..., 1])


@dataclasses.dataclass(frozen=True)
class Case:
    """A committee, its learning rate and how many seeds are run at each D."""

    model: Committee
    step: float
    seeds: Mapping[int, int] = dataclasses.field(default_factory=lambda: SEEDS)


RETRIEVAL = Committee(
    alpha=1.0, kappa=3.0, width=1, activation="half_square", teacher="half_square", initial_teacher_overlap=[[0.5]]
)
RELU = Committee(
    alpha=1.0,
    kappa=3.0,
    width=2,
    activation="relu",
    readout=[1.0, -1.0],
    teacher=two_directions,
    teacher_dim=2,
    initial_teacher_overlap=[[0.4, -0.4], [-0.2, 0.4]],
    initial_self_overlap=[[1.0, 0.2], [0.2, 1.0]],
)
ERF = Committee(
    alpha=1.0,
    kappa=3.0,
    width=3,
    activation="erf",
    teacher="erf",
    teacher_dim=3,
    initial_teacher_overlap=[[0.5, 0.1, 0.0], [0.1, 0.3, 0.1], [0.0, -0.1, 0.4]],
    initial_self_overlap=[[1.0, 0.1, 0.0], [0.1, 1.0, 0.1], [0.0, 0.1, 0.8]],
)
QUADRATIC = Committee(
    alpha=1.0,
    kappa=3.0,
    width=2,
    activation="quadratic",
    epsilon=0.25,
    centered=True,
    initial_teacher_overlap=[[0.7], [-0.5]],
)
CASES: dict[str, Case] = {
    "retrieval": Case(RETRIEVAL, 0.2, MANY),
    "relu": Case(RELU, 1.0, MANY),
    "erf": Case(ERF, 1.0),
    "quadratic": Case(QUADRATIC, 0.4, MANY),
    "sgd": Case(RETRIEVAL.replace(batch_fraction=0.3), 0.1, SMALL),
    "persistent": Case(RETRIEVAL.replace(batch_fraction=0.3, persistence=1.0), 0.1, SMALL),
    "readout": Case(ERF.replace(train_readout=True), 1.0, SMALL),
    "readout_relu": Case(RELU.replace(train_readout=True, weight_decay=0.1, label_noise=0.3), 0.5, SMALL),
}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What was measured at several D of one observable: means and variances over seeds, (sizes, ...)."""

    dims: np.ndarray
    counts: np.ndarray
    means: np.ndarray
    variances: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """Standard errors of the means."""
        return np.sqrt(self.variances / along(self.counts, self.means))


def along(values: np.ndarray, array: np.ndarray) -> np.ndarray:
    """`values`, (sizes,), shaped to multiply `array`, (sizes, ...)."""
    return values.reshape(-1, *(1,) * (array.ndim - 1))


def extrapolate(sizes: Sizes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Limit of the line in 1/D, its standard error, and chi2, each of the observable's shape."""
    weights = sizes.dims * sizes.counts  # inverse variances, but for a factor that is the same at all D
    design = np.stack([np.ones(sizes.dims.size), 1.0 / sizes.dims], axis=1)
    solution = np.linalg.inv(design.T @ (weights[:, None] * design)) @ (weights * design.T)
    line = np.tensordot(solution, sizes.means, axes=1)
    error = np.sqrt(np.tensordot(solution[0] ** 2, sizes.errors**2, axes=1))
    residual = sizes.means - np.tensordot(design, line, axes=1)
    pooled = np.tensordot(sizes.counts * sizes.dims, sizes.variances, axes=1) / sizes.counts.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        chi2 = np.sum(along(weights, residual) * residual**2, axis=0) / pooled
    return line[0], error, np.where(pooled > 1e-12, chi2, 0.0)


def measure(case: Case, dim: int, count: int) -> dict[str, np.ndarray]:
    """Time, (T,), and of every observable the mean and the variance over seeds, (2, T, ...), at one D."""
    runs = []
    for first in range(0, count, AT_ONCE):
        run = simulate(
            case.model.replace(dim=dim),
            STEPS * case.step,
            step=case.step,
            seeds=min(AT_ONCE, count - first),
            seed=10_000 * dim + first,  # draws at different D have nothing in common
            precision="float32",
        )
        runs.append(run)
    found = {"time": runs[0]["time"].to_numpy()}
    for name in observed(runs[0]):
        values = np.concatenate([run[name].to_numpy() for run in runs])
        found[name] = np.stack([values.mean(axis=0), values.var(axis=0, ddof=1)])
    return found


def measured(name: str, dim: int, count: int, store: Path | None) -> dict[str, np.ndarray]:
    """The same for the case `name`, from the store if it is there."""
    path = None if store is None else store / f"{name}-{dim}-{count}.npz"
    if path is not None and path.exists():
        with np.load(path) as file:
            return dict(file)
    begin = time.process_time()
    found = measure(CASES[name], dim, count)
    print(f"  D = {dim}: {count} seeds, {time.process_time() - begin:.0f} s of processor time", flush=True)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, allow_pickle=False, **found)
    return found


def observed(run: Any) -> list[str]:
    """Names of the observables of a simulated dataset."""
    return [str(name) for name in run.data_vars if "seed" in run[name].dims]


def shown(array: np.ndarray) -> Any:
    """`array` as nested lists of numbers of six digits."""
    return np.vectorize(lambda x: float(f"{x:.6g}"))(array).tolist()


def rounding(case: Case) -> float:
    """Largest difference between float32 and float64 in one run."""
    runs = [
        simulate(case.model.replace(dim=500), STEPS * case.step, step=case.step, seeds=1, seed=0, precision=precision)
        for precision in ("float32", "float64")
    ]
    return max(float(np.abs(runs[0][name] - runs[1][name]).max()) for name in observed(runs[0]))


def reference(case_name: str, seeds: Mapping[int, int], store: Path | None) -> dict[str, Any]:
    """What is written of a case."""
    case, floor = CASES[case_name], rounding(CASES[case_name])
    found = [measured(case_name, dim, count, store) for dim, count in seeds.items()]
    dims, counts = np.array(list(seeds)), np.array(list(seeds.values()))
    observables = {
        name: Sizes(dims, counts, *np.stack([part[name] for part in found], axis=1))
        for name in found[0]
        if name != "time"
    }
    record: dict[str, Any] = {
        "model": case.model.to_attributes(),
        "step": case.step,
        "seeds": {str(dim): count for dim, count in seeds.items()},
        "precision": "float32",
        "rounding": floor,
        "time": found[0]["time"].tolist(),
        "observables": {},
    }
    for name, sizes in observables.items():
        limit, error, chi2 = extrapolate(sizes)
        error = np.maximum(error, floor)
        at_size = {
            str(dim): {"mean": shown(sizes.means[i]), "stderr": shown(sizes.errors[i])}
            for i, dim in enumerate(sizes.dims)
        }
        record["observables"][name] = {
            "limit": shown(limit),
            "stderr": shown(error),
            "chi2": shown(chi2),
            "sizes": at_size,
        }
        allowed = np.maximum(0.003, 0.01 * np.abs(limit))
        chance, moved = chi2[1:].mean() / (sizes.dims.size - 2), np.abs(limit - limit[0]).max()
        print(
            f"  {name:16s} error at most {error.max():.5f}, {np.max(error / allowed):.2f} of what is allowed; "
            f"mean chi2 {chance:.2f} per degree of freedom; moved {moved:.3f}"
        )
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="all, if none is given")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[1] / "tests" / "reference")
    parser.add_argument("--store", type=Path, help="keep what is done at each D there, and go on from it")
    parser.add_argument("--quick", action="store_true", help="few seeds at small D; nothing is written")
    options = parser.parse_args()
    for name in options.cases or CASES:
        print(name, flush=True)
        record = reference(name, QUICK if options.quick else CASES[name].seeds, options.store)
        if not options.quick:
            options.folder.mkdir(parents=True, exist_ok=True)
            (options.folder / f"committee_{name}.json").write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    sys.exit(main())
