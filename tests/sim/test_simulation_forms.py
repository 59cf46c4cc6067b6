"""The two forms are one and the same gradient descent, and that of an independently written network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmft.checks import precision_context
from dmft.losses.quadratic import OBSERVABLES
from dmft.models.model import Model
from sim import simulate
from sim.request import Request, make_plan
from sim.systems.draws import draw_replica
from sim.systems.forms import quadratic_system
from sim.training.checkpoint import Checkpoint
from sim.training.descent import Chunk, Layout, advance, begin
from sim.training.groups import Job, draw_batch
from sim.training.optimizers import Pace

PLAIN = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=20)
EVERYTHING = PLAIN.replace(alpha=0.7, kappa=1.6, centered=True, label_noise=0.4, weight_decay=0.1, initial_overlap=0.3)
MODELS = pytest.mark.parametrize("model", [PLAIN, EVERYTHING, PLAIN.replace(kappa=0.3)], ids=["plain", "all", "few"])


def train_by_autodiff(model: Model, index: int, step: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights at t = 0 and after `count` steps of textbook gradient descent on (1/2P) sum Delta^2, by autodiff."""
    draw = draw_replica(model, 0, index)

    def outputs(weights):
        h = weights @ draw.inputs.T
        return model.alpha / model.width * jnp.sum(h + model.epsilon / 2 * h**2, axis=0)

    with precision_context("float64"):
        start = jnp.asarray(draw.weights)
        offset = outputs(start) if model.centered else 0.0

        def loss(weights):
            return jnp.sum((outputs(weights) - offset - draw.labels) ** 2) / (2 * model.samples)

        gradient, weights = jax.jit(jax.grad(loss)), start
        for _ in range(count):
            decay = step * model.weight_decay * weights
            weights = weights - model.learning_rate_from_step(step) * gradient(weights) - decay
        return np.asarray(start), np.asarray(weights)


@MODELS
@pytest.mark.parametrize("width", [1, 2, 50, 500])
def test_forms_agree_to_rounding(model: Model, width: int) -> None:
    model = model.replace(width=width)
    network, reduced = (simulate(model, 2.0, seeds=2, step=0.05, form=form) for form in ("network", "reduced"))
    assert network.attrs["form"] == "network"
    assert reduced.attrs["form"] == "reduced"
    for name in OBSERVABLES:
        np.testing.assert_allclose(reduced[name], network[name], rtol=1e-10, atol=1e-13)


@MODELS
@pytest.mark.parametrize("form", ["network", "reduced"])
@pytest.mark.parametrize("width", [3, 60])
def test_steps_are_those_of_autodiff_on_the_network(model: Model, form: str, width: int) -> None:
    model, step, count = model.replace(width=width), 0.1, 2
    result = simulate(model, step * count, seeds=2, step=step, form=form)
    for index in range(2):
        start, weights = train_by_autodiff(model, index, step, count)
        draw = draw_replica(model, 0, index)
        for time, w in ((0, start), (-1, weights)):
            second_moment, mean_weight = w.T @ w / width, w.mean(axis=0)
            h, h0 = w @ draw.inputs.T, start @ draw.inputs.T
            f = model.alpha * np.mean(h + model.epsilon / 2 * h**2, axis=0)
            if model.centered:
                f -= model.alpha * np.mean(h0 + model.epsilon / 2 * h0**2, axis=0)
            expected = {
                "train_loss": np.mean((f - draw.labels) ** 2),
                "trace": np.trace(second_moment) / model.dim,
                "overlap": draw.beta @ second_moment @ draw.beta / model.dim**2,
                "mean_weight_norm": mean_weight @ mean_weight / model.dim,
            }
            for name, value in expected.items():
                np.testing.assert_allclose(result[name][index, time], value, rtol=1e-10, err_msg=name)


@MODELS
@pytest.mark.parametrize("count", [0, 15])
def test_loss_from_order_parameters_is_the_loss_on_fresh_samples(model: Model, count: int) -> None:
    model, step, fresh = model.replace(width=7), 0.1, 400_000
    result = simulate(model, 1.5, seeds=1, step=step, form="network")
    start, weights = train_by_autodiff(model, 0, step, count)
    beta = draw_replica(model, 0, 0).beta
    inputs = np.random.default_rng(1).standard_normal((fresh, model.dim)) / np.sqrt(model.dim)

    def outputs(w: np.ndarray) -> np.ndarray:
        h = w @ inputs.T
        return model.alpha * np.mean(h + model.epsilon / 2 * h**2, axis=0)

    f = outputs(weights) - (outputs(start) if model.centered else 0.0)
    errors = (f - 0.5 * (inputs @ beta) ** 2) ** 2
    z = (errors.mean() - float(result.test_loss[0, count])) / (errors.std(ddof=1) / np.sqrt(fresh))
    assert abs(z) < 4.0


