"""The committee theory as an engine of the two-time machine."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from dmft.checks import ParameterError
from dmft.committee import replica
from dmft.committee.estimate import corrected_member, curves
from dmft.committee.explicit import advance_explicit
from dmft.committee.implicit import advance_implicit
from dmft.committee.replica import Sampling, Solution
from dmft.losses.committee import DIMENSIONS, observables
from dmft.models.committee import Committee
from dmft.twotime.engine import Curves, Iteration, KernelStack, Plan, Program, Progress, Runs
from dmft.twotime.grid import Grid
from dmft.twotime.kernels import physical_response
from dmft.twotime.members import COARSENING, Ensemble, Member
from dmft.twotime.request import check_sample_count

#: Row capacities, and neurons times rows up to which one of a power of two serves: compiling costs more than rows.
CAPACITIES, SMALL = (8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024), 128
#: Replicas solved before the tolerance is looked at, where it is tight (rtol < LOOSE) and where not.
FIRST_REPLICAS, FEW_REPLICAS, LOOSE = 12, 8, 0.02
#: Samples of a replica for each noise mode, where the tolerance is tight and where not; at least and at most.
SAMPLES_PER_MODE, FEW_PER_MODE, LEAST, MOST = 192, 48, 4096, 2**16
#: Bytes of tangents that decide how many samples have them, for the square loss and for others, whose l'' scatters as
#: well; the fewest samples that do.
TANGENT_BYTES, TANGENT_BYTES_OTHERS, LEAST_TANGENTS = 2**26, 2**28, 128
#: The replicas that show what the number of samples changes have one in so many.
FEWER = 4
#: Width of the smoothed kinks of the flow, in standard deviations of the initial fields: the least and the largest. The
#: responses are smoothed over the largest; they scatter more the narrower it is.
NARROW, WIDE = 0.05, 0.15
#: The flow starts on the grid for a tolerance this much smaller, for one neuron and for several: fields of few neurons
#: have several roots in a large step, and a row then is not solved.
FINER, FINER_SEVERAL = 0.25, 0.5


class CommitteeEngine(Ensemble):
    """Finite width, any activation and teacher, D and P -> infinity at fixed kappa (THEORY section 8)."""

    title = "committee: width finite, dimension and samples infinite at fixed ratio"
    dimensions = DIMENSIONS
    model: Committee

    def __init__(self, model: Committee) -> None:
        super().__init__(model)
        self.meanings = observables(model)
        self.grid_tolerance = FINER if model.width == 1 else FINER_SEVERAL

    def check(self, grid: Grid) -> None:
        """Minibatches need steps, not too long ones; so do losses that may give a row several roots."""
        model = self.model
        check_flow(model, grid.explicit)
        if model.batch_fraction == 1.0:
            return
        if not grid.explicit:
            raise ParameterError(
                f"Argument `step` must be given where batch_fraction = {model.batch_fraction:g} < 1: minibatches have "
                "no gradient flow, but it is None."
            )
        step, longest = float(grid.weights[0]), model.batch_fraction * (model.persistence or np.inf)
        if step > longest * (1 + 1e-9):
            raise ParameterError(
                f"Argument `step` must be at most batch_fraction x persistence = {longest:g}, but is {step:g}."
            )

    def capacities(self, points: int, sampling: Any = None) -> list[int]:  # noqa: ARG002
        """One capacity where it is small, and else those of doubling sizes below the last."""
        width, power = self.model.width, max(CAPACITIES[0], 2 ** (points - 1).bit_length())
        if width * power <= SMALL:
            return [power]
        last = next((capacity for capacity in CAPACITIES if capacity >= points), points)
        doubling = (32 * 2**power for power in range(9))
        return [capacity for capacity in doubling if capacity < last] + [last]

    def choose_sampling(self, grid: Grid, precision: str, rtol: float, samples: int | None) -> Sampling:
        """In proportion to the noise modes, whose share in the samples is the bias."""
        model = self.model
        rows = model.width * self.capacities(grid.size)[-1]
        modes, directions = model.width + rows, model.teacher_dim
        least = FEWER * 2 ** int(np.ceil(np.log2(modes + (directions + 1) * (directions + 2) / 2 + 2)))
        if samples is None:
            wanted = modes * (SAMPLES_PER_MODE if rtol < LOOSE else FEW_PER_MODE)
            samples = max(least, int(np.clip(2 ** round(np.log2(wanted)), LEAST, MOST)))
        samples = check_sample_count(samples, least)
        return Sampling(samples, modes, self.kink_width(grid), precision)

    def kink_width(self, grid: Grid) -> float | None:
        """Of the flow: as wide as a force of size 1 moves a field in the longest step, that a row has a single root."""
        if grid.explicit or not self.model.kinked:
            return None
        move = float(grid.weights.max()) / (self.model.alpha * self.model.kappa)  # k h
        return float(np.clip(move, NARROW, WIDE)) * replica.field_size(self.model)

    def fewer(self, sampling: Sampling) -> Sampling:
        """The first of the samples."""
        return dataclasses.replace(sampling, samples=sampling.samples // FEWER)

    def first_replicas(self, rtol: float) -> int:
        """Fewer where the tolerance is loose."""
        return FIRST_REPLICAS if rtol < LOOSE else FEW_REPLICAS

    def shapes(self, sampling: Sampling, points: int, capacity: int) -> Any:
        """See `dmft.committee.replica.state_shapes`."""
        return replica.state_shapes(self.model, sampling, self.capacities(points)[-1], capacity)

    def start(self, grid: Grid, sampling: Sampling, seed: np.random.SeedSequence, capacity: int, like: Any) -> Any:  # noqa: ARG002
        """See `dmft.committee.replica.start_state`."""
        return replica.start_state(self.model, grid, sampling, seed, self.capacities(grid.size)[-1], capacity)

    def program(self, grid: Grid, sampling: Sampling, iteration: Iteration) -> Program:
        """`dmft.committee.explicit.advance_explicit` or `dmft.committee.implicit.advance_implicit`."""
        couplings, network = replica.couplings(self.model, sampling), replica.network(self.model)
        if grid.explicit:
            return Program(advance_explicit, couplings, {"network": network})
        return Program(advance_implicit, couplings, {"network": network, "iteration": iteration})

    def progress(self, state: Any) -> Progress:
        """From the residuals of all samples, whatever the loss."""
        loss = np.asarray(state.fields.residual) ** 2 @ np.asarray(state.samples.weight)
        return Progress(loss, np.asarray(state.rounds), np.asarray(state.mismatch))

    def read(self, state: Any, grid: Grid) -> Solution:
        """See `dmft.committee.replica.read_state`."""
        count, dtype = state.samples.weight.shape[0], state.samples.weight.dtype
        rows = self.model.width * len(state.mismatch)
        return replica.read_state(state, grid, self.model, tangent_samples(self.model, rows, count, str(dtype)))

    def curves(self, replica: Solution) -> Curves:
        """See `dmft.committee.estimate.curves`."""
        return curves(self.model, replica)

    def member(self, plan: Plan, index: int) -> Member:
        """Free of the leading errors of samples and kinks; see `dmft.committee.estimate`."""
        return corrected_member(self, plan, index)

    def runs(self, plan: Plan) -> list[Runs]:
        """Beside each replica one of few samples; of the flow one more where there are kinks, and a coarser one."""
        few, size, first = plan.fewer.sampling, plan.grid.size, plan.first_replicas
        found = [Runs(size, plan.sampling, first), Runs(size, few, first)]
        if few.kink_width is not None:
            found.append(Runs(size, few, first))
        return found if plan.grid.explicit else [*found, Runs(round(size / COARSENING[0]), few, first)]

    def kernels(self, replicas: list[Solution], grid: Grid) -> list[KernelStack]:
        """C_ij(t, s) and R_ij(t, s), means over replicas."""
        layout, dims = ("neuron", "neuron2", "time", "time2"), ("time", "neuron", "time2", "neuron2")
        correlation = np.stack([_neurons_first(one.correlation) for one in replicas])
        width = WIDE * replica.field_size(self.model)
        answers = [replica.responses_of(self.model, grid, one, width, Iteration()) for one in replicas]
        response = np.stack([_response(grid, one.response) for one in answers])
        about = {"dims": dims, "layout": layout, "scatter": False}
        return [
            KernelStack("correlation", arrays=correlation, meaning="C_ij(t, s) = w_i(t).w_j(s) / D", **about),
            KernelStack(
                "response",
                arrays=response,
                meaning="R_ij(t, s), response of w_i at t to a force on w_j at s",
                response=True,
                **about,
            ),
        ]

    def extra_attributes(self, plan: Plan, replicas: list[Any]) -> dict[str, Any]:  # noqa: ARG002
        """No width of kinks where none are smoothed."""
        return {"kink_width": 0.0} if plan.sampling.kink_width is None else {}


def tangent_samples(model: Committee, rows: int, samples: int, precision: str) -> int:
    """Q, how many of a replica's samples have tangents, of (N T)^2 numbers each."""
    room = TANGENT_BYTES if model.loss == "square" else TANGENT_BYTES_OTHERS
    fitting = max(1.0, room / (np.dtype(precision).itemsize * rows**2))
    return min(samples, max(LEAST_TANGENTS, 2 ** int(np.log2(fitting))))


