"""What is left of an interrupted command, and the command that goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compare.cli.process import this_command

if TYPE_CHECKING:
    from compare.parts import Parts
    from compare.sweep.request import Sweep


def nothing_kept() -> str:
    """Of a run that is done at once or not at all."""
    return f"nothing of this run is kept; it starts again with: {this_command()}"


def parts_kept(parts: Parts) -> str:
    """Of a run whose parts are kept until the whole is there."""
    kept = parts.kept()
    return f"{kept}; it goes on with: {this_command()}" if kept else nothing_kept()


def run_kept(checkpoint: Path | None) -> str:
    """Of a simulation, which may have been saved on its way."""
    if checkpoint is None:
        return f"{nothing_kept()} --checkpoint-every 60 (which saves it on its way)"
    if not checkpoint.exists():
        return f"nothing is saved yet in {checkpoint}; it starts again with: {this_command()}"
    return f"the run so far is kept in {checkpoint}; it goes on with: {this_command('--resume')}"


def not_served() -> str:
    """Of a page that is computed as it is looked at."""
    return f"the page is closed, and nothing of it is kept; it comes back with: {this_command()}"


def points_kept(sweep: Sweep, folder: Path) -> str:
    """Of a sweep, whose points are files."""
    from compare.sweep.phase import points_of

    names = {point.name for side in points_of(sweep).values() for point in side.values()}
    there = sum((folder / "points" / f"{name}.nc").exists() for name in names)
    return f"{there} of {len(names)} points are kept in {folder / 'points'}; it goes on with: {this_command()}"
