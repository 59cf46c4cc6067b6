"""The theory at a finite D: that of infinite D, with the terms of order 1/D that it lacks taken from simulations.

Between 1, the ratio simulation/theory at infinite D, and the sizes that were simulated a parabola is fitted
(`compare.extrapolation.bridged`). So runs at small D, which are cheap, say what a larger D deviates by. The error of
the ratio is that of the runs. What the parabola leaves out, x^3, has none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray

from compare.curves import CORRECTED
from compare.extrapolation import bridged

#: The power of D by which the theory is approached, where the overlap is planted, and from a random start.
PLANTED, RANDOM = 1.0, 0.5


def corrected(theory: xarray.Dataset, ratios: xarray.Dataset, dim: int, power: float) -> xarray.Dataset:
    """A theory with its observables times the ratio at `dim`, at its time 0 and the times of `ratios`.

    An error has the theory's own and the ratio's in it. A spread keeps its share of the observable.

    Args:
        theory: at `dim`.
        ratios: of `compare.FiniteSize`.
        dim: D.
        power: x = D^-power.
    """
    sizes = [int(one) for one in ratios["dim"]]
    x = np.array(sizes, float) ** -power
    found: dict[str, Any] = {}

    def put(name: str, values: np.ndarray) -> None:
        found[name] = ("time", values, theory[name].attrs)

    for name in map(str, ratios["observable"].to_numpy()):
        one = ratios.sel(observable=name)
        late, off = bridged(x, one["ratio"].to_numpy(), one["ratio_error"].to_numpy(), dim**-power)
        times, off = np.append(1.0, late), np.append(0.0, off)  # at t = 0 nothing is lacking
        value = theory[name].to_numpy()
        put(name, value * times)
        put(f"{name}_error", np.hypot(theory[f"{name}_error"].to_numpy() * times, value * off))
        for spread in (f"{name}_spread", f"{name}_spread_stderr"):
            if spread in theory:
                put(spread, theory[spread].to_numpy() * times)
    return xarray.Dataset(found, {"time": theory["time"]}, theory.attrs | {"dim": dim, CORRECTED: sizes})
