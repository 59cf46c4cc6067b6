"""`dmft compare --second-dim`: a simulation at a second D, drawn beside the first."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from compare.cli.runs import SIMULATION, THEORY, arguments, simulate_network, solve_theory
from compare.cli.settings import Settings
from compare.parts import Parts

if TYPE_CHECKING:
    import xarray

    from dmft.progress import Estimate

#: Times of both simulations, about even in ln t: observing them at more takes longer than training them.
TIMES, EARLIEST = 40, 1e-3  # from this part of t_max on


def second_settings(settings: Settings, dim: int) -> Settings:
    """The settings at the second D: runs in inverse proportion to D, at least two if there are several."""
    first = settings.model.dim
    assert first is not None
    runs = max(min(settings.seeds, 2), round(settings.seeds * first / dim))
    model = settings.model.replace(dim=dim)
    return dataclasses.replace(settings, model=model, seeds=runs, spread=False, kernels=False)


def second_estimates(settings: Settings, dim: int) -> list[Estimate]:
    """What the second D takes."""
    from compare.cli.estimate import simulation_estimate, theory_estimate

    there = second_settings(settings, dim)
    return [theory_estimate(there), simulation_estimate(there)]


def at_two_dims(
    settings: Settings, dim: int, theory: xarray.Dataset, folder: Path, parts: Parts
) -> tuple[xarray.Dataset, xarray.Dataset, xarray.Dataset]:
    """The simulation at the first D; theory and simulation at the second.

    Args:
        settings: those at the first D.
        dim: the second.
        theory: at the first.
        folder: where curves go of a run that fails.
        parts: what is kept of a command that was cut off.
    """
    from compare.figures.style import thin

    late, there = theory["time"].to_numpy(), second_settings(settings, dim)
    late = late[late >= EARLIEST * late[-1]]
    times = [0.0, *late[thin(late, TIMES)].tolist()]

    def simulation(name: str, one: Settings) -> xarray.Dataset:
        about = arguments(one, SIMULATION) | {"times": times}
        return parts.get(name, about, partial(simulate_network, one, folder, times=times))

    about = arguments(there, THEORY) | there.rule
    first = simulation("simulation", settings)
    second = parts.get(f"theory-{dim}", about, partial(solve_theory, there, folder))
    return first, second, simulation(f"simulation-{dim}", there)
