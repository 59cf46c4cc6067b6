"""`design`: how to train so that the test loss gets to a target, from the theory, and a simulation that checks it.

All solves of a search have the same draws, grid and replicas (`dmft.derivatives`), so that what is searched is a smooth
function. What is found is the root, or the least value, of log test loss(t_max); its error follows from that of the
loss there and from the slope, or the curvature.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compare.fitting.theory import Solved
from dmft import DivergenceError, Model, ParameterError, RunError
from dmft.checks import check_choice, check_integer, check_real, check_seed, precision_context, spelt
from dmft.derivatives import derivative
from dmft.progress import progress_report
from dmft.solver import engine_for
from dmft.twotime.engine import Plan
from dmft.twotime.grid import Grid, explicit_grid
from dmft.twotime.loop import ReplicaStopped, solve_one
from dmft.twotime.request import Request
from dmft.twotime.tolerance import Unsolved, add_replicas

#: What a design may choose.
OVER = ("kappa", "weight_decay", "steps", "schedule")
#: Values tried before the search, evenly in the logarithm, and how near the search ends, in the logarithm.
SCAN, NEAR = 7, 2e-3
#: Least and largest values of what is searched, unless given.
RANGES = {"kappa": (0.5, 32.0), "weight_decay": (1e-4, 1.0)}
#: Samples of the one replica that schedules are tried on; factors that steps are changed by, one after the other.
TRIAL_SAMPLES, FACTORS = 64, (1.5, 1.2, 1.07)
#: Share of the steps found that is used: networks of finite D have larger curvatures than the theory's.
SAFETY = 0.9
#: Dimension of the check, unless the model has one, and standard errors within which a promise holds.
CHECK_DIM, HOLDS = 200, 3.0


@dataclasses.dataclass(frozen=True)
class Design:
    """What to choose, what it promises, and what a simulation makes of it.

    Attributes:
        over: what was chosen.
        value: its value: of kappa or weight_decay, or the number of steps.
        error: standard error of it, from the solver's errors.
        model: with that value.
        test_loss, test_loss_error: what the theory promises at the end.
        steps: (n,) sizes of all steps, in time; empty for gradient flow.
        tried: the values that were looked at, with the test loss at the end.
        simulated, simulated_error: the mean test loss of the check and its standard error; NaN without one.
        dim: D of the check.
    """

    over: str
    value: float
    error: float
    model: Model
    test_loss: float
    test_loss_error: float
    steps: tuple[float, ...]
    tried: tuple[tuple[float, float], ...]
    simulated: float = math.nan
    simulated_error: float = math.nan
    dim: int | None = None

    @property
    def z(self) -> float:
        """(simulated - promised) / error, of both sides and of 1/D, the order that the theory leaves out."""
        left_out = self.test_loss / self.dim if self.dim else 0.0
        return (self.simulated - self.test_loss) / math.hypot(self.simulated_error, self.test_loss_error, left_out)

    @property
    def holds(self) -> bool:
        """Whether the check is within 3 errors of the promise."""
        return abs(self.z) <= HOLDS


@spelt
def design(
    model: Model,
    target: float | None,
    over: str = "kappa",
    *,
    t_max: float,
    bounds: tuple[float, float] | None = None,
    step: float | None = None,
    pieces: int = 3,
    rtol: float = 0.01,
    seed: int = 0,
    check: int = 8,
) -> Design:
    """Choose how to train, and check it by simulation.

    Args:
        model: what is fixed.
        target: test loss to be reached, > 0; None with over="weight_decay" for the least that can be.
        over: "kappa" or "weight_decay": the smallest value with which the test loss is at the target at t_max.
            "steps": the smallest number of steps of size `step`. "schedule": `pieces` sizes of steps, one after the
            other for equally many steps each, that get there in the smallest number of steps.
        t_max: training time, > 0; with steps, the time that they may take at most.
        bounds: least and largest value of kappa (0.5 to 32) or weight_decay (1e-4 to 1) that are looked at.
        step: of gradient descent; None for gradient flow (kappa, weight_decay). Of a schedule: the one to begin with.
        pieces: K >= 1, of the schedule.
        rtol, seed: of the theory.
        check: runs of the simulation that checks it, at the model's dim or at D = 200; 0 for none.

    Raises:
        ParameterError: an argument is out of range.
        RunError: the target is not reached anywhere within the bounds; says what is reached.
    """
    if not isinstance(model, Model):
        raise ParameterError(f"Argument `model` must be a dmft.Model, but is {model!r}.")
    over = check_choice("over", over, OVER)
    t_max = check_real("t_max", t_max, above=0.0)
    if target is not None:
        target = check_real("target", target, above=0.0)
    elif over != "weight_decay":
        raise ParameterError(f"Argument `target` must be a number > 0 with over={over!r}, but is None.")
    if over in ("steps", "schedule") and step is None:
        raise ParameterError(f"Argument `step` must be given with over={over!r}, but is None.")
    pieces, runs = check_integer("pieces", pieces, at_least=1), check_integer("check", check, at_least=0)
    request = Request(t_max=t_max, step=step, rtol=rtol, seed=check_seed(seed))
    if over in RANGES:
        low, high = RANGES[over] if bounds is None else (check_real("bounds", one, above=0.0) for one in bounds)
        if not low < high:
            raise ParameterError(f"Argument `bounds` must be (least, largest), but is {bounds!r}.")
        search = Search(model, over, request, (low, high))
        found = search.least() if target is None else search.reach(target)
    else:
        assert target is not None
        found = scheduled(model, target, request, 1 if over == "steps" else pieces, fixed=over == "steps")
    return checked(found, request, runs) if runs else found


class Search:
    """Log test loss at t_max as a smooth function of the logarithm of one parameter."""

    def __init__(self, model: Model, name: str, request: Request, bounds: tuple[float, float]) -> None:
        self.model, self.name, self.request, self.bounds = model, name, request, bounds
        self.theory = Solved(("test_loss",), request.step, request.rtol, request.seed)
        self.tried: dict[float, tuple[float, float]] = {}

    def at(self, x: float) -> float:
        """log test loss at t_max, where log parameter is x."""
        if x not in self.tried:
            found = self.theory.predict(self._model(x), np.array([self.request.t_max]))
            self.tried[x] = float(found.log[0, 0]), float(found.error[0, 0])
        return self.tried[x][0]

    def _model(self, x: float) -> Model:
        return self.model.replace(**{self.name: math.exp(x)})

    def scan(self) -> tuple[np.ndarray, np.ndarray]:
        """Places and values, evenly between the bounds, the middle first: its plan serves all."""
        low, high = np.log(self.bounds)
        xs = np.linspace(low, high, SCAN)
        for x in xs[np.argsort(np.abs(np.arange(SCAN) - SCAN // 2))]:
            self.at(float(x))
        return xs, np.array([self.at(float(x)) for x in xs])

    def reach(self, target: float) -> Design:
        """The smallest value that reaches the target."""
        from scipy.optimize import brentq

        goal = math.log(target)
        xs, values = self.scan()
        below = np.flatnonzero(values <= goal)
        if below.size == 0:
            at = int(np.argmin(values))
            low, high = self.bounds
            raise RunError(
                f"The test loss does not reach {target:g} by t = {self.request.t_max:g} for {self.name} from {low:g} "
                f"to {high:g}: at best {math.exp(values[at]):.4g}, at {math.exp(xs[at]):.4g}."
            )
        first = int(below[0])
        if first == 0:
            return self._design(float(xs[0]), 0.0)
        x = float(brentq(lambda x: self.at(x) - goal, xs[first - 1], xs[first], xtol=NEAR))  # type: ignore[arg-type]
        slope = (self.at(x + NEAR) - self.at(x - NEAR)) / (2 * NEAR)
        return self._design(x, self.tried[x][1] / abs(slope))

    def least(self) -> Design:
        """Where the test loss is least."""
        from scipy.optimize import minimize_scalar

        xs, values = self.scan()
        at = int(np.argmin(values))
        if at in (0, SCAN - 1):
            return self._design(float(xs[at]), math.nan)
        found: Any = minimize_scalar(self.at, bracket=tuple(xs[at - 1 : at + 2]), tol=0.02)
        x, width = float(found.x), 0.2
        curvature = (self.at(x + width) + self.at(x - width) - 2 * self.at(x)) / width**2
        evidence = self.theory.evidence(self._model(x), self.request.t_max)
        with progress_report("theory", False) as report:
            errors = derivative(evidence, self._model(x), self.name, report).errors("test_loss")
        slope_error = float(errors.total[-1]) / math.exp(self.at(x))
        return self._design(x, slope_error / max(curvature, 1e-12))

    def _design(self, x: float, error: float) -> Design:
        log, relative = self.tried[x] if x in self.tried else (self.at(x), self.tried[x][1])
        loss, step = math.exp(log), self.request.step
        steps = () if step is None else (step,) * round(self.request.t_max / step)
        tried = tuple(sorted((math.exp(one), math.exp(found[0])) for one, found in self.tried.items()))
        value = math.exp(x)
        return Design(self.name, value, value * error, self._model(x), loss, loss * relative, steps, tried)


def schedule_grid(steps: np.ndarray) -> Grid:
    """Gradient descent with steps (n,) of different sizes: the weights of an explicit grid are its steps."""
    uniform = explicit_grid(1.0, float(len(steps)))
    return dataclasses.replace(uniform, times=np.append(0.0, np.cumsum(steps)), weights=np.append(steps, steps[-1]))


def scheduled(model: Model, target: float, request: Request, pieces: int, *, fixed: bool) -> Design:
    """The fewest steps that reach the target: of the size asked for if `fixed`, else of sizes that are found."""
    assert request.step is not None
    most = round(request.t_max / request.step)
    tried: list[tuple[float, float]] = []

    def needed(sizes: Sequence[float], count: int) -> float:
        """Steps that one replica of few samples needs for the target; inf if it diverges or does not get there."""
        steps = _spread_out(sizes, count, min(most, round(1.5 * count)))
        curve = _trial(model, request, steps)
        found = math.inf if curve is None else _steps_to(curve, target)
        tried.append((found, float("nan") if curve is None else float(curve[-1])))
        return found

    sizes = [request.step] * pieces
    count = needed(sizes, most)
    if not math.isfinite(count):
        raise RunError(
            f"The test loss does not reach {target:g} within {most} steps of {request.step:g}: raise `t_max`, or lower "
            "`step`."
        )
    if not fixed:
        sizes, count = _improved(needed, sizes, count)
        sizes = [SAFETY * one for one in sizes]
        count = needed(sizes, math.ceil(count))
    steps = _spread_out(sizes, math.ceil(count), min(most, math.ceil(1.2 * count) + 5))
    return _promise(model, target, request, steps, "steps" if fixed else "schedule", tuple(tried))


def _spread_out(sizes: Sequence[float], count: int, total: int) -> np.ndarray:
    """Each of the sizes for an equal share of `count` steps, the last one up to `total`."""
    places = np.minimum(np.arange(max(total, count)) * len(sizes) // max(count, 1), len(sizes) - 1)
    return np.asarray(sizes)[places]


def _improved(needed: Callable[..., float], sizes: list[float], count: float) -> tuple[list[float], float]:
    """Pattern search: each size times or over a factor, as long as it helps, with ever smaller factors."""
    for factor in FACTORS:
        better = True
        while better:
            better = False
            together = [[one * power for one in sizes] for power in (factor, 1 / factor)]
            single = [
                [*sizes[:place], sizes[place] * power, *sizes[place + 1 :]]
                for place in range(len(sizes))
                for power in (factor, 1 / factor)
            ]
            for trial in (*together, *single) if len(sizes) > 1 else together:
                found = needed(trial, math.ceil(count))
                if found < count * 0.995:
                    sizes, count, better = trial, found, True
                    break
    return sizes, count


def _plan(model: Model, request: Request, steps: np.ndarray) -> Plan:
    return request.plan(engine_for(model), schedule_grid(steps), True)


def _trial(model: Model, request: Request, steps: np.ndarray) -> np.ndarray | None:
    """Test loss (n + 1,) of one replica of few samples; None if it diverges."""
    plan = _plan(model, request, steps)
    sampling = dataclasses.replace(plan.sampling, samples=TRIAL_SAMPLES, modes=TRIAL_SAMPLES // 2)
    seed = np.random.SeedSequence(request.seed, spawn_key=(0,))
    try:
        with precision_context("float64"):
            replica = solve_one(plan.engine, plan.grid, sampling, seed, plan.iteration)
    except ReplicaStopped:
        return None
    return replica.curves["test_loss"]


def _steps_to(curve: np.ndarray, target: float) -> float:
    """Steps until the curve is at the target, linear in its logarithm in between; inf if never."""
    below = np.flatnonzero(curve <= target)
    if below.size == 0 or below[0] == 0:
        return math.inf if below.size == 0 else 0.0
    after = int(below[0])
    drop = np.log(curve[after - 1] / curve[after])
    return after - 1 + float(np.log(curve[after - 1] / target) / drop)


def _promise(
    model: Model, target: float, request: Request, steps: np.ndarray, over: str, tried: tuple[tuple[float, float], ...]
) -> Design:
    """The design of these steps, by all replicas that the tolerance asks for."""
    plan = _plan(model, request, steps)
    try:
        with progress_report("theory", False) as report:
            errors = add_replicas(plan.engine.evidence(plan, report), report).errors("test_loss")
    except (ReplicaStopped, Unsolved):
        raise DivergenceError("The schedule found is not stable with all samples: lower `step`, or `pieces`.") from None
    count = _steps_to(errors.value, target)
    if not math.isfinite(count):
        raise RunError(
            f"The test loss does not reach {target:g} within {len(steps)} steps; at best {errors.value.min():.4g}."
        )
    last = math.ceil(count)
    slope = abs(math.log(errors.value[last] / errors.value[max(last - 1, 0)])) or math.inf
    relative = float(errors.total[last] / errors.value[last])
    return Design(
        over, last, relative / slope, model, float(errors.value[last]), float(errors.total[last]),
        tuple(map(float, steps[:last])), tried,
    )  # fmt: skip


def checked(found: Design, request: Request, runs: int) -> Design:
    """With the test loss of a simulation at the end."""
    from sim import Optimizer, simulate

    model = found.model if found.model.dim is not None else found.model.replace(dim=CHECK_DIM)
    settings: dict[str, Any] = {"seeds": runs, "seed": request.seed, "progress": False}
    if not found.steps:
        run = simulate(model, request.t_max, times=[0.0, request.t_max], **settings)
    else:
        sizes, largest, count = np.array(found.steps), max(found.steps), len(found.steps)
        rule = "gd" if np.ptp(sizes) == 0 else Optimizer("gd", schedule=sizes / largest)
        run = simulate(model, count * largest, step=largest, optimizer=rule, **settings)
    last = run["test_loss"].isel(time=-1).to_numpy()
    return dataclasses.replace(
        found,
        simulated=float(last.mean()),
        simulated_error=float(last.std(ddof=1) / math.sqrt(runs)) if runs > 1 else math.nan,
        dim=model.dim,
    )
