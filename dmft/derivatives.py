"""`sensitivity`: derivatives of the theory's curves with respect to the logarithms of its parameters.

A replica's samples are a function of its seed alone. So with the grid, the number of samples and the replicas held
fixed, its curves are smooth functions of the parameters, and

    d L / d log theta = [L(theta e^h) - L(theta)] / h

is taken replica by replica. The differences are replicas of the derivative: their mean, with the control variates'
differences regressed out, is the derivative, and their scatter its standard error. The noise of the samples, which the
two sides share, is not divided by h.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dmft.checks import ParameterError, check_real, neighbour, spelt
from dmft.progress import progress_report
from dmft.solver import engine_for
from dmft.twotime.engine import Evidence, Iteration, Plan, Report
from dmft.twotime.errors import Errors, interpolate, linear_between
from dmft.twotime.failure import failure
from dmft.twotime.grid import Grid
from dmft.twotime.loop import ReplicaStopped
from dmft.twotime.prediction import output_times, prediction, values_at
from dmft.twotime.request import Request
from dmft.twotime.tolerance import Unsolved, to_tolerance

if TYPE_CHECKING:
    import xarray

#: Parameters of a model that its curves are smooth functions of.
SMOOTH = ("alpha", "epsilon", "kappa", "initial_overlap", "label_noise", "weight_decay")
#: h, the difference of the logarithms; measured: what is left of it is under 1e-3 of the derivative.
DIFFERENCE = 5e-4
#: Rows are solved to what h does not magnify.
ITERATION = Iteration(tolerance=1e-8, accepted=1e-6)
LOSSES = ("train_loss", "test_loss")


class Crossing(NamedTuple):
    """The time at which a loss reaches a threshold, and d/d log parameter of it, each with its error.

    NaN if it never does, 0 if it starts there.
    """

    time: float
    time_error: float
    derivative: dict[str, float]
    error: dict[str, float]


@spelt
def sensitivity(
    model: Any,
    t_max: float,
    wrt: Sequence[str] | str = ("alpha", "epsilon", "kappa"),
    *,
    threshold: float = 0.1,
    step: float | None = None,
    momentum: float = 0.0,
    nesterov: bool = False,
    schedule: Any = "constant",
    rtol: float = 0.01,
    atol: float = 1e-5,
    times: Sequence[float] | np.ndarray | None = None,
    seed: int = 0,
    sample_count: int | None = None,
    replicas: int | None = None,
    points: int | None = None,
    progress: bool | None = None,
) -> xarray.Dataset:
    """The theory's curves, and their derivatives with respect to the logarithms of parameters.

    Args:
        model: a dmft.Model or dmft.Committee.
        t_max: last time, > 0.
        wrt: parameters, each > 0 in the model: alpha, epsilon, kappa, initial_overlap, label_noise, weight_decay; with
            `step` also step, whose derivative is taken at fixed time, not at a fixed number of steps, and momentum.
        threshold: > 0, the loss whose times t_train and t_test, and delay = t_test - t_train, are differentiated too.
        step, momentum, nesterov, schedule, rtol, atol, times, seed, sample_count, replicas, points, progress: as in
            `dmft.solve`. The tolerance is that of the curves.

    Returns:
        The dataset of `dmft.solve`, and for every observable and parameter `<name>_by_<parameter>`,
        d name / d log parameter over time, with `_stderr` of the replicas and `_error`, all parts together; and
        without dimension t_train, t_test and delay, `<...>_by_<parameter>`, each with `_error`; NaN if not reached.

    Raises:
        ParameterError: an argument is out of range; a parameter is unknown, or 0 in the model.
        DivergenceError, ConvergenceError, MemoryLimitError: as in `dmft.solve`.

    Examples:
        >>> from dmft import Model
        >>> model = Model(alpha=1.0, epsilon=0.0, kappa=2.0)
        >>> found = sensitivity(model, 1.0, "alpha", rtol=0.1)
        >>> bool((abs(found.train_loss_by_alpha) < 1e-5).all())  # a linear network knows no alpha
        True
    """
    request = Request(
        t_max=t_max, step=step, momentum=momentum, nesterov=nesterov, schedule=schedule, rtol=rtol, atol=atol,
        times=times, seed=seed, sample_count=sample_count, replicas=replicas, points=points,
    )  # fmt: skip
    threshold = check_real("threshold", threshold, above=0.0)
    engine = engine_for(model)
    names = check_parameters("wrt", wrt, model, _of_descent(request))
    with progress_report("sensitivity", progress) as report:
        try:
            base = first_evidence(request, model, report)
            changes = {name: derivative(base, model, name, report) for name in names}
        except Unsolved as unsolved:
            raise failure(unsolved, request.times) from None
        dataset = prediction(base, request.times)
    at = output_times(base.plan.grid, request.times)
    for parameter, change in changes.items():
        for name in engine.meanings:
            dims = ("time", *engine.dimensions.get(name, ()))
            dataset = dataset.assign(_variables(base.plan.grid, change.errors(name), name, parameter, dims, at))
    return with_crossings(dataset, base, changes, threshold)


def _of_descent(request: Request) -> tuple[str, ...]:
    """The parameters of its steps."""
    moving = request.rule is not None and request.rule.momentum > 0
    return (*(["step"] if request.step is not None else []), *(["momentum"] if moving else []))


def check_parameters(argument: str, given: Any, model: Any, beside: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Names of parameters that the model has, greater than 0, or of those `beside` it.

    Raises:
        ParameterError: there is none, or one is unknown, named twice, or 0.
    """
    names = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
    allowed = [name for name in SMOOTH if isinstance(getattr(model, name, None), float)]
    allowed += beside
    if not names or len(set(names)) < len(names):
        raise ParameterError(
            f"Argument `{argument}` must name different ones of {', '.join(allowed)}, but is {given!r}."
        )
    for name in names:
        if name not in allowed:
            near = neighbour(str(name), allowed)
            says = f"did you mean `{near}`?" if near else f"allowed: {', '.join(allowed)}."
            raise ParameterError(f"Argument `{argument}` names `{name}`, which is no parameter to be varied; {says}")
        if name not in beside and not getattr(model, name) > 0:
            raise ParameterError(
                f"Argument `{argument}` names `{name}`, which must be > 0 in the model to have a logarithm, but is 0."
            )
    return names


