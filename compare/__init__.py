"""Theory laid over simulation or measurement: z-scores, pictures, measures of grokking, the command line."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compare.agreement import Agreement, overlay
    from compare.designing import Design, design
    from compare.fitting.fit import Fit, FitWarning, fit
    from compare.grokking import GrokkingDelay, Regime, grokking_delay, regime
    from compare.own_run import read_run
    from compare.report.page import write_report
    from compare.report.serve import Explorer, explore
    from compare.sizes import FiniteSize, finite_size
    from compare.sweep.phase import PointFailedWarning, phase_diagram

__all__ = [
    "Agreement",
    "Design",
    "Explorer",
    "FiniteSize",
    "Fit",
    "FitWarning",
    "GrokkingDelay",
    "PointFailedWarning",
    "Regime",
    "design",
    "explore",
    "finite_size",
    "fit",
    "grokking_delay",
    "overlay",
    "phase_diagram",
    "read_run",
    "regime",
    "write_report",
]

_HOMES = {
    "Agreement": "compare.agreement",
    "Design": "compare.designing",
    "Explorer": "compare.report.serve",
    "FiniteSize": "compare.sizes",
    "Fit": "compare.fitting.fit",
    "FitWarning": "compare.fitting.fit",
    "GrokkingDelay": "compare.grokking",
    "PointFailedWarning": "compare.sweep.phase",
    "Regime": "compare.grokking",
    "design": "compare.designing",
    "explore": "compare.report.serve",
    "finite_size": "compare.sizes",
    "fit": "compare.fitting.fit",
    "grokking_delay": "compare.grokking",
    "overlay": "compare.agreement",
    "phase_diagram": "compare.sweep.phase",
    "read_run": "compare.own_run",
    "regime": "compare.grokking",
    "write_report": "compare.report.page",
}


def __getattr__(name: str) -> Any:
    """Import a public name (and with it numpy, xarray, ...) only when it is asked for: `dmft --help` is instant."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'compare' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, imported yet or not."""
    return sorted({*globals(), *__all__})
