"""How accurately a row is solved."""

from __future__ import annotations

from typing import NamedTuple


class Iteration(NamedTuple):
    """Settings of the row solve (static).

    The iteration aims at a relative residual of `tolerance`; after `max_rounds`, a residual above `accepted` is a
    failure.  1e-4 changes the curves by under 1 %, so what was accepted is recorded with every result.
    """

    tolerance: float = 1e-6
    accepted: float = 1e-5
    depth: int = 16
    max_rounds: int = 200
