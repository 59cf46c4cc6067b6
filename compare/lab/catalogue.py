"""All presets by name."""

from __future__ import annotations

from compare.lab import doshi, kumar, omnigrok, prieto
from compare.lab.preset import LabPreset
from dmft.checks import ParameterError


def presets() -> dict[str, LabPreset]:
    """Name -> preset, paper by paper."""
    return {one.name: one for paper in (kumar, doshi, prieto, omnigrok) for one in paper.presets()}


def lab_preset(name: str) -> LabPreset:
    """The preset `name`.

    Raises:
        ParameterError: there is none of that name; the message lists those there are.
    """
    known = presets()
    if name not in known:
        raise ParameterError(f"Argument `preset` must be one of {', '.join(known)}, but is {name!r}.")
    return known[name]
