"""Results in a few lines of plain text, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
