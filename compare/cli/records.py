"""Results as plain JSON-able values, for programs that read the answer of a command."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from compare.files import number
from compare.sweep.measures import PREFIXES, REGIMES, State

if TYPE_CHECKING:
    import xarray


def curves_record(dataset: xarray.Dataset) -> dict[str, Any]:
    """The end of a run, its threshold times and its regime; for theory also whether its tolerance was met.

    `final` holds for each observable its last value, mean over seeds, and the error of that: the theory's total
    error (`_error`), or the standard error over seeds.
    """
    from compare.curves import total_error
    from compare.grokking import grokking_delay, regime, regime_record
    from dmft.losses.quadratic import is_observable

    last = dataset.isel(time=-1)
    final = {}
    for name in filter(is_observable, map(str, last.data_vars)):
        value = last[name].mean("seed") if "seed" in last[name].dims else last[name]
        error = total_error(last, name)
        final[name] = {"value": number(value), "error": number(math.nan if error is None else error)}
    record = {
        "time": float(dataset["time"][-1]),
        "final": final,
        "grokking": regime_record(grokking_delay(dataset), regime(dataset)),
    }
    if "tolerance_met" in dataset.attrs:
        record |= {
            "tolerance_met": bool(dataset.attrs["tolerance_met"]),
            "tolerance_message": str(dataset.attrs.get("tolerance_message", "")),
        }
    return record


def phase_record(phase: xarray.Dataset) -> dict[str, Any]:
    """How many points of a diagram are in which state and regime, for each side that was computed."""
    sides = {}
    for side, prefix in PREFIXES.items():
        if f"{prefix}state" not in phase:
            continue
        states, regimes = (phase[f"{prefix}{name}"].to_numpy() for name in ("state", "regime"))
        sides[side] = {
            "points": int((states != State.ABSENT).sum()),
            "failed": int((states == State.FAILED).sum()),
            "regimes": {str(kind): int((regimes == place).sum()) for kind, place in REGIMES.items()},
        }
    return {"axes": {str(name): phase[name].to_numpy().tolist() for name in phase.dims}, **sides}
