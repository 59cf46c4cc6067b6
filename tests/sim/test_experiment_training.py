"""Training of experiments: against autodiff, exact equivalences, the linearised network, and the lazy limit."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmft.checks import DivergenceError, precision_context
from dmft.losses.quadratic import OBSERVABLES
from dmft.models.model import Model
from sim import simulate
from sim.experiment_simulation import linear_start, linearized_losses
from sim.systems.state import Parameters
from sim.training import groups as training
from sim.variants.experiment import Experiment
from sim.variants.linearized import coefficients, decompose, residuals
from sim.variants.ridge_functions import outputs, preactivations
from sim.variants.task import draw_task, gram_matrix

MODEL = Model(alpha=0.7, epsilon=0.6, kappa=1.5, dim=8, width=12)
CENTERED = MODEL.replace(centered=True, label_noise=0.3)
VARIANTS = {
    "plain": Experiment(model=MODEL),
    "hermite3": Experiment(model=CENTERED, activation="hermite3", target="hermite3", train_readout=True),
    "eigenvector": Experiment(model=CENTERED, target="eigenvector", eigenvector=2, test_samples=30),
}
EACH = pytest.mark.parametrize("name", VARIANTS)


def train_by_autodiff(experiment: Experiment, step: float, count: int, linear: bool) -> tuple[Parameters, np.ndarray]:
    """Parameters and train losses of textbook gradient descent on (1/2P) sum Delta^2, perhaps of the linearisation."""
    model = experiment.model
    with precision_context("float64"):
        start, task = jax.tree.map(jnp.asarray, draw_task(experiment, "network", 0, 0))

        def function(parameters):
            return outputs(task.fixed, parameters, preactivations(parameters, task.inputs))

        if linear:
            value, change = jax.linearize(function, start)

            def f(parameters):
                return value + change(jax.tree.map(jnp.subtract, parameters, start))
        else:
            f = function
        offset = function(start) if model.centered else 0.0

        @jax.jit
        def descend(parameters):
            def loss(parameters):
                return jnp.mean((f(parameters) - offset - task.labels) ** 2) / 2

            value, gradient = jax.value_and_grad(loss)(parameters)
            rate = model.learning_rate_from_step(step)
            rates = Parameters(rate, rate / experiment.dim if experiment.train_readout else None)
            return jax.tree.map(lambda w, g, rate: w - rate * g, parameters, gradient, rates), 2.0 * value

        losses, parameters = [], start
        for _ in range(count):
            parameters, value = descend(parameters)
            losses.append(float(value))
    return parameters, np.array(losses)


@EACH
def test_steps_are_those_of_autodiff(name: str) -> None:
    experiment = VARIANTS[name]
    result = simulate(experiment, 0.6, step=0.03, seeds=2, form="network", kernel=True)
    end, losses = train_by_autodiff(experiment, 0.03, 20, linear=False)
    np.testing.assert_allclose(result.train_loss[0, :-1], losses, rtol=1e-10)
    start, task = draw_task(experiment, "network", 0, 0)
    moved = [np.sum((np.asarray(a) - b) ** 2) for a, b in zip(end, start, strict=True) if b is not None]
    size = [np.sum(array**2) for array in start if array is not None]
    np.testing.assert_allclose(result.parameter_movement[0, -1], np.sqrt(sum(moved) / sum(size)), rtol=1e-10)
    first, last = (gram_matrix(task.fixed, theta, task.inputs) for theta in (start, end))
    y, rest = task.labels, np.eye(task.labels.size) - 1.0 / task.labels.size
    for matrix, place in ((first, 0), (last, -1)):
        cosines = {"kernel_alignment": (matrix, y), "kernel_alignment_centered": (rest @ matrix @ rest, rest @ y)}
        for key, (k, labels) in cosines.items():
            expected = labels @ k @ labels / (np.linalg.norm(k) * (labels @ labels))
            np.testing.assert_allclose(result[key][0, place], expected, rtol=1e-10)
        distance = np.linalg.norm(matrix - first) / np.linalg.norm(first)
        np.testing.assert_allclose(result.kernel_distance[0, place], distance, rtol=1e-10, atol=1e-14)


@EACH
def test_linearised_network_is_plain_descent_on_the_linearisation(name: str) -> None:
    """The closed form against a loop over steps with autodiff, train loss and test loss, after 0 to 300 steps."""
    experiment, step, counts = VARIANTS[name], 0.1, np.array([0, 1, 7, 100, 300])
    start = linear_start(experiment, "network", 0, 0)
    curves, _ = linearized_losses(start, step, counts)
    end, losses = train_by_autodiff(experiment, step, 300, linear=True)
    np.testing.assert_allclose(curves[0, :-1], losses[counts[:-1]], rtol=1e-8, atol=1e-14)
    rule, task = start.task.fixed, start.task
    rng = np.random.default_rng(0)
    fresh = task.test_inputs if task.target is None else rng.standard_normal((100_000, 8)) / np.sqrt(8)
    with precision_context("float64"):

        def f(parameters):
            return outputs(rule, parameters, preactivations(parameters, jnp.asarray(fresh)))

        first = jax.tree.map(jnp.asarray, start.parameters)
        value, change = jax.jvp(f, (first,), (jax.tree.map(jnp.subtract, end, first),))
        predicted = np.asarray(change if experiment.model.centered else value + change)
    if task.target is None:
        np.testing.assert_allclose(curves[1, -1], np.mean((predicted - task.test_targets) ** 2), rtol=1e-8)
        return
    u = fresh @ task.target.vectors.T
    clean = 0.5 * (u**3 - 3 * u if experiment.target == "hermite3" else u**2) @ np.array(experiment.strengths)
    squares = (predicted - clean) ** 2
    assert abs(squares.mean() - curves[1, -1]) < 4.0 * squares.std(ddof=1) / np.sqrt(squares.size)


def test_small_steps_of_the_linearised_network_are_kernel_gradient_flow() -> None:
    rng = np.random.default_rng(0)
    features, residual = rng.standard_normal((15, 9)), rng.standard_normal(15)
    gram, kappa, time = features @ features.T, 1.7, 0.8
    spectrum = decompose(gram, kappa, residual)
    values, vectors = np.linalg.eigh(gram / kappa)
    values[:6] = 0.0
    flow = vectors @ (np.exp(-values * time) * (vectors.T @ residual))
    errors = []
    for count in (10**5, 10**6):
        after = residuals(spectrum, time / count, np.array([count]))[0]
        errors.append(np.abs(after - flow).max())
        c = coefficients(spectrum, time / count, np.array([count]))[0]
        np.testing.assert_allclose(after, residual - gram @ c, atol=1e-10)
    assert errors[1] < 1e-5
    assert errors[0] / errors[1] == pytest.approx(10.0, rel=0.01)


def test_linearised_network_ends_at_kernel_regression() -> None:
    start = linear_start(VARIANTS["plain"], "network", 0, 0)
    curves, end = linearized_losses(start, 0.1, np.array([0, 1, 2, 3, 10**9]))
    np.testing.assert_allclose(curves[1, -1], end[1], rtol=1e-6)
    result = simulate(VARIANTS["plain"], 0.4, step=0.1, seeds=2, linearized=True, form="network", kernel=True)
    np.testing.assert_allclose(result.kernel_regression_test_loss[0], end[1], rtol=1e-12)
    np.testing.assert_allclose(result.kernel_regression_train_loss[0], 0.0, atol=1e-15)
    assert dict(result.linearized_test_loss.sizes) == {"seed": 2, "time": 5}
    spread = result.linearized_test_loss.std("seed", ddof=1) / np.sqrt(2)
    np.testing.assert_allclose(result.linearized_test_loss_stderr, spread, rtol=1e-12)
    np.testing.assert_allclose(result.linearized_test_loss[:, 0], result.test_loss[:, 0], rtol=1e-12)


def test_too_large_a_step_for_the_linearised_network_is_refused() -> None:
    start = linear_start(VARIANTS["plain"], "network", 0, 0)
    with pytest.raises(DivergenceError, match=r"`step` = 9 exceeds 2 / \(largest eigenvalue"):
        linearized_losses(start, 9.0, np.array([1]))


@pytest.mark.parametrize(("form", "model"), [("network", MODEL), ("reduced", CENTERED)])
def test_the_plain_experiment_is_the_simulation_of_its_model(form: str, model: Model) -> None:
    model = model.replace(weight_decay=0.1)
    expected = simulate(model, 2.0, seeds=2, step=0.1)
    result = simulate(Experiment(model=model), 2.0, seeds=2, step=0.1, form=form, kernel=True)
    for name in OBSERVABLES:
        np.testing.assert_allclose(result[name], expected[name], rtol=1e-10, atol=1e-13, err_msg=name)


def test_a_stopped_run_goes_on_to_the_same_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What refers to the start (centring, movement, kernel distance) survives a checkpoint."""

    def run(**how: Any) -> Any:
        return simulate(VARIANTS["hermite3"], 0.6, step=0.03, seeds=2, kernel=True, **how)

    whole, original, calls = run(), training.run_piece, iter(range(7))

    def run_piece(*arguments: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(training, "OPERATIONS_CPU", 1.0)
    monkeypatch.setattr(training, "run_piece", run_piece)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=tmp_path / "run.npz", checkpoint_every=0.0)
    monkeypatch.setattr(training, "run_piece", original)
    assert run(checkpoint=tmp_path / "run.npz").identical(whole)


