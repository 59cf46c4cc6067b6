"""One point of a sweep: what determines its curves, the name that follows from it, and its computation."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from typing import Any

from compare.sweep.point_file import encode
from dmft import solve
from dmft.checks import MemoryLimitError, ParameterError, RunError
from dmft.models.committee import FUNCTIONS, Committee
from dmft.models.model import Model
from dmft.twotime.prediction import ToleranceWarning
from dmft.version import numerics

#: Model classes by name.
MODELS = {"Model": Model, "Committee": Committee}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """The theory, or the simulation, of one model.

    Attributes:
        side: "theory" or "simulation".
        model: the parameters; the theory of a Model knows no width.
        settings: the other arguments of `dmft.solve` or `sim.simulate`: plain numbers and texts.

    Raises:
        ParameterError: the model holds a function of one's own, which no name stands for.
    """

    side: str
    model: Model | Committee
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        if self.side == "theory" and isinstance(self.model, Model):
            object.__setattr__(self, "model", self.model.replace(width=None))
        for name in FUNCTIONS:
            if callable(getattr(self.model, name, None)):
                raise ParameterError(
                    f"Argument `{name}` must be a name in a sweep, whose points are kept by what they are called, but "
                    f"is {getattr(self.model, name)!r}."
                )

    def to_json(self) -> str:
        """Everything that determines the curves, always in the same words."""
        content = {
            "side": self.side,
            "class": type(self.model).__name__,
            "model": self.model.to_attributes(),
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
        numbers = ((key, value) for key, value in vars(self.model).items() if isinstance(value, (int, float)) and value)
        return f"{self.side} at {', '.join(f'{key} = {value:g}' for key, value in numbers)}"


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a point has no curves.

    Attributes:
        message: one line.
        lasting: whether it is a result, that of any machine: a divergence, a time point without solution.
    """

    message: str
    lasting: bool = True


class OtherNumerics(RunError):
    """This process would compute with other versions than the one that asked."""


def compute(request: str) -> bytes | Failure:
    """The curves of the point that `request` (its `to_json`) describes, as the bytes of a NetCDF file.

    Raises:
        OtherNumerics: the point was asked for by another version of the numerics.
    """
    content = json.loads(request)
    asked, mine = content["numerics"], numerics()
    if asked != mine:
        differing = (name for name in {**asked, **mine} if asked.get(name) != mine.get(name))
        changes = "; ".join(f"{name} {mine.get(name)} there, {asked.get(name)} here" for name in differing)
        raise OtherNumerics(
            f"A worker computes with other versions than the process that runs the sweep ({changes}); install the same."
        )
    model = MODELS[content["class"]].from_attributes(content["model"])
    try:
        if content["side"] == "theory":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ToleranceWarning)  # the dataset says so too
                curves = solve(model, **content["settings"], progress=False)
        else:
            from sim import simulate

            curves = simulate(model, **content["settings"], progress=False)
        return encode(curves)
    except MemoryLimitError as error:
        return Failure(_line(error), lasting=False)
    except RunError as error:
        return Failure(_line(error))
    except Exception as error:  # an error nobody foresaw must not stop the other points
        return Failure(_line(f"unexpected {type(error).__name__}: {error}"), lasting=False)


def _line(error: object) -> str:
    return " ".join(str(error).split())
