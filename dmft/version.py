"""The version of the package, and that of the numbers it computes."""

from __future__ import annotations

import importlib.metadata
import time

__version__ = "0.1.0"

#: When the packages were read. A file that changed later is not the code that runs.
IMPORTED = time.time()

#: Raised by one, by hand, whenever the same question gets other numbers than before, be it in the last digits: stored
#: points and checkpoints of other numerics are not mixed with new ones. Reference numbers in the tests guard it.
NUMERICS = 7

#: Packages whose code decides the numbers too: the samples are scipy's, their products jaxlib's.
COMPUTING = ("jax", "jaxlib", "numpy", "scipy", "optax")


def numerics() -> dict[str, str]:
    """The versions of all that decides what a run computes, by name."""
    return {"numerics": str(NUMERICS), **{name: importlib.metadata.version(name) for name in COMPUTING}}
