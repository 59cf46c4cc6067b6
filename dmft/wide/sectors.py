"""The three kinds of vectors of THEORY section 4.1."""

from __future__ import annotations

from typing import Any, NamedTuple


class BySector(NamedTuple):
    """One quantity for each kind: a number, one for each sample, or a two-time array."""

    common: Any  # c
    outlier: Any  # d
    bulk: Any  # r

    def named(self, kind: str) -> dict[str, Any]:
        """Under the names of the dataset, such as correlation_common."""
        return {f"{kind}_{sector}": value for sector, value in self._asdict().items()}
