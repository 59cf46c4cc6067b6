"""What the limits share: checks of their times, work in blocks of times, decay factors of a linear mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dmft.checks import ParameterError, check_real
from dmft.twotime.momentum import Momentum, glided

Observables = dict[str, np.ndarray]

# Times are worked off in blocks of this many rows, so that memory stays bounded for 10^5 steps.
_BLOCK = 2048


def check_times(times: Any) -> np.ndarray:
    """`times` as a float64 array (T,), T >= 1, finite and >= 0."""
    try:
        array = np.asarray(times, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"Argument `times` must be a 1-D array of numbers >= 0, but is {times!r}.") from error
    if array.ndim != 1 or array.size == 0:
        raise ParameterError(f"Argument `times` must be a non-empty 1-D array, but has shape {array.shape}.")
    bad = ~(np.isfinite(array) & (array >= 0.0))
    if bad.any():
        raise ParameterError(f"Argument `times` must be finite and >= 0, but contains {array[bad][0]:g}.")
    return array


def check_step(
    step: float | None, times: np.ndarray, kappa: float, weight_decay: float, rule: Momentum | None = None
) -> float | None:
    """`step` if it is None, or stable and a divisor of every time; with a rule of its own it may be larger."""
    if step is None:
        return None
    step = check_real("step", step, above=0.0)
    largest = 2.0 / ((1.0 + kappa**-0.5) ** 2 + weight_decay)
    if rule is None and step > largest * (1.0 + 1e-12):
        raise ParameterError(
            f"Argument `step` must be at most 2 / ((1 + kappa^-1/2)^2 + weight_decay) = {largest:g}, above which "
            f"gradient descent diverges, but is {step:g}."
        )
    counts = times / step
    off = np.abs(counts - np.rint(counts)) > 1e-6 * np.maximum(1.0, counts)
    if off.any():
        raise ParameterError(
            f"Argument `times` must contain whole multiples of `step` = {step:g} only, but contains {times[off][0]:g}."
        )
    return step


def in_blocks(function: Callable[[np.ndarray], Observables], times: np.ndarray) -> Observables:
    """`function(times)`, evaluated on one block of times after the other."""
    parts = [function(times[first : first + _BLOCK]) for first in range(0, times.size, _BLOCK)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def decay_factors(
    rates: np.ndarray, times: np.ndarray, step: float | None, rule: Momentum | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """a = e^{-rate t}, or (1 - rate dt)^{t/dt}, and the sum it stands for, (1 - a)/rate; both (T, rates).

    With momentum or a schedule, (1 - a)/rate is the recursion 13.1 from 0 under the force rate X - 1.
    """
    if rule is not None and step is not None:
        lost = driven_modes(rates, int(np.rint(times.max() / step)), step, rule)[np.rint(times / step).astype(int)]
        return 1.0 - rates * lost, lost
    if step is None:
        exponents = -np.outer(times, rates)
        decay, lost = np.exp(exponents), -np.expm1(exponents)
    else:
        steps = np.rint(times / step)
        decay = (1.0 - rates * step) ** steps[:, None]
        small = rates * step < 0.5  # there, 1 - a without cancellation
        logarithms = np.log1p(np.where(small, -rates * step, 0.0))
        lost = np.where(small, -np.expm1(np.outer(steps, logarithms)), 1.0 - decay)
    positive = rates > 0.0
    return decay, np.where(positive, lost / np.where(positive, rates, 1.0), times[:, None])


def driven_modes(rates: np.ndarray, count: int, step: float, rule: Momentum) -> np.ndarray:
    """X(0) = 0 .. X(count) of equation 13.1 with G = rate X - 1, (count + 1, rates)."""
    rows, velocity, push, glide = np.zeros((count + 1, len(rates))), np.zeros(len(rates)), rule.push, rule.glide
    for n in range(count):
        pull = step * (rates * rows[n] - 1.0)
        rows[n + 1], velocity = glided(rows[n], pull, velocity, push[n], glide[n], rule.momentum)
    return rows
