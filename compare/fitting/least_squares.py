"""The least squares of a fit: residuals and their derivatives, the search, errors, intervals.

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
import math
from typing import Any, NamedTuple

import numpy as np

from compare.fitting.curves import Measured
from compare.fitting.identify import covariance_of
from compare.fitting.theory import Prediction, Theory
from dmft.checks import ParameterError, RunError

#: The name of the free scale of time.
TIME = "time"
#: How far other starts lie apart, as a factor each way.
APART = 2.5
#: Relative error of curves that come without any, until their scatter about the fit is known.
UNKNOWN = 0.02
#: Sides of the search for a time scale: the theory is solved to here, and scales down to this part of it are tried.
LONGEST, SHORTEST = 300.0, 1e-3
#: Steps of the fit at most, and the change of log parameters that ends it.
STEPS, ENOUGH = 25, 1e-4
#: chi^2 above its least at the ends of an interval.
RISE = {0.68: 0.989, 0.95: 3.841}
#: What a residual counts where the theory cannot be solved.
UNSOLVED = 1e2


class Point(NamedTuple):
    """One place of a fit: log parameters (p,), residuals (m,), and what the theory predicts there."""

    x: np.ndarray
    residuals: np.ndarray
    prediction: Prediction

    @property
    def chi2(self) -> float:
        """Sum of squared residuals."""
        return float(self.residuals @ self.residuals)


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

    @property
    def degrees(self) -> float:
        """Independent points less parameters."""
        return float((self.measured.known * self.measured.share).sum() - len(self.names))

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


def start_places(problem: Problem, count: int, seed: int) -> list[np.ndarray]:
    """The model's own place, and others about it, within the bounds."""
    first = problem.start()
    generator = np.random.default_rng(seed)
    others = first + math.log(APART) * generator.uniform(-1, 1, (count - 1, len(first)))
    return [first, *np.clip(others, problem.bounds[0], problem.bounds[1])]


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
        return float(chi2.sf(best.chi2, max(problem.degrees, 1.0)))
    flat = (deviations * problem.weights).reshape(len(deviations), -1)
    rest = flat - (jacobian @ (covariance_of(jacobian) @ (jacobian.T @ flat.T))).T
    own = (_own_error(problem, best) / problem.error).ravel() ** 2 * (problem.weights.ravel() > 0)
    sizes = (rest**2).sum(axis=1) + (own * np.tile(problem.measured.share, (1, problem.error.shape[1])).ravel()).sum()
    return float((1 + (sizes >= best.chi2).sum()) / (1 + len(sizes)))


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