def test_weight_scale_is_a_change_of_alpha_and_epsilon() -> None:
    """(alpha, epsilon, sigma) trains as (sigma alpha, sigma epsilon, 1); alpha sigma^2 at fixed epsilon does not."""
    sigma = 1.7
    how = {"seeds": 2, "step": 0.05, "form": "network", "kernel": True}
    scaled = simulate(Experiment(model=MODEL, weight_scale=sigma), 3.0, **how)
    alpha, epsilon = MODEL.alpha, MODEL.epsilon
    same = MODEL.replace(alpha=sigma * alpha, epsilon=sigma * epsilon)
    other = MODEL.replace(alpha=sigma**2 * alpha)
    for model, equal in ((same, True), (other, False)):
        result = simulate(Experiment(model=model), 3.0, **how)
        for name in ("train_loss", "test_loss"):
            assert np.allclose(scaled[name], result[name], rtol=1e-10) == equal
    np.testing.assert_allclose(scaled.trace[:, 0], sigma**2 * result.trace[:, 0], rtol=1e-10)


def test_noise_is_in_the_training_labels_alone() -> None:
    clean, noisy = (
        simulate(
            Experiment(model=MODEL.replace(label_noise=noise)), 0.5, seeds=2, step=0.1, form="network", kernel=True
        )
        for noise in (0.0, 0.5)
    )
    np.testing.assert_allclose(clean.test_loss[0, 0], noisy.test_loss[0, 0], rtol=1e-12)
    assert float(abs(clean.train_loss[0, 0] - noisy.train_loss[0, 0])) > 0.01


