"""The two-time kernels as users read them: on the output times, free of the multistep scheme's own weights."""

# scipy has no stubs
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from typing import cast

import numpy as np

from dmft.twotime.engine import KernelStack
from dmft.twotime.grid import Grid, coordinate


def physical_response(grid: Grid, response: np.ndarray) -> np.ndarray:
    """R(t_n, t_m) of the flow from the multistep rows.

    A unit force in row m of the scheme moves an undamped system by I(n, m) h_m at row n, I(m, m) = 1, where the flow
    moves it at once.  So R(t_n, t_m) = R(n, m) / I(n, m), and R(t, t) = 1.  Discrete steps are returned as they are.

    Args:
        response: (T, T), lower triangular.
    """
    if grid.explicit:
        return response
    undamped = np.zeros_like(response)
    undamped[0, 0] = 1.0
    for n in range(1, grid.size):
        undamped[n] = grid.history(undamped, n)
        undamped[n, n] = 1.0
    ratio = np.where(undamped > 0, response / np.where(undamped > 0, undamped, 1.0), 0.0)
    np.fill_diagonal(ratio, 1.0)
    return np.tril(ratio)


def on_output_times(grid: Grid, kernels: np.ndarray, at: np.ndarray, like: KernelStack) -> np.ndarray:
    """Kernels (..., T, T) on the output times, (..., len(at), len(at)).

    Discrete steps: the rows and columns of those steps. Flow: correlations by a spline, responses (zero for t < s,
    with a jump at t = s) linearly in (t - s, s), both in `dmft.twotime.grid.coordinate`.
    """
    if grid.explicit:
        index = np.rint(at / grid.weights[0]).astype(int)
        return kernels[..., index[:, None], index]
    x, nodes = coordinate(at), coordinate(grid.times)
    result = np.zeros((*kernels.shape[:-2], len(at), len(at)))
    for entry in np.ndindex(kernels.shape[:-2]):
        if like.response:
            result[entry] = _lag_interpolation(kernels[entry], np.interp(x, nodes, np.arange(grid.size)))
        else:
            result[entry] = _spline(nodes, kernels[entry], x, min(like.order, grid.size - 1))
    return result


def _spline(nodes: np.ndarray, kernel: np.ndarray, x: np.ndarray, order: int) -> np.ndarray:
    from scipy.interpolate import RectBivariateSpline

    return cast("np.ndarray", RectBivariateSpline(nodes, nodes, kernel, kx=order, ky=order)(x, x))


def _lag_interpolation(kernel: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Linear in lag and column, on row coordinates x; zero above the diagonal."""
    last = len(kernel) - 1
    lag, column = x[:, None] - x[None, :], np.broadcast_to(x, (len(x), len(x)))
    causal = lag > -1e-9
    lag = np.where(causal, np.maximum(lag, 0.0), 0.0)
    first_lag, first_column = np.floor(lag + 1e-9).astype(int), np.minimum(np.floor(column + 1e-9).astype(int), last)
    lag_part, column_part = np.maximum(lag - first_lag, 0.0), np.maximum(column - first_column, 0.0)

    def value(lags: np.ndarray, columns: np.ndarray) -> np.ndarray:
        columns = np.minimum(columns, last)
        return kernel[np.minimum(columns + lags, last), columns]

    low = (1 - column_part) * value(first_lag, first_column) + column_part * value(first_lag, first_column + 1)
    high = (1 - column_part) * value(first_lag + 1, first_column) + column_part * value(first_lag + 1, first_column + 1)
    return np.where(causal, (1 - lag_part) * low + lag_part * high, 0.0)
