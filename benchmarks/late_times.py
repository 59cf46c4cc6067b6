"""The theory met at late times: gradient flow of the reduced simulation, extrapolated in 1/D, beside `solve`.

    python benchmarks/late_times.py --store FOLDER                  every case: some thirty minutes of one core
    python benchmarks/late_times.py --store FOLDER --case planted   one of them

Every piece, the theory or a few runs at one D, is a NetCDF file in FOLDER; a piece that is there is not computed again.
The tables, at a few times: the ratio simulation / theory at each D, and three fits by weighted least squares,

    ratio = limit + slope / D        with z = (limit - 1) / error and chi squared (sizes minus 2 degrees of freedom),
    ratio = 1 + c / D^power          what power of D the deviation falls with, if the theory is the limit,
    1 / ratio = limit + slope / D    the first, with other terms of order 1/D^2.

The error of a limit has the theory's own total error in it. `missing_overlap` is 1 / (alpha epsilon) - overlap: by how
much the overlap is below that of the target.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np

from compare import extrapolation
from dmft import Model, solve
from sim import simulate

NAMES = ("train_loss", "test_loss", "trace", "overlap", "mean_weight_norm")
RTOL, THEORY_RTOL = 3e-3, 5e-3


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, the times of its tables, the runs of each D, and how many of them make one piece."""

    model: Model
    times: tuple[float, ...]
    runs: dict[int, int]


PLANTED = Model(alpha=1.0, epsilon=0.5, kappa=5.5, initial_overlap=0.1)
CASES = {
    "planted": Case(PLANTED, (10.0, 30.0, 100.0, 300.0, 1000.0), {100: 240, 200: 100, 400: 30}),
    "lazy": Case(
        Model(alpha=4.0, epsilon=0.25, kappa=4.0, initial_overlap=0.1),
        (10.0, 30.0, 100.0, 300.0, 1000.0),
        {100: 180, 200: 60, 400: 20},
    ),
    "rich": Case(
        Model(alpha=0.25, epsilon=0.5, kappa=2.5, initial_overlap=0.1),
        (1.0, 3.0, 10.0, 30.0, 100.0),
        {100: 180, 200: 60, 400: 20},
    ),
    "small": Case(PLANTED, (10.0, 30.0, 100.0, 300.0, 1000.0), {50: 240}),
    "long": Case(PLANTED, (100.0, 300.0, 1000.0, 3000.0, 1e4), {400: 2}),
}
PIECE = {50: 60, 100: 60, 200: 20, 400: 5}


def pieces(name: str, case: Case, folder: Path) -> tuple[Any, dict[int, Any]]:
    """The theory, and the runs of every D, read from `folder` or computed into it."""
    import xarray

    times, end = [0.0, *case.times], case.times[-1]

    def kept(file: str, compute: Any) -> Any:
        path = folder / f"{file}.nc"
        if not path.exists():
            start = time.process_time()
            compute().to_netcdf(path.with_suffix(".part"), engine="h5netcdf")
            path.with_suffix(".part").rename(path)
            print(f"{file}: {time.process_time() - start:.0f} s of one core", flush=True)
        return xarray.load_dataset(path, engine="h5netcdf")

    runs = {}
    for dim, count in case.runs.items():
        size = min(PIECE[dim], count)
        model = case.model.replace(dim=dim)
        precision = "float32" if end <= 1000.0 else "float64"  # whose rounding errors hold the steps later
        options = {"times": times, "form": "reduced", "precision": precision, "rtol": RTOL, "seeds": size}
        found = [
            kept(f"{name}-{dim}-{seed}", lambda seed=seed, m=model, o=options: simulate(m, end, seed=seed, **o))
            for seed in range(count // size)
        ]
        runs[dim] = xarray.concat([piece[list(NAMES)] for piece in found], "seed").isel(time=slice(1, None))
    rtol = THEORY_RTOL if end <= 1000.0 else 2.0 * THEORY_RTOL
    theory = kept(f"{name}-theory", lambda: solve(case.model, end, times=times, rtol=rtol))
    for dataset in (theory, *runs.values()):
        dataset["missing_overlap"] = 1 / (case.model.alpha * case.model.epsilon) - dataset["overlap"]
    theory["missing_overlap_error"] = theory["overlap_error"]
    return theory.isel(time=slice(1, None)), runs


def line(dims: np.ndarray, ratio: np.ndarray, error: np.ndarray, own: float) -> tuple[str, ...]:
    """Weighted straight line in 1/D: limit with its error (and `own`), z of the limit 1, slope, chi squared."""
    limit, of_limit, slope, of_slope, chi2 = extrapolation.line(1 / dims, ratio, error)
    total = np.hypot(of_limit, own)
    return (
        f"{limit:.3f}({1e3 * total:.0f})",
        f"{(limit - 1) / total:+.1f}",
        f"{slope:+.1f}({of_slope:.1f})",
        f"{chi2:.1f}",
    )


def power(dims: np.ndarray, ratio: np.ndarray, error: np.ndarray) -> str:
    """The power of 1 + c / D^power, and the ends of where chi squared is at most 1 above its least."""
    tried = np.linspace(0.0, 4.0, 801)
    shape = (dims.min() / dims) ** tried[:, None] / error
    c = (shape * (ratio - 1) / error).sum(1) / (shape**2).sum(1)
    chi2 = (((ratio - 1) / error - c[:, None] * shape) ** 2).sum(1)
    allowed = tried[chi2 <= chi2.min() + 1]
    return f"{tried[chi2.argmin()]:.1f} ({allowed[0]:.1f} to {allowed[-1]:.1f})"


def print_tables(name: str, case: Case, theory: Any, runs: dict[int, Any]) -> None:
    sizes = ", ".join(f"{dim} ({runs[dim].sizes['seed']} runs)" for dim in runs)
    met = "met" if theory.attrs["tolerance_met"] else "not met"
    print(f"\n{name}: {case.model}\nD = {sizes}; theory at rtol {theory.attrs['rtol']:g}, {met}")
    dims = np.array(list(runs), float)
    for observable in (*NAMES, "missing_overlap"):
        heads = [f"D = {dim}" for dim in runs]
        if len(dims) > 2:
            heads += ["limit", "z", "slope", "chi2", "power", "limit of the inverse", "z", "slope", "chi2"]
        print(f"\n| {observable} | theory | {' | '.join(heads)} |\n|{' --- |' * (len(heads) + 2)}")
        for i, moment in enumerate(case.times):
            value, own = float(theory[observable][i]), float(theory[f"{observable}_error"][i])
            each = [runs[dim][observable][:, i].values for dim in runs]
            ratio = np.array([values.mean() for values in each]) / value
            error = np.array([values.std(ddof=1) / len(values) ** 0.5 for values in each]) / value
            cells = [f"{one:.3f}({1e3 * scatter:.0f})" for one, scatter in zip(ratio, error, strict=True)]
            if len(dims) > 2:
                cells += [*line(dims, ratio, error, own / value), power(dims, ratio, error)]
                cells += line(dims, 1 / ratio, error / ratio**2, own / value)
            print(f"| t = {moment:g} | {value:.4g}({own:.1g}) | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="folder of the pieces, from which it goes on")
    parser.add_argument("--case", choices=list(CASES), help="one case alone")
    chosen = parser.parse_args()
    chosen.store.mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        if chosen.case in (None, name):
            print_tables(name, case, *pieces(name, case, chosen.store))


if __name__ == "__main__":
    main()
