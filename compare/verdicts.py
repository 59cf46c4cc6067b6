"""Scores over time in a few words: the row of an observable, and the table of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

#: What a verdict can be.
AGREES, DIFFERS, NO_ERROR, TOO_FEW = "agrees", "differs", "no error, no verdict", "too few times"

#: What the verdicts mean, for whoever reads the table.
MEANING = (
    'A verdict "agrees" says that the difference is within what its standard error allows (|z| up to "may reach"): '
    "where errors are large, so may the difference be."
)

#: A difference beyond this that agrees is explained.
STRIKING = 0.2

_COLUMNS = ("observable", "max |z|", "may reach", "at time", "difference", "times", "verdict")


def row(
    time: np.ndarray, z: np.ndarray, degrees: np.ndarray, difference: np.ndarray, tests: int, significance: float
) -> dict[str, Any]:
    """The verdict on one observable (keys as in `Agreement.summary`; the same ones always).

    Args:
        time: the times, (T,).
        z: scores, (T, ...): NaN where nothing is compared, or an error is unknown.
        degrees: of freedom, likewise.
        difference: relative, likewise; NaN where nothing is compared.
        tests: how many independent tests the scores count as.
        significance: chance of a false alarm.
    """
    known, finite = ~np.isnan(z), np.isfinite(z)
    later = known.reshape(len(time), -1)[time > 0.0]
    found: dict[str, Any] = dict.fromkeys(
        ("max_abs_z", "time", "index", "difference", "threshold", "p_value", "mean_square_z")
    )
    exact = int(np.sum(known & ~finite))
    found |= {
        "exact_differences": exact,
        "compared_times": int(known.reshape(len(time), -1).any(axis=1).sum()),
    }
    if not known.any():
        return found | {"verdict": NO_ERROR if np.isfinite(difference).any() else TOO_FEW}
    p_value = 0.0 if exact else 1.0
    if finite.any():
        worst = tuple(int(i) for i in np.unravel_index(np.argmax(np.where(finite, np.abs(z), -1.0)), z.shape))
        smallest = float(np.min(2.0 * stats.t.sf(np.abs(z[finite]), degrees[finite])))
        p_value = min(p_value, tests * smallest)
        found |= {
            "max_abs_z": float(abs(z[worst])),
            "time": float(time[worst[0]]),
            "index": worst[1:],
            "difference": float(difference[worst]),
            "threshold": float(stats.t.isf(0.5 * significance / tests, degrees[worst])),
            "mean_square_z": float(np.mean(z[finite] ** 2)),
        }
    verdict = DIFFERS if p_value < significance else AGREES if later.any() else TOO_FEW
    return found | {"p_value": p_value, "verdict": verdict}


def lines_before(summary: dict[str, Any]) -> list[str]:
    """What would make the two agree, and an empty line; nothing if nothing is known."""
    found = [f"reason: {reason['says']}" for reason in summary["reasons"]]
    return [*found, ""] if found else []


def notes_after(summary: dict[str, Any]) -> list[str]:
    """The notes of a comparison."""
    return [f"note: {note}" for note in summary["notes"]]


def meaning(summary: dict[str, Any]) -> list[str]:
    """What the verdicts mean; and, where a large difference agrees, by how large an error."""
    for name, found in summary["observables"].items():
        if found["verdict"] == AGREES and found["max_abs_z"] and abs(found["difference"]) > STRIKING:
            error = abs(found["difference"]) / found["max_abs_z"]
            says = (
                f"So {name} agrees at {found['difference']:+.0%}: the difference has a standard error of {error:.0%} "
                "there. More runs would make it smaller."
            )
            return [MEANING, says]
    return [MEANING]


def agreement_table(summary: dict[str, Any]) -> str:
    """Largest |z| of each observable, when, the difference then, what |z| may reach, and the verdict."""
    rows = [_COLUMNS, *(_cells(name, found) for name, found in summary["observables"].items())]
    return aligned(rows)


def _cells(name: str, found: dict[str, Any]) -> tuple[str, ...]:
    numbers = ("-" if found[key] is None else f"{found[key]:.3g}" for key in ("max_abs_z", "threshold", "time"))
    difference = "-" if found["difference"] is None else f"{found['difference']:+.1%}"
    verdict = found["verdict"]
    if found["exact_differences"]:
        verdict += f" ({found['exact_differences']} times with no error on either side)"
    entry = ",".join(str(index) for index in (found["entry"] or {}).values())
    return (
        f"{name}[{entry}]" if entry else name, *numbers, difference, str(found["compared_times"]), verdict
    )  # fmt: skip


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of cells in columns, two spaces apart."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
