"""How networks of finite dimension approach the theory: simulations at several D, extrapolated in 1/D.

At each time an observable of the simulations over that of the theory is, to leading order,

    ratio(D) = limit + slope D^-power,

power 1 where the overlap is planted; of a random start also 1/2, if that fits better. With four sizes or more it has
curvature D^-2 power too. Weighted least squares (`compare.extrapolation`) give the limit, its standard error and chi^2;
z = (limit - 1)/sqrt(error^2 + theory's own^2) says whether the networks approach the theory, and where the rest is 5 or
1 % how large D must be to be that near to it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import math
import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray

from compare.curves import read_side
from compare.extrapolation import Fitted, first_within, polynomial
from compare.files import finished, load_dataset, number, output_folder, write_dataset, write_picture
from compare.predicted import PLANTED, RANDOM, corrected
from compare.sweep.request import check_step
from dmft import Model, ParameterError, solve
from dmft.checks import check_integer, check_real, check_seed, check_times, plain, spelt
from dmft.progress import progress_report
from dmft.version import numerics
from sim import simulate
from sim.training.stepsize import COARSEST_RTOL, FINEST_RTOL

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

#: Runs at the largest D unless given; at the others more, as their scatter is larger and their runs are cheaper.
RUNS = 8
#: Times unless given: so many, even in ln t from this part of t_max on.
TIMES, EARLIEST = 25, 1e-3
#: The simulations' rtol, as a share of the theory's.
SHARE = 0.1
#: Deviations from the theory for which the needed D is told.
NEAR = (0.05, 0.01)
#: Sizes from which on a curvature is fitted too.
CURVED = 4
#: The parts of the test loss are its own; what is compared.
NAMES = ("train_loss", "test_loss", "trace", "overlap", "mean_weight_norm")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FiniteSize:
    """Simulations at several D beside the theory.

    Attributes:
        model: with the largest D.
        theory: by D; where the overlap is planted all are the one of infinite D.
        simulations: by D.
        limits: over ("observable", "time"): `limit`, `limit_error`, `slope`, `slope_error`, `curvature` (0 with less
            than four sizes, else with `curvature_error`), `power`, `chi2`, `z`; `dim_for` over "deviation" too. Ratios
            simulation/theory, dimensionless.
        ratios: over ("dim", "observable", "time"): `ratio` and its standard error `ratio_error`, that of the `runs`.
        request: the checked arguments.
    """

    model: Model
    theory: dict[int, xarray.Dataset]
    simulations: dict[int, xarray.Dataset]
    limits: xarray.Dataset
    ratios: xarray.Dataset
    request: Request

    @property
    def ratio(self) -> xarray.Dataset:
        """The extrapolated ratio simulation/theory, a variable over time for each observable, with `<name>_stderr`."""
        return self._by_name("limit", "limit_error")

    @property
    def z(self) -> xarray.Dataset:
        """By how many combined errors of runs and theory the extrapolated ratio is off 1, likewise."""
        return self._by_name("z")

    @property
    def slope(self) -> xarray.Dataset:
        """The slope of the ratio in D^-power at infinite D, with `<name>_stderr`; the variable's attribute `power`."""
        return self._by_name("slope", "slope_error")

    @property
    def dim_for(self) -> xarray.Dataset:
        """How large D must be to be within a "deviation" of .05 and .01 of the theory, over (time, deviation)."""
        return self._by_name("dim_for")

    def _by_name(self, kind: str, error: str | None = None) -> xarray.Dataset:
        """An array of `limits` as one variable for each observable, and its error."""
        found = {}
        for name in map(str, self.limits["observable"].to_numpy()):
            one = self.limits.sel(observable=name, drop=True)
            found[name] = one[kind].assign_attrs(power=float(one["power"]))
            if error is not None:
                found[f"{name}_stderr"] = one[error]
        return xarray.Dataset(found)

    @functools.cached_property
    def worst(self) -> dict[str, tuple[float, float]]:
        """By observable, the largest |z| of the limit and its time."""
        found = {}
        for name in self.limits["observable"].values:
            z = np.abs(self.limits["z"].sel(observable=name).to_numpy())
            if not np.isnan(z).all():
                at = int(np.nanargmax(z))
                found[str(name)] = (float(z[at]), float(self.limits["time"][at]))
        return found

    def table(self) -> pandas.DataFrame:
        """One row for each observable at the first, the middle and the last time."""
        times = self.limits["time"].to_numpy()
        rows = self.limits.sel(time=times[[0, len(times) // 2, -1]]).to_dataframe().reset_index()
        wide = rows.pivot(
            index=["observable", "time"],
            columns="deviation",
            values="dim_for",
        )
        wide.columns = [f"dim_for_{100 * one:g}_percent" for one in wide.columns]
        first = rows.drop(columns=["deviation", "dim_for"]).drop_duplicates(["observable", "time"])
        return first.set_index(["observable", "time"]).join(wide)

    def summary(self) -> dict[str, Any]:
        """The comparison in numbers, JSON-able; None for what does not exist."""
        sizes = {str(dim): int(runs.attrs["seeds"]) for dim, runs in self.simulations.items()}
        last = self.limits.isel(time=-1)
        rows = {}
        for name, (z, at) in self.worst.items():
            one = last.sel(observable=name)
            rows[name] = {
                "max_abs_z": number(z),
                "time": number(at),
                **{f"last_{key}": number(one[key]) for key in ("limit", "limit_error", "slope", "slope_error", "chi2")},
                "power": number(one["power"]),
                **{f"dim_for_{100 * near:g}_percent": number(one["dim_for"].sel(deviation=near)) for near in NEAR},
            }
        return {"model": self.model.to_attributes(), "runs": sizes, "observables": rows}

    @spelt
    def predict(self, dim: int, *, spread: bool | int = False, progress: bool | None = None) -> xarray.Dataset:
        """The theory at a finite D, as `solve` returns it: its means with what these simulations say of that D.

        Its five observables are those of infinite D times a ratio, the parabola in D^-1 (of a random start in D^-1/2)
        that is 1 at infinite D and fits the simulations best (`compare.predicted`). `<name>_error` has the error of the
        ratio in it, that of the runs. `overlay` judges runs at that D by it as by any theory. Give 40 runs or more at
        each size, the largest of which is not below a quarter of this D.

        Args:
            dim: D, the smallest of `dims` at least: what is smaller is not known.
            spread: as in `solve`: `<name>_spread` over data sets at this D, corrected by the scatter of the runs.
            progress: as in `solve`.

        Raises:
            ParameterError: an argument is out of range.
        """
        request = self.request
        dim = request.check_dim(dim)
        theory = request.solve(dim, progress, spread=spread)
        if request.planted:  # whose ratios are those to infinite D; at t = 0 nothing is lacking
            limit, start = self.theory[request.dims[0]], theory["time"] == 0
            theory = theory.assign({name: theory[name].where(start, limit[name]) for name in limit.data_vars})
        spreading = None
        if spread:  # of a random start it is not that of one size times a power of D
            known = request.dims if request.planted else (dim,)
            spreading = {
                size: theory if size in known else request.solve(size, progress, spread=spread) for size in request.dims
            }
        return corrected(theory, self.ratios, PLANTED if request.planted else RANDOM, spreading)

    def __repr__(self) -> str:
        """The table of limits."""
        return str(self.table())

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Theory as lines, each D as a shade that approaches it, extrapolated points with bars; deviations against 1/D.

        Args:
            path: .png or .pdf, also written.
        """
        from compare.figures.sizes import finite_size_figure

        figure = finite_size_figure(self.model.to_attributes(), self.theory, self.ratios, self.limits)
        if path is not None:
            write_picture(path, figure)
        return figure


@spelt
def finite_size(
    model: Model,
    t_max: float,
    dims: Sequence[int] = (100, 200, 400),
    seeds: int | Sequence[int] | None = None,
    *,
    times: Sequence[float] | np.ndarray | None = None,
    step: float | None = None,
    rtol: float = 0.01,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> FiniteSize:
    """Simulate a model at several D and extrapolate to infinite D, beside the theory.

    Args:
        model: its dim is left out of account. The theory is solved once for infinite D if its overlap is planted, and
            else at each D, whose 1/D is the seed of the overlap.
        t_max: last time, > 0, in the units of THEORY section 1.
        dims: sizes D, at least 2 different ones, increasing.
        seeds: runs at each D, or at the largest (at D then seeds x largest/D, so that errors are about even); >= 2.
            Errors are estimated from them: over 8 they are honest, with 4 too small by a factor of 1.6, with 2 of 3.
        times: output times in (0, t_max]; None for 25, even in ln t.
        step: None for gradient flow, or the step of gradient descent, of theory and simulation.
        rtol: of the theory, from 1e-8 to 1; a tenth of it of the simulations' flow.
        seed: of all random numbers.
        folder: where each part is kept as soon as it is done; the same call with it goes on from there.
        progress: as in `dmft.solve`.

    Raises:
        ParameterError: an argument is out of range, or `folder` holds parts of another call.
    """
    request = Request.of(model, t_max, dims, seeds, times, step, rtol, seed)
    with contextlib.nullcontext() if folder is None else output_folder(folder, "folder") as store:
        theory, simulations = _parts(request, store, progress)
    ratios = ratios_of(theory, simulations)
    limits = extrapolated(ratios, (PLANTED,) if request.planted else (PLANTED, RANDOM))
    return FiniteSize(model.replace(dim=request.dims[-1]), theory, simulations, limits, ratios, request)


def _parts(
    request: Request, store: Path | None, progress: bool | None
) -> tuple[dict[int, xarray.Dataset], dict[int, xarray.Dataset]]:
    """Theory and simulations by D, each kept as soon as it is done."""
    theory, simulations = {}, {}
    for dim in request.dims:
        if request.planted and theory:
            theory[dim] = theory[request.dims[0]]
        else:
            name, of = ("theory", None) if request.planted else (f"theory-{dim}", dim)
            theory[dim] = _kept(store, name, request.key, partial(request.solve, of, progress))
    with progress_report("simulations", progress) as report:
        for count, dim in enumerate(request.dims):
            simulations[dim] = _kept(store, f"simulation-{dim}", request.key, partial(request.simulate, dim))
            report(count + 1, len(request.dims))
    return theory, simulations


@dataclasses.dataclass(frozen=True)
class Request:
    """Checked arguments of `finite_size`."""

    model: Model
    t_max: float
    dims: tuple[int, ...]
    seeds: tuple[int, ...]
    times: tuple[float, ...]
    step: float | None
    rtol: float
    seed: int

    @classmethod
    def of(cls, model: Any, t_max: Any, dims: Any, seeds: Any, times: Any, step: Any, rtol: Any, seed: Any) -> Request:
        """Check them."""
        if not isinstance(model, Model):
            raise ParameterError(f"Argument `model` must be a dmft.Model, but is {model!r}.")
        t_max = check_real("t_max", t_max, above=0.0)
        step = check_step("step", step, t_max)
        try:
            sizes = tuple(check_integer("dims", dim, at_least=2) for dim in dims)
        except TypeError:
            raise ParameterError(f"Argument `dims` must be several integers, but is {dims!r}.") from None
        if len(sizes) < 2 or any(b <= a for a, b in itertools.pairwise(sizes)):
            raise ParameterError(f"Argument `dims` must be at least two sizes, increasing, but is {dims!r}.")
        model.replace(dim=sizes[0])  # refused before anything is run
        seeds = plain(seeds)
        if isinstance(seeds, Sequence | np.ndarray):
            counts = tuple(check_integer("seeds", one, at_least=2) for one in seeds)
            if len(counts) != len(sizes):
                raise ParameterError(
                    f"Argument `seeds` must be one number for each of {len(sizes)} dims, but is {seeds!r}."
                )
        else:
            last = RUNS if seeds is None else check_integer("seeds", seeds, at_least=2)
            counts = tuple(math.ceil(last * sizes[-1] / dim) for dim in sizes)
        if times is None:
            chosen = np.geomspace(EARLIEST * t_max, t_max, TIMES)
            if step is not None:
                chosen = np.unique(np.maximum(1, np.rint(chosen / step))) * step
                chosen = chosen[chosen <= t_max * (1 + 1e-9)]
        else:
            chosen = check_times(times, t_max)
            if chosen[0] <= 0:
                raise ParameterError(f"Argument `times` must be > 0, but starts at {chosen[0]:g}.")
        rtol = check_real("rtol", rtol, above=0.0)
        finest, coarsest = FINEST_RTOL["float64"], COARSEST_RTOL  # of the simulations, which take a tenth
        if not finest <= SHARE * rtol <= coarsest:
            raise ParameterError(
                f"Argument `rtol` must be a number from {finest / SHARE:g} to {coarsest / SHARE:g}, but is {rtol:g}."
            )
        return cls(model, t_max, sizes, counts, tuple(map(float, chosen)), step, rtol, check_seed(seed))

    @property
    def planted(self) -> bool:
        """Whether one theory, that of infinite D, is that of all sizes."""
        return self.model.planted

    @functools.cached_property
    def key(self) -> str:
        """A fingerprint of everything that a part depends on."""
        fields = dataclasses.asdict(self) | {"model": self.model.replace(dim=None).to_attributes()} | numerics()
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]

    def check_dim(self, dim: Any) -> int:
        """A size that can be predicted; ParameterError if it is smaller than all that are simulated."""
        dim = check_integer("dim", dim, at_least=2)
        if dim < self.dims[0]:
            raise ParameterError(f"Argument `dim` must be >= {self.dims[0]}, the smallest of `dims`, but is {dim}.")
        return dim

    def solve(self, dim: int | None, progress: bool | None, *, spread: bool | int = False) -> xarray.Dataset:
        """The theory of one size, or of infinite D."""
        settings: Any = {"step": self.step, "rtol": self.rtol, "seed": self.seed, "progress": progress}
        return solve(self.model.replace(dim=dim), self.t_max, times=[0.0, *self.times], spread=spread, **settings)

    def simulate(self, dim: int) -> xarray.Dataset:
        """The runs of one size."""
        runs = self.seeds[self.dims.index(dim)]
        settings: Any = {"step": self.step, "rtol": SHARE * self.rtol, "seed": self.seed, "progress": False}
        return simulate(self.model.replace(dim=dim), self.t_max, times=[0.0, *self.times], seeds=runs, **settings)


def _kept(store: Path | None, name: str, key: str, compute: Any) -> xarray.Dataset:
    """A part, from the folder if it is there already.

    Raises:
        ParameterError: what is there is of another call, or cannot be read.
    """
    if store is None:
        return compute()
    path = store / f"{name}.nc"
    if path.exists():
        found = load_dataset(path)
        if isinstance(found, str):
            raise ParameterError(f"Argument `folder` must hold whole parts or none, but {found}")
        if found.attrs.get("finite_size_key") != key:
            raise ParameterError(f"Argument `folder` must be new or of the same call, but {str(path)!r} is of another.")
        return found
    dataset = compute().assign_attrs(finite_size_key=key)
    with finished(path) as part:
        write_dataset(part, dataset)
    return dataset


def ratios_of(theory: dict[int, xarray.Dataset], simulations: dict[int, xarray.Dataset]) -> xarray.Dataset:
    """Mean of the runs over theory, less the time 0, with the runs' standard error and the theory's own."""
    found: dict[str, list[Any]] = {"ratio": [], "ratio_error": [], "theory_error": []}
    for dim, runs in simulations.items():
        sides = read_side("theory", theory[dim]), read_side("simulation", runs)
        (expected, own), (mean, error) = (
            np.array([[part.to_numpy()[1:] for part in side.parts(name)[:2]] for name in NAMES]).swapaxes(0, 1)
            for side in sides
        )
        expected = np.where(expected == 0, np.nan, expected)
        found["ratio"].append(mean / expected)
        found["ratio_error"].append(error / np.abs(expected))
        found["theory_error"].append(own / np.abs(expected))
    time = next(iter(simulations.values()))["time"].to_numpy()[1:]
    arrays: dict[str, Any] = {key: (("dim", "observable", "time"), np.array(values)) for key, values in found.items()}
    return xarray.Dataset(
        arrays | {"runs": ("dim", [runs.sizes["seed"] for runs in simulations.values()])},
        {"dim": list(simulations), "observable": list(NAMES), "time": time},
    )


def extrapolated(ratios: xarray.Dataset, powers: tuple[float, ...]) -> xarray.Dataset:
    """What fits the ratios: for each observable the power of all its times together that fits best."""
    sizes = ratios["dim"].to_numpy().astype(float)
    values, errors = ratios["ratio"].to_numpy(), ratios["ratio_error"].to_numpy()
    own, order = ratios["theory_error"].to_numpy().max(axis=0), 2 if len(sizes) >= CURVED else 1
    fits = [polynomial(sizes**-power, values, errors, order) for power in powers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of an observable that is known nowhere
        chosen = np.argmin([np.nan_to_num(np.nanmean(one.chi2, axis=1)) for one in fits], axis=0)  # by observable

    def of_chosen(kind: Callable[[Fitted], np.ndarray]) -> np.ndarray:
        return np.array([kind(fits[pick])[place] for place, pick in enumerate(chosen)])

    parts: dict[str, np.ndarray] = {"chi2": of_chosen(lambda fit: fit.chi2)}
    for place, name in enumerate(("limit", "slope", "curvature")[: order + 1]):
        parts[name] = of_chosen(lambda fit, place=place: fit.coefficients[place])
        parts[f"{name}_error"] = of_chosen(lambda fit, place=place: fit.errors[place])
    parts.setdefault("curvature", np.zeros_like(parts["slope"]))
    parts["z"] = (parts["limit"] - 1) / np.hypot(parts["limit_error"], own)
    power = np.array(powers)[chosen]
    within = np.stack([first_within(near, parts["slope"], parts["curvature"]) for near in NEAR], axis=-1)
    with np.errstate(divide="ignore"):
        dim_for = within ** (-1 / power[:, None, None])
    dims = ("observable", "time")
    return xarray.Dataset(
        {
            **{name: (dims, array) for name, array in parts.items()},
            "power": ("observable", power),
            "dim_for": ((*dims, "deviation"), dim_for),
        },
        {"observable": ratios["observable"], "time": ratios["time"], "deviation": list(NEAR)},
        {"degrees_of_freedom": len(sizes) - 1 - order, "ratio": "simulation over theory"},
    )
