"""Files that are either whole or absent: each is written beside its place, then moved there in one step."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmft.checks import ParameterError, RunError, check_path

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

#: Picture formats, by the ending of the file's name.
FIGURE_FORMATS = ("png", "pdf")

#: Files being written and folders made for them; held while they are moved to their places.
_unfinished: dict[Path, None] = {}
_moving = threading.Lock()


@contextlib.contextmanager
def all_finished(paths: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    """Yield a temporary path beside each of `paths`; move all to their places if the block succeeds, else remove them.

    What is moved is on the disk, so that a name never stands for less than the whole.
    """
    parts = {name: path.with_name(f".{path.name}.{secrets.token_hex(4)}.part") for name, path in paths.items()}
    _unfinished.update(dict.fromkeys(parts.values()))
    try:
        yield parts
        for part in parts.values():
            with open(part, "rb") as file:
                os.fsync(file.fileno())
        with _moving:
            for name, part in parts.items():
                os.replace(part, paths[name])
    finally:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink()
            _unfinished.pop(part, None)


@contextlib.contextmanager
def finished(path: Path) -> Iterator[Path]:
    """`all_finished` of a single file."""
    with all_finished({"": path}) as parts:
        yield parts[""]


def abandon() -> None:
    """Remove what is being written, and empty folders made for it; what is being moved arrives.

    For a process that is about to end: nothing can be moved any more afterwards.
    """
    _moving.acquire()
    for path in sorted(_unfinished, key=lambda path: -len(path.parts)):  # what is inside first
        with contextlib.suppress(OSError):
            path.rmdir() if path.is_dir() else path.unlink()


@contextlib.contextmanager
def output_folder(path: str | os.PathLike[str], argument: str = "out") -> Iterator[Path]:
    """Make the folder `path` and check that it can be written, before any work; remove it if the work leaves it empty.

    Raises:
        ParameterError: the folder cannot be made or written.
    """
    folder = check_path(argument, path)
    made = [place for place in (folder, *folder.parents) if not place.exists()]  # innermost first
    _unfinished.update(dict.fromkeys(made))
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".{secrets.token_hex(4)}.part"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ParameterError(
                f"Argument `{argument}` must be a folder that can be written, but is {str(path)!r} "
                f"({error.strerror or error})."
            ) from None
        yield folder
    finally:
        for place in made:
            _unfinished.pop(place, None)
            with contextlib.suppress(OSError):
                place.rmdir()


def write_results(folder: Path, writers: Mapping[str, Callable[[Path], None]]) -> list[Path]:
    """Write files, by name, into `folder`: all of them or none; where that fails, into a new temporary folder.

    Raises:
        RunError: the results are not in `folder`; says why, and where they are.
    """
    try:
        return _write_all(folder, writers)
    except OSError as error:
        reason = " ".join(str(error.strerror or error).split())
        try:
            with output_folder(Path(tempfile.gettempdir()) / f"dmft-{secrets.token_hex(4)}") as place:
                _write_all(place, writers)
        except (OSError, ParameterError):
            raise RunError(f"The results could not be written to {str(folder)!r} ({reason}).") from None
        raise RunError(
            f"The results could not be written to {str(folder)!r} ({reason}); they are in {str(place)!r} instead."
        ) from None


def _write_all(folder: Path, writers: Mapping[str, Callable[[Path], None]]) -> list[Path]:
    paths = {name: folder / name for name in writers}
    with all_finished(paths) as parts:
        for name, write in writers.items():
            write(parts[name])
    return list(paths.values())


def write_dataset(path: Path, dataset: xarray.Dataset) -> None:
    """Write `dataset` to exactly `path` as NetCDF."""
    dataset.to_netcdf(path, engine="h5netcdf")


def load_dataset(path: Path) -> xarray.Dataset | str:
    """The dataset in `path`, or a sentence that says why there is none."""
    import xarray

    try:
        return xarray.load_dataset(path, engine="h5netcdf")
    except Exception as error:  # a damaged file fails in many ways
        return f"{str(path)!r} cannot be read ({' '.join(str(error).split()) or type(error).__name__})."


def number(value: Any, digits: int | None = None) -> float | None:
    """A float as JSON holds it, to so many digits; None for what is no finite number."""
    value = float(value)
    if not math.isfinite(value):
        return None
    return value if digits is None else float(f"{value:.{digits}g}")


def write_json(path: Path, content: Any) -> None:
    """Write `content` to exactly `path` as strict JSON (no NaN, no infinity)."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_figure(path: Path, figure: Figure, form: str) -> None:
    """Write `figure` to exactly `path` in the picture format `form` (one of FIGURE_FORMATS), in the house's style.

    The file carries no date: the same figure gives the same bytes.
    """
    from compare.figures.style import house_style

    with house_style():
        figure.savefig(path, format=form, metadata={"CreationDate": None} if form == "pdf" else None)


def write_picture(path: str | os.PathLike[str], figure: Figure) -> None:
    """Write a picture in the format that the ending of `path` says.

    Raises:
        ParameterError: the ending is none of FIGURE_FORMATS, or no file can be written there.
    """
    place = check_path("path", path)
    form = place.suffix.removeprefix(".").lower()
    if form not in FIGURE_FORMATS:
        endings = " or ".join(f".{known}" for known in FIGURE_FORMATS)
        raise ParameterError(f"Argument `path` must be a file name ending in {endings}, but is {str(path)!r}.")
    allowed = f"Argument `path` must be a file in a folder that can be written, but {str(path)!r}"
    if place.is_dir():
        raise ParameterError(f"{allowed} is a folder.")
    try:
        with finished(place) as part:
            write_figure(part, figure, form)
    except OSError as error:
        raise ParameterError(f"{allowed} is none ({error.strerror or error}).") from None
