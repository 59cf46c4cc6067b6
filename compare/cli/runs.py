"""Theory and simulation with the settings of a command; what is kept of a run that does not get to its end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dmft
from compare.cli.answer import Answer
from compare.cli.settings import Settings
from compare.files import write_dataset, write_results
from compare.parts import Parts

if TYPE_CHECKING:
    import xarray


#: What determines a theory, and a simulation.
THEORY = ("model", "t_max", "step", "rtol", "atol", "precision", "seed", "kernels", "max_seconds", "spread")
SIMULATION = ("model", "t_max", "seeds", "step", "optimizer", "form", "precision", "seed", "rtol")


def solve_theory(settings: Settings, folder: Path) -> xarray.Dataset:
    """The theory; of a run that fails on its way, the curves up to there are in `folder`."""
    with _curves_kept(folder / "theory-partial.nc"):
        return dmft.solve(**arguments(settings, THEORY), **settings.rule, progress=True)


def simulate_network(settings: Settings, folder: Path, **training: Any) -> xarray.Dataset:
    """The simulation, likewise; `training`: further arguments of `sim.simulate`."""
    import sim
    from sim.request import flow_rtol

    asked = arguments(settings, SIMULATION) | {"rtol": flow_rtol(settings.rtol, settings.precision)}
    with _curves_kept(folder / "simulation-partial.nc"):
        return sim.simulate(**asked, **training, progress=True)


def kept_theory(settings: Settings, folder: Path, parts: Parts) -> xarray.Dataset:
    """`solve_theory`, or what is kept of a command that was cut off."""
    return parts.get("theory", arguments(settings, THEORY) | settings.rule, partial(solve_theory, settings, folder))


def kept_simulation(settings: Settings, folder: Path, parts: Parts) -> xarray.Dataset:
    """`simulate_network`, likewise."""
    return parts.get("simulation", arguments(settings, SIMULATION), partial(simulate_network, settings, folder))


def training_arguments(answer: Answer, settings: Settings, folder: Path) -> dict[str, Any]:
    """How `dmft simulate` trains, and where it saves the run as it goes."""
    names = ("stop_below", *(["checkpoint_every"] if settings.checkpoint_every is not None else []))
    return arguments(settings, names) | {"checkpoint": _checkpoint(answer, settings, folder)}


def arguments(settings: Settings, names: tuple[str, ...]) -> dict[str, Any]:
    """The settings of these names."""
    return {name: getattr(settings, name) for name in names}


def _checkpoint(answer: Answer, settings: Settings, folder: Path) -> Path | None:
    """Where the run is saved as it goes; None if it is not.

    Raises:
        ParameterError: there is a checkpoint already, and nobody said to go on from it.
    """
    if settings.checkpoint_every is None and not settings.resume:
        return None
    path = folder / "simulation.checkpoint.npz"
    if path.exists() and not settings.resume:
        raise dmft.ParameterError(
            f"Argument `resume` must be given to go on from the checkpoint {str(path)!r}, but is not; remove the file "
            "to start from the beginning."
        )
    if settings.resume and not path.exists():
        answer.say(f"no checkpoint in {folder}: starting from the beginning")
    return path


@contextlib.contextmanager
def _curves_kept(path: Path) -> Iterator[None]:
    """If the run in this block fails on its way, write the curves up to there to `path`, and say so."""
    try:
        yield
    except dmft.RunError as error:
        if error.curves is None:
            raise
        try:
            write_results(path.parent, {path.name: partial(write_dataset, dataset=error.curves)})
            where = f"The curves so far are in {path}."
        except dmft.RunError as elsewhere:
            where = str(elsewhere)
        raise type(error)(f"{error} {where}") from None
