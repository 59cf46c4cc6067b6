"""Checkpoints: a run's state on disk, from which it goes on exactly as if it had never stopped.

One npz file (no pickles): a header in JSON with everything that determines the run, readable and as a hash, and the
arrays of a `Snapshot`. It is written beside its place and moved there, so that a kill at any time leaves it whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dmft.checks import ParameterError, check_path

#: Changes when files of older versions can no longer be continued.
FORMAT = 3


class Snapshot(NamedTuple):
    """Where a run stands between two compiled calls.

    Attributes:
        group: replicas trained side by side.
        finished: observables of the groups that are done, (S0, T, O).
        pieces: compiled calls done in the present group.
        kept: observables of the present group so far, (S, t, O).
        scale: initial scale of its train losses, (S,).
        leaves: the arrays of its state and of its optimiser's own state, in the order of the pytree.
    """

    group: int
    finished: np.ndarray
    pieces: int
    kept: np.ndarray
    scale: np.ndarray
    leaves: list[np.ndarray]


def checked_path(checkpoint: object) -> Path:
    """The path of a checkpoint, `~` expanded; ParameterError unless a file of that name can be written, or is there."""
    path = check_path("checkpoint", checkpoint)
    allowed = "be the path of a file in a folder that can be written"
    if path.is_dir():
        raise ParameterError(f"Argument `checkpoint` must {allowed}, but {str(path)!r} is a folder.")
    try:
        part = _part(path)
        part.touch()
        part.unlink()
    except OSError as error:
        raise ParameterError(f"Argument `checkpoint` must {allowed}, but is {str(path)!r}: {error.strerror}.") from None
    return path


def _part(path: Path) -> Path:
    """Where a checkpoint is written before it is moved to its place."""
    return path.with_name(f".{path.name}.part")


class Checkpoint:
    """The checkpoint of one run; without a path it neither reads nor writes."""

    def __init__(self, path: Path | None, every: float, run: Mapping[str, Any]) -> None:
        """`run`: everything that determines the run, flat and JSON-able; `every`: seconds between two writes."""
        self.path, self.every, self.run = path, every, json.loads(json.dumps(dict(run)))
        self.written = time.monotonic()

    def load(self) -> Snapshot | None:
        """The snapshot to go on from, or None if there is no file.

        Raises:
            ParameterError: the file is damaged or belongs to another run; it is left as it is.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as file:
                header = json.loads(file["header"].tobytes().decode())
                if header["hash"] != digest(header["run"]):
                    raise ValueError("the header does not fit its hash")
                if header["format"] != FORMAT:
                    raise ValueError("it is of another version of this package")
                leaves = [file[f"leaf_{i}"] for i in range(header["leaves"])]
                arrays = (file["finished"], header["pieces"], file["kept"], file["scale"])
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ParameterError(
                f"Argument `checkpoint` must be a checkpoint that can be read, but {str(self.path)!r} is damaged "
                f"({' '.join(str(error).split())}); it was left as it is. Remove it to start from the beginning."
            ) from None
        theirs, ours = header["run"], self.run
        differing = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
        if differing:
            changes = "; ".join(f"{name} = {theirs.get(name)} there, {ours.get(name)} here" for name in differing)
            raise ParameterError(
                f"Argument `checkpoint` must be of this very run, but {str(self.path)!r} is of another: {changes}."
            )
        return Snapshot(header["group"], *arrays, leaves)

    def save(self, snapshot: Callable[[], Snapshot], *, now: bool = False) -> None:
        """Write `snapshot()` if `every` seconds have passed since the last time, or `now`."""
        if self.path is None or not (now or time.monotonic() - self.written >= self.every):
            return
        group, finished, pieces, kept, scale, leaves = snapshot()
        header = {"format": FORMAT, "hash": digest(self.run), "run": self.run}
        header |= {"group": group, "pieces": pieces, "leaves": len(leaves)}
        arrays: dict[str, Any] = {f"leaf_{i}": leaf for i, leaf in enumerate(leaves)}
        arrays |= {"finished": finished, "kept": kept, "scale": scale}
        arrays["header"] = np.frombuffer(json.dumps(header, indent=1).encode(), np.uint8)
        part, self.written = _part(self.path), time.monotonic()
        try:
            with open(part, "wb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path)
        except OSError as error:  # a full disk must not take the run with it
            part.unlink(missing_ok=True)
            warnings.warn(
                f"The checkpoint {str(self.path)!r} could not be written ({error}); the run goes on.", stacklevel=2
            )

    def remove(self) -> None:
        """Remove the file: there is nothing to go on from."""
        if self.path is not None:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()


def digest(run: Mapping[str, Any]) -> str:
    """A hash of everything that determines a run."""
    return hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()
