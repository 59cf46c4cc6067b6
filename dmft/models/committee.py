"""The second model class: a network of finite width, any activation, any teacher (THEORY section 8).

Network f(x) = (alpha/N) sum_i a_i phi(w_i.x), inputs x ~ N(0, I/D), teacher y = psi(u) with u_k = beta_k.x, K
orthogonal directions with |beta_k|^2 = D, P = kappa D samples. Overlaps are w_i.beta_k / D and w_i.w_j / D. Time as in
THEORY section 1:

    dw_i/dt = -(1/(alpha kappa)) sum_mu Delta_mu a_i phi'(h_i,mu) x_mu - lambda w_i,

with l'(f_mu, y_mu) in place of Delta_mu where the loss is another than the square (THEORY section 14), and one explicit
step of size `dt` is one step of gradient descent.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dmft.checks import ParameterError, check_bool, check_choice, check_integer, check_real, spelt_fields
from dmft.models import activations, labels, losses, teachers
from dmft.models.activations import Activation
from dmft.models.fingerprint import ByContent, describe, short_code
from dmft.models.losses import Loss
from dmft.models.teachers import Teacher
from dmft.models.units import Units

#: Fields that the first files do not have, as they were then.
LATER = {"loss": "square", "labels": "teacher", "label_flips": 0.0}
#: Fields that may be functions of one's own.
FUNCTIONS = ("activation", "teacher", "loss")
#: Values of the teacher that are looked at to see that it takes both signs.
_LOOKS = 4096

#: Eigenvalues of the joint overlap matrix may be as far below zero as this, relative to its largest.
_ROUNDING = 1e-10


class Overlaps(NamedTuple):
    """Overlaps with the teacher, m (N, K), and among the neurons, C (N, N)."""

    teacher: np.ndarray
    neurons: np.ndarray


@spelt_fields
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Committee(ByContent, Units):
    """A two-layer network of finite width on a teacher of a few directions.

    Functions of one's own count by what they do (`dmft.models.fingerprint`): two models are equal if these are, and one
    whose closure or attributes have changed since is used as it is now.

    Attributes:
        alpha: output scale, > 0.
        kappa: sample ratio P / D, > 0.
        width: number of neurons N >= 1. The theory's cost grows as N^3: up to about 16.
        activation: phi, by name (`dmft.models.activations`: linear, quadratic, half_square, hermite2, hermite3,
            hermite4, relu, erf, tanh, softplus) or an elementwise function that jax can differentiate twice.
        epsilon: weight of the quadratic feature in phi(h) = h + (epsilon/2) h^2, >= 0; with the activation "quadratic",
            and with no other.
        readout: a_i, N numbers; None for ones.
        teacher: psi, by name (`dmft.models.teachers`: (1/K) sum_k g(u_k) with g one of the activations but
            quadratic) or a function of u, (..., K) -> (...).
        teacher_dim: number of directions K >= 1.
        initial_teacher_overlap: m(0) = w_i.beta_k / D, N x K, exact. None: zeros if `initial_self_overlap` is given.
        initial_self_overlap: C(0) = w_i.w_j / D, N x N, exact. None: the identity. With neither given, weights are
            drawn from N(0, I): their overlaps differ from zeros and the identity by terms of order D^-1/2, which
            theory averages over if `dim` is set.
        centered: train f - f(t=0) instead of f.
        label_noise: standard deviation >= 0 of the Gaussian noise on the training labels, with labels = "teacher".
        weight_decay: rate lambda >= 0 of dw/dt = ... - lambda w, and of trained readouts likewise.
        dim: input dimension D >= 2, or None for infinite.
        batch_fraction: b in (0, 1]: in every step each sample is present with probability b, and the gradient is
            divided by b. 1: all samples. Below 1 only steps of gradient descent have a meaning, not the flow.
        persistence: tau > 0, the mean time that a sample stays absent: persistent stochastic gradient descent
            (Mignacco, Krzakala, Urbani, Zdeborova, arXiv 2006.06098). From one step to the next an absent sample joins
            with probability dt/tau and a present one leaves with probability (1 - b) dt/(b tau); equivalently, with
            probability dt/(b tau) its presence is drawn anew, so that tau >= dt / b. None: drawn anew in every step,
            which is tau = dt / b.
        train_readout: train the readouts too, from `readout`, D times more slowly than the weights:
            da_i/dt = -(1/(alpha P)) sum_mu Delta_mu phi(h_i,mu) - lambda a_i. This is gradient descent on
            (1/2P) sum Delta^2 with rate N / alpha^2 per unit time, where weights have N D / alpha^2: then both change
            by terms of order one in a time of order one, at any D. Batches concern them as they do the weights. With
            another loss than the square, l' takes the place of Delta.
        loss: l(f, y), by name (`dmft.models.losses`: square, logistic, huber, hinge; logistic and hinge need labels
            that are signs) or an elementwise function of two arrays that jax can differentiate twice. The force on a
            sample is l' = dl/df: Delta = f - y for the square loss l = Delta^2 / 2. Train and test loss are means of l;
            for the square loss those of Delta^2.
        labels: how labels arise (`dmft.models.labels`): "teacher", y = psi(u); "sign", y = 1 where psi(u) > 0, else -1;
            "probability", y = 1 with probability 1 / (1 + exp(-psi(u))), else -1. Signs make it a classification, with
            accuracies and the mean margin y f among the observables. Test labels are clean.
        label_flips: share in [0, 0.5] of the training labels that is flipped at random, if they are signs; at 0.5 they
            are fair coins.

    Raises:
        ParameterError: a field is out of range or does not fit the others; the message names it, what it is and what
            is allowed.

    Examples:
        >>> committee = Committee(alpha=1.0, kappa=3.0, width=2, activation="relu", readout=[1.0, -1.0])
        >>> committee.replace(dim=100).samples
        300
    """

    alpha: float
    kappa: float
    width: int
    activation: str | Callable[[Any], Any]
    epsilon: float | None = None
    readout: Any = None
    teacher: str | Callable[[Any], Any] = "half_square"
    teacher_dim: int = 1
    initial_teacher_overlap: Any = None
    initial_self_overlap: Any = None
    centered: bool = False
    label_noise: float = 0.0
    weight_decay: float = 0.0
    dim: int | None = None
    batch_fraction: float = 1.0
    persistence: float | None = None
    train_readout: bool = False
    loss: str | Callable[[Any, Any], Any] = "square"
    labels: str = "teacher"
    label_flips: float = 0.0

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        for name in ("alpha", "kappa"):
            put(name, check_real(name, getattr(self, name), above=0.0))
        for name in ("label_noise", "weight_decay"):
            put(name, check_real(name, getattr(self, name), at_least=0.0))
        for name in ("width", "teacher_dim"):
            put(name, check_integer(name, getattr(self, name), at_least=1))
        for name in ("centered", "train_readout"):
            put(name, check_bool(name, getattr(self, name)))
        put("batch_fraction", check_real("batch_fraction", self.batch_fraction, above=0.0))
        if self.batch_fraction > 1.0:
            raise ParameterError(
                f"Argument `batch_fraction` must be a number > 0 and <= 1, but is {self.batch_fraction:g}."
            )
        if self.persistence is not None:
            put("persistence", check_real("persistence", self.persistence, above=0.0))
        self._check_functions(put)
        self._check_labels(put)
        self._check_arrays(put)
        self._check_dim(put)

    def _check_functions(self, put: Callable[[str, object], None]) -> None:
        if not callable(self.activation):
            check_choice("activation", self.activation, activations.NAMES)
        if self.activation == "quadratic":
            put("epsilon", check_real("epsilon", self.epsilon, at_least=0.0))
        elif self.epsilon is not None:
            raise ParameterError(
                f"Argument `epsilon` must be left out (None) unless the activation is quadratic, but is "
                f"{self.epsilon!r} with activation {self.phi.name}."
            )
        if not callable(self.teacher):
            check_choice("teacher", self.teacher, teachers.NAMES)
        check_choice("labels", self.labels, labels.NAMES)
        if not callable(self.loss):
            check_choice("loss", self.loss, losses.NAMES)
        _ = self.phi, self.psi, self.criterion  # functions of one's own are checked

    def _check_labels(self, put: Callable[[str, object], None]) -> None:
        put("label_flips", check_real("label_flips", self.label_flips, at_least=0.0))
        if self.label_flips > 0.5:
            raise ParameterError(
                f"Argument `label_flips` must be a number >= 0 and <= 0.5, but is {self.label_flips:g}."
            )
        if not self.classifies:
            if self.label_flips:
                raise ParameterError(
                    "Argument `label_flips` must be 0 unless labels are signs (labels = 'sign' or 'probability'), "
                    f"but is {self.label_flips:g} with labels = 'teacher'."
                )
            if self.loss in losses.OF_SIGNS:
                raise ParameterError(
                    f"Argument `loss` must be square, huber or a function of one's own where labels are real numbers "
                    f"(labels = 'teacher'), but is {self.loss!r}, which needs labels -1 and 1: labels = 'sign' or "
                    "'probability'."
                )
            return
        if self.label_noise:
            raise ParameterError(
                f"Argument `label_noise` must be 0 with labels = {self.labels!r}, but is {self.label_noise:g}; "
                "`label_flips` is the noise of labels that are signs."
            )
        if self.labels == "sign":
            positive = self.psi.values(np.random.default_rng(0).standard_normal((_LOOKS, self.teacher_dim))) > 0.0
            if positive.all() or not positive.any():
                raise ParameterError(
                    f"Argument `teacher` must take both signs with labels = 'sign', but {self.psi.name} is "
                    f"{'always' if positive.all() else 'never'} above 0."
                )

    def _check_arrays(self, put: Callable[[str, object], None]) -> None:
        count, directions = self.width, self.teacher_dim
        put("readout", _numbers("readout", self.readout, "(width,)", (count,)))
        for name, words, shape in (
            ("initial_teacher_overlap", "(width, teacher_dim)", (count, directions)),
            ("initial_self_overlap", "(width, width)", (count, count)),
        ):
            put(name, _numbers(name, getattr(self, name), words, shape))
        m, c = self.initial_overlaps
        if not np.allclose(c, c.T, rtol=0.0, atol=1e-12 * np.abs(c).max()):
            raise ParameterError(f"Argument `initial_self_overlap` must be symmetric, but is {c.tolist()}.")
        lowest = np.linalg.eigvalsh(np.block([[np.eye(directions), m.T], [m, c]]))
        if lowest[0] < -_ROUNDING * lowest[-1]:
            raise ParameterError(
                "Arguments `initial_teacher_overlap` and `initial_self_overlap` must be jointly positive "
                "semi-definite (no eigenvalue of [[1, m^T], [m, C]] below 0: there are no such weights), but the "
                f"lowest is {lowest[0]:.3g} with m = {m.tolist()} and C = {c.tolist()}."
            )

    def _check_dim(self, put: Callable[[str, object], None]) -> None:
        if self.dim is None:
            return
        put("dim", check_integer("dim", self.dim, at_least=2))
        least = self.width + self.teacher_dim if self.planted else self.teacher_dim
        if self.dim < least:
            raise ParameterError(
                f"Argument `dim` must be an integer >= {least}, the number of directions of weights and teacher, "
                f"but is {self.dim}."
            )
        if self.samples < 1:
            raise ParameterError(
                f"Argument `kappa` must give at least one sample: P = round(kappa dim) = round({self.kappa:g} x "
                f"{self.dim}) = 0; kappa must be > {0.5 / self.dim:g}."
            )

    @property
    def phi(self) -> Activation:
        """The activation with its derivatives and kinks."""
        if callable(self.activation):
            return activations.custom(self.activation)
        return activations.named(self.activation, self.epsilon or 0.0)

    @property
    def psi(self) -> Teacher:
        """The teacher."""
        if callable(self.teacher):
            return teachers.custom(self.teacher, self.teacher_dim)
        return teachers.named(self.teacher, self.teacher_dim)

    @property
    def criterion(self) -> Loss:
        """The loss with its derivatives and kinks."""
        return losses.custom(self.loss, signs=self.classifies) if callable(self.loss) else losses.named(self.loss)

    @property
    def classifies(self) -> bool:
        """Whether labels are signs."""
        return self.labels != "teacher"

    @property
    def kinked(self) -> bool:
        """Whether activation or loss has kinks."""
        return bool(self.phi.kinks or self.criterion.kinks)

    @property
    def readouts(self) -> np.ndarray:
        """a_i at t = 0, (N,)."""
        return np.ones(self.width) if self.readout is None else np.array(self.readout)

    @property
    def planted(self) -> bool:
        """Whether the initial overlaps are exact; else they are those of random weights."""
        return self.initial_teacher_overlap is not None or self.initial_self_overlap is not None

    @property
    def initial_overlaps(self) -> Overlaps:
        """m(0), (N, K), and C(0), (N, N); of random weights, those at infinite `dim`."""
        m, c = self.initial_teacher_overlap, self.initial_self_overlap
        return Overlaps(
            np.zeros((self.width, self.teacher_dim)) if m is None else np.array(m),
            np.eye(self.width) if c is None else np.array(c),
        )

    def replace(self, **changes: Any) -> Committee:
        """A copy with some fields changed; an unknown field is refused by name."""
        unknown = sorted(set(changes) - set(field_names()))
        if unknown:
            raise ParameterError(
                f"Argument `{unknown[0]}` is no field of Committee; allowed: {', '.join(field_names())}."
            )
        return dataclasses.replace(self, **changes)

    def to_attributes(self) -> dict[str, Any]:
        """The fields as NetCDF attributes, `model` = "committee" beside them.

        Arrays are written as JSON, None as "none" (an infinite dim as "infinite"), flags as 0 or 1. Of a function of
        one's own the name is kept and the start of its fingerprint: "function <module>.<name>, code <hash>".
        """
        attributes: dict[str, Any] = {"model": "committee"}
        for name in field_names():
            value = getattr(self, name)
            if value is None:
                value = "infinite" if name == "dim" else "none"
            elif callable(value):
                value = f"function {describe(value)}, code {short_code(value)}"
            elif isinstance(value, tuple):
                value = json.dumps(value)
            attributes[name] = int(value) if isinstance(value, bool) else value
        return attributes

    @classmethod
    def from_attributes(cls, attributes: Any, **functions: Callable[..., Any]) -> Committee:
        """The model whose `to_attributes` wrote these.

        Args:
            attributes: a mapping of all fields.
            **functions: `activation`, `teacher` and `loss`, where these were functions of one's own: a file does not
                hold them. They must do what those did; where the text has no ", code <hash>", any is taken.

        Raises:
            ParameterError: such a function is missing, is another one, or belongs to a field that has a name.
        """
        values: dict[str, Any] = {}
        for name in field_names():
            if name in LATER and name not in attributes:
                continue
            value = attributes[name]
            if name in FUNCTIONS and value.startswith("function "):
                if name not in functions:
                    raise ParameterError(f"Argument `{name}` must be given: it was the {value}, which no file holds.")
                value = _same_function(name, functions[name], value)
            elif name in functions:
                raise ParameterError(
                    f"Argument `{name}` must be left out, as it was {value!r} and no function of one's own, but is "
                    f"{functions[name]!r}."
                )
            elif name in ("readout", "initial_teacher_overlap", "initial_self_overlap"):
                value = None if value == "none" else json.loads(value)
            elif isinstance(value, str):
                value = value if name in (*FUNCTIONS, "labels") else None
            else:
                value = _plain(name, value)
            values[name] = value
        return cls(**values)


def field_names() -> tuple[str, ...]:
    """Names of the model's fields, in order."""
    return tuple(field.name for field in dataclasses.fields(Committee))


