"""`fit`: the parameters of measured curves, by least squares on log losses with the theory's own derivatives."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray

from compare.files import number, write_picture
from compare.fitting.curves import Measured, read_curves
from compare.fitting.identify import unidentified
from compare.fitting.least_squares import (
    RISE,
    TIME,
    Point,
    Problem,
    covariance,
    descend,
    goodness,
    profile,
    start_places,
    weigh,
)
from compare.fitting.theory import Solved
from dmft.checks import ParameterError, RunError, check_integer, check_real, check_seed, spelt
from dmft.derivatives import check_parameters
from dmft.models.committee import Committee
from dmft.models.model import Model
from dmft.twotime.request import MIN_REPLICAS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Factors that parameters may move by from where they start, each way, unless bounds are given.
RANGE = 20.0
#: Bounds must be further apart than this factor.
NARROWEST = 1.0 + 1e-5
#: How many of the best starts are fitted.
FITTED = 2
#: How often the errors of the best point are taken for those of the curves, at most, and the change of log parameters
#: after which they are those of the end.
WEIGHED, SETTLED = 3, 0.01
#: Tolerance of the theory that is searched with, over the one asked for; and at least. It has the fewest replicas.
ROUGH, LEAST_ROUGH = 5.0, 0.05


class FitWarning(UserWarning):
    """A fit ended on a bound, did not converge, or does not determine a parameter."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Fit:
    """What a fit found.

    Attributes:
        values: by parameter; `time` is the factor between the times of the theory and those of the curves.
        errors: standard errors of these.
        covariance: of the logarithms of the parameters, over ("parameter", "parameter2").
        model: with these values.
        chi2, degrees, p_value: goodness of the fit; p_value None where errors are not known.
        intervals: by parameter and level, 0.68 and 0.95: where chi^2 has risen by what makes it so, all other
            parameters fitted anew.
        unidentified: what the curves do not tell, in words; "" if they tell everything.
        converged: whether the best point is none on a bound, and steps had come to an end.
        starts: by start, its parameters, and chi^2 where it ended (inf where it was not followed).
        notes: sentences for the reader.
        curves: over ("loss", "time"): `measured`, `error` (relative, all parts), `theory`, `theory_error`, `residual`.
    """

    values: dict[str, float]
    errors: dict[str, float]
    covariance: xarray.DataArray
    model: Any
    chi2: float
    degrees: float
    p_value: float | None
    intervals: dict[str, dict[float, tuple[float, float]]]
    unidentified: str
    converged: bool
    starts: tuple[dict[str, float], ...]
    notes: tuple[str, ...]
    curves: xarray.Dataset

    def summary(self) -> dict[str, Any]:
        """The fit in numbers, JSON-able; None for what does not exist."""
        rows = {
            name: {
                "value": number(self.values[name]),
                "error": number(self.errors[name]),
                **{f"interval_{level:g}": list(map(number, ends)) for level, ends in self.intervals[name].items()},
            }
            for name in self.values
        }
        return {
            "parameters": rows,
            "covariance_of_logarithms": self.covariance.to_numpy().tolist(),
            "chi2": number(self.chi2),
            "degrees": number(self.degrees),
            "p_value": None if self.p_value is None else number(self.p_value),
            "converged": self.converged,
            "unidentified": self.unidentified,
            "starts": [{key: number(value) for key, value in start.items()} for start in self.starts],
            "notes": list(self.notes),
            "model": self.model.to_attributes(),
        }

    def __repr__(self) -> str:
        """Values with their errors, and what is to be said of them."""
        from compare.verdicts import aligned

        rows = [("", "value", "error", *(f"{100 * level:g} %" for level in RISE))]
        for name, value in self.values.items():
            ends = [self.intervals[name].get(level) for level in RISE]
            shown = ["" if one is None else f"{one[0]:.4g} to {one[1]:.4g}" for one in ends]
            rows.append((name, f"{value:.4g}", f"{self.errors[name]:.2g}", *shown))
        p_value = "" if self.p_value is None else f", p = {self.p_value:.2g}"
        lines = [aligned(rows), "", f"chi^2 = {self.chi2:.3g} of {self.degrees:.3g} degrees of freedom{p_value}"]
        return "\n".join([*lines, *self.notes])

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """The curves over the best theory, and the residuals below; with a `path`, .png or .pdf, also written."""
        from compare.figures.fit import fit_figure

        figure = fit_figure(self.model.to_attributes(), self.curves)
        if path is not None:
            write_picture(path, figure)
        return figure


