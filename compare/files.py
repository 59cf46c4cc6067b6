"""Files that are either whole or absent: each is written beside its place, then moved there in one step."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmft import ParameterError

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

#: Picture formats, by the ending of the file's name.
FIGURE_FORMATS = ("png", "pdf")


@contextlib.contextmanager
def finished(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; move it to `path` if the block succeeds, else remove it.

    Several of these entered together (contextlib.ExitStack) appear together: none is moved before the last is written.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def output_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Make the folder `path` and check that it can be written, before any work; remove it if the work leaves it empty.

    Raises:
        ParameterError: the folder cannot be made or written.
    """
    folder = Path(path)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{secrets.token_hex(4)}.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        _remove_empty(made)
        raise ParameterError(
            f"Argument `out` must be a folder that can be written, but is {str(path)!r} ({error.strerror or error})."
        ) from None
    try:
        yield folder
    finally:
        _remove_empty(made)


def _remove_empty(folders: list[Path]) -> None:
    """Remove those of `folders` (innermost first) that are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def write_dataset(path: Path, dataset: xarray.Dataset) -> None:
    """Write `dataset` to exactly `path` as NetCDF."""
    dataset.to_netcdf(path, engine="h5netcdf")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to exactly `path` as strict JSON (no NaN, no infinity)."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_figure(path: Path, figure: Figure, form: str) -> None:
    """Write `figure` to exactly `path` in the picture format `form` (one of FIGURE_FORMATS).

    The file carries no date: the same figure gives the same bytes.
    """
    figure.savefig(path, format=form, metadata={"CreationDate": None} if form == "pdf" else None)


def figure_format(path: str | os.PathLike[str]) -> str:
    """The picture format that the ending of `path` asks for.

    Raises:
        ParameterError: the ending is none of FIGURE_FORMATS.
    """
    form = Path(path).suffix.removeprefix(".").lower()
    if form not in FIGURE_FORMATS:
        endings = " or ".join(f".{known}" for known in FIGURE_FORMATS)
        raise ParameterError(f"Argument `path` must be a file name ending in {endings}, but is {str(path)!r}.")
    return form
