"""Simulation of the real network: gradient descent on finite data, to lay under the theory's curves."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.optimizers import Optimizer
    from sim.simulation import simulate

__all__ = ["Optimizer", "simulate"]

#: Where each name is; jax is imported only when one is asked for.
_HOMES = {"Optimizer": "sim.optimizers", "simulate": "sim.simulation"}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sim' has no attribute {name!r}")
