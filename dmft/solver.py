"""`solve`: replicas of the theory, averaged to a tolerance, as one dataset with its error budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dmft.checks import PRECISIONS, ParameterError, check_choice, check_integer, check_real
from dmft.committee.solver import solve_committee
from dmft.models.committee import Committee
from dmft.models.model import Model
from dmft.twotime.failure import failure
from dmft.twotime.grid import ORDER, Grid, halved_steps, implicit_grid, resampled_times
from dmft.twotime.plan import (
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
from dmft.twotime.prediction import ToleranceWarning, prediction
from dmft.twotime.replicas import (
    ReplicaStopped,
    Report,
    compile_plan,
    more_pilot,
    prepare,
    progress_report,
    run,
    run_pilot,
)
from dmft.twotime.tolerance import Pilot, Solved, step_excess, tolerance_excess
from dmft.wide.replica import Replica

if TYPE_CHECKING:
    import xarray

__all__ = ["ToleranceWarning", "solve"]

#: How often steps are shortened: everywhere for the tolerance, or where a row was not solved.
REFINEMENTS, RESCUES = 2, 4
#: Step error over tolerance aimed at by a finer grid, and the factors of points it may take.
AIM, FINER = 0.7, (1.15, 2.0)
#: Share of the tolerance beyond which another error than sampling makes more replicas useless.
SHARE = 0.9
#: Share of the tolerance beyond which the bias is worth a second look, with more replicas of few samples.
BIAS_SHARE = 0.5
#: Replicas added at least: the same on every machine, so that the numbers are.
MORE = 2


def solve(
    model: Model | Committee,
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
    """Predict the learning curves of `model` by dynamical mean-field theory (D and P -> infinity at fixed ratio).

    Several independent replicas of the self-consistent equations are solved; the curves are their mean.  The error
    of a curve is the root sum square of the parts in `dmft.twotime.tolerance`; replicas are added, and the flow's steps
    shortened, until it is at most rtol |value| + atol (initial loss) on train_loss and test_loss at every time, or
    the dataset says (attributes `tolerance_met`, `tolerance_message`, and a ToleranceWarning) that it was not reached.

    Args:
        model: a Model: its width is taken as infinite.  So is its dim, but for the leading terms in 1/D: the seed
            of a random initialisation (see dmft.wide.seeding), the bulk's part of trace and misalignment, the
            scatter of
            the bulk over samples with the label's own direction (see dmft.wide.scatter), the mean weight along it (see
            dmft.wide.label_direction), and the answer of one sample to another through the quadratic features that they
            share (see dmft.wide.memory).
            Or a Committee: finite width, any activation (THEORY section 8); see dmft.committee. Its dim matters only
            to unplanted initial weights: the replicas then have random overlaps of order dim^-1/2, and the standard
            errors contain their scatter.
        t_max: last time, > 0, in the units of THEORY section 1.
        step: None for gradient flow, or the step of discrete gradient descent, which is then solved exactly.
        rtol: tolerance relative to the value, see above.
        atol: tolerance relative to the initial loss, see above.
        times: output times in [0, t_max]; None for all steps (discrete) or a dense geometric grid (flow).
            Discrete steps report the step nearest to each time.
        precision: "float64" or "float32".
        seed: of the replicas' samples.
        kernels: also return the six two-time kernels (see dmft.twotime.kernels.KERNELS), over (time, time2), each
        with its
            `_stderr`, and the correlations with `_consistency` and `_consistency_stderr`. All replicas are then solved
            on the fine grid, which takes several times as long.
        samples: S per replica, a power of two >= 32; chosen if None.
        replicas: number of replicas >= 4; None to add them until the tolerance is met.
        points: number of time points of the flow; chosen if None.
        progress: show a progress bar when standard error is a terminal.

    Returns:
        Dataset over `time` with every observable, its total error `_error` and the parts of it: `_stderr`,
        `_step_error`, `_bias`, `_iteration_error` and `_consistency` (see `dmft.twotime.prediction.VARIABLES`). For a
        committee those of `dmft.losses.committee`, with `_step_error`, `_bias` and `_kink_error`.

    Raises:
        ParameterError: an argument is out of range.
        DivergenceError: gradient descent with this step diverges; says when, and which step is stable.
        ConvergenceError: the self-consistency of a time point was not reached; says what to change.
            Both carry the curves up to there as `curves`, a dataset with the attribute `complete` = 0.
        MemoryLimitError: the run does not fit in memory; says how large it is.
    """
    if not isinstance(model, Model | Committee):
        raise ParameterError(f"Argument `model` must be a dmft.Model or a dmft.Committee, but is {model!r}.")
    t_max = check_real("t_max", t_max, above=0.0)
    rtol, atol = check_real("rtol", rtol, above=0.0), check_real("atol", atol, at_least=0.0)
    check_choice("precision", precision, PRECISIONS)
    if replicas is not None:
        check_integer("replicas", replicas, at_least=MIN_REPLICAS)
    seed = check_integer("seed", seed, at_least=0)
    output = None if times is None else check_times(times, t_max)
    if isinstance(model, Committee):
        with progress_report(progress) as report:
            return solve_committee(
                model,
                t_max,
                step=step,
                rtol=rtol,
                atol=atol,
                output=output,
                precision=precision,
                seed=seed,
                kernels=kernels,
                samples=samples,
                replicas=replicas,
                points=points,
                report=report,
            )
    grid = choose_grid(t_max, step, points, rtol)
    with progress_report(progress) as report:
        refinements, rescues = (REFINEMENTS, RESCUES) if step is None and points is None else (0, 0)
        full, iteration = kernels or grid.explicit, choose_iteration(precision, rtol)
        while True:
            sampling = choose_sampling(samples, grid, precision)
            workers = choose_workers(grid, sampling, full)
            plan = Plan(model, grid, sampling, rtol, atol, seed, replicas, workers, iteration, full)
            try:
                plan, pilot = _explore(plan, report)
                step_ratio = step_excess(plan, pilot)
                if refinements > 0 and step_ratio > SHARE:
                    refinements, grid = refinements - 1, _finer(grid, step_ratio)
                    continue
                solved = _run_to_tolerance(plan, pilot, report)
            except ReplicaStopped as stopped:
                if rescues > 0:
                    rescues, grid = rescues - 1, implicit_grid(halved_steps(grid.times, stopped.solved))
                elif not full:  # the coarser grid may be what is not solved
                    full = True
                else:
                    raise failure(plan, stopped, lambda part: _run_part(part, report), output) from None
                continue
            return prediction(plan, solved, output, kernels=kernels)


def _finer(grid: Grid, ratio: float) -> Grid:
    """Steps shorter by what brings an error of `ratio` times the tolerance to AIM, at the rule's order."""
    points = np.clip((ratio / AIM) ** (1 / ORDER), *FINER) * (grid.size - 1)
    return implicit_grid(resampled_times(grid.times, 2 * round(0.5 * points)))


