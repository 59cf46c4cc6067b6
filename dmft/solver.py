"""`solve`: replicas of the wide theory, averaged to a tolerance, as one dataset with its error budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dmft.budget import Coarse, tolerance_excess
from dmft.checks import PRECISIONS, ConvergenceError, ParameterError, check_choice, check_integer, check_real
from dmft.model import Model
from dmft.plan import (
    FIRST_REPLICAS,
    MAX_REPLICAS,
    MIN_REPLICAS,
    Plan,
    check_times,
    choose_grid,
    choose_iteration,
    choose_sampling,
    choose_workers,
)
from dmft.prediction import ToleranceWarning, prediction
from dmft.replica import Replica
from dmft.runs import Report, compile_plan, prepare, progress_report, run, run_coarse

if TYPE_CHECKING:
    import xarray

__all__ = ["ToleranceWarning", "solve"]

#: Factor by which the points grow, and how often, where steps are too large for the row solver or the tolerance.
REFINEMENT, REFINEMENTS = 1.3, 2


def solve(
    model: Model,
    t_max: float,
    *,
    step: float | None = None,
    rtol: float = 0.01,
    atol: float = 1e-5,
    times: Sequence[float] | np.ndarray | None = None,
    precision: str = "float64",
    seed: int = 0,
    kernels: bool = False,
    samples: int | None = None,
    replicas: int | None = None,
    points: int | None = None,
    progress: bool = False,
) -> xarray.Dataset:
    """Predict the learning curves of `model` by dynamical mean-field theory (N = infinity, D and P -> infinity).

    Several independent replicas of the self-consistent equations are solved; the curves are their mean.  The error
    of a curve is the root sum square of the replicas' standard error and of the time-step error; replicas are added
    until it is at most rtol |value| + atol (initial loss) on train_loss and test_loss at every time, or the
    dataset says (attributes `tolerance_met`, `tolerance_message`, and a ToleranceWarning) that it was not reached.

    Args:
        model: parameters; its width is taken as infinite.  So is its dim, but for three leading terms in 1/D: the
            seed of a random initialisation (see dmft.seeding), the bulk's part of trace and misalignment, and the
            scatter of the bulk over samples (see dmft.scatter).
        t_max: last time, > 0, in the units of THEORY section 1.
        step: None for gradient flow, or the step of discrete gradient descent, which is then solved exactly.
        rtol: tolerance relative to the value, see above.
        atol: tolerance relative to the initial loss, see above.
        times: output times in [0, t_max]; None for all steps (discrete) or a dense geometric grid (flow).
            Discrete steps report the step nearest to each time.
        precision: "float64" or "float32".
        seed: of the replicas' samples.
        kernels: also return the six two-time kernels (see dmft.kernels.KERNELS), over (time, time2).
        samples: S per replica, a power of two >= 32; chosen if None.
        replicas: number of replicas >= 4; None to add them until the tolerance is met.
        points: number of time points of the flow; chosen if None.
        progress: show a progress bar when standard error is a terminal.

    Returns:
        Dataset over `time` with every observable, its `_stderr`, `_step_error` and `_consistency` (differential
        minus propagator form of the correlations).

    Raises:
        ParameterError: an argument is out of range.
        DivergenceError: gradient descent with this step diverges; says when, and which step is stable.
        ConvergenceError: the self-consistency of a time point was not reached; says what to change.
        MemoryLimitError: the run does not fit in memory; says how large it is.
    """
    if not isinstance(model, Model):
        raise ParameterError(f"Argument `model` must be a dmft.Model, but is {model!r}.")
    t_max = check_real("t_max", t_max, above=0.0)
    rtol, atol = check_real("rtol", rtol, above=0.0), check_real("atol", atol, at_least=0.0)
    check_choice("precision", precision, PRECISIONS)
    if replicas is not None:
        check_integer("replicas", replicas, at_least=MIN_REPLICAS)
    seed = check_integer("seed", seed, at_least=0)
    output = None if times is None else check_times(times, t_max)
    with progress_report(progress) as report:
        for attempt in range(REFINEMENTS + 1):
            grid = choose_grid(t_max, step, points, rtol)
            sampling = choose_sampling(samples, grid, precision)
            workers, iteration = choose_workers(grid, sampling), choose_iteration(precision)
            plan = Plan(model, grid, sampling, rtol, atol, seed, replicas, workers, iteration)
            # a flow whose grid is ours to choose may be tried again with smaller steps
            may_refine = step is None and (points is None or attempt > 0) and attempt < REFINEMENTS
            try:
                fine, coarse = _run_to_tolerance(plan, report)
            except ConvergenceError:
                if not may_refine:
                    raise
                points = round(REFINEMENT * (grid.size - 1))
                continue
            if not (may_refine and tolerance_excess(plan, fine, coarse).step_ratio > 0.9):
                return prediction(plan, fine, coarse, output, kernels)
            points = round(REFINEMENT * (grid.size - 1))
    raise AssertionError("unreachable: the last attempt returns or raises")


def _run_to_tolerance(plan: Plan, report: Report) -> tuple[list[Replica], Coarse | None]:
    """Replicas on the grid (and, for the flow, some on a coarser one) until more of them would not help."""
    target = plan.replicas or FIRST_REPLICAS
    first = min(target, FIRST_REPLICAS)
    compile_plan(plan)
    plan = prepare(plan)
    coarse = None if plan.grid.explicit else run_coarse(plan, first, report)
    more = coarse.replicas if coarse else []
    fine: list[Replica] = []
    while True:
        done, total = len(more) + len(fine), len(more) + target
        fine += run(plan, range(len(fine), target), lambda new, done=done, total=total: report(done + new, total))
        excess = tolerance_excess(plan, fine, coarse)
        met, step_dominates = excess.ratio <= 1, excess.step_ratio > 0.9
        if plan.replicas is not None or target >= MAX_REPLICAS or met or step_dominates:
            return fine, coarse
        wanted = target * (excess.sampling_ratio / max(0.4, 1 - excess.step_ratio)) ** 2
        target = int(min(MAX_REPLICAS, max(target + plan.workers, np.ceil(wanted))))
