"""Finished parts of a run that is not finished: one file each, in a folder that goes when the whole run is there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmft.version import numerics

if TYPE_CHECKING:
    import xarray

#: Inside the folder of the results.
FOLDER = "unfinished"


class Parts:
    """The parts of one run by name and by all that determines their numbers.

    A part of other settings or of another version is never taken for one of this run.
    """

    def __init__(self, folder: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self.folder, self.say = folder / FOLDER, say
        self.there: list[str] = []

    def get(self, name: str, about: Mapping[str, Any], compute: Callable[[], xarray.Dataset]) -> xarray.Dataset:
        """The part `name`, which `about` determines: kept from a run that was cut off, or computed and kept.

        A disk that takes nothing more costs the keeping, not the run.
        """
        import xarray

        from compare.sweep.point_file import encode
        from compare.sweep.store import Store

        text = json.dumps({"name": name, **about, "numerics": numerics()}, sort_keys=True, default=str)
        stem = f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        found = None
        if self.folder.is_dir():
            with contextlib.suppress(OSError):
                found = Store(self.folder).read(stem)
        if isinstance(found, xarray.Dataset):
            self.say(f"{name}: finished before, kept in {self.folder}")
        else:
            found = compute()
            with contextlib.suppress(OSError):
                Store(self.folder).write_curves(stem, encode(found))
        self.there.append(name)
        return found

    def kept(self) -> str:
        """What of it is kept, in words; empty if nothing is."""
        names = ", ".join(self.there)
        return f"{names} of it {'is' if len(self.there) == 1 else 'are'} kept in {self.folder}" if names else ""

    def remove(self) -> None:
        """All of it: the results are in their places."""
        shutil.rmtree(self.folder, ignore_errors=True)