def test_losses_at_the_start_are_exact() -> None:
    """At infinite width M(0) = I and wbar(0) = 0, so that the three parts of the test loss are known."""
    model = PLAIN.replace(alpha=2.0)
    result = simulate(model, 0.1, seeds=3, step=0.1).isel(time=0)
    strength = model.alpha * model.epsilon
    misalignment = 0.5 * (strength**2 / model.dim - 2 * strength / model.dim + 1.0)
    np.testing.assert_allclose(result.variance_error, 0.25 * (strength - 1.0) ** 2, rtol=0, atol=1e-14)
    np.testing.assert_allclose(result.misalignment_error, misalignment, rtol=1e-12)
    np.testing.assert_allclose(result.linear_power, 0.0, atol=1e-14)
    np.testing.assert_allclose(result.overlap, 1.0 / model.dim, rtol=1e-12)
    for index in range(3):
        draw = draw_replica(model, 0, index)
        residual = strength / 2 * np.sum(draw.inputs**2, axis=1) - draw.labels
        np.testing.assert_allclose(result.train_loss[index], np.mean(residual**2), rtol=1e-12)


def test_planted_overlap_starts_where_it_was_put() -> None:
    wide = simulate(PLAIN.replace(initial_overlap=0.3), 0.1, seeds=3, step=0.1)
    np.testing.assert_allclose(wide.overlap[:, 0], 0.3, rtol=1e-12)
    narrow = simulate(PLAIN.replace(initial_overlap=0.3, width=400), 0.1, seeds=100, step=0.1)
    z = (float(narrow.overlap[:, 0].mean()) - 0.3) / float(narrow.overlap_stderr[0])
    assert abs(z) < 4.0


def test_centred_model_starts_from_nothing() -> None:
    model = PLAIN.replace(centered=True, width=5)
    result = simulate(model, 0.1, seeds=2, step=0.1).isel(time=0)
    np.testing.assert_allclose(result.test_loss, 0.75, rtol=1e-12)
    np.testing.assert_allclose(result.linear_power, 0.0, atol=1e-14)
    assert float(result.mean_weight_norm.min()) > 0.01
    for index in range(2):
        np.testing.assert_allclose(result.train_loss[index], np.mean(draw_replica(model, 0, index).labels ** 2))


def test_infinite_width_is_the_limit_of_wide_networks() -> None:
    """Random weights differ from their mean by O(1/sqrt N); so do the curves."""
    wide = simulate(PLAIN, 2.0, seeds=4, step=0.1)
    distance = {}
    for width in (400, 40_000):
        finite = simulate(PLAIN.replace(width=width), 2.0, seeds=4, step=0.1)
        assert finite.attrs["form"] == "reduced"
        distance[width] = float(np.sqrt(((finite.train_loss - wide.train_loss) ** 2).mean()))
    assert 5.0 < distance[400] / distance[40_000] < 20.0


@pytest.mark.parametrize("width", [None, 3])
def test_auto_takes_the_form_with_fewer_rows(width: int | None) -> None:
    result = simulate(PLAIN.replace(width=width), 0.2, seeds=1, step=0.1)
    assert result.attrs["form_requested"] == "auto"
    assert result.attrs["form"] == ("reduced" if width is None else "network")


def test_replicas_together_train_as_one_after_the_other() -> None:
    """The batched loop of accelerators gives what the CPU's loop over replicas gives."""
    system, request = quadratic_system(PLAIN, "reduced"), Request(t_max=2.0, step=0.1, seeds=3)
    lengths = np.array([5, 1, 7, 0, 3], np.int32)
    with precision_context("float64"):
        results = []
        for vectorized in (True, False):
            layout = Layout(vectorized, 1)
            pace = Pace(jnp.asarray(0.1), jnp.asarray(0.0), jnp.asarray(20.0))
            job = Job(system, request, make_plan(system, request), layout, Checkpoint(None, 1.0, {}))
            batch = begin(draw_batch(job, range(3)), pace, loop=job.loop)
            chunk = Chunk(jnp.asarray(0), jnp.asarray(lengths), jnp.asarray(4))
            results.append(advance(batch, pace, chunk, loop=job.loop))
    (state, _, records), (other, _, others) = results
    np.testing.assert_allclose(state, other, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(records, others, rtol=1e-10, atol=1e-12)
    assert np.isnan(records[:, 4]).all()
    assert np.isfinite(records[:, :4]).all()
