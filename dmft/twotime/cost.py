"""What a solve begins with, before it runs: grid, replicas, memory, and the work of both compiler and solver."""

from __future__ import annotations

import dataclasses

from dmft.compiled.executables import found_how
from dmft.twotime.engine import Engine, Plan
from dmft.twotime.loop import asked_of, works
from dmft.twotime.request import Request
from dmft.twotime.tolerance import MAX_REPLICAS


@dataclasses.dataclass(frozen=True)
class Cost:
    """The first replicas of a solve. Whether more are needed, or a finer grid, is found out as it goes.

    Attributes:
        points: rows of the grid.
        samples: of a replica.
        first, most: replicas at first, and at most.
        side_by_side: replicas solved at once.
        bytes_each: memory of the largest one.
        programs: compiled codes of the rows.
        missing: how many of them are neither in memory nor in the cache folder.
        sample_rows: samples x points^2, of all replicas together.
        effort: times that, with the further replicas and grids that are found to be needed, as a rule.
        spread_rows: samples x points^2 of the data sets that are drawn for the spread.
    """

    points: int
    samples: int
    first: int
    most: int
    side_by_side: int
    bytes_each: int
    programs: int
    missing: int
    sample_rows: float
    effort: float
    spread_rows: float

    def describe(self) -> str:
        """One line."""
        return (
            f"{self.points} time points, {self.first} replicas (at most {self.most}) of {self.samples} samples, "
            f"{self.side_by_side} side by side"
        )


def expected_cost(engine: Engine, request: Request) -> Cost:
    """The cost of `dmft.solve` with these arguments, as far as it is known before.

    Raises:
        MemoryLimitError: one replica does not fit into memory, as in the run itself.
    """
    grid = request.first_grid(engine)
    plan: Plan = request.plan(engine, grid, full=request.kernels or grid.explicit)
    runs = engine.runs(plan)
    found = [asked_of(found_how, plan, work) for work in works(plan, runs)]
    return Cost(
        points=grid.size,
        samples=plan.sampling.samples,
        first=plan.first_replicas,
        most=request.replicas or MAX_REPLICAS,
        side_by_side=plan.workers,
        bytes_each=engine.peak_bytes(grid, plan.sampling, plan.full),
        programs=len(found),
        missing=found.count("compiled"),
        sample_rows=float(sum(run.count * run.sampling.samples * run.points**2 for run in runs)),
        effort=1.0 if grid.explicit else engine.effort(request.t_max),
        spread_rows=engine.spread_rows(int(request.spread), plan),
    )
