"""Results in a few lines of plain text, for the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from compare.grokking import Duration, GrokkingDelay, Regime
from compare.sweep.measures import PREFIXES, REGIMES, State
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


def agreement_table(summary: dict[str, Any]) -> str:
    """Largest |z| of each observable, when, the difference then, what |z| may reach, and the verdict."""
    rows: list[tuple[str, ...]] = [("observable", "max |z|", "may reach", "at time", "difference", "verdict")]
    for name, row in summary["observables"].items():
        numbers = ("-" if row.get(key) is None else f"{row[key]:.3g}" for key in ("max_abs_z", "threshold", "time"))
        difference = "-" if row.get("difference") is None else f"{row['difference']:+.1%}"
        verdict = row["verdict"]
        if row["exact_differences"]:
            verdict += f" ({row['exact_differences']} times with no error on either side)"
        entry = ",".join(str(index) for index in row.get("entry", {}).values())
        rows.append((f"{name}[{entry}]" if entry else name, *numbers, difference, verdict))
    return _aligned(rows)


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
    return _aligned(rows)


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
    return _aligned(rows)


def _aligned(rows: list[tuple[str, ...]]) -> str:
    """Rows of cells in columns, two spaces apart."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
