"""The spread of an observable over data sets of finite size, as an engine finds it and the dataset holds it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: What differs from one data set to another.
SOURCES = ("samples", "coordinates")
#: Data sets drawn unless given: their scatter is known to a tenth; and fewest.
DRAWS, LEAST_DRAWS = 64, 8


class Spread(NamedTuple):
    """Standard deviation over data sets, and its standard error, (T,) each."""

    value: np.ndarray
    stderr: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Spread:
        """Of values (R, T) of R data sets, with the error that their fourth moment gives."""
        away = values - values.mean(axis=0)
        square, fourth = (away**2).mean(axis=0), (away**4).mean(axis=0)
        found = values.std(axis=0, ddof=1)
        excess = fourth / np.where(square > 0, square, 1.0) ** 2 - 1
        return cls(found, found * np.sqrt(np.maximum(excess, 0.0) / len(values)) / 2)


class Spreads(NamedTuple):
    """The spreads of all observables."""

    observables: dict[str, Spread]
    correlation: np.ndarray  # of test loss and overlap over data sets, (T,)
    draws: int
    samples: int  # of each data set that was drawn
    sources: tuple[str, ...]
