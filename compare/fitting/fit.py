"""`fit`: the parameters of measured curves, by least squares on log losses with the theory's own derivatives.

At measured times t_i, for the train and the test loss,

    r_i = [log L_theory(t_i; theta) - log L_i] / sigma_i,        chi^2 = sum r_i^2,

sigma_i^2 the squares of the relative error of the measurement, of the theory's own, of 1/D, and, where the curves are
one run of known D, of the spread over data sets, over 25 independent points of each curve at most. Levenberg-Marquardt
steps, with bounds, are taken in the logarithms of the parameters. What single runs deviate by is correlated over time:
the covariance is that of the fits to runs that are drawn (or measured), linear about the best one.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray

from compare.files import number, write_picture
from compare.fitting.curves import Measured, read_curves
from compare.fitting.identify import covariance_of, unidentified
from compare.fitting.theory import Prediction, Solved, Theory
from dmft.checks import ParameterError, RunError, check_integer, check_real, check_seed, spelt
from dmft.derivatives import check_parameters
from dmft.twotime.request import MIN_REPLICAS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The name of the free scale of time.
TIME = "time"
#: Factors that parameters may move by from where they start, each way, unless bounds are given.
RANGE = 20.0
#: How far other starts lie apart, as a factor each way, and how many of the best are fitted.
APART, FITTED = 2.5, 2
#: Relative error of curves that come without any, until their scatter about the fit is known.
UNKNOWN = 0.02
#: Sides of the search for a time scale: the theory is solved to here, and scales down to this part of it are tried.
LONGEST, SHORTEST = 300.0, 1e-3
#: Steps of the fit at most, and the change of log parameters that ends it.
STEPS, ENOUGH = 25, 1e-4
#: chi^2 above its least at the ends of an interval.
RISE = {0.68: 0.989, 0.95: 3.841}
#: Tolerance of the theory that is searched with, over the one asked for; and at least. It has the fewest replicas.
ROUGH, LEAST_ROUGH = 5.0, 0.05
#: What a residual counts where the theory cannot be solved.
UNSOLVED = 1e2


class FitWarning(UserWarning):
    """A fit ended on a bound, did not converge, or does not determine a parameter."""


class Point(NamedTuple):
    """One place of a fit: log parameters (p,), residuals (m,), and what the theory predicts there."""

    x: np.ndarray
    residuals: np.ndarray
    prediction: Prediction

    @property
    def chi2(self) -> float:
        """Sum of squared residuals."""
        return float(self.residuals @ self.residuals)


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
    given = dict(bounds or {})
    for name in given:
        if name not in names:
            raise ParameterError(f"Argument `bounds` must be of free parameters, {', '.join(names)}, but has {name!r}.")
    found = []
    for name in names:
        low, high = (0.0, math.inf) if name == TIME else (getattr(model, name) / RANGE, getattr(model, name) * RANGE)
        if name in given:
            low, high = (check_real("bounds", end, above=0.0) for end in given[name])
            inside = name == TIME or low <= getattr(model, name) <= high
            if not low < high or not inside:
                raise ParameterError(
                    f"Argument `bounds` must be (least, largest) about the model's {name}, but is {given[name]!r}."
                )
        found.append((math.log(low) if low > 0 else -math.inf, math.log(high)))
    return np.array(found).T


@dataclasses.dataclass
class Problem:
    """Residuals and their derivatives as functions of log parameters x, (p,).

    Attributes:
        clock: time per unit of the curves' times, of a model.
        rough: a theory that is quicker, to search with.
        error: relative errors of the residuals, (C, T).
    """

    theory: Theory
    model: Any
    names: tuple[str, ...]
    measured: Measured
    clock: Any
    bounds: np.ndarray
    rough: Theory | None = None
    error: np.ndarray = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.rates = [name for name in self.names if name != TIME]
        known = self.measured.error
        self.error = np.where(np.isfinite(known), known, UNKNOWN)

    def roughly(self) -> Problem:
        """The same with the theory that is quicker."""
        other = copy.copy(self)
        other.theory = self.rough or self.theory
        return other

    def start(self) -> np.ndarray:
        """x of the model; of a free time scale, the best of many."""
        x = np.array([0.0 if name == TIME else math.log(getattr(self.model, name)) for name in self.names])
        return self.with_time_scale(x) if TIME in self.names else x

    def model_at(self, x: np.ndarray) -> Any:
        """The model of these parameters."""
        values = dict(zip(self.names, np.exp(x), strict=True))
        return self.model.replace(**{name: float(values[name]) for name in self.rates})

    def times(self, x: np.ndarray) -> np.ndarray:
        """The theory's times, (T,)."""
        scale = math.exp(x[self.names.index(TIME)]) if TIME in self.names else 1.0
        return scale * self.clock(self.model_at(x)) * self.measured.time

    @property
    def weights(self) -> np.ndarray:
        """1/error, (C, T), of 25 independent points a curve at most; 0 where nothing is known."""
        return np.where(self.measured.known, np.sqrt(self.measured.share) / np.maximum(self.error, 1e-6), 0.0)

    def point(self, x: np.ndarray) -> Point:
        """Residuals at x."""
        prediction = self.theory.predict(self.model_at(x), self.times(x))
        difference = np.where(self.measured.known, prediction.log - np.nan_to_num(self.measured.log), 0.0)
        return Point(np.array(x), (difference * self.weights).ravel(), prediction)

    def jacobian(self, point: Point) -> np.ndarray:
        """d residuals / d x, (m, p)."""
        model, times = self.model_at(point.x), self.times(point.x)
        columns = dict(
            zip(self.rates, np.moveaxis(self.theory.derivatives(model, times, self.rates), -1, 0), strict=True)
        )
        if TIME in self.names:
            columns[TIME] = point.prediction.slope
        for name in self.rates:  # a learning rate's time depends on alpha
            moved = model.replace(**{name: getattr(model, name) * math.exp(1e-6)})
            rate = math.log(self.clock(moved) / self.clock(model)) / 1e-6
            columns[name] = columns[name] + rate * point.prediction.slope
        return np.stack([(columns[name] * self.weights).ravel() for name in self.names], axis=1)

    def with_time_scale(self, x: np.ndarray) -> np.ndarray:
        """x with the time scale at which the theory, solved to a long time, fits best."""
        place, log = self.names.index(TIME), np.nan_to_num(self.measured.log)
        low, high = np.exp(self.bounds[:, place])
        raw = self.clock(self.model_at(x)) * self.measured.time
        scales = np.geomspace(max(SHORTEST * LONGEST / raw[-1], low), min(LONGEST / raw[-1], high), 200)
        at = np.append(0.0, np.geomspace(1e-4 * LONGEST, LONGEST, 400))
        long = self.theory.predict(self.model_at(x), at).log

        def misfit(scale: float) -> float:
            curves = np.stack([np.interp(scale * raw, at, row) for row in long])
            return float(((curves - log)[self.measured.known] ** 2).mean())

        moved = x.copy()
        moved[place] = math.log(min(scales, key=misfit))
        return moved