def test_lazy_networks_follow_their_linearisation() -> None:
    """The distance between the two falls as 1 / alpha."""
    distance = []
    for alpha in (100.0, 1000.0):
        experiment = VARIANTS["hermite3"].replace(alpha=alpha)
        result = simulate(
            experiment, 2.0, step=0.1, seeds=2, linearized=True, kernel=True, times=[0.0, 0.5, 1.0, 1.5, 2.0]
        )
        distance.append(float(abs(result.test_loss - result.linearized_test_loss).max()))
    assert distance[0] / distance[1] == pytest.approx(10.0, rel=0.2)


def test_a_sampled_test_loss_carries_its_error() -> None:
    """The recorded error is that of a mean over test inputs: larger sets scatter less, by the square root."""
    result = simulate(VARIANTS["eigenvector"], 1.0, step=0.1, seeds=2, form="network", kernel=True)
    assert result.attrs["test_samples"] == 30
    ratio = result.test_loss_sampling_error / result.test_loss * np.sqrt(30)
    assert 0.3 < float(ratio.min()) < float(ratio.max()) < 5.0
    np.testing.assert_allclose(
        result.test_loss[0, 0], np.mean(draw_task(VARIANTS["eigenvector"], "network", 0, 0)[1].test_targets ** 2)
    )
    assert "overlap" not in result
