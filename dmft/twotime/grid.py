"""Time grids and the linear multistep weights that go with them (THEORY section 4, "Discrete GD").

Both schemes are written  w_n = sum_j a_{n,j} w_{n-j} + h_n (-F + force).  Explicit gradient descent has one a = 1 and
takes F and force at row n-1; the implicit scheme (variable-step BDF) takes them at row n.  A two-time integral
int R(t, s) v(s) ds becomes sum_m R(n, m) h_m v_m, so each scheme has its own exact mean-field theory.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmft.twotime.momentum import Momentum

#: Time at which the flow's steps begin to grow in proportion to time; before, they grow linearly from zero.
TIME_SCALE = 0.15

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
        momentum: how descent moves beyond plain steps of `weights`; None if it does not.
    """

    times: np.ndarray
    weights: np.ndarray
    past: np.ndarray
    explicit: bool
    momentum: Momentum | None = None

    @property
    def size(self) -> int:
        """Number of times, 0 included."""
        return len(self.times)

    def history(self, rows: np.ndarray, n: int) -> Any:
        """sum_j a_{n,j} rows[n-1-j]: the multistep history of row n (n >= 1)."""
        return sum(self.past[n, j] * rows[n - 1 - j] for j in range(min(n, ORDER)))

    def head(self, rows: int) -> Grid:
        """The first `rows` rows."""
        return Grid(self.times[:rows], self.weights[:rows], self.past[:rows], self.explicit, self.momentum)


def explicit_grid(step: float, t_max: float, momentum: Momentum | None = None) -> Grid:
    """Gradient descent: every step 0..round(t_max / step)."""
    count = max(1, round(t_max / step)) + 1
    past = np.zeros((count, ORDER))
    past[:, 0] = 1.0
    return Grid(step * np.arange(count), np.full(count, step), past, explicit=True, momentum=momentum)


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
    scaled: NDArray[np.float64] = nodes / nodes[-1]
    powers = scaled ** np.arange(len(nodes))[:, None]
    wanted = np.zeros(len(nodes))
    wanted[1] = -1.0
    return np.linalg.solve(powers, wanted) / nodes[-1]


def coordinate(times: np.ndarray | float) -> np.ndarray:
    """x(t) with t = 2 TIME_SCALE (cosh x - 1): like sqrt(t) at first, like log t at last.

    The flow's times are uniform in x, and its curves, smooth in t, are smooth in x.
    """
    return 2 * np.arcsinh(np.sqrt(np.asarray(times, dtype=np.float64) / (4 * TIME_SCALE)))


def graded_times(t_max: float, points: int) -> np.ndarray:
    """0 and `points` further times up to t_max, uniform in `coordinate`.  Shape (points + 1,).

    Steps grow linearly from zero at first and by a constant factor at last.  The first two are short because the
    rule has lower order there; all are proportional to 1/points, so that errors have the rule's order from the start.
    """
    return _times_at(np.linspace(0.0, float(coordinate(t_max)), points + 1), t_max)


def resampled_times(times: np.ndarray, points: int) -> np.ndarray:
    """`points` + 1 times whose steps are everywhere longer or shorter than those of `times` by the same factor."""
    return _times_between(times, np.linspace(0, len(times) - 1, points + 1))


def denser_times(times: np.ndarray, density: np.ndarray) -> np.ndarray:
    """An even number of steps, of which there are about `density` (T,) for each step near each of `times`."""
    filled = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    total = float(filled[-1])
    at = np.linspace(0.0, total, 2 * round(0.5 * total) + 1)
    return _times_between(times, np.interp(at, filled, np.arange(len(times))))


def _times_between(times: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Times at row numbers that need not be whole; the last is the last."""
    return _times_at(np.interp(rows, np.arange(len(times)), coordinate(times)), times[-1])


def halved_steps(times: np.ndarray, after: float, steps: int = 4) -> np.ndarray:
    """`times` with `steps` steps halved (an even number of them), the first being the one that begins at `after`."""
    first = int(np.searchsorted(times, after * (1 + 1e-9), side="right"))
    first = max(1, min(first, len(times) - steps))
    x = coordinate(times[first - 1 : first + steps])
    return np.sort(np.concatenate([times, _times_at(0.5 * (x[1:] + x[:-1]))]))


def _times_at(x: np.ndarray, t_max: float | None = None) -> np.ndarray:
    """The inverse of `coordinate`, ending at exactly `t_max` if given."""
    times = 4 * TIME_SCALE * np.sinh(0.5 * x) ** 2
    if t_max is not None:
        times[-1] = t_max
    return times
