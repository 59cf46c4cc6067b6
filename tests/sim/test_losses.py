"""Simulated committees with other losses, and labels that are signs: loops in numpy, autodiff, fresh inputs."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
from scipy import special

from dmft import Committee, ParameterError
from sim import Optimizer, simulate
from sim.systems.draws import draw_committee

STEP, COUNT = 0.4, 6
BASE: dict[str, Any] = {"alpha": 1.5, "kappa": 2.0, "dim": 40, "width": 2, "readout": [1.0, -0.7], "teacher": "linear"}
PLANTED: dict[str, Any] = {"initial_teacher_overlap": [[0.5], [-0.2]]}


def exponential(f: Any, y: Any) -> Any:
    return jnp.exp(-0.5 * y * f)


SLOPES = {
    "logistic": lambda f, y: -y * special.expit(-y * f),
    "hinge": lambda f, y: np.where(y * f < 1.0, -y, 0.0),
    "huber": lambda f, y: np.clip(f - y, -1.0, 1.0),
    "square": lambda f, y: f - y,
    exponential: lambda f, y: -0.5 * y * np.exp(-0.5 * y * f),
}
LOSSES = {
    "logistic": lambda f, y: np.logaddexp(0.0, -y * f),
    "hinge": lambda f, y: np.maximum(0.0, 1.0 - y * f),
    "huber": lambda f, y: np.where(abs(f - y) < 1.0, 0.5 * (f - y) ** 2, abs(f - y) - 0.5),
    "square": lambda f, y: (f - y) ** 2,
    exponential: lambda f, y: np.exp(-0.5 * y * f),
}
CASES = {
    "logistic": Committee(
        **BASE, activation="erf", loss="logistic", labels="probability", centered=True, train_readout=True
    ),
    "hinge": Committee(**BASE, **PLANTED, activation="relu", loss="hinge", labels="sign", label_flips=0.1),
    "huber": Committee(**BASE, **PLANTED, activation="erf", loss="huber", label_noise=0.3, weight_decay=0.1),
    "square": Committee(**BASE, **PLANTED, activation="tanh", labels="sign"),
    "own": Committee(**BASE, **PLANTED, activation="erf", loss=exponential, labels="sign"),
}
ACTIVATIONS = {
    "erf": (special.erf, lambda h: 2.0 / np.sqrt(np.pi) * np.exp(-(h**2))),
    "relu": (lambda h: np.maximum(h, 0.0), lambda h: (h > 0.0) * 1.0),
    "tanh": (np.tanh, lambda h: 1.0 / np.cosh(h) ** 2),
}


@functools.cache
def trained(name: str) -> xarray.Dataset:
    return simulate(CASES[name], STEP * COUNT, step=STEP, seeds=2)


def by_hand(model: Committee, index: int) -> np.ndarray:
    """Train loss, accuracy, margin, overlaps and readouts after every step."""
    phi, slope = ACTIVATIONS[str(model.activation)]
    x, _, y, w = draw_committee(model, 0, index)
    a, (width, dim), decay = model.readouts, w.shape, 1.0 - STEP * model.weight_decay
    start = model.alpha / width * a @ phi(w @ x.T) * model.centered
    found = []
    for _ in range(COUNT + 1):
        h = w @ x.T
        f = model.alpha / width * a @ phi(h) - start
        right = np.mean(np.where(np.abs(f) < 1e-13, 0.5, y * f > 0.0))
        found.append([np.mean(LOSSES[model.loss](f, y)), right, np.mean(y * f), *(w @ w.T / dim).flat, *a])
        push = SLOPES[model.loss](f, y)
        w_next = decay * w - STEP / (model.alpha * model.kappa) * (a[:, None] * slope(h) * push) @ x
        if model.train_readout:
            a = decay * a - STEP / (model.alpha * y.size) * phi(h) @ push
        w = w_next
    return np.array(found)


@pytest.mark.parametrize("name", CASES)
def test_training_is_that_of_a_plain_loop(name: str) -> None:
    model, result, signs = CASES[name], trained(name), CASES[name].classifies
    for index in (0, 1):
        expected = by_hand(model, index)
        run = result.isel(seed=index)
        columns = {"train_loss": 0, "train_accuracy": 1, "margin": 2} if signs else {"train_loss": 0}
        for column, at in columns.items():
            np.testing.assert_allclose(run[column], expected[:, at], rtol=1e-10, atol=1e-12)
        overlaps = run.self_overlap.to_numpy().reshape(COUNT + 1, -1)
        np.testing.assert_allclose(overlaps, expected[:, 3:7], rtol=1e-10, atol=1e-12)
        if model.train_readout:
            np.testing.assert_allclose(run.readouts, expected[:, 7:], rtol=1e-10)
    assert ("train_accuracy" in result) == signs


def test_the_rate_is_gradient_descent_on_the_mean_loss() -> None:
    """Rate N D / alpha^2 for the weights on (1/P) sum l, by automatic differentiation."""
    model = CASES["own"]
    x, beta, y, w = draw_committee(model, 0, 0)

    def mean_loss(w: Any) -> Any:
        return jnp.mean(exponential(model.alpha / 2 * model.readouts @ jax.scipy.special.erf(w @ x.T), y))

    moved = w - STEP * 2 * 40 / model.alpha**2 * np.asarray(jax.grad(mean_loss)(w))
    after = trained("own").isel(seed=0, time=1)
    np.testing.assert_allclose(after.teacher_overlap, moved @ beta.T / 40, atol=5e-6)


def test_labels_are_drawn_by_their_shares() -> None:
    model = CASES["hinge"].replace(dim=2000, label_flips=0.2)
    x, beta, y, _ = draw_committee(model, 0, 0)
    flipped = np.mean(y * np.sign(x @ beta[0]) < 0.0)
    assert abs(flipped - 0.2) < 4.0 * np.sqrt(0.16 / y.size)
    x, beta, y, _ = draw_committee(model.replace(labels="probability", label_flips=0.0), 0, 0)
    u = x @ beta[0]
    z = np.mean(u * (y - (2.0 * special.expit(u) - 1.0))) / (np.std(u * y) / np.sqrt(y.size))
    assert abs(z) < 4.0


@pytest.mark.parametrize("name", ["logistic", "hinge"])
def test_new_inputs_meet_test_loss_and_accuracy(name: str) -> None:
    """By fresh inputs, of the covariances that the overlaps are, with clean labels."""
    model = CASES[name].replace(centered=False, train_readout=False, **PLANTED)
    last = simulate(model, STEP * COUNT, step=STEP, seeds=1, times=[STEP * COUNT]).isel(seed=0, time=-1)
    m, c = last.teacher_overlap.to_numpy(), last.self_overlap.to_numpy()
    random, count = np.random.default_rng(3), 400_000
    u = random.standard_normal(count)
    h = m @ u[None] + np.linalg.cholesky(c - m @ m.T) @ random.standard_normal((2, count))
    f = model.alpha / 2 * model.readouts @ ACTIVATIONS[str(model.activation)][0](h)
    y = np.sign(u) if model.labels == "sign" else np.where(random.random(count) < special.expit(u), 1.0, -1.0)
    right = np.where(f == 0.0, 0.5, y * f > 0.0)
    for column, values in (("test_loss", LOSSES[model.loss](f, y)), ("test_accuracy", right)):
        assert abs(values.mean() - float(last[column])) < 4.0 * values.std() / np.sqrt(count) + 3e-4, column


@pytest.mark.slow
def test_optimisers_and_batches_take_any_loss() -> None:
    model = CASES["own"]
    momentum = simulate(model, 1.2, step=0.4, seeds=1, optimizer=Optimizer("momentum", momentum=0.5))
    batches = simulate(model, 1.2, step=0.4, seeds=1, optimizer=Optimizer("gd", batch_size=40))
    present = simulate(model.replace(batch_fraction=0.5), 1.2, step=0.4, seeds=1)
    for run in (momentum, batches, present):
        assert float(run.train_loss[0, -1]) < float(run.train_loss[0, 0])


def test_a_kinked_loss_has_no_flow() -> None:
    with pytest.raises(ParameterError, match=r"`step` must be given, since the derivative of the loss hinge jumps"):
        simulate(CASES["hinge"], 1.0, seeds=1)


@pytest.mark.slow
def test_flow_of_the_logistic_loss_is_small_steps() -> None:
    model = CASES["logistic"].replace(centered=False, train_readout=False, **PLANTED)
    flow = simulate(model, 1.0, seeds=1, times=[1.0], rtol=1e-6).isel(seed=0, time=-1)
    ends = [simulate(model, 1.0, step=step, seeds=1, times=[1.0]).isel(seed=0, time=-1) for step in (0.02, 0.01)]
    for name in ("train_loss", "test_loss", "margin"):
        value = 2.0 * float(ends[1][name]) - float(ends[0][name])
        assert value == pytest.approx(float(flow[name]), abs=2e-5), name
