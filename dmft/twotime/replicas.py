"""Replicas side by side, one thread each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Solved = TypeVar("Solved")


def side_by_side(
    solve: Callable[[int], Solved], indices: Iterable[int], workers: int, report: Callable[[int], None]
) -> list[Solved]:
    """`solve` of every index, `workers` at a time, in their order; `report` is told how many are done."""
    results: list[Solved] = []
    pool = ThreadPoolExecutor(workers)
    try:
        for result in pool.map(solve, indices):
            results.append(result)
            report(len(results))
    finally:  # an interrupt does not wait for the replicas under way
        pool.shutdown(wait=False, cancel_futures=True)
    return results


def cores() -> int:
    """Processor cores that this process may use; 1 beside an accelerator."""
    import jax

    if jax.default_backend() != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
