"""Replicas side by side, one thread each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dmft.twotime.engine import Plan

Solved = TypeVar("Solved")


class OutOfTime(Exception):
    """The deadline has passed."""


def side_by_side(
    plan: Plan, solve: Callable[[int], Solved], indices: Iterable[int], report: Callable[[int], None]
) -> list[Solved]:
    """`solve` of every index, as many at a time as the plan says, in their order.

    Args:
        report: told how many are done.

    Raises:
        OutOfTime: the plan's deadline has passed.
    """
    results: list[Solved] = []
    pool = ThreadPoolExecutor(plan.workers)
    try:
        for result in pool.map(solve, indices):
            results.append(result)
            report(len(results))
            if time.monotonic() > plan.deadline:
                raise OutOfTime
    finally:  # an interrupt does not wait for the replicas under way
        pool.shutdown(wait=False, cancel_futures=True)
    return results


def cores() -> int:
    """Processor cores that this process may use; 1 beside an accelerator."""
    import jax

    if jax.default_backend() != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
