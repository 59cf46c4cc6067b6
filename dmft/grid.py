"""Time grids and the linear multistep weights that go with them (THEORY section 4, "Discrete GD").

Both schemes are written  w_n = sum_j a_{n,j} w_{n-j} + h_n (-F + force).  Explicit gradient descent has one a = 1 and
takes F and force at row n-1; the implicit scheme (variable-step BDF) takes them at row n.  A two-time integral
int R(t, s) v(s) ds becomes sum_m R(n, m) h_m v_m, so each scheme has its own exact mean-field theory.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

FIRST_STEP = 0.02

#: Highest order of the backward differentiation.
ORDER = 3


@dataclasses.dataclass(frozen=True)
class Grid:
    """Times and multistep weights.

    Attributes:
        times: (T,) strictly increasing, starts at 0.
        weights: (T,) quadrature weights h_n.  Implicit: h_0 = 0.  Explicit: all equal to the step.
        past: (T, ORDER) a_{n,j}, the weight of row n - 1 - j; 0 where there is no such row.
        explicit: True for gradient descent with a fixed step, False for gradient flow by implicit steps.
    """

    times: np.ndarray
    weights: np.ndarray
    past: np.ndarray
    explicit: bool

    @property
    def size(self) -> int:
        """Number of times, 0 included."""
        return len(self.times)

    def coordinate(self, t: np.ndarray) -> np.ndarray:
        """Row number as a smooth function of time: n at times[n], in between along the geometric progression."""
        growth = (self.times[2] - self.times[1]) / self.times[1] - 1 if self.size > 2 else 0.0
        if abs(growth) < 1e-6:
            return np.interp(t, self.times, np.arange(self.size))
        return np.log1p(np.asarray(t) * growth / self.times[1]) / np.log1p(growth)

    def history(self, rows: np.ndarray, n: int) -> Any:
        """sum_j a_{n,j} rows[n-1-j]: the multistep history of row n (n >= 1)."""
        return sum(self.past[n, j] * rows[n - 1 - j] for j in range(min(n, ORDER)))


def explicit_grid(step: float, t_max: float) -> Grid:
    """Gradient descent: every step 0..round(t_max / step)."""
    count = max(1, round(t_max / step)) + 1
    past = np.zeros((count, ORDER))
    past[:, 0] = 1.0
    return Grid(step * np.arange(count), np.full(count, step), past, explicit=True)


def implicit_grid(times: np.ndarray, order: int = ORDER) -> Grid:
    """Variable-step backward differentiation of the given order on the given times.

    The derivative at t_n of the polynomial through w_n, ..., w_{n-q} is set equal to -F_n.  The first rows use the
    order that their past allows, q = min(n, order).
    """
    times = np.asarray(times, dtype=np.float64)
    weights, past = np.zeros(len(times)), np.zeros((len(times), ORDER))
    for n in range(1, len(times)):
        nodes = times[n] - times[n - np.arange(min(n, order) + 1)]  # 0 < t_n - t_{n-1} < ...
        slopes = _end_slopes(nodes)
        weights[n] = 1 / slopes[0]
        past[n, : len(nodes) - 1] = -slopes[1:] / slopes[0]
    return Grid(times, weights, past, explicit=False)


def _end_slopes(nodes: np.ndarray) -> np.ndarray:
    """Weights of values at `nodes` in minus the derivative at nodes[0] = 0 of their interpolation polynomial."""
    scaled = nodes / nodes[-1]
    powers = scaled ** np.arange(len(nodes))[:, None]
    wanted = np.zeros(len(nodes))
    wanted[1] = -1.0
    return np.linalg.solve(powers, wanted) / nodes[-1]


def thinned_times(times: np.ndarray, points: int) -> np.ndarray:
    """`points` + 1 times along the geometric progression of `times`, with proportionally larger steps."""
    growth = (times[2] - times[1]) / times[1] - 1
    rows = np.linspace(0, len(times) - 1, points + 1)
    if abs(growth) < 1e-6:
        return np.interp(rows, np.arange(len(times)), times)
    result = times[1] * np.expm1(rows * np.log1p(growth)) / growth
    result[-1] = times[-1]
    return result


def geometric_times(t_max: float, points: int, first_step: float = FIRST_STEP) -> np.ndarray:
    """0 and `points` further times up to t_max whose steps grow by a constant factor from `first_step` on.

    Uniform if t_max < points * first_step.  Shape (points + 1,).
    """
    from scipy.optimize import brentq

    if t_max <= points * first_step:
        return np.linspace(0.0, t_max, points + 1)

    def excess(log_ratio: float) -> float:
        return float(first_step * np.expm1(points * log_ratio) / np.expm1(log_ratio) - t_max)

    upper = np.log(t_max / first_step) + 1.0
    log_ratio = float(brentq(excess, 1e-12, upper / max(points - 1, 1) + 1e-6, xtol=1e-15))  # type: ignore[arg-type]
    times = first_step * np.expm1(np.arange(points + 1) * log_ratio) / np.expm1(log_ratio)
    times[-1] = t_max
    return times
