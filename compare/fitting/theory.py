"""The theory as a fit asks it: log losses at given times as smooth functions of the parameters, and their derivatives.

All models of a fit are solved with the same draws, and on as many times, steps and samples as the first one needed
(`dmft.derivatives`): what is left of the samples' noise is the same for all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from dmft.derivatives import again, derivative, first_evidence
from dmft.models.model import Model
from dmft.progress import progress_report
from dmft.twotime.engine import Evidence
from dmft.twotime.errors import interpolate, linear_between
from dmft.twotime.failure import failure
from dmft.twotime.grid import Grid, explicit_grid, graded_times, implicit_grid
from dmft.twotime.request import Request
from dmft.twotime.tolerance import Unsolved

#: Data sets that are drawn for the spread of single runs.
DRAWS = 64


class Prediction(NamedTuple):
    """At T times, of C losses: natural logarithms, their relative errors, and d log loss / d log time; (C, T) each."""

    log: np.ndarray
    error: np.ndarray
    slope: np.ndarray


class Theory(Protocol):
    """What a fit needs to know."""

    def predict(self, model: Any, times: np.ndarray) -> Prediction:
        """The losses of a model at times (T,).

        Raises:
            RunError: the model cannot be solved.
        """
        ...

    def derivatives(self, model: Any, times: np.ndarray, wrt: Sequence[str]) -> np.ndarray:
        """d log loss / d log parameter, (C, T, p)."""
        ...

    def deviations(self, model: Any, times: np.ndarray) -> np.ndarray | None:
        """Relative deviations of single runs at the model's dim from the theory, (K, C, T), if these are known."""
        ...


@dataclasses.dataclass
class Solved:
    """The theory by `dmft.solve`'s machine, which keeps the last model that was asked for.

    Attributes:
        names: of the losses.
        step: of gradient descent; None for the flow.
        rtol: tolerance of the first solve, whose grid and replicas all others have.
        replicas: their number; None for what the tolerance asks for.
    """

    names: tuple[str, ...]
    step: float | None
    rtol: float
    seed: int
    replicas: int | None = None
    first: Evidence | None = None
    last: tuple[Any, float, Evidence] | None = None

    def evidence(self, model: Any, t_max: float) -> Evidence:
        """Replicas of a model to this time.

        Raises:
            RunError: it cannot be solved.
        """
        if self.last is not None and self.last[:2] == (model, t_max):
            return self.last[2]
        try:
            with progress_report("theory", False) as report:
                if self.first is None:
                    request = Request(
                        t_max=t_max, step=self.step, rtol=self.rtol, seed=self.seed, replicas=self.replicas
                    )
                    self.first = found = first_evidence(request, model, report)
                else:
                    found = again(self.first, model, report, self._grid(t_max))
        except Unsolved as unsolved:
            raise failure(unsolved, None) from None
        self.last = (model, t_max, found)
        return found

    def _grid(self, t_max: float) -> Grid:
        """The first grid; if it is to end elsewhere, as many times."""
        assert self.first is not None
        grid = self.first.plan.grid
        if np.isclose(t_max, self.first.plan.t_max, rtol=1e-12):
            return grid
        return explicit_grid(self.step, t_max) if self.step else implicit_grid(graded_times(t_max, grid.size - 1))

    def predict(self, model: Any, times: np.ndarray) -> Prediction:
        """See `Theory`."""
        evidence, rows = self.evidence(model, float(times[-1])), []
        for name in self.names:
            errors = evidence.errors(name)
            value = _between(evidence, errors.value, times)
            relative = linear_between(evidence.plan.grid.times, errors.total / np.abs(errors.value), times)
            up, down = (_between(evidence, errors.value, times * factor) for factor in (1.001, 0.999))
            rows.append((np.log(np.abs(value)), relative, np.log(np.abs(up / down)) / np.log(1.001 / 0.999)))
        return Prediction(*(np.stack(part) for part in zip(*rows, strict=True)))

    def derivatives(self, model: Any, times: np.ndarray, wrt: Sequence[str]) -> np.ndarray:
        """See `Theory`."""
        evidence, columns = self.evidence(model, float(times[-1])), []
        try:
            with progress_report("theory", False) as report:
                changes = [derivative(evidence, model, name, report) for name in wrt]
        except Unsolved as unsolved:
            raise failure(unsolved, None) from None
        for change in changes:
            columns.append(
                [
                    _between(evidence, change.errors(name).value / evidence.errors(name).value, times)
                    for name in self.names
                ]
            )
        return np.moveaxis(np.array(columns).reshape(len(wrt), len(self.names), len(times)), 0, -1)

    def deviations(self, model: Any, times: np.ndarray) -> np.ndarray | None:
        """See `Theory`; of data sets that are drawn for a Model with a dim."""
        if not isinstance(model, Model) or model.dim is None:
            return None
        from dmft.wide.estimate import WideEvidence
        from dmft.wide.spread import deviations

        evidence = self.evidence(model, float(times[-1]))
        assert isinstance(evidence, WideEvidence)
        found = deviations(evidence.on, evidence.replicas[0], DRAWS)
        grid = evidence.grid.times
        return np.stack([linear_between(grid, found[name].T, times).T for name in self.names], axis=1)


def _between(evidence: Evidence, values: np.ndarray, times: np.ndarray) -> np.ndarray:
    return interpolate(evidence.plan.grid, values, times)