@spelt
def fit(
    curves: object,
    model: Any,
    free: Sequence[str] | str = ("alpha", "epsilon"),
    *,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    time: str | None = None,
    train: str = "train_loss",
    test: str = "test_loss",
    loss: str | float = "mean",
    learning_rate: float | None = None,
    loss_factor: float = 1.0,
    step: float | None = None,
    rtol: float = 0.01,
    starts: int = 4,
    intervals: bool = True,
    seed: int = 0,
) -> Fit:
    """Find the parameters of measured curves of train and test loss, or of one of them.

    Args:
        curves: as `compare.overlay` takes them: a path, a table, a mapping, a dataset, or a list of runs. Errors are
            `<name>_stderr`, or the scatter of several runs; of one run, the spread that the theory predicts for the
            `dim` of the model. Without any of these they are the scatter about the fit.
        model: the dmft.Model (or Committee) that the fit starts at; what is not free stays as it is there.
        free: of alpha, epsilon, kappa, initial_overlap, label_noise, weight_decay, each > 0 in the model; and "time",
            a factor between the times of the curves and those of the theory.
        bounds: by parameter (least, largest); left out, a factor of 20 about its value in the model.
        time, train, test, loss: names of the columns and convention of the losses, as in `compare.read_run`; steps are
            in a column "step" where there is no time.
        learning_rate, loss_factor: make steps into time, with the model's `dim` and `width`, as in `read_run`. A free
            alpha moves this time too.
        step: of gradient descent, in time; None for gradient flow.
        rtol: tolerance of the theory; the search begins with a looser one.
        starts: places to start from, >= 1: the model, and others about it. The best of them are followed.
        intervals: whether profile intervals are computed, which takes about as long as the fit.
        seed: of the theory's samples and the other starts.

    Raises:
        ParameterError: an argument is out of range; a column is missing; a curve is not positive; there are fewer
            points than parameters; steps come without a learning rate, and the time is not free.
        RunError: the theory can be solved at none of the starts.

    Warns:
        FitWarning: the fit ended on a bound or did not converge (the best point is returned), or a parameter is not
            identifiable.
    """
    rate = None if learning_rate is None else check_real("learning_rate", learning_rate, above=0.0)
    names = check_free(free, model)
    measured = read_curves(curves, time=time, train=train, test=test, loss=loss, steps=rate is not None)
    check_measured(measured, names, rate)
    clock = functools.partial(unit_of_time, rate, check_real("loss_factor", loss_factor, above=0.0))
    clock(model)  # refused before the first solve
    step = None if step is None else check_real("step", step, above=0.0)
    rtol, seed = check_real("rtol", rtol, above=0.0), check_seed(seed)
    theory = Solved(measured.names, step, rtol, seed)
    problem = Problem(theory, model, names, measured, clock, check_bounds(bounds, names, model))
    problem.rough = Solved(measured.names, step, max(ROUGH * rtol, LEAST_ROUGH), seed, MIN_REPLICAS)
    return fitted(problem, check_integer("starts", starts, at_least=1), seed, bool(intervals))


def check_free(free: Any, model: Any) -> tuple[str, ...]:
    """The names of free parameters; ParameterError if one is unknown, fixed, or 0 in the model."""
    if not isinstance(model, Model | Committee):
        raise ParameterError(f"Argument `model` must be a dmft.Model or dmft.Committee, but is {model!r}.")
    if not isinstance(free, Iterable) or not all(isinstance(name, str) for name in free):
        raise ParameterError(f"Argument `free` must be names of parameters, but is {free!r}.")
    names = (free,) if isinstance(free, str) else tuple(free)
    rest = tuple(name for name in names if name != TIME)
    if not rest and names == (TIME,):
        return names
    checked = check_parameters("free", rest, model)
    return tuple(name for name in names if name == TIME or name in checked)


def check_measured(measured: Measured, names: tuple[str, ...], rate: float | None) -> None:
    """ParameterError unless there are enough points, and times."""
    points = int(measured.known.sum())
    if points < len(names):
        raise ParameterError(
            f"Argument `curves` must hold at least as many points as parameters are free, {len(names)}, but holds "
            f"{points}."
        )
    if measured.in_steps and rate is None and TIME not in names:
        raise ParameterError(
            'Argument `learning_rate` must be given with steps, or "time" be among `free`, but neither is so.'
        )


def unit_of_time(rate: float | None, loss_factor: float, model: Any) -> float:
    """Time per unit of the curves' times: of a step, if a learning rate is given."""
    return 1.0 if rate is None else model.step_from_learning_rate(rate, loss_factor=loss_factor)


def check_bounds(bounds: Any, names: tuple[str, ...], model: Any) -> np.ndarray:
    """Logarithms of the bounds, (2, p); those of a time scale are infinite unless given."""
    if not isinstance(bounds, Mapping | None):
        raise ParameterError(f"Argument `bounds` must map parameters to (least, largest), but is {bounds!r}.")
    given = dict(bounds or {})
    for name, ends in given.items():
        if name not in names:
            raise ParameterError(f"Argument `bounds` must be of free parameters, {', '.join(names)}, but has {name!r}.")
        if not isinstance(ends, Sequence | np.ndarray) or isinstance(ends, str) or len(ends) != 2:
            raise ParameterError(
                f"Argument `bounds` must be (least, largest) about the model's {name}, but is {ends!r}."
            )
    found = []
    for name in names:
        low, high = (0.0, math.inf) if name == TIME else (getattr(model, name) / RANGE, getattr(model, name) * RANGE)
        if name in given:
            low, high = (check_real(f"bounds[{name}]", end, above=0.0) for end in given[name])
            inside = name == TIME or low <= getattr(model, name) <= high
            if not low * NARROWEST < high or not inside:
                raise ParameterError(
                    f"Argument `bounds` must be (least, largest) about the model's {name}, but is {given[name]!r}."
                )
        found.append((math.log(low) if low > 0 else -math.inf, math.log(high)))
    return np.array(found).T


