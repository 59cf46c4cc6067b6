"""Dynamical mean-field theory of learning in a two-layer network: predict train and test curves."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dmft.checks import ConvergenceError, DivergenceError, MemoryLimitError, ParameterError, RunError
from dmft.models.model import Model
from dmft.version import __version__

if TYPE_CHECKING:
    from dmft import limits
    from dmft.derivatives import sensitivity
    from dmft.dry_run import estimate
    from dmft.losses.quadratic import OBSERVABLES
    from dmft.models.committee import Committee
    from dmft.solver import solve
    from dmft.twotime.prediction import ToleranceWarning
    from dmft.wide.solution import KERNELS

__all__ = [
    "KERNELS",
    "OBSERVABLES",
    "Committee",
    "ConvergenceError",
    "DivergenceError",
    "MemoryLimitError",
    "Model",
    "ParameterError",
    "RunError",
    "ToleranceWarning",
    "__version__",
    "estimate",
    "limits",
    "sensitivity",
    "solve",
]

#: Where each name is that is imported, and with it numpy or jax, only when it is asked for: `dmft --help` is instant.
_HOMES = {
    "KERNELS": "dmft.wide.solution",
    "OBSERVABLES": "dmft.losses.quadratic",
    "Committee": "dmft.models.committee",
    "ToleranceWarning": "dmft.twotime.prediction",
    "estimate": "dmft.dry_run",
    "sensitivity": "dmft.derivatives",
    "solve": "dmft.solver",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name == "limits":
        return import_module("dmft.limits")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'dmft' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, imported yet or not."""
    return sorted({*globals(), *__all__})