def first_evidence(request: Request, model: Any, report: Report) -> Evidence:
    """A model solved to the tolerance, each row to what a small difference does not magnify."""
    engine = engine_for(model)

    def make_plan(grid: Grid, full: bool) -> Plan:
        return dataclasses.replace(request.plan(engine, grid, full), iteration=ITERATION, keep=True)

    return to_tolerance(
        make_plan, request.first_grid(engine), full=request.step is not None, adapt=request.adapts, report=report
    )


def again(base: Evidence, model: Any, report: Report, grid: Grid | None = None, *, near: bool = False) -> Evidence:
    """As many replicas of the same draws on the same grid, or on another one, of another model.

    Args:
        near: see `dmft.twotime.engine.Evidence`.

    Raises:
        Unsolved: one of them could not go on.
    """
    plan = dataclasses.replace(base.plan, engine=engine_for(model), grid=grid or base.plan.grid)
    try:
        return base.again(plan, report, near=near)
    except ReplicaStopped as stopped:
        raise Unsolved(plan, stopped) from None


def derivative(base: Evidence, model: Any, name: str, report: Report) -> Evidence:
    """Evidence whose observables are d/d log parameter of those of `base`."""
    factor, grid = math.exp(DIFFERENCE), base.plan.grid
    if name == "step":
        moved = dataclasses.replace(grid, times=factor * grid.times, weights=factor * grid.weights)
        return again(base, model, report, moved, near=True).change(base, DIFFERENCE)
    if name == "momentum":
        rule = grid.momentum
        assert rule is not None
        moved = dataclasses.replace(grid, momentum=dataclasses.replace(rule, momentum=factor * rule.momentum))
        return again(base, model, report, moved, near=True).change(base, DIFFERENCE)
    changed = model.replace(**{name: factor * getattr(model, name)})
    return again(base, changed, report, near=True).change(base, DIFFERENCE)


