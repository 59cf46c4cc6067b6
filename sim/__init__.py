"""Simulation of the real network: gradient descent on finite data, to lay under the theory's curves."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.simulation import simulate

__all__ = ["simulate"]


def __getattr__(name: str) -> Any:
    """Import the simulation (and with it jax) only when it is asked for."""
    if name == "simulate":
        return import_module("sim.simulation").simulate
    raise AttributeError(f"module 'sim' has no attribute {name!r}")
