"""Simulation of the real network: gradient descent on finite data, to lay under the theory's curves."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.presets import preset, run_preset
    from sim.simulation import simulate
    from sim.training.optimizers import Optimizer
    from sim.variants.experiment import Experiment

__all__ = ["Experiment", "Optimizer", "preset", "run_preset", "simulate"]

#: Where each name is; jax is imported only when one is asked for.
_HOMES = {
    "Experiment": "sim.variants.experiment",
    "Optimizer": "sim.training.optimizers",
    "preset": "sim.presets",
    "run_preset": "sim.presets",
    "simulate": "sim.simulation",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sim' has no attribute {name!r}")
