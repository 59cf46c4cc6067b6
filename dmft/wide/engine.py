"""The wide theory as an engine of the two-time machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from dmft.checks import ParameterError
from dmft.losses.quadratic import observables
from dmft.models.model import Model
from dmft.twotime.engine import (
    Engine,
    Evidence,
    Iteration,
    KernelStack,
    Plan,
    Program,
    Progress,
    Report,
    Runs,
    capacity_of,
)
from dmft.twotime.grid import Grid
from dmft.twotime.request import check_sample_count
from dmft.twotime.spread import Spreads
from dmft.wide import replica
from dmft.wide.estimate import WideEvidence, begin, coarse_size, mean_curve, runs
from dmft.wide.replica import Sampling
from dmft.wide.solution import KERNELS, Like, Replica

#: Samples of a replica of one, two and more directions unless given; and least.
SAMPLES, LEAST = (256, 512, 1024), 32
#: Directions of the target at most.
MOST = 4
#: Modes, and rows that there is room for, at least, so that most flows have the same programs.
MODES, LEAST_CAPACITY = 64, 32

#: Flows below so many samples per dimension, and those with a larger epsilon / alpha from a time on, take so many times
#: the work of their first replicas, for finer grids and more replicas: measured with benchmarks/survey.py.
FEW, FEW_EFFORT = 1.1, 1.5
RICH, LATE, RICH_EFFORT = 1.0, 1000.0, 2.5


class Wide(Engine):
    """N = infinity, D and P -> infinity at fixed kappa (THEORY section 4)."""

    title = "wide: width infinite, dimension and samples infinite at fixed ratio"
    model: Model

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.meanings = observables(model)

    def choose_sampling(self, grid: Grid, precision: str, rtol: float, samples: int | None) -> Sampling:  # noqa: ARG002
        """As many modes as rows have room, up to half the samples."""
        usual = SAMPLES[min(self.model.directions, len(SAMPLES)) - 1]
        samples = usual if samples is None else check_sample_count(samples, LEAST)
        modes = min(max(MODES, capacity_of(grid.size)), samples // 2)
        return Sampling(samples, modes, precision, LEAST_CAPACITY)

    def check(self, grid: Grid) -> None:  # noqa: ARG002
        """Samples fill few dimensions only."""
        if self.model.directions > MOST:
            raise ParameterError(
                f"Argument `strengths` must have at most {MOST} entries for the theory, but has "
                f"{self.model.directions} (the simulation takes more)."
            )

    def smallest(self, points: int) -> Sampling:  # noqa: ARG002
        """32 samples in single precision."""
        return Sampling(LEAST, LEAST // 2, "float32", LEAST_CAPACITY)

    def capacities(self, points: int, sampling: Sampling) -> list[int]:
        """One, with room to spare: that costs next to nothing, another program seconds."""
        return [max(sampling.capacity, capacity_of(points))]

    def first_row(self, grid: Grid) -> int:  # noqa: ARG002
        """Row 0 is solved like the rest."""
        return 0

    def fewer(self, sampling: Sampling) -> Sampling:
        """A quarter of the samples, or half of them where there are few: the change of the mean shows the bias.

        There is room for as many rows as there are modes: one program serves both grids.
        """
        samples = max(sampling.samples // 4, min(32, sampling.samples // 2))
        return dataclasses.replace(
            sampling,
            samples=samples,
            modes=min(sampling.modes, samples - 7 - self.model.directions),
            capacity=sampling.modes,
        )

    def trial(self, grid: Grid, sampling: Sampling) -> Sampling:  # noqa: ARG002
        """Few samples."""
        return dataclasses.replace(sampling, samples=64, modes=32)

    def peak_bytes(self, grid: Grid, sampling: Sampling, full: bool) -> int:
        """All samples are on the grid itself, or few there and all on the coarser one."""
        if full:
            return self.bytes(grid.size, sampling)
        few, coarse = self.fewer(sampling), coarse_size(grid.size)
        return max(self.bytes(grid.size, few), self.bytes(coarse, sampling))

    def shapes(self, sampling: Sampling, points: int, capacity: int) -> Any:  # noqa: ARG002
        """See `dmft.wide.replica.state_shapes`."""
        return replica.state_shapes(self.model, sampling, capacity)

    def start(
        self,
        grid: Grid,  # noqa: ARG002
        sampling: Sampling,
        seed: np.random.SeedSequence,
        capacity: int,
        like: Like | None,
    ) -> Any:
        """See `dmft.wide.replica.start`, and `Like`."""
        state = replica.start(self.model, sampling, seed, capacity)
        return state if like is None else like.begun(state)

    def program(self, grid: Grid, sampling: Sampling, iteration: Iteration) -> Program:
        """See `dmft.wide.replica.method`."""
        function, static = replica.method(grid, iteration)
        return Program(function, replica.couplings(self.model, sampling.precision), static)

    def progress(self, state: Any) -> Progress:
        """From the residuals of all samples."""
        loss = np.asarray(state.fields.residual) ** 2 @ np.asarray(state.samples.weight)
        return Progress(loss, np.asarray(state.rounds), np.asarray(state.mismatch))

    def fault(self, state: Any, row: int) -> str | None:
        """V(n) = E_r r(n)^2 cannot be negative."""
        return "negative variance of the bath" if np.any(np.asarray(state.fields.variance)[row] < 0) else None

    def read(self, state: Any, grid: Grid) -> Replica:
        """See `dmft.wide.replica.read`."""
        return replica.read(self.model, grid, state)

    def effort(self, t_max: float) -> float:
        """More with few samples and, at late times, in rich networks."""
        few = self.model.kappa < FEW
        rich = self.model.epsilon > RICH * self.model.alpha and t_max >= LATE
        return max(FEW_EFFORT if few else 1.0, RICH_EFFORT if rich else 1.0)

    def runs(self, plan: Plan) -> list[Runs]:
        """See `dmft.wide.estimate.runs`."""
        return runs(plan)

    def evidence(self, plan: Plan, report: Report) -> Evidence:
        """The pilot, see `dmft.wide.estimate`."""
        return begin(plan, report)

    def spreading(self) -> Callable[[WideEvidence, int, tuple[str, ...], Report], Spreads]:
        """See `dmft.wide.spread.spreads`. Data sets have a dimension."""
        if self.model.dim is None:
            raise ParameterError(
                "Argument `spread` needs a model with `dim`, the size of the data sets, but dim is None."
            )
        from dmft.wide.spread import spreads

        def of(evidence: WideEvidence, count: int, sources: tuple[str, ...], report: Report) -> Spreads:
            means = {name: mean_curve(evidence.replicas, name)[0] for name in self.meanings}
            return spreads(evidence.on, evidence.replicas[0], means, count, sources, report)

        return of

    def spread_rows(self, draws: int, plan: Plan) -> float:
        """Data sets are drawn on the grid that most replicas are solved on."""
        if not draws or self.model.dim is None:
            return 0.0
        from dmft.wide.spread import data_set_size

        points = plan.grid.size if plan.full else coarse_size(plan.grid.size)
        return float(draws * data_set_size(self.model, draws) * points**2)

    def kernels(self, replicas: list[Replica], grid: Grid) -> list[KernelStack]:  # noqa: ARG002
        """The six kernels, and the difference of the two forms of the correlations."""
        stacks = []
        for name, meaning in KERNELS.items():
            arrays = np.stack([one.kernels[name] for one in replicas])
            response = name.startswith("response")
            dims = ("direction", "time", "time2")[4 - arrays.ndim :]
            stacks.append(KernelStack(name, arrays, meaning, dims, dims, response=response))
            if not response:
                second = np.stack([one.second[name] for one in replicas])
                text = f"differential minus propagator form of {meaning}"
                # interpolated like the standard error that it is compared with
                stacks.append(KernelStack(f"{name}_consistency", second - arrays, text, dims, dims, order=1))
        return stacks
