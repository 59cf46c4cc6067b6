"""What this process has compiled: each shape once, whichever thread asks first, and not without end.

An executable holds memory maps, a large one about a thousand, and Linux ends a process that needs more than
`vm.max_map_count` of them, 65530 by default, with a segmentation fault.  A long sweep or notebook gets there after some
sixty shapes.  So whoever starts a piece of work first calls `forget_if_many`.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import jax

#: Share of the maps that a process may have at which what it has compiled is forgotten.
SHARE = 0.5
#: Where Linux says how many a process may have, and has; elsewhere nothing is known to end a process.
LIMIT, MAPS = Path("/proc/sys/vm/max_map_count"), Path("/proc/self/maps")

_executables: dict[Any, Any] = {}
_locks: defaultdict[Any, threading.Lock] = defaultdict(threading.Lock)


def executable(function: Any, arguments: Any, static: dict[str, Any]) -> Any:
    """The compiled `function` for arguments of these shapes: compiled once, whichever thread asks first."""
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(arguments))
    key = (function, shapes, tuple(static.values()), jax.default_backend())
    with _locks[key]:
        compiled = _executables.get(key)
        if compiled is None:
            compiled = _executables[key] = function.lower(*arguments, **static).compile()
    return compiled


def forget_if_many() -> None:
    """Drop all that jax has compiled in this process if it holds too many memory maps; what is needed again is
    compiled again.
    """
    try:
        allowed = int(LIMIT.read_text())
        with MAPS.open("rb") as lines:
            used = sum(1 for _ in lines)
    except (OSError, ValueError):
        return
    if used > SHARE * allowed:
        _executables.clear()
        jax.clear_caches()
