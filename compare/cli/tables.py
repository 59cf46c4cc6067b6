"""Results in a few lines of plain text, for the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from compare.grokking import Duration, GrokkingDelay, Regime
from compare.sweep.measures import PREFIXES, REGIMES, State
from compare.verdicts import aligned
from dmft import Model

if TYPE_CHECKING:
    import xarray


def model_line(model: Model) -> str:
    """The model on one line: every field that is set."""
    shown = [
        f"{name} = {value:g}" if not isinstance(value, str) else f"{name} {value}"
        for name, value in model.to_attributes().items()
        if name in ("alpha", "epsilon", "kappa", "dim", "width") or value
    ]
    return "model: " + ", ".join(shown)


def grokking_table(sides: dict[str, tuple[GrokkingDelay, Regime]]) -> str:
    """Threshold times, delay and regime, one column for each side."""
    threshold = next(iter(sides.values()))[0].threshold
    rows: list[tuple[str, ...]] = [("", *sides)]
    for label, name in (
        (f"train loss reaches {threshold:g} at", "t_train"),
        (f"test loss reaches {threshold:g} at", "t_test"),
        ("delay", "delay"),
    ):
        rows.append((label, *(_duration(getattr(times, name)) for times, _ in sides.values())))
    rows.append(("regime", *(str(ending) for _, ending in sides.values())))
    return aligned(rows)


def _duration(duration: Duration) -> str:
    if math.isnan(duration.value):
        return "not reached"
    text = f"{duration.value:.4g}"
    if not math.isnan(duration.error):
        text += f" +- {duration.error:.2g}"
    if not duration.reached:
        text += f" ({duration.runs_reached} of {duration.runs} seeds)"
    return text


def regimes_table(phase: xarray.Dataset, record: dict[str, Any]) -> str:
    """How many points of each side of the `record` are in which regime, failed, or missed the tolerance."""
    sides = {side: counts for side, counts in record.items() if side in PREFIXES}
    rows: list[tuple[str, ...]] = [("points", *sides)]
    for kind in map(str, REGIMES):
        rows.append((kind, *(str(counts["regimes"][kind]) for counts in sides.values())))
    rows.append(("failed", *(str(counts["failed"]) for counts in sides.values())))
    if "tolerance_met" in phase:
        missed = int(((phase["state"] == State.DONE) & (phase["tolerance_met"] == 0)).sum())
        rows.append(("above the tolerance", str(missed), *("" for _ in list(sides)[1:])))
    return aligned(rows)
