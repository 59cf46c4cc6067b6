"""Reference means of committees: simulations at several dimensions D, extrapolated in 1/D to what theory describes.

    .venv/bin/python benchmarks/committee_reference.py relu erf        # these cases
    .venv/bin/python benchmarks/committee_reference.py --quick         # all, with few seeds at small D: a trial

Each case of CASES is trained for ten steps of gradient descent at every D, and its observables fitted with

    mean(D) = limit + slope / D

by least squares, with weights from the scatter over seeds (its variance falls as 1/D); the error of the limit comes
from the scatter at each D by itself. Where the line fits, chi2 is about the number of sizes minus 2.

*Control variates.* With planted overlaps the fields (u, h(0)) of a sample are exactly Gaussian at any D, so that means
over samples of Hermite polynomials of the whitened fields have expectation zero exactly. Much of the scatter between
seeds is theirs. A linear regression on them, with coefficients from all D together, takes it away without bias: nine
tenths of the variance of the overlaps of a quadratic network, half of it for ReLU.

Writes FOLDER/committee_CASE.json: the model, the settings, time, and for each observable an array over time (and
neurons, directions) of `mean` and `stderr` at every size, and of the limit, its `stderr` and `chi2`. Training is in
float32: `rounding` is the largest difference that float64 makes to one run, and no stated error is below it.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.polynomial.hermite_e import hermeval

from dmft import Committee
from sim import simulate
from sim.request import Request
from sim.systems.committee import committee_system, start
from sim.systems.draws import Replica, draw_committee
from sim.training.driver import run

#: Steps of every case.
STEPS = 10
#: Seeds at each D, and how many are trained at once, so that memory does not grow with their number.
SEEDS = {500: 128, 1000: 64, 2000: 32, 4000: 8}
MANY = {500: 512, 1000: 128, 2000: 64, 4000: 20}
LARGE = {1000: 128, 2000: 64, 4000: 20}
FEW = {500: 64, 1000: 32, 2000: 16, 4000: 6}
SMALL = {500: 128, 1000: 64, 2000: 40}
QUICK = {50: 24, 100: 24, 200: 12}
AT_ONCE = 4
#: Degree of the control variates, as far as there are this many seeds for each of them.
DEGREE, SEEDS_PER_CONTROL = 4, 3


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
    "retrieval": Case(RETRIEVAL, 0.2),
    "relu": Case(RELU, 1.0, MANY),
    "erf": Case(ERF, 1.0, FEW),
    "quadratic": Case(QUADRATIC, 0.4),
    "sgd": Case(RETRIEVAL.replace(batch_fraction=0.3), 0.05, SMALL),
    "persistent": Case(RETRIEVAL.replace(batch_fraction=0.3, persistence=1.0), 0.05, SMALL),
    "readout": Case(ERF.replace(train_readout=True), 1.0, SMALL),
    "readout_relu": Case(RELU.replace(train_readout=True, weight_decay=0.1, label_noise=0.3), 0.5, LARGE),
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
    """Time, (T,), of every observable the values, (S, T, ...), and the control variates by degree, at one D."""
    model, parts = case.model.replace(dim=dim), []
    recorded: list[dict[str, np.ndarray]] = []

    def draw(seed: int, index: int) -> Any:
        replica = draw_committee(model, seed, index)
        recorded.append(controls(model, replica))
        return start(model, replica)

    system = dataclasses.replace(committee_system(model, "network"), draw=draw)
    for first in range(0, count, AT_ONCE):
        request = Request(
            t_max=STEPS * case.step,
            step=case.step,
            seeds=min(AT_ONCE, count - first),
            seed=10_000 * dim + first,  # draws at different D have nothing in common
            precision="float32",
        )
        parts.append(run(system, request, {}))
    found = {name: np.concatenate([part[name].to_numpy() for part in parts]) for name in observed(parts[0])}
    found |= {name: np.stack([each[name] for each in recorded]) for name in recorded[0]}
    return found | {"time": parts[0]["time"].to_numpy()}


def controls(model: Committee, replica: Replica) -> dict[str, np.ndarray]:
    """Means over samples of products of Hermite polynomials of the whitened fields; "degree-n": those of degree n."""
    m, c = model.initial_overlaps
    root = np.linalg.cholesky(np.block([[np.eye(model.teacher_dim), m.T], [m, c]]))
    fields = replica.inputs @ np.vstack([replica.directions, replica.weights]).T @ np.linalg.inv(root).T
    powers = [hermeval(fields, [0.0] * k + [1.0]) for k in range(DEGREE + 1)]
    found: dict[str, list[float]] = {f"degree-{n}": [] for n in range(1, DEGREE + 1)}
    for n in range(1, DEGREE + 1):
        for which in itertools.combinations_with_replacement(range(fields.shape[1]), n):
            exponents = [which.count(j) for j in range(fields.shape[1])]
            product = np.prod([powers[k][:, j] for j, k in enumerate(exponents) if k], axis=0)
            found[f"degree-{n}"].append(float(product.mean()))
    return {name: np.array(values) for name, values in found.items()}


def chosen_controls(found: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
    """The control variates at each D, (S, C): of all degrees for which there are seeds enough."""
    total, kept, columns = sum(len(part["train_loss"]) for part in found), [], 0
    for n in range(1, DEGREE + 1):
        columns += found[0][f"degree-{n}"].shape[1]
        if SEEDS_PER_CONTROL * columns > total:
            break
        kept.append(f"degree-{n}")
    return [np.concatenate([part[name] for name in kept], axis=1) for part in found]


def controlled(dims: np.ndarray, values: list[np.ndarray], zeros: list[np.ndarray]) -> Sizes:
    """Means and variances of `values`, (S, ...) at each D, less what a regression on `zeros`, (S, C), explains.

    The coefficients come from all D together; their error adds C / S to the variance.
    """
    counts = np.array([len(part) for part in values])
    left = np.concatenate([(x - x.mean(axis=0)) * np.sqrt(dim) for dim, x in zip(dims, zeros, strict=True)])
    flat = [part.reshape(len(part), -1) for part in values]
    right = np.concatenate([(y - y.mean(axis=0)) * np.sqrt(dim) for dim, y in zip(dims, flat, strict=True)])
    slopes = np.linalg.lstsq(left, right, rcond=None)[0]
    share = left.shape[1] / (counts.sum() - dims.size)
    means, variances = [], []
    for x, y, part in zip(zeros, flat, values, strict=True):
        rest = y - x @ slopes
        means.append(rest.mean(axis=0).reshape(part.shape[1:]))
        variances.append((rest.var(axis=0, ddof=1) * (1.0 + share) / (1.0 - share)).reshape(part.shape[1:]))
    return Sizes(dims, counts, np.array(means), np.array(variances))


def measured(name: str, dim: int, count: int, store: Path | None) -> dict[str, np.ndarray]:
    """What was measured of the case `name` at one D, from the store if it is there."""
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


def observed(dataset: Any) -> list[str]:
    """Names of the observables of a simulated dataset."""
    return [str(name) for name in dataset.data_vars if "seed" in dataset[name].dims]


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
    dims, zeros = np.array(list(seeds)), chosen_controls(found)
    observables = {
        name: controlled(dims, [part[name] for part in found], zeros)
        for name in found[0]
        if name != "time" and not name.startswith("degree-")
    }
    record: dict[str, Any] = {
        "model": case.model.to_attributes(),
        "step": case.step,
        "seeds": {str(dim): count for dim, count in seeds.items()},
        "controls": zeros[0].shape[1],
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
