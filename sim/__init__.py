"""Simulation of the real network: gradient descent on finite data, to lay under the theory's curves."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim import interventions, measures, networks, tasks
    from sim.dry_run import estimate
    from sim.lab.landscape import norm_landscape
    from sim.lab.training import train
    from sim.presets import Preset, preset, run_preset
    from sim.request import Request
    from sim.simulation import simulate
    from sim.training.optimizers import Optimizer
    from sim.training.system import Equations, Presence, System
    from sim.variants.experiment import Experiment

__all__ = [
    "Equations",
    "Experiment",
    "Optimizer",
    "Presence",
    "Preset",
    "Request",
    "System",
    "estimate",
    "interventions",
    "measures",
    "networks",
    "norm_landscape",
    "preset",
    "run_preset",
    "simulate",
    "tasks",
    "train",
]

#: Where each name is; jax is imported only when one is asked for.
_HOMES = {
    "Equations": "sim.training.system",
    "Experiment": "sim.variants.experiment",
    "Optimizer": "sim.training.optimizers",
    "Presence": "sim.training.system",
    "Preset": "sim.presets",
    "Request": "sim.request",
    "System": "sim.training.system",
    "estimate": "sim.dry_run",
    "norm_landscape": "sim.lab.landscape",
    "preset": "sim.presets",
    "run_preset": "sim.presets",
    "simulate": "sim.simulation",
    "train": "sim.lab.training",
}

#: Modules whose functions are called by their place, as in `sim.tasks.modular`.
_MODULES = ("interventions", "measures", "networks", "tasks")


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name in _MODULES:
        return import_module(f"sim.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sim' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, imported yet or not."""
    return sorted({*globals(), *__all__})
