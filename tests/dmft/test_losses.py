"""Losses and labels of a committee (THEORY section 14): derivatives, kinks, refusals, test scores, tangents."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from dmft import Committee, ParameterError, solve
from dmft.checks import precision_context
from dmft.committee import rows
from dmft.committee.engine import CommitteeEngine
from dmft.committee.network import smoothed_loss
from dmft.committee.replica import Sampling, Solution, responses_of
from dmft.losses import committee, new_inputs
from dmft.losses.committee import Neurons
from dmft.models import labels, losses
from dmft.twotime.engine import Iteration
from dmft.twotime.grid import Grid, explicit_grid
from dmft.twotime.loop import solve_one

pytestmark = pytest.mark.filterwarnings("ignore::dmft.twotime.prediction.ToleranceWarning")

#: Over which kinks are smoothed for the responses.
WIDTH = 0.15
NEURON = Committee(
    alpha=1.0,
    kappa=3.0,
    width=1,
    activation="linear",
    teacher="linear",
    loss="logistic",
    labels="probability",
    initial_teacher_overlap=[[0.5]],
)
PAIR = Committee(
    alpha=2.0,
    kappa=2.0,
    width=2,
    activation="erf",
    teacher="linear",
    loss="logistic",
    labels="probability",
    readout=[1.0, -0.7],
    initial_teacher_overlap=[[0.5], [-0.4]],
)


def logistic(f: Any, y: Any) -> Any:
    return jnp.logaddexp(0.0, -y * f)


def perceptron(f: Any, y: Any) -> Any:
    return jnp.maximum(-y * f, 0.0)


def savage(f: Any, y: Any) -> Any:
    """Not convex."""
    return jax.nn.sigmoid(-y * f) ** 2


def halved(f: Any, y: Any) -> Any:
    return 0.5 * (f - y) ** 2


@pytest.mark.parametrize("name", losses.NAMES)
def test_derivatives_are_those_of_the_loss(name: str) -> None:
    loss, residual = losses.named(name), np.random.default_rng(0).uniform(-4.0, 4.0, 50)
    with precision_context("float64"):
        for label in losses.SIGNS:
            y = jnp.full(50, label)
            slope = jax.vmap(jax.grad(loss.value))(residual, y)
            np.testing.assert_allclose(loss.slope(residual, y), slope, atol=1e-12)
            np.testing.assert_allclose(
                loss.curvature(residual, y), jax.vmap(jax.grad(loss.slope))(residual, y), atol=1e-12
            )
            np.testing.assert_allclose(loss.reported(residual, y), loss.factor * loss.value(residual, y), atol=1e-12)


def test_a_function_of_ones_own_is_the_named_loss() -> None:
    own, loss, residual = losses.custom(logistic, signs=True), losses.named("logistic"), np.linspace(-5.0, 5.0, 41)
    assert own.kinks == ()
    assert own.convex
    assert own.steepest == pytest.approx(0.25, abs=1e-4)
    with precision_context("float64"):
        for which in range(3):
            for label in losses.SIGNS:
                y = jnp.full(41, label)
                found, expected = own.functions[which](residual, y), loss.functions[which](residual, y)
                np.testing.assert_allclose(found, expected, atol=1e-12)


def test_kinks_are_found_for_each_label() -> None:
    found = losses.custom(perceptron, signs=True)
    assert [kink[0] for kink in found.kinks] == [-1.0, 1.0]  # at f = 0, where Delta = -y
    np.testing.assert_allclose([kink[1:] for kink in found.kinks], [(1.0, 1.0), (-1.0, 1.0)], atol=1e-6)
    assert found.convex
    assert not losses.custom(savage, signs=True).convex
    hinge = losses.custom(lambda f, y: jnp.maximum(0.0, 1.0 - y * f), signs=True)
    np.testing.assert_allclose(hinge.kinks, losses.named("hinge").kinks, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"loss": "absolute"}, "loss", "square, logistic, huber, hinge"),
        ({"labels": "random"}, "labels", "teacher, sign, probability"),
        ({"labels": "teacher"}, "loss", "needs labels -1 and 1"),
        ({"labels": "teacher", "loss": "hinge"}, "loss", "needs labels -1 and 1"),
        ({"label_flips": 0.6}, "label_flips", "<= 0.5"),
        ({"label_flips": -0.1}, "label_flips", ">= 0"),
        ({"labels": "teacher", "loss": "huber", "label_flips": 0.1}, "label_flips", "0 unless labels are signs"),
        ({"label_noise": 0.1}, "label_noise", "label_flips"),
        ({"labels": "sign", "teacher": "half_square"}, "teacher", "always above 0"),
        ({"labels": "sign", "teacher": lambda u: 0.0 * u[..., 0]}, "teacher", "never above 0"),
        ({"loss": lambda f, y: jnp.sign(y * f)}, "loss", "continuous"),
        ({"loss": lambda f, y: jnp.sqrt(jnp.abs(f - y))}, "loss", "finite|bounded"),
        ({"loss": lambda f, y: jnp.log(y * f)}, "loss", "finite"),
        ({"loss": lambda f, y: jnp.sum((f - y) ** 2)}, "loss", "shape"),
        ({"loss": lambda f, y: (f - y) ** 2 - jnp.mean(f)}, "loss", "elementwise"),
        ({"loss": lambda f, y: float(f) - y}, "loss", "trace"),
        ({"loss": lambda f: f**2}, "loss", "trace"),
        ({"loss": lambda f, y: 0.0 * f + y**2}, "loss", "depend on f"),
        ({"loss": lambda f, y: jnp.abs(f - y), "labels": "teacher"}, "loss", "continuous derivative"),
    ],
)  # fmt: skip
def test_what_is_refused(changes: dict[str, Any], name: str, words: str) -> None:
    with pytest.raises(ParameterError, match=f"`{name}`.*({words})"):
        PAIR.replace(**changes)


def test_the_flow_needs_a_single_root() -> None:
    for loss, words in ((savage, "not convex"), ("hinge", "derivative jumps")):
        with pytest.raises(ParameterError, match=f"`step` must be given with the loss .*{words}"):
            solve(PAIR.replace(loss=loss), 1.0)


def test_models_go_through_files() -> None:
    model = PAIR.replace(label_flips=0.2)
    assert Committee.from_attributes(model.to_attributes()) == model
    own = PAIR.replace(loss=logistic)
    with pytest.raises(ParameterError, match=r"`loss` must be given: it was the function .*logistic, code "):
        Committee.from_attributes(own.to_attributes())
    assert Committee.from_attributes(own.to_attributes(), loss=logistic) == own
    assert own != PAIR.replace(loss=perceptron)
    with pytest.raises(ParameterError, match=r"`loss` must be the function .*logistic, code .*, but is .*perceptron"):
        Committee.from_attributes(own.to_attributes(), loss=perceptron)
    without = own.to_attributes() | {"loss": "function of another Python"}
    assert Committee.from_attributes(without, loss=logistic) == own
    with pytest.raises(ParameterError, match=r"`activation` must be left out, as it was '.*' and no function"):
        Committee.from_attributes(own.to_attributes(), loss=logistic, activation=jnp.tanh)
    later = ("loss", "labels", "label_flips")
    plain = Committee(alpha=1.0, kappa=2.0, width=1, activation="relu")
    old = {name: value for name, value in plain.to_attributes().items() if name not in later}
    assert Committee.from_attributes(old) == plain


def test_labels_have_their_shares_and_scores() -> None:
    psi = np.linspace(-3.0, 3.0, 13)
    np.testing.assert_allclose(labels.training_share("probability", 0.2, psi), 0.2 + 0.6 * special.expit(psi))
    np.testing.assert_allclose(labels.training_share("sign", 0.2, psi), np.where(psi > 0, 0.8, 0.2))
    uniform = (np.arange(10_000) + 0.5) / 10_000
    assert labels.draw("sign", 0.5, np.ones(10_000), uniform).mean() == 0.0
    for label, sign in ((np.ones(13), 1.0), (-np.ones(13), -1.0)):

        def log_share(at: np.ndarray, sign: float = sign) -> np.ndarray:
            q = labels.training_share("probability", 0.2, at)
            return np.log(q if sign > 0 else 1.0 - q)

        slope = (log_share(psi + 1e-5) - log_share(psi - 1e-5)) / 2e-5
        np.testing.assert_allclose(labels.score("probability", 0.2, psi, label), slope, atol=1e-8)


def on_new_inputs(model: Committee, neurons: Neurons) -> np.ndarray:
    task = new_inputs.task_of(model)
    assert task is not None
    with precision_context("float64"):
        return np.asarray(jax.jit(new_inputs.scores(model.phi, task))(Neurons(*map(jnp.asarray, neurons))))


def test_accuracy_and_loss_of_a_linear_neuron_are_known() -> None:
    """P(f y > 0) = 1 - arccos(rho)/pi for y = sign(u); the loss by a quadrature of its own."""
    m, c, amplitude = 0.8, 1.7, 1.4
    neurons = Neurons(np.array([amplitude]), np.array([[m]]), np.array([[c]]))
    loss, accuracy = on_new_inputs(NEURON.replace(labels="sign"), neurons)
    assert accuracy == pytest.approx(1.0 - np.arccos(m / np.sqrt(c)) / np.pi, abs=5e-4)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    h, weight = 9.0 * nodes, 9.0 * weights
    density = np.exp(-(h**2) / (2.0 * c)) / np.sqrt(2.0 * np.pi * c)
    positive = special.ndtr(m / c * h / np.sqrt(1.0 - m**2 / c))  # P(u > 0 | h)
    f = amplitude * h
    exact = np.sum(weight * density * (positive * np.logaddexp(0, -f) + (1 - positive) * np.logaddexp(0, f)))
    assert loss == pytest.approx(exact, abs=2e-5)


def test_the_general_quadrature_meets_the_closed_form_of_the_square() -> None:
    model = Committee(alpha=1.0, kappa=1.0, width=2, activation="erf", teacher="linear", loss=lambda f, y: (f - y) ** 2)
    neurons = Neurons(np.array([0.7, -0.4]), np.array([[0.5], [-0.2]]), np.array([[1.1, 0.3], [0.3, 0.8]]))
    with precision_context("float64"):
        exact = float(committee.test_loss(model.phi, model.psi)(Neurons(*map(jnp.asarray, neurons))))
    assert on_new_inputs(model, neurons)[0] == pytest.approx(exact, abs=5e-4)  # of 8192 lines


def one_replica(model: Committee, grid: Grid, samples: int, index: int = 0) -> Solution:
    drawn = Sampling(samples, model.width * (grid.size + 1), None, "float64")
    with precision_context("float64"):
        seed = np.random.SeedSequence(3, spawn_key=(index,))
        return solve_one(CommitteeEngine(model), grid, drawn, seed, Iteration())


def test_the_square_as_a_function_is_the_square() -> None:
    grid = explicit_grid(0.5, 2.0)
    square = Committee(alpha=1.3, kappa=3.0, width=1, activation="erf", teacher="tanh", initial_teacher_overlap=[[0.4]])
    one, two = one_replica(square, grid, 256), one_replica(square.replace(loss=halved), grid, 256)
    np.testing.assert_allclose(two.train_loss, 0.5 * one.train_loss, rtol=1e-10)
    np.testing.assert_allclose(two.correlation, one.correlation, rtol=1e-10)
    responses = [responses_of(square, grid, solution, WIDTH, Iteration()).response for solution in (one, two)]
    np.testing.assert_allclose(*responses, atol=1e-10)


def test_a_centred_network_starts_undecided() -> None:
    dataset = solve(PAIR.replace(centered=True), 1.0, step=0.5, sample_count=512, replicas=4)
    start = dataset.isel(time=0)
    for name in ("train_accuracy", "test_accuracy"):
        assert float(start[name]) == pytest.approx(0.5, abs=1e-12)
    for name in ("train_loss", "test_loss"):
        assert float(start[name]) == pytest.approx(np.log(2.0), abs=1e-12)
    assert float(start.margin) == pytest.approx(0.0, abs=1e-12)
    assert float(dataset.test_accuracy[-1]) > 0.55
    assert dataset.attrs["loss"] == "logistic"


def without_delta(loss: Any, residual: Any, label: Any, width: Any) -> tuple[Any, Any]:
    """l'' without what the kinks add."""
    return smoothed_loss(loss, residual, label, width)[0], loss.curvature(residual, label)


def without_curvature(loss: Any, residual: Any, label: Any, width: Any) -> tuple[Any, Any]:
    """l'' = 1, as of the square."""
    return smoothed_loss(loss, residual, label, width)[0], jnp.ones_like(residual)


@pytest.mark.parametrize(
    ("loss", "wrong"),
    [
        pytest.param("hinge", without_delta, marks=pytest.mark.slow),
        ("logistic", without_curvature),
    ],
)
def test_tangents_need_the_curvature_of_the_loss(
    loss: str, wrong: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, compiled_anew: Callable[[], None]
) -> None:
    """E[dg/du + g d log P(y|u)/du] = E[g u] with all of l'', and not without."""

    def scores() -> np.ndarray:
        model, grid = PAIR.replace(loss=loss), explicit_grid(0.5, 1.5)
        solutions = [one_replica(model, grid, 2048, index) for index in range(12)]
        stein = np.array([responses_of(model, grid, one, WIDTH, Iteration()).stein[:3].ravel() for one in solutions])
        return np.abs(stein.mean(axis=0)) / (stein.std(axis=0, ddof=1) / np.sqrt(12))

    threshold = stats.t.isf(0.01 / 2 / 6, 11)
    assert scores().max() < threshold
    monkeypatch.setattr(rows, "smoothed_loss", wrong)
    compiled_anew()  # what was compiled has all of it
    assert scores().max() > 3 * threshold
