"""What an executable depends on: its place in memory, and its name in the cache folder."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from dmft import version

if TYPE_CHECKING:
    from dmft.compiled.executables import Compilable

#: Packages whose functions may be kept in the folder: the name of an entry contains a hash of their sources.
OURS = ("dmft", "sim")
#: Packages whose functions may be compiled in; the name contains their versions.
LIBRARIES = ("jax", "jaxlib", "numpy", "scipy", "optax")
#: Settings of jax that do not change what is compiled.
_BESIDE = re.compile("cache|log|dump|traceback|pprint|timeout|jax_platforms")
#: Variables that change what is compiled.
_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")
#: Lines of /proc/cpuinfo that tell one type of processor from another.
_PROCESSOR = ("vendor_id", "cpu family", "model", "flags", "features", "cpu implementer", "cpu part", "cpu variant")


class Kind(NamedTuple):
    """All that an executable depends on within a process.

    Attributes:
        function: what is compiled.
        tree: how its arguments are nested.
        leaves: shape, type and devices of each array.
        static: what is compiled in, by name.
        options: of the compiler, by name.
        settings: jax's, by name, as they are in this thread.
    """

    function: Compilable
    tree: Any
    leaves: tuple[Any, ...]
    static: tuple[tuple[str, Any], ...]
    options: tuple[tuple[str, Any], ...]
    settings: tuple[tuple[str, str], ...]

    @classmethod
    def of(
        cls, function: Compilable, arguments: Sequence[Any], static: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Kind:
        """The kind of these arguments."""
        leaves, tree = jax.tree.flatten(tuple(arguments))
        described = tuple((leaf.shape, str(leaf.dtype), _devices(leaf)) for leaf in leaves)
        names = [name for name in sorted(jax.config.values) if not _BESIDE.search(name)]
        settings = tuple((name, repr(getattr(jax.config, name, None))) for name in names)
        return cls(function, tree, described, tuple(sorted(static.items())), tuple(sorted(options.items())), settings)

    def name(self) -> str | None:
        """The name of the entry, the same in every process; None if the code that runs is not all known.

        It is not known if a function of the user's is compiled in, or if a file was changed since it was imported.
        """
        function = self.function.__wrapped__
        package = function.__module__.split(".")[0]
        sources = [_sources(name) for name in {"dmft", package}] if package in OURS else [None]
        if None in sources or "<locals>" in function.__qualname__:
            return None
        try:
            static = [(name, _code(value)) for name, value in self.static]
        except (_UnknownError, RecursionError):
            return None
        what = function.__module__, function.__qualname__, self.function.donated, str(self.tree), self.leaves
        whole = what, static, self.options, self.settings, sorted(map(str, sources)), _machine()
        return f"{function.__name__}-{hashlib.sha256(repr(whole).encode()).hexdigest()[:40]}"


def _devices(leaf: Any) -> str | None:
    """How an array is spread over devices; None if it is all on the device where arrays are put."""
    sharding = getattr(leaf, "sharding", None)
    default = getattr(jax.config, "jax_default_device")  # noqa: B009  (made at run time)
    usual = default if isinstance(default, jax.Device) else jax.devices(default)[0]
    return None if sharding is None or sharding.device_set == {usual} else repr(sharding)


@functools.cache
def _machine() -> tuple[Any, ...]:
    """Versions, processor and device; code made for one machine may fail on another."""
    device = jax.devices()[0]
    versions = [(name, importlib.metadata.version(name)) for name in LIBRARIES]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    backend = device.client.platform, device.client.platform_version, device.device_kind, jax.device_count()
    variables = [os.environ.get(name) for name in _VARIABLES]
    return sys.version_info[:2], versions, platform.machine(), _processor(), cores, backend, variables


def _processor() -> Any:
    """The type of processor; where the system does not tell, the name of the machine."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return platform.platform(), platform.processor(), platform.node()
    return [line for line in first.splitlines() if line.lower().startswith(_PROCESSOR)]


def _sources(package: str) -> str | None:
    """Hash of the files of a package; None if one was changed since they were imported, so that older code may run."""
    files = sorted(Path(str(sys.modules[package].__file__)).parent.rglob("*.py"))
    try:
        changed = max(max(about.st_mtime, about.st_ctime) for about in map(os.stat, files))
        return _content(tuple(files)) if changed < version.IMPORTED else None
    except (OSError, ValueError):
        return None


@functools.cache
def _content(files: tuple[Path, ...]) -> str:
    content = hashlib.sha256()
    for path in files:
        content.update(hashlib.sha256(path.read_bytes()).digest())
    return content.hexdigest()


class _UnknownError(Exception):
    """The code of a value is not known from the sources."""


def _code(value: Any) -> Any:
    """Everything that a compiled-in value is made of, the same in every process."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.dtype):
        return type(value).__name__, repr(value)
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = np.asarray(value)
        return "array", array.shape, str(array.dtype), hashlib.sha256(array.tobytes()).hexdigest()
    if isinstance(value, functools.partial):
        return "partial", _code(value.func), _code(value.args), _code(tuple(value.keywords.items()))
    if isinstance(value, types.FunctionType):
        return _function(value)
    if isinstance(value, tuple):
        return _path(type(value)), *_parts(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _path(type(value)), *(_code(getattr(value, field.name)) for field in dataclasses.fields(value))
    return _path(value)


def _parts(value: tuple[Any, ...]) -> Any:
    """What is in a tuple; if a function of the user's is, what the tuple itself says that they compute."""
    try:
        return [_code(part) for part in value]
    except _UnknownError:
        computed = getattr(value, "computed", None)
        if computed is None:
            raise
    try:
        return ["computed", computed()]
    except Exception:  # the functions cannot be traced after all
        raise _UnknownError from None


def computed(function: Callable[..., Any], *arguments: Any) -> str:
    """Hash of the operations of `function` on arguments of these shapes and types, and of all numbers in it."""
    return hashlib.sha256(jax.jit(function).lower(*arguments).as_text().encode()).hexdigest()


def _function(function: types.FunctionType) -> Any:
    """A function of a known package: where it stands, and what it has from the functions around it."""
    if not _known(function.__module__):
        raise _UnknownError
    code = function.__code__
    constants = [constant for constant in code.co_consts if not isinstance(constant, types.CodeType)]
    place = function.__module__, function.__qualname__, code.co_firstlineno, code.co_code, code.co_names, constants
    try:
        cells = [_code(cell.cell_contents) for cell in function.__closure__ or ()]
    except ValueError:  # a cell that is still empty
        raise _UnknownError from None
    return place, cells, _code(function.__defaults__), _code(tuple((function.__kwdefaults__ or {}).items()))


def _path(value: Any) -> tuple[str, str]:
    """Where a known package has this class or function."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if isinstance(name, str) and _known(module):
        found: Any = sys.modules.get(str(module))
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is value:
            return str(module), name
    raise _UnknownError


def _known(module: Any) -> bool:
    return isinstance(module, str) and module.split(".")[0] in (*OURS, *LIBRARIES, "builtins")
