"""What an executable depends on: its place in memory, and its name in the cache folder."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dmft import version
from dmft.models.fingerprint import OURS, UnknownCode, fingerprint

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
        donated: positions of the arguments whose memory the result may take.
        tree: how the arguments are nested.
        leaves: shape, type and devices of each array.
        static: what is compiled in, by name.
        options: of the compiler, by name.
        settings: jax's, by name, as they are in this thread.
    """

    function: Callable[..., Any]
    donated: tuple[int, ...]
    tree: Any
    leaves: tuple[Any, ...]
    static: tuple[tuple[str, Any], ...]
    options: tuple[tuple[str, Any], ...]
    settings: tuple[tuple[str, str], ...]

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        donated: tuple[int, ...],
        arguments: Sequence[Any],
        static: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> Kind:
        """The kind of these arguments."""
        leaves, tree = jax.tree.flatten(tuple(arguments))
        names = [name for name in sorted(jax.config.values) if not _BESIDE.search(name)]
        settings = tuple((name, repr(getattr(jax.config, name, None))) for name in names)
        inside, wanted = (tuple(sorted(given.items())) for given in (static, options))
        return cls(function, donated, tree, tuple(map(_leaf, leaves)), inside, wanted, settings)

    def name(self) -> str | None:
        """The name of the entry, the same in every process; None if not all of the code is known.

        It is not if a file was changed since it was imported, or if a value that is compiled in has no fingerprint.
        """
        function = self.function
        package = function.__module__.split(".")[0]
        sources = [_sources(name) for name in sorted({"dmft", package})] if package in OURS else [None]
        if None in sources or "<locals>" in function.__qualname__:
            return None
        try:
            inside = fingerprint(self.static), fingerprint(_nodes(self.tree))
        except (UnknownCode, RecursionError):
            return None
        where = function.__module__, function.__qualname__, self.donated
        whole = where, inside, self.leaves, self.options, self.settings, sources, _machine()
        return f"{function.__name__}-{hashlib.sha256(repr(whole).encode()).hexdigest()[:40]}"


def _leaf(leaf: Any) -> tuple[Any, ...]:
    """Shape and type of an array or a number, and devices of an array that is not where arrays are put."""
    of_type = str(getattr(leaf, "dtype", type(leaf))), getattr(leaf, "weak_type", False)
    sharding = getattr(leaf, "sharding", None)
    if sharding is not None:
        default = getattr(jax.config, "jax_default_device")  # noqa: B009  (made at run time)
        usual = default if isinstance(default, jax.Device) else jax.devices(default)[0]
        sharding = None if sharding.device_set == {usual} else repr(sharding)
    return np.shape(leaf), *of_type, sharding


def _nodes(tree: Any) -> Any:
    """How a tree is nested, with what its nodes hold beside arrays."""
    return tree.node_data(), [_nodes(child) for child in tree.children()]


@functools.cache
def _machine() -> tuple[Any, ...]:
    """Versions, processor and device: code made for one machine may fail on another."""
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    backend = device.client.platform, device.client.platform_version, device.device_kind, jax.device_count()
    variables = [os.environ.get(name) for name in _VARIABLES]
    return sys.version_info[:2], version.numerics(), platform.machine(), _processor(), cores, backend, variables


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