def check_flow(model: Committee, explicit: bool) -> None:
    """ParameterError where a row of the flow need not have a single root: h + B a phi'(h) l' = history, B > 0.

    For fields that enter f linearly the left side grows with h if l'' >= 0, whatever the step.
    """
    loss = model.criterion
    if explicit or (loss.convex and not loss.kinks):
        return
    why = f"its derivative jumps (at f - y = {loss.kinks[0][1]:.3g})" if loss.convex else "it is not convex in f"
    raise ParameterError(
        f"Argument `step` must be given with the loss {loss.name}, since {why}: a row of the gradient flow may then "
        "have several roots."
    )


def _neurons_first(kernel: np.ndarray) -> np.ndarray:
    """(T, N, T, N) as (N, N, T, T)."""
    return kernel.transpose(1, 3, 0, 2)


def _response(grid: Grid, response: np.ndarray) -> np.ndarray:
    """R_ij of the flow from the multistep rows; neurons do not move each other at once."""
    rows = _neurons_first(response)
    if grid.explicit:  # slot c is the force of step c - 1; column s of the kernel is that of step s
        return np.concatenate([rows[..., 1:], np.zeros_like(rows[..., :1])], axis=-1)
    result = np.zeros_like(rows)
    for i, j in np.ndindex(rows.shape[:2]):
        result[i, j] = physical_response(grid, rows[i, j])
        if i != j:
            np.fill_diagonal(result[i, j], 0.0)
    return result
