"""`solve`: the theory of a model, averaged over replicas to a tolerance, as one dataset with its errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from dmft.checks import ConvergenceError, ParameterError, spelt
from dmft.models.committee import Committee
from dmft.models.model import Model
from dmft.progress import progress_report
from dmft.twotime.engine import Engine, Evidence, Plan, Report
from dmft.twotime.failure import failure
from dmft.twotime.grid import Grid
from dmft.twotime.prediction import prediction
from dmft.twotime.request import Request
from dmft.twotime.spread import SOURCES
from dmft.twotime.tolerance import Unsolved, to_tolerance, within_time

if TYPE_CHECKING:
    import xarray

__all__ = ["ENGINES", "solve"]

#: The engine of each class of models: another one is a line here, or in the program that brings it.
ENGINES: dict[type, Callable[[Any], Engine]] = {
    Model: lambda model: import_module("dmft.wide.engine").Wide(model),
    Committee: lambda model: import_module("dmft.committee.engine").CommitteeEngine(model),
}


@spelt
def solve(
    model: Model | Committee,
    t_max: float,
    *,
    step: float | None = None,
    momentum: float = 0.0,
    nesterov: bool = False,
    schedule: Any = "constant",
    rtol: float = 0.01,
    atol: float = 1e-5,
    times: Sequence[float] | np.ndarray | None = None,
    precision: str = "float64",
    seed: int = 0,
    kernels: bool = False,
    sample_count: int | None = None,
    replicas: int | None = None,
    points: int | None = None,
    max_seconds: float | None = None,
    spread: bool | int = False,
    sources: Sequence[str] = SOURCES,
    progress: bool | None = None,
) -> xarray.Dataset:
    """Predict the learning curves of `model` by dynamical mean-field theory (D and P -> infinity at fixed ratio).

    Several independent replicas of the self-consistent equations are solved; the curves are their mean. The error of a
    curve is the root sum square of its parts (`dmft.twotime.errors.MEANINGS`). Replicas are added, and the flow's steps
    shortened, until it is at most rtol |value| + atol (initial loss) on train_loss and test_loss at every time, or
    the dataset says (attributes `tolerance_met`, `tolerance_message`, and a ToleranceWarning) that it was not reached.

    Args:
        model: a Model: its width is taken as infinite. So is its dim, but for the seed of a random initialisation
            (`dmft.wide.seeding`) and what is exact in trace and overlap.
            Or a Committee: finite width, any activation (THEORY section 8). Its dim matters only to unplanted initial
            weights: the replicas then have random overlaps of order dim^-1/2, and the standard errors contain their
            scatter.
        t_max: last time, > 0, in the units of THEORY section 1.
        step: None for gradient flow, or the step of discrete gradient descent, which is then solved exactly.
        momentum: mu in [0, 1) of discrete descent (`dmft.twotime.momentum`), as in `sim.Optimizer`. A step with
            momentum moves as far as 1/(1 - mu) plain ones once the velocity has built up; time still counts steps, t =
            n step.
        nesterov: take the gradient ahead; the curves are those of the weights that it is taken at.
        schedule: factor of `step` as the run proceeds: "constant", "linear" or "cosine" (both fall from 1 to 0 at
            t_max), a function of the step number, such as an optax schedule, or an array with one factor for each
            of the round(t_max / step) steps.
        rtol: tolerance relative to the value, see above.
        atol: tolerance relative to the initial loss, see above.
        times: output times in [0, t_max]; None for all steps (discrete) or a dense geometric grid (flow).
            Discrete steps report the step nearest to each time.
        precision: "float64" or "float32".
        seed: of the replicas' samples.
        kernels: also return the two-time kernels over (time, time2), each with its `_stderr`; of a Model the six of
            `dmft.KERNELS`, correlations with `_consistency`. All replicas are then solved on the fine grid, which takes
            several times as long.
        sample_count: Monte-Carlo samples S per replica, a power of two >= 32; chosen if None.
        replicas: number of replicas >= 4; None to add them until the tolerance is met.
        points: number of time points of the flow; chosen if None.
        max_seconds: the best curves within this time, but for the compiler's; their errors say how good they are.
        spread: True, or the number of data sets to draw, for `<name>_spread`: the standard deviation of an observable
            over data sets of the model's dim, to leading order D^-1/2, with its `_spread_stderr`. It is what one run
            is expected to lie from the theory, and costs about another solve, whatever `max_seconds`. A Model only.
        sources: what differs between data sets: their "samples", their "coordinates" (the lengths of X^T e), or both.
        progress: True shows a bar in a terminal or a notebook, False nothing. None shows one there if the run is
            expected to take more than 20 s, and elsewhere prints a line a minute to standard error.

    Returns:
        Dataset over `time` with every observable, its total error `_error` and the parts of it: `_stderr`,
        `_step_error`, `_bias` and more (`dmft.twotime.prediction.VARIABLES`).

    Raises:
        ParameterError: an argument is out of range.
        DivergenceError: gradient descent with this step diverges; says when, and which step is stable.
        ConvergenceError: the self-consistency of a time point was not reached; says what to change.
            Both carry the curves up to there as `curves`, a dataset with the attribute `complete` = 0. Where the data
            sets alone were not solved, `curves` has everything but the spread, and `complete` = 1.
        MemoryLimitError: the run does not fit in memory; says how large it is.
    """
    request = Request(
        t_max=t_max,
        step=step,
        momentum=momentum,
        nesterov=nesterov,
        schedule=schedule,
        rtol=rtol,
        atol=atol,
        times=times,
        precision=precision,
        seed=seed,
        kernels=kernels,
        sample_count=sample_count,
        replicas=replicas,
        points=points,
        max_seconds=max_seconds,
        spread=spread,
        sources=sources,  # type: ignore[arg-type]
    )
    engine = engine_for(model)
    find_spreads = engine.spreading() if request.spread else None
    with progress_report("theory", progress) as report:
        try:
            evidence = _solve(engine, request, report)
        except Unsolved as unsolved:
            raise failure(unsolved, request.times) from None
        try:
            spreads = find_spreads and find_spreads(evidence, request.spread, request.sources, report)
        except ConvergenceError as error:
            error.curves = prediction(evidence, request.times, kernels=request.kernels)
            raise
        return prediction(evidence, request.times, kernels=request.kernels, spreads=spreads)


def _solve(engine: Engine, request: Request, report: Report) -> Evidence:
    """To the tolerance, or as near to it as time allows."""

    def make_plan(grid: Grid, full: bool) -> Plan:
        return request.plan(engine, grid, full)

    def first_grid(rtol: float) -> Grid:
        return request.first_grid(engine, rtol)

    settings = {"full": request.kernels or request.step is not None, "adapt": request.adapts, "report": report}
    if request.max_seconds is None:
        return to_tolerance(make_plan, first_grid(request.rtol), **settings)
    return within_time(make_plan, first_grid, request.rtol, request.max_seconds, **settings)


def engine_for(model: Any) -> Engine:
    """The engine that solves a model.

    Raises:
        ParameterError: there is none.
    """
    for kind, engine in ENGINES.items():
        if isinstance(model, kind):
            return engine(model)
    raise ParameterError(f"Argument `model` must be a dmft.Model or a dmft.Committee, but is {model!r}.")
