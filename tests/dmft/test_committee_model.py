"""The committee as a value: what it refuses, its activations and teachers, its test loss from the overlaps."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmft import Committee, ParameterError
from dmft.checks import precision_context
from dmft.losses.committee import Neurons, centered, test_loss
from dmft.models import activations, teachers

BASE: dict[str, Any] = {"alpha": 1.5, "kappa": 3.0, "width": 2}
RELU = Committee(**BASE, activation="relu", readout=[1.0, -1.0])
#: Overlaps of two neurons and two directions, no entry special.
TEACHER, SELF = np.array([[0.5, 0.1], [0.2, -0.3]]), np.array([[1.2, 0.3], [0.3, 0.8]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 0.0}, "`alpha` must be a finite number > 0, but is 0"),
        ({"kappa": math.nan}, "`kappa` must be a finite number > 0, but is nan"),
        ({"width": 0}, "`width` must be an integer >= 1, but is 0"),
        ({"teacher_dim": 1.5}, "`teacher_dim` must be an integer >= 1, but is 1.5"),
        ({"activation": "sigmoid"}, "`activation` must be one of linear, .*softplus, but is 'sigmoid'"),
        ({"activation": "quadratic"}, "`epsilon` must be a finite number >= 0, but is None"),
        ({"epsilon": 0.5}, r"`epsilon` must be left out \(None\) unless .* 0.5 with activation relu"),
        ({"teacher": "quadratic"}, "`teacher` must be one of linear, .*, but is 'quadratic'"),
        ({"readout": [1.0, 1.0, 1.0]}, r"`readout` must have shape \(width,\) = \(2,\), but has shape \(3,\)"),
        ({"readout": [1.0, math.inf]}, "`readout` must hold finite numbers"),
        ({"readout": "ones"}, r"`readout` must be an array of numbers of shape \(width,\) = \(2,\)"),
        (
            {"initial_teacher_overlap": [0.5, 0.1]},
            r"`initial_teacher_overlap` must have shape \(width, teacher_dim\) = \(2, 1\), but has shape \(2,\)",
        ),
        (
            {"initial_self_overlap": np.eye(3)},
            r"`initial_self_overlap` must have shape \(width, width\) = \(2, 2\), but has shape \(3, 3\)",
        ),
        ({"initial_self_overlap": [[1.0, 0.1], [0.0, 1.0]]}, "`initial_self_overlap` must be symmetric"),
        ({"initial_self_overlap": [[1.0, 2.0], [2.0, 1.0]]}, "jointly positive semi-definite .* lowest is -1 "),
        ({"initial_teacher_overlap": [[0.9], [0.9]]}, "jointly positive semi-definite .* lowest is -0.27"),
        ({"centered": 1}, "`centered` must be True or False, but is 1"),
        ({"train_readout": "yes"}, "`train_readout` must be True or False"),
        ({"batch_fraction": 1.5}, "`batch_fraction` must be a number > 0 and <= 1, but is 1.5"),
        ({"batch_fraction": 0.0}, "`batch_fraction` must be a finite number > 0"),
        ({"persistence": 0.0}, "`persistence` must be a finite number > 0"),
        ({"label_noise": -1.0}, "`label_noise` must be a finite number >= 0"),
        ({"dim": 1}, "`dim` must be an integer >= 2, but is 1"),
        ({"dim": 2, "initial_teacher_overlap": [[0.1], [0.1]]}, "`dim` must be an integer >= 3, .* but is 2"),
        ({"dim": 2, "kappa": 0.1}, "`kappa` must give at least one sample"),
        ({"depth": 3}, "`depth` is no field of Committee; allowed: alpha, "),
    ],
)
def test_nonsense_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        RELU.replace(**changes)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (np.sign, "that jax can trace"),
        (jnp.sign, "must be continuous, but .*sign jumps by 2 at h = 0"),
        (jnp.round, "must be continuous"),
        (jax.nn.softmax, "that jax can trace|elementwise"),
        (lambda h: h - jnp.mean(h), "must be elementwise"),
        (jnp.sum, r"shape \(5,\) and type float64, but jax.numpy.sum returns shape \(\)"),
        (lambda h: jnp.tanh(h).astype("float32"), "but .* returns shape .* and type float32"),
        (lambda h: (h, h), "must return an array"),
        (jnp.sqrt, "must have finite values"),
        (lambda h: jnp.sqrt(jnp.abs(h)), "must have a bounded derivative"),
    ],
)
def test_functions_that_are_no_activations_are_refused(function: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=f"^Argument `activation` .*({message})"):
        RELU.replace(activation=function)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda u: u, r"of shape \(2,\) to shape \(\), but .* returns shape \(2,\)"),
        (lambda u: u[..., 2], "raises IndexError"),
        (lambda u: np.log(u[..., 0] * 0.0 - 1.0 + 0.0 * u[..., 1]), "must return finite numbers"),
        (lambda u: u[..., 0] - np.mean(u[..., 0]), "treat every sample alike"),
    ],
)
def test_functions_that_are_no_teachers_are_refused(function: Any, message: str) -> None:
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(ParameterError, match=f"^Argument `teacher` .*{message}"),
    ):
        RELU.replace(teacher=function, teacher_dim=2)


def test_kinks_of_a_function_are_found() -> None:
    places = {
        jnp.abs: [(0.0, 2.0)],
        jax.nn.leaky_relu: [(0.0, 0.99)],
        jax.nn.elu: [],
        jax.nn.gelu: [],
    }
    for function, expected in places.items():
        np.testing.assert_allclose(activations.custom(function).kinks, expected, atol=1e-8)
    clipped = activations.custom(lambda h: jnp.clip(h, -1.0, 1.3))
    np.testing.assert_allclose(clipped.kinks, [(-1.0, 1.0), (1.3, -1.0)], atol=1e-8)
    assert activations.custom(lambda h: jax.nn.softplus(100.0 * h) / 100.0).kinks == ()
    assert activations.named("relu").kinks == ((0.0, 1.0),)


@pytest.mark.parametrize("name", activations.NAMES)
def test_derivatives_are_those_of_the_value(name: str) -> None:
    phi = activations.named(name, 0.7)
    with precision_context("float64"):
        h = jnp.linspace(-3.1, 3.0, 24).reshape(4, 6)
        for function, slope in ((phi.value, phi.slope), (phi.slope, phi.curvature)):
            expected = jax.vmap(jax.vmap(jax.grad(function)))(h)
            np.testing.assert_allclose(slope(h), expected, rtol=1e-12, atol=1e-12)


def test_it_is_a_value_with_defaults_that_are_written_down() -> None:
    assert RELU.readouts.tolist() == [1.0, -1.0]
    assert not RELU.planted
    m, c = RELU.initial_overlaps
    assert (m.tolist(), c.tolist()) == ([[0.0], [0.0]], [[1.0, 0.0], [0.0, 1.0]])
    planted = RELU.replace(initial_teacher_overlap=[[0.3], [0.4]])
    assert planted.planted
    assert planted.initial_overlaps.neurons.tolist() == c.tolist()
    assert planted == RELU.replace(initial_teacher_overlap=np.array([[0.3], [0.4]]))
    assert len({planted, RELU, planted.replace()}) == 2
    assert RELU.replace(dim=10).samples == 30
    with pytest.raises(ParameterError, match="`dim` of the model must be set"):
        _ = RELU.samples
    with pytest.raises(dataclasses.FrozenInstanceError):
        RELU.alpha = 2.0  # type: ignore[misc]


def test_attributes_give_the_model_back_but_for_functions() -> None:
    model = RELU.replace(
        teacher="erf", teacher_dim=2, initial_teacher_overlap=TEACHER, initial_self_overlap=SELF, centered=True,
        dim=50, batch_fraction=0.3, persistence=2.0, train_readout=True,
    )  # fmt: skip
    for each in (RELU, model, Committee(**BASE, activation="quadratic", epsilon=0.5)):
        attributes = each.to_attributes()
        assert all(isinstance(value, (str, int, float)) for value in attributes.values())
        assert Committee.from_attributes(attributes) == each
    own = RELU.replace(activation=jnp.tanh)
    with pytest.raises(ParameterError, match="`activation` must be given: it was the function "):
        Committee.from_attributes(own.to_attributes())
    assert Committee.from_attributes(own.to_attributes(), activation=jnp.tanh) == own
    sums = [lambda u, shift=shift: jnp.sum(jnp.tanh(u + shift), -1) for shift in (0.0, 1.0)]
    for name, (one, other) in {"activation": (jnp.tanh, jnp.sin), "teacher": sums}.items():
        with pytest.raises(ParameterError, match=f"`{name}` must be the function .*, code .*, but is "):
            Committee.from_attributes(RELU.replace(**{name: one}).to_attributes(), **{name: other})


def loss(model: Committee, teacher: Any, neurons: Any) -> float:
    with precision_context("float64"):
        amplitudes = jnp.asarray(model.alpha / model.width * model.readouts)
        compiled = jax.jit(test_loss(model.phi, model.psi))
        return float(compiled(Neurons(amplitudes, jnp.asarray(teacher), jnp.asarray(neurons))))


def test_test_loss_has_its_closed_forms() -> None:
    half = Committee(alpha=1.0, kappa=1.0, width=1, activation="half_square")
    assert loss(half, [[0.5]], [[1.2]]) == pytest.approx((3.0 * 1.44 + 3.0 - 2.0 * (1.2 + 0.5)) / 4.0, rel=1e-12)
    relu = half.replace(activation="relu", teacher="relu")

    def angular(first: float, second: float, overlap: float) -> float:
        """E[relu relu] of two Gaussians: the kernel of degree 1."""
        angle = math.acos(overlap / math.sqrt(first * second))
        factor = math.sin(angle) + (math.pi - angle) * math.cos(angle)
        return math.sqrt(first * second) * factor / (2.0 * math.pi)

    expected = angular(1.2, 1.2, 1.2) - 2.0 * angular(1.2, 1.0, 0.5) + angular(1.0, 1.0, 1.0)
    assert loss(relu, [[0.5]], [[1.2]]) == pytest.approx(expected, rel=1e-10)
    erf = half.replace(activation="erf", teacher="erf")

    def arcsine(first: float, second: float, overlap: float) -> float:
        return 2.0 / math.pi * math.asin(2.0 * overlap / math.sqrt((1.0 + 2.0 * first) * (1.0 + 2.0 * second)))

    expected = arcsine(1.2, 1.2, 1.2) - 2.0 * arcsine(1.2, 1.0, 0.5) + arcsine(1.0, 1.0, 1.0)
    assert loss(erf, [[0.5]], [[1.2]]) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("activation", "teacher", "tolerance"), [("relu", "relu", 1e-3), ("tanh", "erf", 1e-6), ("relu", "hermite3", 1e-8)]
)
def test_a_teacher_by_name_is_its_own_function(activation: str, teacher: str, tolerance: float) -> None:
    """Two quadratures: the teacher as further neurons, and a grid over u, less exact for a teacher with a kink."""
    model = RELU.replace(activation=activation, teacher=teacher, teacher_dim=2)
    other = model.replace(teacher=lambda u: teachers.named(teacher, 2).function(u))
    assert loss(model, TEACHER, SELF) == pytest.approx(loss(other, TEACHER, SELF), rel=tolerance)


def test_a_student_that_is_its_teacher_makes_no_error() -> None:
    for name in ("relu", "erf"):
        model = Committee(alpha=1.0, kappa=1.0, width=3, activation=name, teacher=name, teacher_dim=3)
        assert loss(model, np.eye(3), np.eye(3)) < 1e-14
        assert loss(model, 0.9 * np.eye(3), np.eye(3)) > 1e-3


def test_test_loss_is_the_mean_over_fresh_inputs() -> None:
    generator = np.random.default_rng(3)
    joint = np.linalg.cholesky(np.block([[np.eye(2), TEACHER.T], [TEACHER, SELF]]))
    fields = generator.standard_normal((200_000, 4)) @ joint.T
    u, h = fields[:, :2], fields[:, 2:]
    for teacher in ("softplus", lambda u: np.tanh(u[..., 0] + u[..., 1] ** 3 - 3.0 * u[..., 1])):
        model = RELU.replace(teacher=teacher, teacher_dim=2)
        f = 0.5 * model.alpha * np.maximum(h, 0.0) @ model.readouts
        squares = (f - model.psi.values(u)) ** 2
        z = (squares.mean() - loss(model, TEACHER, SELF)) / (squares.std() / math.sqrt(squares.size))
        assert abs(z) < 4.0


def test_a_centred_network_starts_from_nothing() -> None:
    with precision_context("float64"):
        now = Neurons(jnp.asarray([0.7, -0.4]), jnp.asarray(TEACHER), jnp.asarray(SELF))
        psi = teachers.named("erf", 2)
        start = float(jax.jit(test_loss(activations.named("relu"), psi))(centered(now, now, now.neurons)))
    zero = loss(RELU.replace(readout=[0.0, 0.0], teacher="erf", teacher_dim=2), TEACHER, SELF)
    assert start == pytest.approx(zero, rel=1e-10)


def test_values_of_a_teacher_written_in_jax_are_numbers_inside_compiled_code():
    """The test loss of a committee is compiled, and knows psi on a grid."""
    u = np.linspace(-1.0, 2.0, 5)[:, None]
    psi = Committee(alpha=1.0, kappa=3.0, width=1, activation="erf", teacher=lambda u: jnp.tanh(u[..., 0])).psi

    @jax.jit
    def mean(weights):
        return weights @ jnp.asarray(psi.values(u))

    np.testing.assert_allclose(mean(np.full(5, 0.2)), np.tanh(u[:, 0]).mean(), rtol=1e-6)
