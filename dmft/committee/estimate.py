"""Curves of a replica and of all replicas, free of the leading errors of samples and kinks.

A replica of S samples is off by O(1/S), since its samples' noise has been fitted to them, and in the flow by O(w^2)
where kinks are smoothed over a width w. Each is solved again with S/4 of its samples, and once more with kinks twice as
wide:

    value = fine + (fine - few)/3 + (few - wide)/3.

The samples of `few` are the first ones of `fine`, so that the corrections add little noise, and the scatter of the
values contains it. On the flow's grid the replica of few samples is solved on a coarser grid too, for the error of the
step. What the corrections leave counts as an error (`dmft.twotime.members`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dmft.checks import precision_context
from dmft.committee.replica import Solution
from dmft.compiled.executables import compilable
from dmft.losses.committee import Neurons, centered, observables, test_loss
from dmft.losses.new_inputs import Task, scores, task_of
from dmft.models.activations import Activation
from dmft.models.committee import Committee
from dmft.models.teachers import Teacher
from dmft.twotime.engine import Curves, Plan
from dmft.twotime.loop import solve_replica
from dmft.twotime.members import Ensemble, Member, step_change


def corrected_member(engine: Ensemble, plan: Plan, index: int) -> Member:
    """Replica `index` in all its variants."""
    model, few_plan = plan.engine.model, plan.fewer
    best = solve_replica(plan, index)
    fine, few = order_parameters(best), order_parameters(solve_replica(few_plan, index))
    factor = plan.sampling.samples / few_plan.sampling.samples
    for_samples = {name: (fine[name] - few[name]) / (factor - 1) for name in fine}
    for_kinks = {name: np.zeros_like(fine[name]) for name in fine}
    width = plan.sampling.kink_width
    if width is not None:
        sampling = dataclasses.replace(few_plan.sampling, kink_width=2 * width)
        wide = order_parameters(solve_replica(dataclasses.replace(plan, sampling=sampling), index))
        for_kinks = {name: (few[name] - wide[name]) / 3 for name in fine}
    complete = with_test_loss(model, _sum(fine, for_samples, for_kinks))
    without_samples = with_test_loss(model, _sum(fine, for_kinks))
    without_kinks = complete if width is None else with_test_loss(model, _sum(fine, for_samples))
    change = None if plan.grid.explicit else step_change(engine, few_plan, index, with_test_loss(model, few))
    return Member(
        value={name: complete[name] for name in observables(model)},
        corrections={
            "bias": _difference(model, complete, without_samples),
            "kinks": _difference(model, complete, without_kinks),
        },
        step_change=change,
        replica=best,
    )


def curves(model: Committee, solution: Solution) -> Curves:
    """The observables of a replica as it is."""
    return with_test_loss(model, order_parameters(solution))


def _sum(*parts: Curves) -> Curves:
    return {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}


def _difference(model: Committee, first: Curves, second: Curves) -> Curves:
    return {name: first[name] - second[name] for name in observables(model)}


def order_parameters(solution: Solution) -> Curves:
    """What the extrapolations are linear in: means over samples, overlaps, readouts and, if centred, C(t, 0)."""
    correlation = solution.correlation
    return {
        "train_loss": solution.train_loss,
        "train_accuracy": solution.train_accuracy,
        "margin": solution.margin,
        "teacher_overlap": solution.target_overlap,
        "self_overlap": np.einsum("titj->tij", correlation),
        "across": correlation[:, :, 0],
        "readouts": solution.readout,
    }


def with_test_loss(model: Committee, curves: Curves) -> Curves:
    """The same with the test loss, and of a classification the accuracy, that the overlaps imply."""
    with precision_context("float64"):
        parts = [curves[name] for name in ("readouts", "teacher_overlap", "self_overlap", "across")]
        scale = np.asarray(model.alpha / model.width)
        task = task_of(model)
        if task is None:
            loss = _test_losses(model.phi, scale, *parts, psi=model.psi, of_change=model.centered)
            return curves | {"test_loss": np.asarray(loss)}
        found = np.asarray(_test_scores(model.phi, scale, *parts, task=task, of_change=model.centered))
        return curves | {"test_loss": found[:, 0], "test_accuracy": found[:, 1]}


@compilable()
def _test_losses(
    phi: Activation, scale: Any, readout: Any, m: Any, c: Any, across: Any, *, psi: Teacher, of_change: bool
) -> jax.Array:
    """Test losses (T,) of the square loss, see `_at_all_times`."""
    return _at_all_times(test_loss(phi, psi), scale, readout, m, c, across, of_change=of_change)


@compilable()
def _test_scores(
    phi: Activation, scale: Any, readout: Any, m: Any, c: Any, across: Any, *, task: Task, of_change: bool
) -> jax.Array:
    """Test losses and accuracies (T, 2), see `_at_all_times`."""
    return _at_all_times(scores(phi, task), scale, readout, m, c, across, of_change=of_change)


def _at_all_times(
    function: Callable[[Neurons], jax.Array], scale: Any, readout: Any, m: Any, c: Any, across: Any, *, of_change: bool
) -> jax.Array:
    """`function` of a, m, C(t, t) and C(t, 0), time first; of f - f(0) where `of_change`; scale = alpha / N."""
    start = Neurons(scale * readout[0], m[0], c[0])

    def one(part: tuple[jax.Array, ...]) -> jax.Array:
        now = Neurons(scale * part[0], part[1], part[2])
        return function(centered(now, start, part[3]) if of_change else now)

    return jax.lax.map(one, (readout, m, c, across))
