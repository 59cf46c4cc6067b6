"""A folder of finished points: one file each, whole or absent, found again by the name that its settings give it."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from compare.files import finished
from compare.points import Failure, Point, digest

if TYPE_CHECKING:
    import xarray


class Store:
    """Points by name: NAME.nc holds the curves, NAME.failed.json why there are none.

    Files appear in one step, so that neither a kill nor a second process leaves half of one. A file that cannot be
    read, or whose numbers do not give its digest, is moved to NAME.nc.damaged and counts as missing.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, point: Point) -> Path:
        """Where the curves of `point` are or will be."""
        return self.folder / f"{point.name}.nc"

    def write(self, point: Point, outcome: bytes | Failure) -> None:
        """Keep what the computation of `point` gave."""
        failed = self._failed(point)
        if isinstance(outcome, Failure):
            with finished(failed) as part:
                content = {"message": outcome.message, "point": json.loads(point.to_json())}
                _write_durably(part, (json.dumps(content, indent=2) + "\n").encode())
            return
        with finished(self.path(point)) as part:
            _write_durably(part, outcome)
        failed.unlink(missing_ok=True)

    def has(self, point: Point) -> bool:
        """Whether the curves of `point` are there (unread)."""
        return self.path(point).exists()

    def read(self, point: Point) -> xarray.Dataset | Failure | None:
        """The curves of `point`, why there are none, or None if it was not computed yet."""
        import xarray

        path = self.path(point)
        if path.exists():
            try:
                curves = xarray.load_dataset(path, engine="h5netcdf")
                if curves.attrs.pop("digest", None) == digest(curves):
                    return curves
            except (OSError, ValueError, KeyError, RuntimeError, TypeError, EOFError):
                if not path.exists():  # set aside meanwhile, by another process
                    return None
            with contextlib.suppress(FileNotFoundError):
                os.replace(path, path.with_name(path.name + ".damaged"))
        try:
            return Failure(json.loads(self._failed(point).read_text(encoding="utf-8"))["message"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return None  # damaged: compute it again

    def _failed(self, point: Point) -> Path:
        return self.folder / f"{point.name}.failed.json"


def _write_durably(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it: a name must never stand for less than the whole."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