def fitted(problem: Problem, starts: int, seed: int, intervals: bool) -> Fit:
    """The best of several fits, with its errors."""
    search = problem.roughly()
    places = start_places(search, starts, seed)
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
    deviations, scaled = weigh(problem, problem.point(best.x))
    best, ended = descend(problem, best.x)
    if scaled:  # errors are the scatter about the fit
        degrees = _degrees(problem)
        problem.error = problem.error * math.sqrt(max(best.chi2 / max(degrees, 1.0), 1e-12))
        best = problem.point(best.x)
    return _result(problem, best, ended, deviations, scaled, followed, intervals)


def start_places(problem: Problem, count: int, seed: int) -> list[np.ndarray]:
    """The model's own place, and others about it, within the bounds."""
    first = problem.start()
    generator = np.random.default_rng(seed)
    others = first + math.log(APART) * generator.uniform(-1, 1, (count - 1, len(first)))
    return [first, *np.clip(others, problem.bounds[0], problem.bounds[1])]


def _chi2(problem: Problem, x: np.ndarray) -> float:
    try:
        return problem.point(x).chi2
    except RunError:
        return math.inf


def descend(problem: Problem, start: np.ndarray) -> tuple[Point, str]:
    """Least squares from a start: the best point, and what is wrong with how it ended ("" if nothing is)."""
    from scipy.optimize import least_squares

    seen: dict[bytes, Point] = {}

    def residuals(x: np.ndarray) -> np.ndarray:
        try:
            seen[x.tobytes()] = found = problem.point(x)
        except RunError:
            return np.full(problem.weights.size, UNSOLVED)
        return found.residuals

    def jacobian(x: np.ndarray) -> np.ndarray:
        return problem.jacobian(seen[x.tobytes()])

    search: Any = least_squares  # whose types know no function for a Jacobian

    low, high = problem.bounds
    inside = np.clip(start, low + 1e-6, high - 1e-6)
    end = search(
        residuals, inside, jacobian, (low, high), method="trf", x_scale=1.0, xtol=ENOUGH, ftol=1e-5, gtol=1e-8,
        max_nfev=STEPS,
    )  # fmt: skip
    found = seen[end.x.tobytes()]
    stuck = [name for name, active in zip(problem.names, end.active_mask, strict=True) if active]
    if stuck:
        values = ", ".join(f"{name} = {math.exp(found.x[problem.names.index(name)]):.4g}" for name in stuck)
        return found, f"The fit ended on a bound, {values}: give other `bounds`, or fix it."
    if end.status <= 0:
        return found, f"The fit did not converge in {STEPS} steps: start nearer, or free fewer parameters."
    return found, ""


