"""Observables that are arrays, such as a committee's overlaps, entry by entry for pictures."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compare.curves import Side

#: Array observables in pictures: title of their panel, symbol of an entry, and whether they are symmetric matrices.
ARRAYS: dict[str, tuple[str, str, bool]] = {
    "teacher_overlap": (r"overlap with the teacher, $w_i\cdot\beta_k/D$", "m", False),
    "self_overlap": (r"overlap of neurons, $w_i\cdot w_j/D$", "C", True),
    "readouts": (r"readout $a_i$", "a", False),
}


def entry_names(name: str, shape: tuple[int, ...]) -> dict[tuple[int, ...], str]:
    """Index -> name of every different entry of the array observable `name`; counted from 1 in the name."""
    symmetric = ARRAYS[name][2]
    indices = itertools.product(*(range(size) for size in shape))
    return {
        index: f"{name}[{','.join(str(i + 1) for i in index)}]"
        for index in indices
        if not symmetric or index == tuple(sorted(index))
    }


def by_entry(side: Side) -> Side:
    """The side with every entry of its array observables as a curve over time alone, named as in `entry_names`."""
    curves = side.curves
    for name in ARRAYS:
        if name not in curves or "time" not in curves[name].dims:
            continue
        dims = [dim for dim in curves[name].dims if dim != "time"]
        for index, label in entry_names(name, tuple(curves.sizes[dim] for dim in dims)).items():
            place = dict(zip(dims, index, strict=True))
            for ending in ("", "_stderr"):
                curves = curves.assign({f"{label}{ending}": curves[f"{name}{ending}"].isel(place)})
    return dataclasses.replace(side, curves=curves)


def shown_entries(name: str, sides: tuple[Side, ...], most: int) -> tuple[list[str], int]:
    """At most `most` entries of an array observable that some side has, and how many there are in all.

    Where there are more, those are left out that change least over time.
    """
    found: dict[str, float] = {}
    for side in sides:
        for curve in side.curves.data_vars:
            label = str(curve)
            if label.startswith(f"{name}[") and not label.endswith("_stderr"):
                values = side.curves[label].to_numpy()
                found[label] = max(found.get(label, 0.0), float(values.max() - values.min()))
    kept = set(sorted(found, key=lambda label: -found[label])[:most])
    return [label for label in found if label in kept], len(found)
