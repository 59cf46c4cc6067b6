"""Functions of one's own, known by what they do and not by their name.

A fingerprint is a hash of a function's code and of every value that the code can reach: constants, defaults, the
closure, arguments of a `functools.partial`, attributes of a bound object, and the globals that it names. Two functions
written alike have the same fingerprint, in every process of one version of Python; a function whose closure or
attributes have changed has another. Functions of installed packages are known by their name and the package's version.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import hashlib
import pickle
import sys
import sysconfig
import types
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented))
_SLOTS = (types.MemberDescriptorType, types.GetSetDescriptorType)
#: Packages whose functions are known by name like those of installed ones, wherever their files are.
OURS = ("dmft", "sim", "compare")
_PACKAGES = tuple(sysconfig.get_path(name) for name in ("purelib", "platlib"))


class UnknownCode(TypeError):
    """Something that a function holds cannot be compared, such as the state of a compiled extension; names it."""


def fingerprint(function: Any) -> str:
    """What a function does, as 64 hexadecimal digits.

    Raises:
        UnknownCode: it holds something whose state Python cannot see.
    """
    return _digest(function, (), {}).hex()


def content(value: Any) -> Hashable:
    """A number or a word as it is, all else as its fingerprint, or as the very object if that is unknown."""
    if type(value) in _PLAIN:
        return value
    try:
        return fingerprint(value)
    except UnknownCode:
        return type(value), id(value)


class ByContent:
    """A record (dataclass) that is equal to another when its fields are, functions compared by their fingerprints."""

    def _content(self) -> tuple[Hashable, ...]:
        return tuple(content(getattr(self, field.name)) for field in dataclasses.fields(self))  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._content() == other._content()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self._content())


class Known:
    """A function that is equal to another with the same fingerprint: fit to be a static argument of compiled code.

    The fingerprint is that at the time when the object is made; make one for every use.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.content = function, content(function)

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Known) and self.content == other.content

    def __hash__(self) -> int:
        return hash(self.content)


def describe(function: Callable[..., Any]) -> str:
    """Module and name of a function, as far as it has them."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None) or 'unknown'}.{name}"


def short_code(function: Any) -> str:
    """The start of the fingerprint, for files; "unknown" if there is none."""
    try:
        return fingerprint(function)[:16]
    except UnknownCode:
        return "unknown"


def schedule_code(factors: np.ndarray) -> str:
    """What tells the factors of one schedule from those of another: "constant", or digits of a hash.

    Factors that differ by rounding alone have the same code.
    """
    import numpy as np

    if np.all(factors == 1.0):
        return "constant"
    # in units in which no simple fraction lies halfway between two integers
    largest = float(np.abs(factors).max()) or 1.0
    whole = np.rint(factors / largest * (1e6 * np.pi / 3)).astype(np.int64)
    return _hash("schedule", f"{largest * np.pi / 3:.6g}".encode(), whole.tobytes()).hex()[:16]


def _digest(value: Any, open_: tuple[int, ...], known: dict[int, tuple[bytes, Any]]) -> bytes:
    """Hash of a value; `open_` are the objects around it, `known` those that are done, kept alive with their hashes."""
    if type(value) in _PLAIN:
        return _hash(type(value).__name__, repr(value).encode())
    if id(value) in open_:  # a function that calls itself
        return _hash("around", str(len(open_) - open_.index(id(value))).encode())
    if id(value) not in known:
        inner = (*open_, id(value))
        kind, *parts = _parts(value, lambda part: _digest(part, inner, known))
        known[id(value)] = _hash(kind, *parts), value
    return known[id(value)][0]


def _hash(kind: str, *parts: bytes) -> bytes:
    whole = hashlib.sha256(kind.encode())
    for part in parts:
        whole.update(len(part).to_bytes(8, "big") + part)
    return whole.digest()


def _parts(value: Any, digest: Callable[[Any], bytes]) -> Iterator[Any]:
    """The kind of a value in words, then the hashes of its parts."""
    if (name := _installed(value)) is not None:
        yield name
    elif isinstance(value, types.ModuleType):
        yield f"module {value.__name__}"
    elif isinstance(value, types.CodeType):
        yield from ("code", value.co_code, digest(value.co_consts), digest(value.co_names), digest(value.co_flags))
    elif isinstance(value, types.FunctionType):
        yield "function"
        cells = [_cell(cell) for cell in value.__closure__ or ()]
        own = {name: part for name, part in vars(value).items() if name != "__wrapped__"}
        reached = {} if _is_installed(value.__module__) else dict(_globals(value.__code__, value.__globals__))
        for part in (value.__code__, value.__defaults__, value.__kwdefaults__, cells, own, reached):
            yield digest(part)
    elif isinstance(value, type):
        yield from (f"class {value.__qualname__}", digest(value.__bases__), digest(dict(_members(value))))
    elif isinstance(value, functools.partial):
        yield from ("partial", *map(digest, (value.func, value.args, value.keywords)))
    elif isinstance(value, staticmethod | classmethod):
        yield from (type(value).__name__, digest(value.__func__))
    elif isinstance(value, property):
        yield from ("property", digest((value.fget, value.fset, value.fdel)))
    elif isinstance(value, tuple | list):
        yield from (_type_name(value), *map(digest, value))
    elif isinstance(value, dict):
        yield from (_type_name(value), *sorted(digest(key) + digest(part) for key, part in value.items()))
    elif isinstance(value, set | frozenset):
        yield from (_type_name(value), *sorted(map(digest, value)))
    elif (array := _array(value)) is not None:
        yield f"{array.dtype} {array.shape}"
        yield digest(array.tolist()) if array.dtype == object else array.tobytes()
    elif hasattr(value, "__wrapped__"):  # compiled by jax, or cached
        own = {name: part for name, part in getattr(value, "__dict__", {}).items() if not name.startswith("__")}
        yield from (_type_name(value), digest(value.__wrapped__), digest(own))
    else:
        yield from ("object", *map(digest, _reduced(value)))


def _members(owner: type) -> Iterator[tuple[str, Any]]:
    """What a class of one's own gives its instances."""
    for name, part in vars(owner).items():
        method = isinstance(part, types.FunctionType | staticmethod | classmethod)
        if method or not (name.startswith("__") or name == "_abc_impl" or isinstance(part, _SLOTS)):
            yield name, part


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return "empty"


