"""The axes of a sweep: a numeric field of the model and the values that it takes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from compare.fields import FIELDS
from dmft.checks import ParameterError

#: How an axis is written on the command line.
SYNTAX = "FIELD=VALUES, VALUES a list 0.5,1,2 or a range FROM:TO:NUMBER:log (or lin)"


@dataclasses.dataclass(frozen=True)
class Axis:
    """A field of the model and its values.

    Attributes:
        field: one of FIELDS.
        values: distinct, in the order given; whole numbers for dim and width.
    """

    field: str
    values: tuple[Any, ...]

    @classmethod
    def of(cls, name: str, field: object, values: Iterable[Any]) -> Axis:
        """An axis from a field's name and a sequence of values; errors speak of the argument `name`.

        Raises:
            ParameterError: no such field, no values, or a value given twice. Whether the model allows the values is
                checked when the models are built.
        """
        if not isinstance(field, str) or field not in FIELDS:
            raise ParameterError(
                f"Argument `{name}` must name one of the fields {', '.join(FIELDS)}, but is {field!r}."
            )
        try:
            numbers = [float(value) for value in values]
        except (TypeError, ValueError):
            raise ParameterError(
                f"Argument `{name}` must be a list of numbers for {field}, but is {values!r}."
            ) from None
        if not numbers:
            raise ParameterError(f"Argument `{name}` must give {field} at least one value, but is an empty list.")
        if len(set(numbers)) < len(numbers):
            raise ParameterError(f"Argument `{name}` must give {field} different values, but is {_short(numbers)}.")
        if FIELDS[field].kind is int:
            fractions = [number for number in numbers if number != round(number)]
            if fractions:
                raise ParameterError(f"Argument `{name}` must give {field} whole numbers, but has {fractions[0]:g}.")
            return cls(field, tuple(round(number) for number in numbers))
        return cls(field, tuple(numbers))

    @classmethod
    def parse(cls, name: str, text: object) -> Axis:
        """An axis as the command line has it: SYNTAX.

        Raises:
            ParameterError: the text is none of that, or a range is empty, reversed or of the wrong sign.
        """
        if not isinstance(text, str) or text.count("=") != 1:
            raise ParameterError(f"Argument `{name}` must be {SYNTAX}, but is {text!r}.")
        field, values = (part.strip() for part in text.split("="))
        field = field.replace("-", "_")
        if field not in FIELDS:
            return cls.of(name, field, [])
        try:
            numbers = _range(values.split(":")) if ":" in values else [float(value) for value in values.split(",")]
        except ValueError as error:
            reason = f"; {error}" if isinstance(error, _RangeError) else ""
            raise ParameterError(f"Argument `{name}` must be {SYNTAX}{reason}, but is {text!r}.") from None
        if FIELDS[field].kind is int and ":" in values:
            numbers = sorted({float(round(number)) for number in numbers})
        return cls.of(name, field, numbers)

    def models(self, base: Any) -> list[Any]:
        """`base` with each value in turn.

        Raises:
            ParameterError: a value is out of range; the message is the model's own.
        """
        return [base.replace(**{self.field: value}) for value in self.values]


class _RangeError(ValueError):
    """A range that has the right form, but makes no sense."""


def _range(parts: list[str]) -> list[float]:
    if len(parts) not in (3, 4) or (len(parts) == 4 and parts[3] not in ("log", "lin")):
        raise ValueError
    start, stop, count = float(parts[0]), float(parts[1]), int(parts[2])
    if not (math.isfinite(start) and math.isfinite(stop)) or count < 2 or stop <= start:
        raise _RangeError("a range needs FROM < TO and NUMBER >= 2")
    if len(parts) == 4 and parts[3] == "log":
        if start <= 0:
            raise _RangeError("a logarithmic range needs FROM > 0")
        ratio = math.log(stop / start)
        values = (start * math.exp(ratio * i / (count - 1)) for i in range(count))
    else:
        values = (start + (stop - start) * i / (count - 1) for i in range(count))
    return [float(f"{value:.12g}") for value in values]


def _short(numbers: list[float]) -> str:
    shown = ", ".join(f"{number:g}" for number in numbers[:8])
    return shown + (", ..." if len(numbers) > 8 else "")