def _variables(
    grid: Grid, errors: Errors, name: str, parameter: str, dims: tuple[str, ...], at: np.ndarray
) -> dict[str, Any]:
    """The derivative of an observable with its errors, on the output times."""
    label = f"{name}_by_{parameter}"
    about = f"d {name} / d log {parameter}"
    return {
        label: (dims, values_at(grid, errors.value, at), {"long_name": about, "units": "1"}),
        f"{label}_stderr": (
            dims,
            linear_between(grid.times, errors.parts["sampling"], at),
            {"long_name": f"standard error of {about}", "units": "1"},
        ),
        f"{label}_error": (
            dims,
            linear_between(grid.times, errors.total, at),
            {"long_name": f"total error of {about}", "units": "1"},
        ),
    }


def with_crossings(
    dataset: xarray.Dataset, base: Evidence, changes: dict[str, Evidence], threshold: float
) -> xarray.Dataset:
    """Add t_train, t_test and delay, and their derivatives."""
    train, test = (crossing(base, changes, name, threshold) for name in LOSSES)
    both = test.time > train.time
    delay = Crossing(
        test.time - train.time if both else math.nan,
        math.hypot(test.time_error, train.time_error),
        {name: test.derivative[name] - train.derivative[name] if both else math.nan for name in changes},
        {name: math.hypot(test.error[name], train.error[name]) for name in changes},
    )
    added: dict[str, Any] = {}
    for label, one in (("t_train", train), ("t_test", test), ("delay", delay)):
        units = {"units": dataset["time"].attrs["units"]}
        added |= {label: ((), one.time, units), f"{label}_error": ((), one.time_error, units)}
        for name in changes:
            added |= {
                f"{label}_by_{name}": ((), one.derivative[name], units),
                f"{label}_by_{name}_error": ((), one.error[name], units),
            }
    return dataset.assign(added).assign_attrs(threshold=threshold, wrt=", ".join(changes), difference=DIFFERENCE)


def crossing(base: Evidence, changes: dict[str, Evidence], name: str, threshold: float) -> Crossing:
    """When observable `name` first falls to `threshold`: dt/d log theta = -(dL/d log theta) / (dL/dt) there.

    The error is that of dL/d log theta, and of the time itself, at which the ratio is taken.
    """
    grid, curve = base.plan.grid, base.errors(name)
    nothing = dict.fromkeys(changes, math.nan)
    below = np.flatnonzero(curve.value <= threshold)
    if below.size == 0:
        return Crossing(math.nan, math.nan, nothing, nothing)
    if below[0] == 0:  # from the start
        return Crossing(0.0, 0.0, dict.fromkeys(changes, 0.0), dict.fromkeys(changes, 0.0))
    first = int(below[0])

    def at(values: np.ndarray) -> Callable[[float], float]:
        return lambda time: float(interpolate(grid, values, np.array([time]))[0])

    from scipy.optimize import brentq

    loss = at(curve.value)
    time = float(brentq(lambda t: loss(t) - threshold, grid.times[first - 1], grid.times[first]))  # type: ignore[arg-type]
    gap = 0.25 * (grid.times[first] - grid.times[first - 1])

    def slope(t: float) -> float:
        return (loss(t + gap) - loss(t - gap)) / (2 * gap) if t > gap else (loss(t + gap) - loss(t)) / gap

    error = float(np.interp(time, grid.times, curve.total)) / abs(slope(time))
    found, errors = {}, {}
    for parameter, change in changes.items():
        parts = change.errors(name)
        moves = at(parts.value)
        found[parameter] = -moves(time) / slope(time)
        drift = (moves(time + gap) / slope(time + gap) - moves(time) / slope(time)) / gap
        own = float(np.interp(time, grid.times, parts.total)) / abs(slope(time))
        errors[parameter] = math.hypot(own, drift * error)
    return Crossing(time, error, found, errors)
