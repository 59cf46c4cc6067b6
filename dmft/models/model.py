"""The one parameter object that drives theory and simulation alike, and its units (THEORY section 1).

Network f(x) = (alpha/N) sum_i phi(w_i.x) with phi(h) = h + (epsilon/2) h^2, inputs x ~ N(0, I/D), target
y = (1/2) sum_k s_k (beta_k.x)^2 + label noise of K orthogonal directions (usually one, of strength 1), |beta_k|^2 = D,
P = kappa D samples, trained by full-batch gradient descent. One explicit step of size `dt` in the time unit used here
is one gradient-descent step.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Set
from typing import Any

from dmft.checks import ParameterError, check_bool, check_integer, check_real, neighbour, plain, spelt_fields
from dmft.models.units import Units


@spelt_fields
@dataclasses.dataclass(frozen=True, kw_only=True)
class Model(Units):
    """A two-layer quadratic network on a quadratic single-index target.

    Attributes:
        alpha: output scale ("laziness"), > 0.
        epsilon: weight of the quadratic feature in phi(h) = h + (epsilon/2) h^2, >= 0.
        kappa: sample ratio P / D, > 0.
        dim: input dimension D >= 2, or None for infinite.
        width: number of hidden neurons N >= 1, or None for infinite.
        initial_overlap: planted overlap m0^2 >= 0 of the initial weights with the target direction;
            0 with `dim` set means the overlap (of order 1/D) of a random initialisation. Of several directions
            one number for each, or one for all.
        centered: train f - f(t=0) instead of f.
        label_noise: standard deviation >= 0 of the Gaussian noise on the training labels.
        weight_decay: rate lambda >= 0 of dw/dt = ... - lambda w.
        strengths: s_k > 0, one for each direction of the target; (1.0,) is the single-index target. A single
            direction may have another strength as well.

    Raises:
        ParameterError: a field is out of range; the message names it, its value and what is allowed.

    Examples:
        >>> Model(alpha=1.0, epsilon=0.5, kappa=5.5, dim=100).samples
        550
    """

    alpha: float
    epsilon: float
    kappa: float
    dim: int | None = None
    width: int | None = None
    initial_overlap: float | tuple[float, ...] = 0.0
    centered: bool = False
    label_noise: float = 0.0
    weight_decay: float = 0.0
    strengths: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("alpha", check_real("alpha", self.alpha, above=0.0))
        put("epsilon", check_real("epsilon", self.epsilon, at_least=0.0))
        put("kappa", check_real("kappa", self.kappa, above=0.0))
        if self.dim is not None:
            put("dim", check_integer("dim", self.dim, at_least=2))
        if self.width is not None:
            put("width", check_integer("width", self.width, at_least=1))
        put("strengths", _strengths(self.strengths))
        put("initial_overlap", _overlaps(self.initial_overlap, len(self.strengths)))
        put("centered", check_bool("centered", self.centered))
        put("label_noise", check_real("label_noise", self.label_noise, at_least=0.0))
        put("weight_decay", check_real("weight_decay", self.weight_decay, at_least=0.0))
        if self.dim is not None and self.dim < 2 * self.directions:
            raise ParameterError(
                f"Argument `dim` must be an integer >= {2 * self.directions}, twice the number of directions in "
                f"`strengths`, but is {self.dim}."
            )
        if self.dim is not None and self.samples < 1:
            raise ParameterError(
                f"Argument `kappa` must give at least one sample: P = round(kappa dim) = round({self.kappa:g} x "
                f"{self.dim}) = 0; kappa must be > {0.5 / self.dim:g}."
            )

    @property
    def directions(self) -> int:
        """K, the number of directions of the target."""
        return len(self.strengths)

    @property
    def initial_overlaps(self) -> tuple[float, ...]:
        """m0^2 of each direction, K numbers."""
        given = self.initial_overlap
        return given if isinstance(given, tuple) else (given,) * self.directions

    @property
    def alike(self) -> bool:
        """Whether all directions have the same strength and the same initial overlap."""
        return len(set(self.strengths)) == 1 and len(set(self.initial_overlaps)) == 1

    @property
    def planted(self) -> bool:
        """Whether no direction has the overlap of a random initialisation."""
        return all(overlap > 0 for overlap in self.initial_overlaps)

    def replace(self, **changes: Any) -> Model:
        """A copy with some fields changed; an unknown field is refused by name."""
        unknown = sorted(set(changes) - set(field_names()))
        if unknown:
            near = neighbour(unknown[0], field_names())
            says = f"did you mean `{near}`?" if near else f"allowed: {', '.join(field_names())}."
            raise ParameterError(f"Argument `{unknown[0]}` is no field of Model; {says}")
        return dataclasses.replace(self, **changes)

    def to_attributes(self) -> dict[str, Any]:
        """The fields as NetCDF attributes (infinite sizes as the word "infinite", flags as 0 or 1, several as JSON).

        The strengths of the single-index target are left out.
        """
        attributes = {}
        for name in field_names():
            value = getattr(self, name)
            if name == "strengths" and value == (1.0,):
                continue
            if isinstance(value, tuple):
                value = json.dumps(value)
            attributes[name] = "infinite" if value is None else int(value) if isinstance(value, bool) else value
        return attributes

    @classmethod
    def from_attributes(cls, attributes: Any) -> Model:
        """The model whose `to_attributes` wrote these."""
        values: dict[str, Any] = {}
        for name in field_names():
            if name == "strengths" and name not in attributes:
                continue
            value = attributes[name]
            if isinstance(value, str) and value.startswith("["):
                values[name] = tuple(json.loads(value))
            elif name in ("dim", "width"):
                values[name] = None if value == "infinite" else int(value)
            else:
                values[name] = bool(value) if name == "centered" else float(value)
        return cls(**values)


def field_names() -> tuple[str, ...]:
    """Names of the model's fields, in order."""
    return tuple(field.name for field in dataclasses.fields(Model))


def _strengths(value: object) -> tuple[float, ...]:
    """s_k; ParameterError unless they are positive: a direction of strength 0 is none, and M has no negative ones."""
    numbers = _several("strengths", value if _is_sequence(value) else (value,))
    for number in numbers:
        if not number > 0:
            raise ParameterError(
                "Argument `strengths` must hold numbers > 0 (the network's quadratic part is positive, and a direction "
                f"of strength 0 is none), but is {list(numbers)}."
            )
    return numbers


def _overlaps(value: object, directions: int) -> float | tuple[float, ...]:
    """One m0^2 for all directions, or one for each."""
    if not _is_sequence(value):
        return check_real("initial_overlap", value, at_least=0.0)
    numbers = _several("initial_overlap", value)
    if len(numbers) != directions:
        raise ParameterError(
            f"Argument `initial_overlap` must be one number, or one for each of the {directions} directions in "
            f"`strengths`, but has {len(numbers)}."
        )
    for number in numbers:
        check_real("initial_overlap", number, at_least=0.0)
    return numbers[0] if len(set(numbers)) == 1 else numbers


def _is_sequence(value: object) -> bool:
    """Whether these are numbers one after another; sets and mappings have no order."""
    return isinstance(plain(value), Iterable) and not isinstance(value, str | bytes | Set | Mapping)


def _several(name: str, value: Any) -> tuple[float, ...]:
    """At least one finite number."""
    numbers = tuple(check_real(name, one) for one in plain(value))
    if not numbers:
        raise ParameterError(f"Argument `{name}` must hold at least one number, but is empty.")
    return numbers
