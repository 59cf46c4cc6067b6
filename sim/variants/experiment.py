"""The paper's variants of the network and its task: a `dmft.Model` with what its theory does not describe."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

from dmft.checks import ParameterError, check_bool, check_choice, check_integer, check_real, spelt_fields
from dmft.models.model import Model
from dmft.models.polynomials import FEATURES, degree

ACTIVATIONS = tuple(FEATURES)
TARGETS = (*FEATURES, "eigenvector")


@spelt_fields
@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A finite network, its target and its initial weights.

    The network is f(x) = (alpha/N) sum_i a_i phi(w_i.x) with phi(z) = z + (epsilon/2) g(z), the target
    y(x) = (1/2) sum_k strength_k g(beta_k.x) with orthogonal directions |beta_k|^2 = D; g is z^2 (quadratic) or a
    Hermite polynomial He_2, He_3, He_4 (`dmft.models.polynomials`). What is left at its default is as in `dmft.Model`.

    Attributes:
        model: alpha, epsilon, kappa, dim and width (both finite), centered, label_noise, weight_decay;
            initial_overlap must be 0.
        activation: the feature g of the network: quadratic, hermite2, hermite3 or hermite4.
        target: the feature g of the target, of the same degree as the activation's; or "eigenvector": labels that are
            an eigenvector of the initial tangent kernel's Gram matrix over the training and the test inputs together,
            with mean square strength^2 (figure 5 of the paper).
        strengths: one real number other than 0 per direction: a single-index target has one, a multi-index target
            several.
        eigenvector: number of the eigenvector, 1 for the largest eigenvalue; only with target "eigenvector".
        test_samples: number of test inputs; only with target "eigenvector" (samples, if left out). Other targets have
            an exact test loss.
        weight_scale: sigma > 0, weights w_i(0) ~ N(0, sigma^2 I). With fixed readouts and quadratic activation
            (alpha, epsilon, sigma) is the same as (sigma alpha, sigma epsilon, 1), step for step.
        interpolation: s in [0, 1], weights w(0) = (1 - s) w_random + s w_solution, where the solution has
            +-beta_k in pairs of neurons and fits the target exactly; only for the quadratic target with strengths > 0,
            fixed readouts and not centred.
        train_readout: train the readouts too, from a_i(0) ~ N(0, 1), D times more slowly than the weights, as a
            `dmft.Committee` does; else they stay at 1.

    Raises:
        ParameterError: a field is out of range, or does not go with another; the message names it.
    """

    model: Model
    activation: str = "quadratic"
    target: str = "quadratic"
    strengths: Sequence[float] = (1.0,)
    eigenvector: int | None = None
    test_samples: int | None = None
    weight_scale: float = 1.0
    interpolation: float = 0.0
    train_readout: bool = False

    def __post_init__(self) -> None:
        self._check_model()
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("target", self.target, TARGETS)
        object.__setattr__(self, "train_readout", check_bool("train_readout", self.train_readout))
        object.__setattr__(self, "weight_scale", check_real("weight_scale", self.weight_scale, above=0.0))
        object.__setattr__(self, "strengths", self._checked_strengths())
        if self.target == "eigenvector":
            self._check_eigenvector()
        else:
            self._check_polynomial_target()
        self._check_interpolation()

    def _check_model(self) -> None:
        model = self.model
        if not isinstance(model, Model):
            raise ParameterError(f"Argument `model` must be a dmft.Model, but is {model!r}.")
        for name in ("dim", "width"):
            if getattr(model, name) is None:
                raise ParameterError(f"Argument `{name}` of the model must be a finite integer here, but is None.")
        if model.strengths != (1.0,):
            raise ParameterError(
                "Argument `strengths` of the model must be (1.0,) in an experiment, whose target has its own, "
                f"but is {model.strengths}."
            )
        if any(model.initial_overlaps):
            raise ParameterError(
                "Argument `initial_overlap` of the model must be 0 in an experiment (`interpolation` plants the "
                f"solution), but is {model.initial_overlap}."
            )

    def _checked_strengths(self) -> tuple[float, ...]:
        allowed = "be a sequence of at least one finite number other than 0"
        if isinstance(self.strengths, str) or not isinstance(self.strengths, Sequence) or not self.strengths:
            raise ParameterError(f"Argument `strengths` must {allowed}, but is {self.strengths!r}.")
        strengths = tuple(check_real("strengths", strength) for strength in self.strengths)
        if 0.0 in strengths:
            raise ParameterError(f"Argument `strengths` must {allowed}, but is {strengths!r}.")
        if self.target == "eigenvector" and len(strengths) > 1:
            raise ParameterError(
                f"Argument `strengths` must have one entry with target 'eigenvector', but has {len(strengths)}."
            )
        if len(strengths) > self.dim:
            raise ParameterError(
                f"Argument `strengths` must have at most dim = {self.dim} entries (orthogonal directions), but has "
                f"{len(strengths)}."
            )
        return strengths

    def _check_eigenvector(self) -> None:
        tests = self.samples if self.test_samples is None else self.test_samples
        object.__setattr__(self, "test_samples", check_integer("test_samples", tests, at_least=2))
        number = check_integer("eigenvector", self.eigenvector, at_least=1)
        total = self.samples + self.test_samples  # type: ignore[operator]
        if number > total:
            raise ParameterError(
                f"Argument `eigenvector` must be an integer from 1 to samples + test_samples = {total}, "
                f"but is {number}."
            )

    def _check_polynomial_target(self) -> None:
        for name in ("eigenvector", "test_samples"):
            if getattr(self, name) is not None:
                raise ParameterError(
                    f"Argument `{name}` must be left out unless target is 'eigenvector', but is "
                    f"{getattr(self, name)!r} with target {self.target!r}."
                )
        wanted, given = degree(self.target), degree(self.activation)
        if wanted != given:
            matching = [name for name in ACTIVATIONS if degree(name) == wanted]
            raise ParameterError(
                f"Argument `target` must have the degree of the activation ({given}, {self.activation!r}), but "
                f"{self.target!r} has degree {wanted}, which that network cannot represent; with it give activation = "
                f"{' or '.join(repr(name) for name in matching)}."
            )

    def _check_interpolation(self) -> None:
        share = check_real("interpolation", self.interpolation, at_least=0.0)
        if share > 1.0:
            raise ParameterError(f"Argument `interpolation` must be a number from 0 to 1, but is {share:g}.")
        object.__setattr__(self, "interpolation", share)
        if not share:
            return
        needs = {
            "target 'quadratic' with activation 'quadratic'": (self.target, self.activation) == ("quadratic",) * 2,
            "epsilon > 0": self.model.epsilon > 0.0,
            "strengths > 0": min(self.strengths) > 0.0,
            "fixed readouts": not self.train_readout,
            "a model that is not centred": not self.model.centered,
            f"width >= {2 * len(self.strengths)}, a pair of neurons per direction": self.width
            >= 2 * len(self.strengths),
        }
        for need, met in needs.items():
            if not met:
                raise ParameterError(
                    f"Argument `interpolation` must be 0 unless there is {need} (else no exact solution is known), but "
                    f"is {share:g}."
                )

    def replace(self, **changes: Any) -> Experiment:
        """A copy with some fields changed; those of the model may be named directly (alpha=2.0)."""
        of_model = {field.name for field in dataclasses.fields(Model)}
        own = {field.name for field in dataclasses.fields(self)}
        unknown = sorted(set(changes) - of_model - own)
        if unknown:
            raise ParameterError(
                f"Argument `{unknown[0]}` is no field of Experiment or Model; allowed: "
                f"{', '.join(sorted((own - {'model'}) | of_model))}."
            )
        model = changes.pop("model", self.model)
        inner = {name: changes.pop(name) for name in sorted(set(changes) & of_model)}
        return dataclasses.replace(self, model=model.replace(**inner) if inner else model, **changes)

    @property
    def dim(self) -> int:
        """Input dimension D."""
        assert self.model.dim is not None
        return self.model.dim

    @property
    def width(self) -> int:
        """Number of neurons N."""
        assert self.model.width is not None
        return self.model.width

    @property
    def samples(self) -> int:
        """Number of training samples P."""
        return self.model.samples

    @property
    def exact_test_loss(self) -> bool:
        """Whether the test loss is a closed form of the weights, not an average over test inputs."""
        return self.target != "eigenvector"

    @property
    def reducible(self) -> bool:
        """Whether the exact form of at most D + 1 rows trains alike."""
        return self.activation == "quadratic" and not self.train_readout

    def signal(self) -> float:
        """Mean square of the clean labels: the test loss of f = 0."""
        if not self.exact_test_loss:
            return self.strengths[0] ** 2
        variance = math.factorial(degree(self.target)) / 4.0 * math.fsum(s**2 for s in self.strengths)
        mean = 0.5 * math.fsum(self.strengths) if self.target == "quadratic" else 0.0
        return variance + mean**2

    def to_attributes(self) -> dict[str, Any]:
        """The model's fields and these, as NetCDF attributes."""
        attributes = self.model.to_attributes() | {
            "samples": self.samples,
            "activation": self.activation,
            "target": self.target,
            "strengths": json.dumps(list(self.strengths)),
            "weight_scale": self.weight_scale,
            "interpolation": self.interpolation,
            "train_readout": int(self.train_readout),
        }
        if not self.exact_test_loss:
            attributes |= {"eigenvector": self.eigenvector, "test_samples": self.test_samples}
        return attributes

    @classmethod
    def from_attributes(cls, attributes: Any) -> Experiment:
        """The experiment whose `to_attributes` wrote these."""
        numbers = {name: int(attributes[name]) for name in ("eigenvector", "test_samples") if name in attributes}
        return cls(
            model=Model.from_attributes({name: attributes[name] for name in attributes if name != "strengths"}),
            activation=str(attributes["activation"]),
            target=str(attributes["target"]),
            strengths=tuple(json.loads(str(attributes["strengths"]))),
            weight_scale=float(attributes["weight_scale"]),
            interpolation=float(attributes["interpolation"]),
            train_readout=bool(attributes["train_readout"]),
            **numbers,
        )
