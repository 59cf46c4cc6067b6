"""Measure a function in a process of its own: wall time, processor time, peak memory, cold and warm."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a warm call took, and what it returned.

    Attributes:
        value: the function's result.
        cold, warm: wall time of the first and of the second call, seconds.
        processor: processor time of the second call, all threads together, seconds.
        memory: peak resident memory of the whole process, GiB.
        accelerated: whether the work was not on the CPU, so that `processor` says nothing.
    """

    value: Any
    cold: float
    warm: float
    processor: float
    memory: float
    accelerated: bool

    @property
    def cost(self) -> float:
        """Seconds to compare by: on a CPU shared with others the processor time, on an accelerator the wall time."""
        return self.warm if self.accelerated else self.processor


def isolated(function: Callable[..., Any], *arguments: Any, first: tuple[Any, ...] | None = None) -> Measured:
    """Call `function`, which must be importable, twice in a fresh process: the first call compiles, the second counts.

    Args:
        function, arguments: what is measured.
        first: arguments of the first call, if a smaller one compiles as much.

    Linear algebra of one sample at a time is faster on one thread, and far faster if other work is about: the
    BLAS of the processes measured has one thread; the threads of the compiled code and of `solve` are left alone.
    """
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read by the new process
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, function, arguments if first is None else first, arguments).result()


def _measure(function: Callable[..., Any], first: tuple[Any, ...], arguments: tuple[Any, ...]) -> Measured:
    import jax

    warnings.simplefilter("ignore")
    start = time.perf_counter()
    function(*first)
    begin, before = time.perf_counter(), time.process_time()
    value = function(*arguments)
    warm, processor = time.perf_counter() - begin, time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    return Measured(value, begin - start, warm, processor, peak, jax.default_backend() != "cpu")


def fitted_exponent(sizes: Any, costs: Any) -> float:
    """The exponent of costs = constant x sizes^exponent, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