def fitted(problem: Problem, starts: int, seed: int, intervals: bool) -> Fit:
    """The best of several fits, with its errors."""
    search = problem.roughly()
    places = start_places(search, starts, seed)
    with contextlib.suppress(RunError):  # without it, all points count alike at first
        weigh(search, search.point(places[0]))
    screened = [(one, _chi2(search, one)) for one in places]
    if not any(np.isfinite(chi2) for _, chi2 in screened):
        search.point(places[0])  # says why
    ordered = sorted((one for one in screened if np.isfinite(one[1])), key=lambda one: one[1])
    ends = {id(one[0]): descend(search, one[0]) for one in ordered[:FITTED]}
    best, ended = min(ends.values(), key=lambda end: end[0].chi2)
    followed = tuple(
        dict(zip(problem.names, map(float, np.exp(one)), strict=True))
        | {"first_chi2": chi2, "chi2": ends[id(one)][0].chi2 if id(one) in ends else math.inf}
        for one, chi2 in screened
    )
    best, ended, deviations, scaled = _settled(problem, best)
    if scaled:  # errors are the scatter about the fit
        degrees = problem.degrees
        problem.error = problem.error * math.sqrt(max(best.chi2 / max(degrees, 1.0), 1e-12))
        best = problem.point(best.x)
    return _result(problem, best, ended, deviations, scaled, followed, intervals)


def _settled(problem: Problem, best: Point) -> tuple[Point, str, np.ndarray | None, bool]:
    """The fit whose errors are those of its own end; what is wrong with it, and what `weigh` returns there."""
    before = best.x
    deviations, scaled = weigh(problem, problem.point(before))
    best, ended = descend(problem, before)
    for _ in range(WEIGHED - 1):
        if np.abs(best.x - before).max() < SETTLED:
            break
        before = best.x
        deviations, scaled = weigh(problem, problem.point(before))
        best, ended = descend(problem, before)
    return best, ended, deviations, scaled


def _chi2(problem: Problem, x: np.ndarray) -> float:
    try:
        return problem.point(x).chi2
    except RunError:
        return math.inf


def _result(
    problem: Problem,
    best: Point,
    ended: str,
    deviations: np.ndarray | None,
    scaled: bool,
    followed: tuple[dict[str, float], ...],
    intervals: bool,
) -> Fit:
    names, jacobian = problem.names, problem.jacobian(best)
    found = covariance(problem, best, jacobian, deviations)
    said = unidentified(names, found)
    values, sizes = np.exp(best.x), np.sqrt(np.diag(found))
    notes = [*problem.measured.notes, *([ended] if ended else []), *([f"{said}."] if said else [])]
    if scaled:
        notes.append("The curves come without errors: these are their scatter about the fit, and chi^2 says nothing.")
    if problem.measured.error.shape and not scaled and deviations is None:
        notes.append("Errors at different times are taken as independent, of 25 points a curve at most.")
    profiles: dict[str, dict[float, tuple[float, float]]] = {name: {} for name in names}
    if intervals and not said and not ended:
        for place, name in enumerate(names):
            profiles[name] = profile(problem, best, jacobian, found, place)
    for text in (ended, said and f"{said}."):
        if text:
            warnings.warn(text, FitWarning, stacklevel=4)
    return Fit(
        values=dict(zip(names, map(float, values), strict=True)),
        errors=dict(zip(names, map(float, values * np.minimum(sizes, 1e3)), strict=True)),
        covariance=xarray.DataArray(found, dims=("parameter", "parameter2"),
                                    coords={"parameter": list(names), "parameter2": list(names)}),
        model=problem.model_at(best.x),
        chi2=best.chi2,
        degrees=problem.degrees,
        p_value=None if scaled else goodness(problem, best, jacobian, deviations),
        intervals=profiles,
        unidentified=said,
        converged=not ended,
        starts=followed,
        notes=tuple(dict.fromkeys(notes)),
        curves=_curves(problem, best),
    )  # fmt: skip


def _curves(problem: Problem, best: Point) -> xarray.Dataset:
    measured, dims = problem.measured, ("loss", "time")
    residual = best.residuals.reshape(problem.error.shape) / np.sqrt(measured.share)
    variables = {
        "measured": np.exp(measured.log),
        "error": problem.error,
        "theory": np.exp(best.prediction.log),
        "theory_error": best.prediction.error,
        "residual": np.where(measured.known, residual, np.nan),
    }
    return xarray.Dataset(
        {name: (dims, values) for name, values in variables.items()},
        {"loss": list(measured.names), "time": problem.times(best.x)},
    )
