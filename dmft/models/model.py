"""The one parameter object that drives theory and simulation alike, and its units (THEORY section 1).

Network f(x) = (alpha/N) sum_i phi(w_i.x) with phi(h) = h + (epsilon/2) h^2, inputs x ~ N(0, I/D),
target y = (1/2)(beta.x)^2 + label noise, |beta|^2 = D, P = kappa D samples, trained by full-batch
gradient descent. One explicit step of size `dt` in the time unit used here is one gradient-descent step.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from dmft.checks import ParameterError, check_bool, check_integer, check_real, neighbour, spelt_fields
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
            0 with `dim` set means the overlap (of order 1/D) of a random initialisation.
        centered: train f - f(t=0) instead of f.
        label_noise: standard deviation >= 0 of the Gaussian noise on the training labels.
        weight_decay: rate lambda >= 0 of dw/dt = ... - lambda w.

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
    initial_overlap: float = 0.0
    centered: bool = False
    label_noise: float = 0.0
    weight_decay: float = 0.0

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
        put("initial_overlap", check_real("initial_overlap", self.initial_overlap, at_least=0.0))
        put("centered", check_bool("centered", self.centered))
        put("label_noise", check_real("label_noise", self.label_noise, at_least=0.0))
        put("weight_decay", check_real("weight_decay", self.weight_decay, at_least=0.0))
        if self.dim is not None and self.samples < 1:
            raise ParameterError(
                f"Argument `kappa` must give at least one sample: P = round(kappa dim) = round({self.kappa:g} x "
                f"{self.dim}) = 0; kappa must be > {0.5 / self.dim:g}."
            )

    def replace(self, **changes: Any) -> Model:
        """A copy with some fields changed; an unknown field is refused by name."""
        unknown = sorted(set(changes) - set(field_names()))
        if unknown:
            near = neighbour(unknown[0], field_names())
            says = f"did you mean `{near}`?" if near else f"allowed: {', '.join(field_names())}."
            raise ParameterError(f"Argument `{unknown[0]}` is no field of Model; {says}")
        return dataclasses.replace(self, **changes)

    def to_attributes(self) -> dict[str, Any]:
        """The fields as NetCDF attributes (infinite sizes as the word "infinite", flags as 0 or 1)."""
        attributes = {}
        for name in field_names():
            value = getattr(self, name)
            attributes[name] = "infinite" if value is None else int(value) if isinstance(value, bool) else value
        return attributes

    @classmethod
    def from_attributes(cls, attributes: Any) -> Model:
        """The model whose `to_attributes` wrote these."""
        values: dict[str, Any] = {}
        for name in field_names():
            value = attributes[name]
            if name in ("dim", "width"):
                values[name] = None if value == "infinite" else int(value)
            else:
                values[name] = bool(value) if name == "centered" else float(value)
        return cls(**values)


def field_names() -> tuple[str, ...]:
    """Names of the model's fields, in order."""
    return tuple(field.name for field in dataclasses.fields(Model))
