"""The theory at a finite D: that of infinite D, with the terms of order 1/D that it lacks taken from simulations.

Between 1, the ratio simulation/theory at infinite D, and the sizes that were simulated a parabola is fitted
(`compare.extrapolation.bridged`). So runs at small D, which are cheap, say what a larger D deviates by. The error of
the ratio is that of the runs. What the parabola leaves out, x^3, has none.

The scatter of single runs is the theory's spread likewise, to leading order in D^-1/2. Of it less is known, so that a
straight line through 1 is fitted to what the runs at the simulated sizes scatter by, relative to their mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray

from compare.curves import CORRECTED
from compare.extrapolation import bridged, fitted

#: The power of D by which the theory is approached, where the overlap is planted, and from a random start.
PLANTED, RANDOM = 1.0, 0.5


def corrected(
    theory: xarray.Dataset, ratios: xarray.Dataset, power: float, spreading: Mapping[int, xarray.Dataset] | None = None
) -> xarray.Dataset:
    """A theory with its observables times the ratio at its D, at its time 0 and the times of `ratios`.

    An error has the theory's own and the ratio's in it, that of a spread likewise.

    Args:
        theory: at the D that is predicted.
        ratios: of `compare.FiniteSize`.
        power: x = D^-power.
        spreading: by simulated size, a theory whose spread is that of the size, or of its own D; if it has a spread.
    """
    dim, sizes = int(theory.attrs["dim"]), ratios["dim"].to_numpy()
    x, at = sizes.astype(float) ** -power, dim**-power
    found: dict[str, Any] = {}

    def product(value: str, error: str, factor: np.ndarray, off: np.ndarray) -> None:
        of_value, of_error = theory[value], theory[error]
        found[value] = ("time", of_value.to_numpy() * factor, of_value.attrs)
        found[error] = ("time", np.hypot(of_error.to_numpy() * factor, of_value.to_numpy() * off), of_error.attrs)

    for name in map(str, ratios["observable"].to_numpy()):
        one = ratios.sel(observable=name)
        ratio, off = from_start(*bridged(x, one["ratio"].to_numpy(), one["ratio_error"].to_numpy(), at))
        product(name, f"{name}_error", ratio, off)
        if spreading is not None:
            expected = np.stack([relative_spread(spreading[int(size)], name, int(size)) for size in sizes])
            factor, of_factor = from_start(*spread_factor(x, at, one, expected))
            product(f"{name}_spread", f"{name}_spread_stderr", factor * ratio, of_factor * ratio)
    attributes = theory.attrs | {CORRECTED: sizes.tolist()}
    return xarray.Dataset(found, {"time": theory["time"]}, attributes)


def relative_spread(theory: xarray.Dataset, name: str, size: int) -> np.ndarray:
    """The spread of an observable over itself after time 0, (T,), of the theory's D, times (D/size)^1/2."""
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = theory[f"{name}_spread"].to_numpy()[1:] / theory[name].to_numpy()[1:]
    return relative * np.sqrt(float(theory.attrs["dim"]) / size)


def from_start(factor: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with time 0 before, at which nothing is lacking."""
    return np.append(1.0, factor), np.append(0.0, error)


def spread_factor(x: np.ndarray, at: float, ratios: xarray.Dataset, expected: np.ndarray) -> tuple[np.ndarray, ...]:
    """What the theory's spread is to be multiplied by at x = `at`, and its standard error, (T,) each.

    Args:
        x: of the simulated sizes, (L,).
        at: of the size that is predicted.
        ratios: of one observable.
        expected: the theory's spreads at the simulated sizes, relative to the mean, (L, T).
    """
    runs = ratios["runs"].to_numpy()[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        scatter = (ratios["ratio_error"] / ratios["ratio"]).to_numpy() * np.sqrt(runs)
        share = scatter / np.where(expected > 0, expected, np.nan)
    line = fitted(x[:, None], share - 1, np.broadcast_to((2 * (runs - 1.0)) ** -0.5, share.shape))
    return np.maximum(1 + at * line.coefficients[0], 0.0), at * line.errors[0]