def weigh(problem: Problem, best: Point) -> tuple[np.ndarray | None, bool]:
    """Set the errors of the residuals from all that is known at the best point.

    Returns:
        Relative deviations of single runs, (K, C, T), if these are known, over the root of the number of runs; and
        whether errors are still unknown.
    """
    measured, model = problem.measured, problem.model_at(best.x)
    deviations = measured.deviations
    if deviations is None and not np.isfinite(measured.error[measured.known]).any():
        deviations = problem.theory.deviations(model, problem.times(best.x))
    if deviations is not None:
        deviations = deviations / math.sqrt(measured.runs)
    own = _own_error(problem, best)
    spread = measured.error
    if deviations is not None and measured.deviations is None:
        spread = deviations.std(axis=0, ddof=1)
    scaled = not np.isfinite(spread[measured.known]).any()
    if scaled:
        problem.error = np.full(measured.log.shape, UNKNOWN)
        return None, True
    known = np.where(np.isfinite(spread), spread, np.nanmedian(spread))
    problem.error = np.hypot(known, own)
    return deviations, False


def _own_error(problem: Problem, best: Point) -> np.ndarray:
    """The theory's relative error, and 1/D, the order of what it leaves out."""
    dim = getattr(problem.model, "dim", None)
    return np.hypot(best.prediction.error, 0.0 if dim is None else 1.0 / dim)


def _degrees(problem: Problem) -> float:
    """Independent points less parameters."""
    return float((problem.measured.known * problem.measured.share).sum() - len(problem.names))


def covariance(problem: Problem, best: Point, jacobian: np.ndarray, deviations: np.ndarray | None) -> np.ndarray:
    """Of the log parameters, (p, p): of the fits to single runs, where these are known, and of the theory's error."""
    naive = covariance_of(jacobian)
    if deviations is None:
        return naive
    flat = (deviations * problem.weights).reshape(len(deviations), -1)
    shifts = naive @ jacobian.T @ flat.T  # (p, K)
    own = (_own_error(problem, best) / problem.error).ravel()
    from_theory = naive @ (jacobian.T * own**2) @ jacobian @ naive
    flat_part = naive - naive @ jacobian.T @ jacobian @ naive  # of directions that nothing determines
    return np.cov(shifts).reshape(naive.shape) + from_theory + flat_part


def goodness(problem: Problem, best: Point, jacobian: np.ndarray, deviations: np.ndarray | None) -> float:
    """The chance of a chi^2 as large: among runs that are drawn, or by its distribution."""
    from scipy.stats import chi2

    if deviations is None:
        return float(chi2.sf(best.chi2, max(_degrees(problem), 1.0)))
    flat = (deviations * problem.weights).reshape(len(deviations), -1)
    rest = flat - (jacobian @ (covariance_of(jacobian) @ (jacobian.T @ flat.T))).T
    own = (_own_error(problem, best) / problem.error).ravel() ** 2 * (problem.weights.ravel() > 0)
    sizes = (rest**2).sum(axis=1) + (own * np.tile(problem.measured.share, (1, problem.error.shape[1])).ravel()).sum()
    return float((1 + (sizes >= best.chi2).sum()) / (1 + len(sizes)))


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
        degrees=_degrees(problem),
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


def profile(
    problem: Problem, best: Point, jacobian: np.ndarray, found: np.ndarray, place: int
) -> dict[float, tuple[float, float]]:
    """Where chi^2 has risen by RISE in the direction of one parameter, all others fitted anew.

    Errors that are correlated make chi^2 too steep or too flat: its rise is in units of what it is in the direction
    that a change of the parameter takes, so that to leading order the ends are those of the covariance.
    """
    search = problem.roughly()
    offset = best.residuals - search.point(best.x).residuals
    naive = covariance_of(jacobian)
    unit = found[place, place] / naive[place, place]
    sigma, others = math.sqrt(found[place, place]), [one for one in range(len(best.x)) if one != place]
    along = naive[:, place] / naive[place, place]  # how the others follow

    def rise(shift: float) -> float:
        """Root of the rise at a shift in standard errors, after one step of the others."""
        x = best.x + along * shift * sigma
        try:
            point = search.point(x)
            rests = [point.residuals + offset]
            if others:
                part = search.jacobian(point)[:, others]
                x[others] -= covariance_of(part) @ part.T @ rests[0]
                rests.append(search.point(x).residuals + offset)
        except (RunError, ParameterError):
            return math.nan
        return math.sqrt(max(min(float(rest @ rest) for rest in rests) - best.chi2, 0.0) / unit)

    ends: dict[int, list[float]] = {}
    for sign in (-1, 1):
        near, far = rise(sign), rise(2 * sign)
        # rise = a s + b s^2 through two points: the asymmetry, to leading order
        b = 0.5 * far - near if np.isfinite(far) else 0.0
        a = near - b if np.isfinite(near) else 1.0
        ends[sign] = [_root(a, b, math.sqrt(level)) for level in RISE.values()]
    return {
        level: tuple(float(np.exp(best.x[place] + sign * ends[sign][row] * sigma)) for sign in (-1, 1))  # type: ignore[misc]
        for row, level in enumerate(RISE)
    }


def _root(a: float, b: float, height: float) -> float:
    """The s > 0 at which a s + b s^2 = height; its largest value where it does not get there."""
    if abs(b) < 1e-9:
        return height / max(a, 1e-9)
    square = a**2 + 4 * b * height
    return (-a + math.sqrt(square)) / (2 * b) if square > 0 else math.inf
