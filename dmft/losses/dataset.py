"""The dataset that theory and simulation both return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dmft.losses.quadratic import OBSERVABLES

if TYPE_CHECKING:
    import xarray


def build_dataset(
    dims: tuple[str, ...],
    time: Any,
    values: dict[str, Any],
    stderr: dict[str, Any],
    attributes: dict[str, Any],
    meanings: Mapping[str, str] = OBSERVABLES,
    inner: Mapping[str, tuple[str, ...]] | None = None,
) -> xarray.Dataset:
    """Assemble the common dataset: every observable over `dims`, its standard error over time.

    An observable that is an array has dimensions of its own after these, in `inner`; so has its error.

    Args:
        dims: ("time",) for theory, ("seed", "time") for simulation.
        time: float64 (T,), strictly increasing, in the units of THEORY section 1.
        values: arrays over `dims` (and those of `inner`), keyed by the names in `meanings`.
        stderr: arrays (T, ...), keyed likewise; stored as `<name>_stderr`.
        attributes: model, settings, precision, version, seed: enough to run it again; the last time is added as
            `t_reached`, beside the `t_max` asked for.
        meanings: the observables, with their meanings.
        inner: dimensions of those observables that are arrays.
    """
    import numpy as np
    import xarray

    variables = {}
    for name, meaning in meanings.items():
        own = (inner or {}).get(name, ())
        variables[name] = (
            (*dims, *own),
            np.asarray(values[name], dtype=np.float64),
            {"long_name": meaning, "units": "1"},
        )
        variables[f"{name}_stderr"] = (
            ("time", *own),
            np.asarray(stderr[name], dtype=np.float64),
            {"long_name": f"standard error of the mean of {name}", "units": "1"},
        )
    time = np.asarray(time, dtype=np.float64)
    about = {"long_name": "training time", "units": "steps x learning rate x alpha^2 / (N D)"}
    return xarray.Dataset(variables, {"time": ("time", time, about)}, attributes | {"t_reached": float(time[-1])})