def _explore(plan: Plan, report: Report) -> tuple[Plan, Pilot]:
    """The plan with all that its replicas need, and what replicas of few samples tell of its errors."""
    compile_plan(plan)
    plan = prepare(plan)
    return plan, run_pilot(plan, min(plan.first_replicas, FIRST_REPLICAS), report)


def _run_to_tolerance(plan: Plan, pilot: Pilot, report: Report) -> Solved:
    """Replicas, on the coarser grid if there is one, until more would not help."""
    coarse = pilot.coarse
    on = plan if plan.full or coarse is None else coarse.plan
    target = plan.first_replicas
    many: list[Replica] = []
    while True:
        done, total = len(many), target
        many += run(on, range(len(many), target), lambda new, done=done, total=total: report(done + new, total))
        solved = Solved(many, on.grid, pilot)
        excess = tolerance_excess(plan, solved)
        if plan.replicas is not None or excess.ratio <= 1:
            return solved
        if excess.bias_ratio > BIAS_SHARE and len(solved.few) < MAX_REPLICAS:
            pilot = more_pilot(solved, on, report)
            continue
        if target >= MAX_REPLICAS or excess.other_ratio > SHARE:
            return solved
        wanted = target * excess.sampling_ratio**2 / max(0.2, 1 - excess.other_ratio**2)
        target = int(min(MAX_REPLICAS, max(target + MORE, np.ceil(wanted))))


def _run_part(plan: Plan, report: Report) -> Solved:
    """A shorter plan, as it is."""
    plan, pilot = _explore(plan, report)
    return _run_to_tolerance(plan, pilot, report)
