"""Dynamical mean-field theory of learning in a two-layer network: predict train and test curves."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dmft.checks import ConvergenceError, DivergenceError, MemoryLimitError, ParameterError, RunError
from dmft.models.model import Model

if TYPE_CHECKING:
    from dmft import limits
    from dmft.models.committee import Committee
    from dmft.solver import solve

from dmft.version import __version__ as __version__

__all__ = [
    "Committee",
    "ConvergenceError",
    "DivergenceError",
    "MemoryLimitError",
    "Model",
    "ParameterError",
    "RunError",
    "limits",
    "solve",
]


def __getattr__(name: str) -> Any:
    """Import the solver (and with it jax) only when it is asked for, so that `dmft --help` is instant."""
    if name == "solve":
        return import_module("dmft.solver").solve
    if name == "Committee":
        return import_module("dmft.models.committee").Committee
    if name == "limits":
        return import_module("dmft.limits")
    raise AttributeError(f"module 'dmft' has no attribute {name!r}")
