"""Functions of arrays that are compiled once for arguments of one kind, in this process and on this machine.

An executable is looked for in memory, then in the cache folder, and compiled only if it is in neither. The folder
is asked without tracing the function: a first call then takes tenths of a second instead of many seconds.

*Maps.* A large executable takes about a thousand memory maps, and Linux ends a process that needs more than
`vm.max_map_count` of them, 65530 by default, with a segmentation fault. So the executables that were not used for the
longest time are dropped where many maps are taken. Only ours are: what the user has compiled stays.

*Pickle.* jax writes an executable as machine code inside a pickle. Whoever can change machine code that will be run
needs no pickle to do harm, so another form would protect nobody. What protects is who may write, and whose entries are
read: see `dmft.compiled.folder`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import pickle
import threading
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from jax.experimental import serialize_executable

from dmft.compiled import folder
from dmft.compiled.kind import Kind

#: Executables kept in memory at most.
KEPT = 64
#: Share of the maps that a process may have above which executables are dropped.
SHARE = 0.5
#: Where Linux says how many maps a process may have, and has; elsewhere nothing is known to end a process.
LIMIT, MAPS = Path("/proc/sys/vm/max_map_count"), Path("/proc/self/maps")

#: Options of the compiler for work that is done once: it is compiled in half the time.
ONCE = MappingProxyType({"xla_backend_optimization_level": 0})

#: How many executables this process has "compiled", "loaded" from the folder and "reused" from memory.
COUNTS: Counter[str] = Counter()


class Compilable:
    """A function of arrays that is compiled when it is called; made by `compilable`."""

    def __init__(self, function: Callable[..., Any], donated: Sequence[str], options: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, function)
        names = list(inspect.signature(function).parameters)
        self.function, self.options = function, options
        self.donated = tuple(names.index(name) for name in donated)

    def __call__(self, *arguments: Any, **static: Any) -> Any:
        return executable(self, arguments, static)(*arguments)


def compilable(
    *, donated: Sequence[str] = (), options: Mapping[str, Any] = MappingProxyType({})
) -> Callable[[Callable[..., Any]], Compilable]:
    """A decorator: positional arguments are trees of arrays, keyword arguments are compiled in, and must be hashable.

    Args:
        donated: names of the arguments whose memory the result may take; their arrays are gone after a call.
        options: of the compiler, such as ONCE.
    """
    return lambda function: Compilable(function, donated, options)


class _Slot:
    """The place of one executable, and the lock of the thread that makes it."""

    def __init__(self) -> None:
        self.lock, self.executable = threading.Lock(), None


_slots: OrderedDict[Kind, _Slot] = OrderedDict()
_guard = threading.Lock()


def executable(
    function: Compilable, arguments: Sequence[Any], static: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> Any:
    """What runs `function` for arguments of these shapes and types: made once, whichever thread asks first.

    Args:
        function: what is run.
        arguments: its positional arguments; `jax.ShapeDtypeStruct` in place of arrays will do.
        static: its keyword arguments.
        options: of the compiler, over those of the function.

    Returns:
        A function of the positional arguments.
    """
    kind = Kind.of(function.function, function.donated, arguments, static, {**function.options, **(options or {})})
    with _guard:
        slot = _slots.setdefault(kind, _Slot())
        _slots.move_to_end(kind)
    with slot.lock:
        how, found = "reused", slot.executable
        if found is None:
            _make_room()
            how, found = "loaded", _load(kind)
        if found is None:
            how, found = "compiled", _compile(kind, arguments)
        slot.executable = found
    with _guard:
        COUNTS[how] += 1
    return found


def found_how(
    function: Compilable, arguments: Sequence[Any], static: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> str:
    """What `executable` of the same arguments would be: "reused", "loaded" or "compiled" (a key of COUNTS)."""
    kind = Kind.of(function.function, function.donated, arguments, static, {**function.options, **(options or {})})
    with _guard:
        slot = _slots.get(kind)
    if slot is not None and slot.executable is not None:
        return "reused"
    name = kind.name() if folder.place() else None
    return "loaded" if name is not None and folder.holds(name) else "compiled"


def forget() -> None:
    """Drop every executable of this process: what is needed again is loaded or compiled again."""
    with _guard:
        _slots.clear()


def _make_room() -> None:
    """Drop the executables that were not used for the longest time while there are too many of them, or of maps."""
    while True:
        with _guard:
            idle = [kind for kind, slot in _slots.items() if slot.executable is not None]
            if not idle or (len(idle) < KEPT and not _crowded()):
                return
            del _slots[idle[0]]


def _crowded() -> bool:
    """Whether this process has more than SHARE of the maps that it may have."""
    try:
        with MAPS.open("rb") as lines:
            return sum(1 for _ in lines) > SHARE * int(LIMIT.read_text())
    except (OSError, ValueError):
        return False


def _compile(kind: Kind, arguments: Sequence[Any]) -> Any:
    """Compile, and keep the executable in the folder.

    jax keeps what it has compiled as long as the function that it was made of. This one ends here. An executable that
    jax has from a folder of its own, if the user gave it one, lacks functions when it is written down once more.
    """
    function, static = kind.function, dict(kind.static)

    def run(*arrays: Any) -> Any:
        return function(*arrays, **static)

    run.__name__ = function.__name__
    lowered = jax.jit(run, donate_argnums=kind.donated).lower(*arguments)
    with _jax_events() as events:
        compiled = lowered.compile(compiler_options=dict(kind.options) or None)
    name = kind.name() if folder.place() else None
    if name is not None and "/jax/compilation_cache/cache_hits" not in events:
        try:
            devices = {device for leaf in jax.tree.leaves(compiled.output_shardings) for device in leaf.device_set}
            platform, used = min(device.platform for device in devices), sorted(device.id for device in devices)
            written, _, out = serialize_executable.serialize(compiled)
            content = _dumped((platform, used, written, out), kind.tree)
        except Exception:  # not every platform can write down what it compiles: the next process compiles again
            return compiled
        folder.write(name, zlib.compress(content, 1))
    return compiled


@contextlib.contextmanager
def _jax_events() -> Iterator[list[str]]:
    """What jax reports in this thread."""
    events, thread = [], threading.get_ident()

    def note(event: str, **_: Any) -> None:
        if threading.get_ident() == thread:
            events.append(event)

    jax.monitoring.register_event_listener(note)
    try:
        yield events
    finally:
        if hasattr(jax.monitoring, "unregister_event_listener"):  # jax >= 0.7
            jax.monitoring.unregister_event_listener(note)


@functools.cache
def _prepare() -> None:
    """Have jax find LAPACK, which it does when a function that calls it is lowered.

    An executable that was never lowered in this process would call the null pointer (jax-ml/jax#28908).
    """
    jax.jit(jax.lax.linalg.svd).lower(jax.ShapeDtypeStruct((1, 1), np.float32))


def _load(kind: Kind) -> Any:
    """The executable as it is in the folder, or None."""
    name = kind.name() if folder.place() else None
    content = None if name is None else folder.read(name)
    if content is None:
        return None
    _prepare()
    try:
        platform, used, written, out = _loaded(zlib.decompress(content), kind.tree)
        tree = jax.tree.structure((jax.tree.unflatten(kind.tree, range(len(kind.leaves))), {}))
        devices = {device.id: device for device in jax.devices(platform)}
        where = {"execution_devices": [devices[identity] for identity in used]} if len(devices) > 1 else {}
        return serialize_executable.deserialize_and_load(written, tree, out, backend=platform, **where)
    except Exception:  # whatever is wrong with it, compiling it again is right
        return None


def _dumped(content: Any, tree: Any) -> bytes:
    """A pickle, in which what the nodes of the arguments' tree hold is named by its place there.

    The result's tree may hold the same, such as functions, which cannot be written down.
    """
    places = {id(value): place for place, value in enumerate(_held(tree))}

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> int | None:
            return places.get(id(obj))

    file = io.BytesIO()
    Pickler(file).dump(content)
    return file.getvalue()


def _loaded(content: bytes, tree: Any) -> Any:
    """The content of such a pickle."""
    values = _held(tree)

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, pid: int) -> Any:
            return values[pid]

    return Unpickler(io.BytesIO(content)).load()


def _held(tree: Any) -> list[Any]:
    """What the nodes of a tree hold beside arrays, piece by piece."""
    _, held = tree.node_data() or (None, None)
    own = list(held) if isinstance(held, tuple) else []
    return own + [value for child in tree.children() for value in _held(child)]