def _same_function(name: str, function: Any, text: str) -> Any:
    """The function, if it is that of which a file holds the text; unknown fingerprints are let pass."""
    code, own = text.rpartition(", code ")[2], short_code(function)
    if ", code " in text and "unknown" not in (code, own) and code != own:
        raise ParameterError(
            f"Argument `{name}` must be the {text}, but is {describe(function)}, code {own} (codes also differ between "
            f"versions of Python and of packages; take the code out of the attribute {name!r} to allow any)."
        )
    return function


def _plain(name: str, value: Any) -> Any:
    """A number read from a file as the type of the field `name`."""
    if name in ("centered", "train_readout"):
        return bool(value)
    return int(value) if name in ("width", "teacher_dim", "dim") else float(value)


def _numbers(name: str, value: Any, words: str, shape: tuple[int, ...]) -> Any:
    """None, or `value` as nested tuples of floats; ParameterError unless it has `shape`, which `words` describe."""
    if value is None:
        return None
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise ParameterError(
            f"Argument `{name}` must be an array of numbers of shape {words} = {shape}, but is {value!r}."
        ) from None
    if array.shape != shape:
        raise ParameterError(f"Argument `{name}` must have shape {words} = {shape}, but has shape {array.shape}.")
    if not np.all(np.isfinite(array)):
        raise ParameterError(f"Argument `{name}` must hold finite numbers, but is {array.tolist()}.")
    return tuple(tuple(row) for row in array.tolist()) if array.ndim == 2 else tuple(array.tolist())
