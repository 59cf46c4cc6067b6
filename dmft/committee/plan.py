"""What one solve of a committee will do: its arguments checked and resolved."""

from __future__ import annotations

import dataclasses

import numpy as np

from dmft.checks import ParameterError, available_memory, check_integer, check_memory
from dmft.committee.replica import Sampling, capacity_for, replica_bytes
from dmft.models.committee import Committee
from dmft.twotime.grid import Grid
from dmft.twotime.plan import choose_iteration, cores
from dmft.wide.advance import Iteration

#: Replicas solved before the tolerance is looked at, where it is tight (rtol < LOOSE) and where not; and at most.
FIRST_REPLICAS, FEW_REPLICAS, MAX_REPLICAS = 12, 8, 64
LOOSE = 0.02
#: Samples of a replica for each noise mode, where the tolerance is tight and where not; at least and at most.
SAMPLES_PER_MODE, FEW_PER_MODE, LEAST, MOST = 192, 48, 4096, 2**16
#: Bytes of tangents that decide how many samples have them, and the fewest samples that do.
TANGENT_BYTES, LEAST_TANGENTS = 2**26, 128
#: The pilot that shows what the number of samples changes has one in so many; see dmft.committee.estimate.
FEWER = 4
#: Width of the smoothed kinks, in standard deviations of the initial fields.
KINK_WIDTH = 0.15


@dataclasses.dataclass(frozen=True)
class Plan:
    """The resolved settings of one solve."""

    model: Committee
    grid: Grid
    sampling: Sampling
    rtol: float
    atol: float
    seed: int
    replicas: int | None
    workers: int
    iteration: Iteration

    @property
    def first_replicas(self) -> int:
        """Replicas solved before the tolerance is looked at."""
        return self.replicas or (FIRST_REPLICAS if self.rtol < LOOSE else FEW_REPLICAS)

    @property
    def fewer(self) -> Sampling:
        """The pilot's sampling."""
        few = self.sampling.samples // FEWER
        return dataclasses.replace(
            self.sampling, samples=few, tangent_samples=min(few, max(self.sampling.tangent_samples // FEWER, 64))
        )

    @property
    def wider(self) -> Sampling:
        """The pilot's sampling with kinks smoothed over twice the width."""
        return dataclasses.replace(self.fewer, kink_width=2 * self.sampling.kink_width)

    @property
    def kinked(self) -> bool:
        """Whether the activation has kinks."""
        return bool(self.model.phi.kinks)


def make_plan(
    model: Committee,
    grid: Grid,
    rtol: float,
    atol: float,
    precision: str,
    seed: int,
    samples: int | None,
    replicas: int | None,
) -> Plan:
    """Check that the model can be solved on this grid, and choose the sampling.

    Raises:
        ParameterError: batches and steps, or the number of samples, do not fit.
        MemoryLimitError: a replica does not fit in memory.
    """
    check_batches(model, grid)
    sampling = choose_sampling(model, grid, precision, rtol, samples)
    needed = replica_bytes(model, grid.size, sampling)
    what = f"One replica of {grid.size} time points, {model.width} neurons and {sampling.samples} samples"
    check_memory(what, needed, "lower `t_max`, `points` or `samples`, or raise `step`")
    workers = int(max(1, min(cores(), available_memory() // needed)))
    return Plan(model, grid, sampling, rtol, atol, seed, replicas, workers, choose_iteration(precision, rtol))


def check_batches(model: Committee, grid: Grid) -> None:
    """ParameterError if the model's minibatches need steps, or shorter ones."""
    if model.batch_fraction == 1.0:
        return
    if not grid.explicit:
        raise ParameterError(
            f"Argument `step` must be given where batch_fraction = {model.batch_fraction:g} < 1: minibatches have no "
            "gradient flow, but it is None."
        )
    step = float(grid.weights[0])
    if model.persistence is not None and step > model.batch_fraction * model.persistence * (1 + 1e-9):
        longest = model.batch_fraction * model.persistence
        raise ParameterError(
            f"Argument `step` must be at most batch_fraction x persistence = {longest:g}, but is {step:g}."
        )


def choose_sampling(model: Committee, grid: Grid, precision: str, rtol: float, samples: int | None) -> Sampling:
    """The given number of samples, or the default: in proportion to the noise modes, whose share in it is the bias."""
    rows = model.width * capacity_for(grid.size, model.width)
    modes, directions = model.width + rows, model.teacher_dim
    least = FEWER * 2 ** int(np.ceil(np.log2(modes + (directions + 1) * (directions + 2) / 2 + 2)))
    if samples is None:
        wanted = modes * (SAMPLES_PER_MODE if rtol < LOOSE else FEW_PER_MODE)
        samples = max(least, int(np.clip(2 ** round(np.log2(wanted)), LEAST, MOST)))
    samples = check_integer("samples", samples, at_least=least)
    if samples & (samples - 1):
        raise ParameterError(f"Argument `samples` must be a power of two >= {least}, but is {samples}.")
    itemsize = 8 if precision == "float64" else 4
    fitting = max(1.0, TANGENT_BYTES / (itemsize * rows**2))
    tangents = min(samples, max(LEAST_TANGENTS, 2 ** int(np.log2(fitting))))
    size = float(np.sqrt(np.max(np.diagonal(model.initial_overlaps.neurons))))
    return Sampling(samples, tangents, modes, KINK_WIDTH * (size or 1.0), precision)
