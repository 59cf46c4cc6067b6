"""One point of a sweep: what determines its curves, the name that follows from it, and its computation."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import json
import threading
import warnings
from pathlib import Path
from typing import Any

from compare.sweep.point_file import encode
from dmft import Model, RunError, solve
from dmft.twotime.prediction import ToleranceWarning

#: Python's parser must not run in two threads at once (3.11).
_one_at_a_time = threading.Lock()

#: Packages whose code decides the numbers.
COMPUTING = ("dmft", "sim")


def numerics() -> str:
    """The version of the numerics: a digest of the code that computes (comments aside) and of jax's version."""
    with _one_at_a_time:
        return _numerics()


@functools.cache
def _numerics() -> str:
    digest = hashlib.sha256(importlib.metadata.version("jax").encode())
    for package in COMPUTING:
        folder = Path(str(importlib.import_module(package).__file__)).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.name.encode())
            digest.update(_code(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:16]


def _code(source: str) -> str:
    """The syntax tree of `source` without docstrings: what a change of comments or layout leaves as it is."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = None
    return ast.dump(tree)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """The theory, or the simulation, of one model.

    Attributes:
        side: "theory" or "simulation".
        model: the parameters; the theory knows no width.
        settings: the other arguments of `dmft.solve` or `sim.simulate`: plain numbers and texts.
    """

    side: str
    model: Model
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        if self.side == "theory":
            object.__setattr__(self, "model", self.model.replace(width=None))

    def to_json(self) -> str:
        """Everything that determines the curves, always in the same words."""
        content = {
            "side": self.side,
            "model": dataclasses.asdict(self.model),
            "settings": self.settings,
            "numerics": numerics(),
        }
        return json.dumps(content, sort_keys=True)

    @property
    def name(self) -> str:
        """A digest of all that determines the curves: points of other settings never share a file."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:24]

    def describe(self) -> str:
        """The point in a few words, for messages."""
        fields = (f"{key} = {value:g}" for key, value in dataclasses.asdict(self.model).items() if value)
        return f"{self.side} at {', '.join(fields)}"


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a point has no curves: one line."""

    message: str


class OtherNumerics(RuntimeError):
    """This process would compute with other code, or another jax, than the one that asked."""


def compute(request: str) -> bytes | Failure:
    """The curves of the point that `request` (its `to_json`) describes, as the bytes of a NetCDF file.

    Raises:
        OtherNumerics: the point was asked for by another version of the numerics.
    """
    content = json.loads(request)
    if content["numerics"] != numerics():
        raise OtherNumerics(
            f"A worker computes with other versions of dmft, sim or jax ({numerics()}) than the process that "
            f"runs the sweep ({content['numerics']}); install the same on both."
        )
    model = Model(**content["model"])
    try:
        if content["side"] == "theory":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ToleranceWarning)  # the dataset says so too
                curves = solve(model, **content["settings"])
        else:
            from sim import simulate

            curves = simulate(model, **content["settings"])
        return encode(curves)
    except RunError as error:
        return Failure(_line(error))
    except Exception as error:  # an error nobody foresaw must not stop the other points
        return Failure(_line(f"unexpected {type(error).__name__}: {error}"))


def _line(error: object) -> str:
    return " ".join(str(error).split())
