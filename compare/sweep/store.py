"""A folder of finished points: one file each, whole or absent, found again by the name that its settings give it."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.files import finished, write_json
from compare.sweep.point_file import Damaged, decode
from compare.sweep.points import Failure, Point

if TYPE_CHECKING:
    import xarray


class Store:
    """Points by name: NAME.nc holds the curves, NAME.failed.json why there are none.

    Files appear in one step, so that neither a kill nor a second process leaves half of one. A file that cannot be
    read, or whose bytes do not give its digest, is moved to NAME.nc.damaged and counts as missing.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        """Where the curves of the point `name` are or will be."""
        return self.folder / f"{name}.nc"

    def write(self, point: Point, outcome: bytes | Failure) -> None:
        """Keep what the computation of `point` gave."""
        failed = self._failed(point.name)
        if isinstance(outcome, Failure):
            with finished(failed) as part:
                content = {"message": outcome.message, "point": json.loads(point.to_json())}
                write_json(part, content)
            return
        self.write_curves(point.name, outcome)
        failed.unlink(missing_ok=True)

    def write_curves(self, name: str, content: bytes) -> None:
        """Keep the file `content` (`encode`) of the point `name`."""
        with finished(self.path(name)) as part:
            part.write_bytes(content)

    def read(self, name: str) -> xarray.Dataset | Failure | None:
        """The curves of the point `name`, why there are none, or None if it was not computed yet."""
        path = self.path(name)
        try:
            return decode(path.read_bytes())
        except FileNotFoundError:
            pass
        except Damaged:
            with contextlib.suppress(FileNotFoundError):  # set aside meanwhile, by another process
                os.replace(path, path.with_name(path.name + ".damaged"))
        try:
            return Failure(json.loads(self._failed(name).read_text(encoding="utf-8"))["message"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return None  # damaged: compute it again

    def _failed(self, name: str) -> Path:
        return self.folder / f"{name}.failed.json"


def both_sides(store: Store, phase: xarray.Dataset) -> list[tuple[Any, Any, xarray.Dataset, xarray.Dataset]]:
    """The points of a phase diagram that have theory and simulation: x value, y value (None), and the two datasets."""
    import xarray

    if "point" not in phase or "simulation_point" not in phase:
        return []
    pairs = []
    axes = [phase[field].to_numpy() for field in phase["point"].dims]
    for at in np.ndindex(phase["point"].shape):
        sides = [store.read(str(phase[name].to_numpy()[at])) for name in ("point", "simulation_point")]
        if isinstance(sides[0], xarray.Dataset) and isinstance(sides[1], xarray.Dataset):
            x, y = (*(axis[i] for axis, i in zip(axes, at, strict=True)), None)[:2]
            pairs.append((x, y, *sides))
    return pairs
