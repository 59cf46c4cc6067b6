"""At which steps the network is observed, and how the run is cut into compiled chunks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dmft.checks import nearest_steps

#: With at most this many steps every one is observed.
ALL_STEPS = 1000
#: Beyond, neighbouring times differ by at most this fraction of themselves, and of a tenth of t_max: linear
#: interpolation of a curve that changes at rate g errs by (g dt)^2 / 8, below 0.3 % while g t < 15, or g t_max < 150.
SPACING = 0.01
#: Observations in one compiled call.
CAPACITY = 64


class Piece(NamedTuple):
    """Observations `marks` (step numbers) of one compiled call, and the `lengths` (in steps) that follow each."""

    marks: np.ndarray
    lengths: np.ndarray


def observed_steps(count: int, step: float, times: np.ndarray | None) -> np.ndarray:
    """The observed step numbers, strictly increasing integers in 0 .. count.

    Args:
        count: number of steps of the run.
        step: dt.
        times: the times asked for, each answered by a step of its own; None for 0, count and densely between.

    Raises:
        ParameterError: two of the times are nearest to the same step.
    """
    if times is not None:
        return nearest_steps(times, step, count)
    if count <= ALL_STEPS:
        return np.arange(count + 1)
    widest = 0.1 * SPACING * count
    steps, last = [0], 0
    while last < count:
        last = min(count, last + max(1, int(min(SPACING * last, widest))))
        steps.append(last)
    return np.array(steps)


def chunks(steps: np.ndarray, count: int, budget: int) -> Iterator[Piece]:
    """Cut the run 0 .. count into compiled calls of at most `budget` steps and CAPACITY observations.

    Observes at `steps`, at 0, at `count`, and in between wherever `budget` steps would pass unobserved, so that
    progress and divergence are seen in time. Every chunk but the first begins where the one before it ended.
    """
    fixed = np.unique(np.concatenate([[0], steps, [count]]))
    marks, lengths, used = [], [], 0
    for mark, following in zip(fixed, np.append(fixed[1:], count), strict=True):
        while True:
            length = min(int(following - mark), budget)
            if marks and (used + length > budget or len(marks) == CAPACITY):
                yield Piece(np.array(marks), np.array(lengths))
                marks, lengths, used = [], [], 0
            marks.append(int(mark))
            lengths.append(length)
            used += length
            mark += length
            if mark >= following:
                break
    yield Piece(np.array(marks), np.array(lengths))