def _globals(code: types.CodeType, names: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The globals that a function's code names, and the attributes it may take of modules of one's own."""
    for instruction in dis.get_instructions(code):
        name = instruction.argval
        if instruction.opname == "IMPORT_NAME" and not _is_installed(name):
            raise UnknownCode(f"an import of {name}")
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME") and name in names:
            yield name, names[name]
            if isinstance(names[name], types.ModuleType) and not _is_installed(names[name].__name__):
                members = vars(names[name])
                yield from ((f"{name}.{member}", members[member]) for member in code.co_names if member in members)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals(constant, names)


def _installed(value: Any) -> str | None:
    """Module, name and version of a class of an installed package or of what it offers by name; else None."""
    if isinstance(value, types.ModuleType):
        module, name = value.__name__, ""
    else:
        module = getattr(value, "__module__", None) or type(value).__module__
        name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
        if _type_name(value) == "numpy.ufunc":  # these do not say where they are from
            module, name = pickle.whichmodule(value, value.__name__), value.__name__  # type: ignore[attr-defined]
    if not isinstance(module, str) or not isinstance(name, str) or not _is_installed(module):
        return None
    found: Any = sys.modules.get(module)
    for part in name.split(".") if name else ():
        found = getattr(found, part, None)
    if found is not value and not isinstance(value, type):
        return None
    top = sys.modules.get(module.partition(".")[0])
    return f"installed {module}.{name} {getattr(top, '__version__', sys.version)}"


@functools.lru_cache(maxsize=1024)
def _is_installed(module: str | None) -> bool:
    """Whether a module is of Python itself or of an installed package, not one's own."""
    top = "" if module is None else module.partition(".")[0]
    found = sys.modules.get(top)
    places = [getattr(found, "__file__", None), *getattr(found, "__path__", ())]
    known = top in OURS or top in sys.stdlib_module_names
    return known or any(place and place.startswith(_PACKAGES) for place in places)


def _array(value: Any) -> np.ndarray | None:
    """The numbers of an array of numpy or jax, a random key's included; None of anything else."""
    np, jax = sys.modules.get("numpy"), sys.modules.get("jax")  # not imported for this alone
    if np is None:
        return None
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if jax is None or not isinstance(value, jax.Array):
        return None
    with jax.transfer_guard("allow"):
        if jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        return np.asarray(value)


def _reduced(value: Any) -> list[Any]:
    """Class and state of an object, as copying sees them."""
    try:
        reduced = value.__reduce_ex__(4)
    except Exception:
        raise UnknownCode(f"an object of type {_type_name(value)}") from None
    if isinstance(reduced, str):
        raise UnknownCode(f"an object of type {_type_name(value)}")
    return [list(part) if isinstance(part, Iterator) else part for part in reduced]
