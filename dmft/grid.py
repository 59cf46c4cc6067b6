"""Time grids and the linear multistep weights that go with them (THEORY section 4, "Discrete GD").

Both schemes are written  w_n = a1_n w_{n-1} + a2_n w_{n-2} + h_n (-F + force).  Explicit gradient descent has
a1 = 1, a2 = 0 and F, force taken at row n-1; the implicit scheme takes them at row n.  A two-time integral
int R(t, s) v(s) ds becomes sum_m R(n, m) h_m v_m, so each scheme has its own exact mean-field theory.
"""

from __future__ import annotations

import dataclasses

import numpy as np

FIRST_STEP = 0.05


@dataclasses.dataclass(frozen=True)
class Grid:
    """Times and multistep weights.

    Attributes:
        times: (T,) strictly increasing, starts at 0.
        weights: (T,) quadrature weights h_n.  Implicit: h_0 = 0.  Explicit: all equal to the step.
        previous: (T,) a1_n, the weight of row n-1.
        before: (T,) a2_n, the weight of row n-2.
        explicit: True for gradient descent with a fixed step, False for gradient flow by implicit steps.
    """

    times: np.ndarray
    weights: np.ndarray
    previous: np.ndarray
    before: np.ndarray
    explicit: bool

    @property
    def size(self) -> int:
        """Number of times, 0 included."""
        return len(self.times)


def explicit_grid(step: float, t_max: float) -> Grid:
    """Gradient descent: every step 0..round(t_max / step)."""
    count = max(1, round(t_max / step)) + 1
    ones = np.ones(count)
    return Grid(step * np.arange(count), step * ones, ones, 0.0 * ones, explicit=True)


def implicit_grid(times: np.ndarray) -> Grid:
    """Variable-step BDF2 on the given times (implicit Euler for the first step), second order, L-stable.

    With w = dt_n / dt_{n-1}: a1 = (1+w)^2/(1+2w), a2 = -w^2/(1+2w), h_n = dt_n (1+w)/(1+2w).
    """
    steps = np.diff(times)
    weights, previous, before = (np.zeros(len(times)) for _ in range(3))
    weights[1], previous[1] = steps[0], 1.0
    ratio = steps[1:] / steps[:-1]
    previous[2:] = (1 + ratio) ** 2 / (1 + 2 * ratio)
    before[2:] = -(ratio**2) / (1 + 2 * ratio)
    weights[2:] = steps[1:] * (1 + ratio) / (1 + 2 * ratio)
    return Grid(np.asarray(times, dtype=np.float64), weights, previous, before, explicit=False)


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
    log_ratio = float(brentq(excess, 1e-12, upper / max(points - 1, 1) + 1e-6, xtol=1e-15))
    times = first_step * np.expm1(np.arange(points + 1) * log_ratio) / np.expm1(log_ratio)
    times[-1] = t_max
    return times
